"""``vitrine compress``: how short vectors may become, and an encoder of that length."""

import hashlib
import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import typer

from evaluation.compression import page, study
from vitrine import facts, runs, tracking
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoded_set
from vitrine.cli.options import Dataset, Encoder, Json, Relevant
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name, heads, tuned
from vitrine.errors import UserError
from vitrine.names import check_name
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS


def compress(
    encoder: Encoder,
    dataset: Dataset,
    max_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="What the gate's metric may lose. Left out: gates.max_drop.")
    ] = None,
    bytes_at_most: Annotated[int | None, typer.Option(min=1, help="Of a vector: what is looked for.")] = None,
    relevant: Relevant = "product_id",
    name: Annotated[str | None, typer.Option(help="Of the encoder that is made. Left out: ENCODER__pcaDIM.")] = None,
    make: Annotated[bool, typer.Option("--make", help="Make the encoder of the shortest vectors, in floats.")] = False,
    as_json: Json = False,
) -> None:
    """Try how short an encoder's vectors may become: principal components, int8, 4 bits, 1 bit, product quantisation,
    each held against the vectors in full on the same queries.

    Names the fewest bytes that are surely good enough, or says that none is; with what exact search takes on this
    machine, and what a month costs by [prices]. With --make, the principal components that are good enough become an
    encoder like any other, applied to stored vectors: no photo is read. Draws a page under HOME/reports.
    """
    settings = load_settings()
    (chosen,) = chosen_datasets(settings, [dataset])
    encoded = encoded_set(settings, encoder, chosen)
    if make:
        _check_base(settings, encoded)
    drop = settings.gates.max_drop if max_drop is None else max_drop
    with runs.record(settings, "compress", chosen, encoded.encoder) as run:
        run.encoder_version = encoded.encoder_version
        done = study.study(settings, encoded, relevant, drop)
        photos = facts.count(settings, EMBEDDINGS, encoded.where)
        run.figures |= _figures(settings, done, drop, bytes_at_most, photos)
        path = settings.reports / f"compress_{chosen}_{encoded.encoder}.html"
        page.draw(done, drop, settings.prices, photos, path)
        run.figures["page"] = str(path)
        shortest = done.cheapest(quantiser="float32")
        if make and shortest:
            made = _make(settings, done, shortest, name)
            tuned.register(settings, made)
            run.figures |= {"made": made.name, "made_version": made.encoder_version, "made_dim": made.dim}
        elif make:
            print("no number of components is surely good enough: nothing is made", file=sys.stderr)
    tracking.to_mlflow(settings, run, tracking.Details(files=[path]))
    if not as_json:
        columns = ["codec", "bytes", *done.full, "change", "low", "high", "change on new products"]
        columns += ["ms a query", "queries/s", "build s", "good enough", "why"]
        output.emit_rows(columns, [_line(row) for row in done.rows], "table")
    output.show(
        f"compressed {chosen} {encoded.encoder}", {"dataset": chosen, "encoder": encoder, **run.figures}, as_json
    )


def _check_base(settings: Settings, encoded: EncodedSet) -> None:
    if head := by_name.find_head(settings, encoded.encoder):
        raise UserError(
            f"encoder {encoded.encoder!r} is a head on {head.base!r} already: --make takes a network's vectors"
        )


def _line(row: "study.Row") -> list[Any]:
    change = row.change
    figures = [round(value, 4) for value in (*row.metrics.values(), change.value, change.low, change.high)]
    on_new = round(row.on_new.value, 4) if row.on_new else ""
    took = row.speed.latency_ms, row.speed.queries_per_second, row.speed.build_seconds
    return [row.codec.name, row.bytes, *figures, on_new, *(round(each, 3) for each in took), row.good_enough, row.why]


def _figures(
    settings: Settings, done: "study.Study", max_drop: float, bytes_at_most: int | None, photos: int
) -> dict[str, Any]:
    cheapest = done.cheapest(bytes_at_most)
    return {
        "dim": done.dim,
        "bytes": 4 * done.dim,
        "queries": done.queries,
        "index": done.index,
        "max_drop": max_drop,
        "metrics": done.full,
        **asdict(done.full_speed),
        "photos": photos,
        "money_month": study.month(settings.prices, photos, 4 * done.dim, 4 * done.dim),
        "currency": settings.prices.currency,
        "new_queries": done.new_queries,
        "cheapest": cheapest.codec.name if cheapest else None,
        "cheapest_bytes": cheapest.bytes if cheapest else None,
        "codecs": [
            {
                **{"codec": row.codec.name, "dim": row.codec.linear.dim, "bytes": row.bytes, "metrics": row.metrics},
                **{"change": row.change.value, "low": row.change.low, "high": row.change.high},
                **{"good_enough": row.good_enough, "why": row.why, "searched_bytes": row.codec.searched_bytes},
                **asdict(row.speed),
                "money_month": row.money(settings.prices, photos),
                "on_new_products": row.on_new
                and {"change": row.on_new.value, "low": row.on_new.low, "high": row.on_new.high},
            }
            for row in done.rows
        ],
    }


def _make(settings: Settings, done: "study.Study", row: "study.Row", name: str | None) -> "tuned.Tuned":
    """The linear part of ``row`` as a head on the encoder: centred, projected, of unit length."""
    linear, encoded = row.codec.linear, done.encoded
    assert linear.weight is not None
    layer = (linear.weight, (-linear.mean @ linear.weight).astype(np.float32))
    head = heads.Head(
        (layer,), (np.zeros((linear.dim, 0), np.float32), np.zeros(0, np.float32)), (), activation="linear"
    )
    base = facts.encoder_row(settings, encoded.encoder_version)
    key = hashlib.sha256(json.dumps([encoded.encoder_version, head.fingerprint()]).encode()).hexdigest()[:16]
    folder = settings.home / "models" / "codec" / key
    folder.mkdir(parents=True, exist_ok=True)
    heads.save(head, folder)
    return tuned.Tuned(
        name=check_name(name or f"{encoded.encoder}__pca{linear.dim}", "encoder name"),
        strategy="codec",
        base=encoded.encoder,
        base_version=encoded.encoder_version,
        encoder_version=heads.version(encoded.encoder_version, head),
        source_dataset=encoded.dataset,
        label="",
        training_set="",
        seed=0,
        folder=str(folder.relative_to(settings.home)),
        dim=linear.dim,
        backbone=base["backbone"],
        family=base["family"],
        licence=base["licence"],
        cost={},
    )
