"""``vitrine gate``: Great Expectations' word on a catalog, an encoder, an index."""

from enum import StrEnum
from typing import Annotated

import typer

from evaluation.gates import ask_gate
from evaluation.gates import gate as decision
from spark_jobs import session
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoded_set
from vitrine.cli.options import Dataset, Json
from vitrine.encoded_set import EncodedSet
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
    encoded = encoded_set(settings, encoder, dataset) if encoder else None
    figures = decision.result_json(ask(settings, which.value, dataset, encoded))
    name = encoded.encoder if encoded else None
    output.show(f"gate {which.value} passed", {"dataset": dataset, "encoder": name, **figures}, as_json)


def ask(settings: Settings, which: str, dataset: str, encoded: EncodedSet | None = None) -> "runs.GateFigures":
    """Ask one gate, in the Spark session of this process where it needs one.

    Raises:
        GateRefused: with the expectations that failed.
    """
    return ask_gate.ask_gate(
        settings, which, dataset, encoded, lambda: session.build_session(settings, f"gate {which}")
    )
