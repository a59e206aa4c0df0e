"""``vitrine gate``: Great Expectations' word on a catalog, an encoder, an index."""

from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated, Any

import typer

from evaluation.gates import run, training_set
from evaluation.milvus import vector_index
from spark_jobs import session
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoder_and_version
from vitrine.cli.options import Dataset, Json
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings


class Gate(StrEnum):
    catalog = "catalog"
    embeddings = "embeddings"
    sync = "sync"
    metrics = "metrics"
    index_ = "index"  # str has a method of that name


def gate(
    which: Annotated[Gate, typer.Argument(metavar="catalog|embeddings|sync|metrics|index", help="The gate to pass.")],
    dataset: Dataset,
    encoder: Annotated[str | None, typer.Option(help="For all gates but catalog.", metavar="NAME")] = None,
    as_json: Json = False,
) -> None:
    """Great Expectations: exit 3 where a gate refuses, saying which expectation failed, with the figures."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    if which is not Gate.catalog and encoder is None:
        raise UserError(f"gate {which.value} needs --encoder")
    name, version = encoder_and_version(settings, encoder) if encoder else (None, None)
    result = ask(settings, which.value, dataset, name, version)
    output.show(f"gate {which.value} passed", {"dataset": dataset, "encoder": name, **result.figures()}, as_json)


def ask(settings: Settings, which: str, dataset: str, encoder: str | None = None, version: str | None = None) -> Any:
    """Ask one gate, in the Spark session of this process where it needs one.

    Returns:
        ``evaluation.gates.data_docs.GateResult``.

    Raises:
        GateRefused: with the expectations that failed.
    """
    with ExitStack() as stack:
        spark = milvus = None
        if which in ("sync", "index"):
            milvus = stack.enter_context(vector_index.VectorIndex(settings))
        elif which != "metrics":
            spark = session.build_session(settings, f"gate {which}")
        return run.run_gate(settings, which, dataset, encoder, version, spark, milvus)


def gate_training_set(settings: Settings, rows: "training_set.Rows", version: str | None) -> None:
    """Raises GateRefused where nothing may learn from ``rows``."""
    run.run_training_set_gate(settings, rows, version)
