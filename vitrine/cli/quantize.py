"""The work of ``vitrine quantize``: a network in eight bits, held against the network as it is computed now."""

import hashlib
import importlib.metadata
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.advice import measure, sample
from evaluation.statistics import bootstrap
from spark_jobs.worker import encoder as engine
from spark_jobs.worker import encoder_plan, forward_rate
from training import quantize as job
from training import tune as jobs
from vitrine import files, lake, locks, photo_store, runs
from vitrine.encoders import backbones, by_name, int8_network, processor, tuned
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.identity import identify
from vitrine.errors import UserError
from vitrine.names import LEARNED_SPLIT
from vitrine.settings import Settings
from vitrine.tables import CATALOG
from vitrine.vectors import Floats

CALIBRATED, FEWEST, JUDGED = 256, 16, 1_000
"""Photos that the ranges come from, at least so many, and photos on which both networks are asked."""
FASTER = 1.1
"""So many times the photos a second have to be had, or eight bits are not worth it here."""
_SAY_EVERY = 100


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked."""

    dataset: str
    base: str
    name: str
    max_drop: float


def check(settings: Settings, dataset: str, encoder: str, name: str | None, max_drop: float | None) -> Asked:
    """
    Raises:
        UserError: the encoder is a head, or in eight bits already, or ``name`` is taken.
    """
    if head := by_name.find_head(settings, encoder):
        raise UserError(
            f"encoder {encoder!r} is a head on {head.base!r}, which costs next to nothing: quantize {head.base!r}"
        )
    if backbones.resolve(settings, encoder).int8:
        raise UserError(f"encoder {encoder!r} is in 8 bits already: name the network that it was made of")
    to = by_name.check_free(settings, name or tuned.default_name(encoder, tuned.INT8, dataset), encoder)
    return Asked(dataset, encoder, to, settings.gates.max_drop if max_drop is None else max_drop)


def quantize(settings: Settings, asked: Asked, run: "runs.Run") -> None:
    """Make it, measure it, and give it its name where it is worth it; the run's figures say how it went."""
    base = backbones.resolve(settings, asked.base)
    base = identify(settings, base).pinned(base)
    catalog = sample.catalog(settings, asked.dataset, sample.SEARCH)
    drawn = sample.draw(settings, catalog, None, JUDGED)
    as_it_is, started = engine.Encoder(_plan(settings, base)), time.monotonic()
    made, calibrated = _made(settings, asked, base, as_it_is, drawn)
    in_8_bits = engine.Encoder(_plan(settings, made))
    seconds = time.monotonic() - started
    rates = forward_rate.rates(as_it_is, in_8_bits)
    vectors = [_vectors(settings, each, catalog.dataset, drawn) for each in (as_it_is, in_8_bits)]
    change, figures = _change(settings, catalog, drawn, vectors, asked.max_drop)
    why = _why_not(rates, change, asked.max_drop)
    run.figures |= figures | {
        "base": asked.base,
        "base_version": base.encoder_version,
        "precision": as_it_is.precision,
        "photos_per_second": round(rates[0], 3),
        "photos_per_second_int8": round(rates[1], 3),
        "times": round(rates[1] / rates[0], 3),
        "calibrated_on": calibrated,
        "judged_on": len(drawn.ids),
        "worth_it": not why,
        "why": why or f"{rates[1] / rates[0]:.2f} times the photos a second, surely within {asked.max_drop:g}",
    }
    if why:
        print(f"{asked.base}: eight bits are not worth it here: {why}", file=sys.stderr)
        return
    version = in_8_bits.built.version()
    tuned.register(settings, _tuned(settings, asked, base, made, version, in_8_bits.built.dim, seconds))
    run.encoder_version = version
    run.figures |= {"made": asked.name, "made_version": version, "dim": in_8_bits.built.dim}


def _plan(settings: Settings, backbone: Backbone) -> "encoder_plan.EncoderPlan":
    """On one core, as a worker has it."""
    return encoder_plan.EncoderPlan(backbone, None, settings.embed.precision, settings.max_pixels, 1, settings.sources)


