"""The options that several verbs have."""

from typing import Annotated

import typer

Relevant = Annotated[
    str,
    typer.Option("--relevant", help="What counts as found: product_id, category, or an attribute.", metavar="LABEL"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else.")]
Dataset = Annotated[str, typer.Option("--dataset", help="The name of a data set.", metavar="NAME")]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="A data set; may repeat. Left out: all.", metavar="NAME")
]
Encoder = Annotated[str, typer.Option("--encoder", help="An encoder's name, or a version.", metavar="NAME")]
Encoders = Annotated[list[str], typer.Option("--encoder", help="An encoder; may repeat.", metavar="NAME")]
Gated = Annotated[
    bool, typer.Option("--gate", help="Then ask the gate on it, without starting Spark again; exit 3 where it refuses.")
]
