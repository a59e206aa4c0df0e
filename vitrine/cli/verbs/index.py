"""``vitrine index``: Milvus's collections and alias."""

from dataclasses import asdict
from typing import Annotated

import typer

from evaluation.milvus import vector_index
from evaluation.promotion import milvus_alias
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoded_set
from vitrine.cli.options import Datasets, Encoders, Json
from vitrine.settings import load_settings


def index(
    encoder: Encoders,
    dataset: Datasets = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Write all rows again, whatever Milvus holds.")] = False,
    as_json: Json = False,
) -> None:
    """Milvus: bring the collections to the lake's version, and the alias to what serves; exit 3 where its index finds
    too little of what exact search finds."""
    settings = load_settings()
    results = []
    with vector_index.VectorIndex(settings) as vectors:
        for name in encoder:
            for chosen in chosen_datasets(settings, dataset):
                encoded = encoded_set(settings, name, chosen)
                with runs.record(settings, "index", chosen, encoded.encoder) as run:
                    run.encoder_version = encoded.encoder_version
                    if fresh:
                        vectors.forget(encoded)
                    run.figures |= asdict(vectors.sync(encoded))
                    run.figures |= milvus_alias.follow(settings, vectors, chosen, gated=True)
                results.append({"dataset": chosen, "encoder": encoded.encoder, **run.figures})
    output.show_each("indexed", results, as_json)
