"""``vitrine compress``: how short vectors may become, and an encoder of that length."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from evaluation.compression import codec_rows, page, study
from vitrine import facts, runs, tracking
from vitrine.cli import output, serving_costs
from vitrine.cli.choices import chosen_datasets, encoded_set
from vitrine.cli.options import Dataset, Encoder, Json, Relevant
from vitrine.encoders import by_name, shorter, tuned
from vitrine.errors import UserError
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
    components: Annotated[
        int | None, typer.Option(help="Of the encoder that is made. Left out: the fewest that are good enough.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try how short an encoder's vectors may become: principal components, as they are or half-whitened, int8, 4 bits,
    1 bit, product quantisation, each held against the vectors in full on the same queries.

    Names the fewest bytes that are surely good enough, or says that none is; with what search takes on this machine,
    exact and in lists, what a month costs by the prices of vitrine.toml, and what a row takes in each store. With
    --make, the fewest principal components that are good enough, or as many as --components says, become an encoder
    like any other, applied to stored vectors: no photo is read. Draws a page under HOME/reports, and writes each
    codec's figures into the table metrics.
    """
    settings = load_settings()
    (chosen,) = chosen_datasets(settings, [dataset])
    encoded = encoded_set(settings, encoder, chosen)
    longer = shorter.longer(settings, encoded) if make else None
    if components is not None and (components not in study.DIMS or not make):
        choices = ", ".join(map(str, study.DIMS))
        raise UserError(f"--components {components}: with --make, and one of {choices}")
    if name:
        by_name.check_free(settings, name, encoded.encoder)
    drop = settings.gates.max_drop if max_drop is None else max_drop
    with runs.record(settings, "compress", chosen, encoded.encoder) as run:
        run.encoder_version = encoded.encoder_version
        done = study.study(settings, encoded, relevant, drop)
        photos = facts.count(settings, EMBEDDINGS, encoded.where)
        stores = serving_costs.ways(settings, done.dim, photos)
        run.figures |= _figures(settings, done, drop, bytes_at_most, photos)
        run.figures["stores"] = [each._asdict() for each in stores]
        path = settings.reports / f"compress_{chosen}_{encoded.encoder}.html"
        sentence = _sentence(stores, settings.prices.currency)
        page.draw(done, drop, settings.prices, photos, sentence, path, done.galleries(settings))
        run.figures["page"] = str(path)
        codec_rows.write_rows(settings, done.task, done.input_version, run.run_id, done.codecs)
        shortest = done.cheapest(quantiser="float32", dim=components)
        if longer and shortest:
            made = shorter.make(settings, longer, shortest.codec.linear, name)
            tuned.register(settings, made)
            run.figures |= {"made": made.name, "made_version": made.encoder_version, "made_dim": made.dim}
            run.figures["made_of"] = shortest.codec.name
        elif longer:
            asked = f"{components} components are not" if components else "no number of components is"
            print(f"{asked} surely good enough: nothing is made", file=sys.stderr)
    tracking.to_mlflow(settings, run, tracking.Details(files=[path]))
    if not as_json:
        columns = ["codec", "bytes", *done.full, "change", "low", "high", "change on new products"]
        columns += ["ms a query", "queries/s", "build s", "ms in lists", "recall@10", "good enough", "why"]
        output.emit_rows(columns, [_line(row) for row in done.rows], "table")
        output.emit_rows(serving_costs.Stored._fields, [list(each) for each in stores], "table")
    output.show(
        f"compressed {chosen} {encoded.encoder}", {"dataset": chosen, "encoder": encoder, **run.figures}, as_json
    )


def _sentence(stores: "list[serving_costs.Stored]", currency: str) -> str:
    """What the vectors in full take where they serve."""
    told = []
    for each in stores:
        money = f" ({each.money_month:.4g} {currency} a month)" if each.money_month else ""
        told.append(f"{each.store} {each.kept} {each.bytes_a_row:,} bytes{money}")
    return f"Where they serve, a row takes in memory about, by the index or the kind of vectors: {', '.join(told)}."


def _line(row: "study.Row") -> list[Any]:
    change = row.change
    figures = [round(value, 4) for value in (*row.metrics.values(), change.value, change.low, change.high)]
    on_new = round(row.on_new.value, 4) if row.on_new else ""
    by = row.speed
    took = by.latency_ms, by.queries_per_second, by.build_seconds, by.lists_latency_ms, by.lists_recall
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
        "intervals": done.full_scores.intervals,
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
                "intervals": row.scores.intervals,
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
