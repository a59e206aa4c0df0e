"""``vitrine encoders``: those in the lake, and those that can be named."""

from typing import Annotated

import typer

from vitrine import lake
from vitrine.cli import output
from vitrine.cli.options import Json
from vitrine.encoders import backbones, tuned
from vitrine.settings import load_settings


def encoders(
    available: Annotated[bool, typer.Option("--available", help="Those that could be embedded with.")] = False,
    as_json: Json = False,
) -> None:
    """The encoder versions in the lake; with --available, every encoder that can be named."""
    settings = load_settings()
    if available:
        sizes = ["pixels", "dim", "parameters", "gflops"]
        columns = ["encoder", "backbone", "family", *sizes, "embedding", "weights", "licence"]
        known = [backbones.resolve(settings, name) for name in backbones.names(settings)]
        rows = [
            [item.name, item.spelled, item.family]
            + [getattr(item.facts, size, None) for size in sizes]
            + [item.embedding, item.weights or item.hub or "hub", item.licence]
            for item in known
        ]
        heads = [made for name in tuned.names(settings, *tuned.HEADS) if (made := tuned.find(settings, name))]
        rows += [
            [made.name, f"head on {made.base}", made.family, None, made.dim, None, None]
            + ["last hidden layer", str(made.path(settings)), made.licence]
            for made in heads
        ]
    else:
        columns = ["encoder", "encoder_version", "state", "backbone", "dim", "images", "created_at"]
        found = lake.rows(
            settings,
            "SELECT e.*, coalesce(n.images, 0) AS images FROM encoders e LEFT JOIN (SELECT encoder_version, "
            "count(*) AS images FROM embeddings GROUP BY encoder_version) n USING (encoder_version) "
            "ORDER BY created_at",
        )
        rows = [[row[name] for name in columns] for row in found]
    output.emit_rows(columns, rows, "json" if as_json else "table")