def _made(
    settings: Settings, asked: Asked, base: Backbone, as_it_is: "engine.Encoder", drawn: "sample.Sample"
) -> tuple[Backbone, int]:
    """The network in eight bits, made where the same was not made before, and on how many photos."""
    photos = _calibration(settings, asked.dataset, drawn)
    if len(photos) < FEWEST:
        raise UserError(f"{asked.dataset!r} has {len(photos)} photos to calibrate on: it takes {FEWEST}")
    contents = hashlib.sha256("".join(content for _, _, content in photos).encode()).hexdigest()
    decisive = [base.encoder_version, contents, importlib.metadata.version("onnxruntime")]
    decisive += [] if processor.adds_products_exactly() else ["weights of seven bits"]
    folder = settings.home / "models" / tuned.INT8 / hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]
    weights = folder / tuned.WEIGHTS
    with locks.held_file(folder / "lock", f"another process makes {str(folder)!r}"):
        if not (folder / "result.json").is_file():
            inputs = job.inputs(settings, as_it_is.built, [uri for _, uri, _ in photos])
            if len(inputs) < FEWEST:
                raise UserError(f"{len(inputs)} of {len(photos)} photos to calibrate on can be read: it takes {FEWEST}")
            with files.whole(weights) as fresh:
                int8_network.write(job.quantised(as_it_is.built, inputs, asked.base), fresh)
            files.write_json(folder / "result.json", {"photos": len(inputs)})
        count = int(json.loads((folder / "result.json").read_text())["photos"])
    return replace(
        base, name=asked.name, weights=str(weights), int8=True, facts=None, revision=None, encoder_version=None
    ), count


def _calibration(settings: Settings, dataset: str, drawn: "sample.Sample") -> list[tuple[str, str, str]]:
    """(key, uri, content) of photos that tuning may learn from: of products that are not judged, where there are
    enough."""
    uri, where = photo_store.readable_in_sql(settings), lake.matches(dataset=dataset)
    sql = (
        f"SELECT image_id, {uri} AS uri, content_sha256, NOT ({drawn.where}) AS aside FROM {CATALOG.name} "
        f"WHERE {where} AND (split IS NULL OR {lake.matches(split=LEARNED_SPLIT)}) ORDER BY content_sha256 LIMIT {{}}"
    )
    aside = lake.rows(settings, f"SELECT * FROM ({sql.format(20 * CALIBRATED)}) WHERE aside LIMIT {CALIBRATED}")
    rows = aside if len(aside) >= FEWEST else lake.rows(settings, sql.format(CALIBRATED))
    return [(row["image_id"], row["uri"], row["content_sha256"]) for row in rows]


def _vectors(settings: Settings, encoder: "engine.Encoder", dataset: str, drawn: "sample.Sample") -> Floats:
    """The sample's vectors, float32 (N, D); zeros of a photo that cannot be read."""
    uris, at = sample.uris(settings, dataset, drawn), {name: place for place, name in enumerate(drawn.ids)}
    made, done = np.zeros((len(at), encoder.built.dim), np.float32), 0
    for part in encoder.encode((name, [uri]) for name, uri in uris.items() if name in at):
        made[[at[key] for key in part.keys]] = part.vectors
        before, done = done, done + len(part.keys)
        if before // _SAY_EVERY < done // _SAY_EVERY:
            print(f"{encoder.plan.backbone.name}: {done} of {len(at)} photos", file=sys.stderr, flush=True)
    return made


def _change(
    settings: Settings, catalog: "sample.Catalog", drawn: "sample.Sample", vectors: list[Floats], max_drop: float
) -> "tuple[bootstrap.PairedDifference, dict[str, Any]]":
    questions = measure.Questions(catalog, drawn)
    before, after = (questions.as_it_is(rows).values for rows in vectors)
    change = bootstrap.paired_difference(after, before, drawn.products, max_drop, settings.gates.confidence)
    cosines = (vectors[0] * vectors[1]).sum(axis=1)[vectors[0].any(axis=1)]
    return change, {
        "cosine": round(float(cosines.mean()), 6),
        "least_cosine": round(float(cosines.min()), 6),
        "mMP@5": round(float(np.nanmean(before)), 6),
        "mMP@5_int8": round(float(np.nanmean(after)), 6),
        "change": round(change.value, 6),
        "low": round(change.low, 6),
        "high": round(change.high, 6),
        "max_drop": max_drop,
    }


def _why_not(rates: list[float], change: "bootstrap.PairedDifference", max_drop: float) -> str:
    if rates[1] < FASTER * rates[0]:
        return f"{rates[1] / rates[0]:.2f} times the photos a second, and it takes {FASTER:g}"
    if change.worse:
        return f"mMP@5 falls by {-change.value:.4f}, and may by {max_drop:g}"
    if not change.clear:
        return f"{change.queries} photos do not tell whether mMP@5 falls by more than {max_drop:g}"
    return ""


def _tuned(
    settings: Settings, asked: Asked, base: Backbone, made: Backbone, version: str, dim: int, seconds: float
) -> "tuned.Tuned":
    return tuned.Tuned(
        name=asked.name,
        strategy=tuned.INT8,
        base=asked.base,
        base_version=str(base.encoder_version),
        encoder_version=version,
        source_dataset=asked.dataset,
        label="",
        training_set="",
        seed=0,
        folder=str(Path(str(made.weights)).parent.relative_to(settings.home)),
        dim=dim,
        backbone=base.spelled,
        family=base.family,
        licence=base.licence,
        cost=jobs.cost(settings, seconds),
        input_size=base.input_size,
    )
