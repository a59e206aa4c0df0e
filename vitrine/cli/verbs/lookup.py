"""``vitrine lookup``: what serves, asked by key."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from vitrine import feature_store
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Dataset, Json
from vitrine.online import lookup as online
from vitrine.settings import load_settings


class Of(StrEnum):
    images = "images"
    products = "products"


def lookup(
    key: Annotated[list[str], typer.Argument(help="Image ids (or product ids), as in the catalog.")],
    dataset: Dataset,
    of: Annotated[Of, typer.Option(help="What the keys are of.")] = Of.images,
    as_json: Json = False,
) -> None:
    """Look images or products up online, through the data set's serving service."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    kind = feature_store.IMAGES if of is Of.images else feature_store.PRODUCTS
    found = online.OnlineFeatures(settings).lookup(dataset, key, kind)
    if as_json:
        lists = [{**row, "embedding": None if (v := row["embedding"]) is None else v.tolist()} for row in found]
        output.emit_json({"results": lists})
        return
    columns = [kind.key, *kind.features[1:], "embedding"]
    output.emit_rows(columns, [[*(row[name] for name in columns[:-1]), _shown(row["embedding"])] for row in found])


def _shown(vector: Sequence[float] | None) -> str:
    return "-" if vector is None else f"[{', '.join(f'{value:.3f}' for value in vector[:3])}, ...] ({len(vector)})"
