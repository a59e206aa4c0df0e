"""How an encoder version's vectors differ from those of what serves, on a fixed probe set, in NumPy.

Two encoders are two spaces: their axes, and even their numbers of dimensions, have nothing to do with each other. So
what is compared is what each space says by itself (norms, effective rank, near-duplicates) or says about the same
photos (who is near whom). Directions are compared only where one encoder made both, in as many dimensions: there a
moved mean says that weights, preprocessing or libraries changed.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evaluation.gates.gate import Check
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.setting_sections import GateSettings
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import lengths, matrix

NEIGHBOURS = 10
FEWEST = 50
"""Photos in a probe set; fewer say nothing of neighbours or rank."""

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """The same N photos, all of different content, by two encoder versions."""

    candidate: Vectors
    """(N, D)."""
    serving: Vectors
    """(N, E)."""
    same_encoder: bool
    """Do both versions go by one encoder's name?"""


def effective_rank(vectors: Vectors) -> float:
    """In how many dimensions ``vectors``, (N, D), spread: from 1 (all on one line) to min(N, D) (evenly).

    exp(-sum of p_i * ln p_i), p_i = s_i / (sum of all s), s the singular values (Roy and Vetterli, The effective rank:
    a measure of effective dimensionality, 2007). The mean is not taken away: of vectors that all became one, only the
    rounding errors would be left, and those spread evenly. 0 where all are null.
    """
    values = np.linalg.svd(vectors, compute_uv=False)
    shares = values[values > 0] / max(values.sum(), np.finfo(np.float64).tiny)
    return float(np.exp(-(shares * np.log(shares)).sum())) if shares.size else 0.0


def cosines(vectors: Vectors) -> Vectors:
    """Of each pair, (N, N); a null vector has 0 with all."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray(unit @ unit.T)


def near_duplicates(similarities: Vectors, least: float) -> float:
    """The share of the pairs, of (N, N) cosines, that are at least ``least``."""
    above = np.triu_indices(len(similarities), 1)
    return float((similarities[above] >= least).mean())


def overlap(first: Vectors, second: Vectors, neighbours: int = NEIGHBOURS) -> float:
    """The share of each photo's nearest others that two spaces have in common, averaged; both (N, N) cosines."""
    nearest = [np.argsort(-(one - 3 * np.eye(len(one))), axis=1)[:, :neighbours] for one in (first, second)]
    shared = (nearest[0][:, :, None] == nearest[1][:, None, :]).any(axis=2)
    return float(shared.mean())


def drift_checks(probe: Probe, thresholds: GateSettings) -> list[Check]:
    """Norm, effective rank and near-duplicates may refuse; neighbours and mean direction only warn.

    A collapse is never wanted. Other neighbours are what a better encoder is for: whether they are better ones is what
    the metrics gate asks.
    """
    ours, theirs = cosines(probe.candidate), cosines(probe.serving)
    return [
        _norm(probe, thresholds.norm_tolerance),
        _rank(probe, thresholds.min_rank_share),
        _near_duplicates(ours, theirs, thresholds),
        _overlap(ours, theirs, thresholds.min_overlap),
        _direction(probe, thresholds.min_mean_cosine),
    ]


def _norm(probe: Probe, most: float) -> Check:
    value, serving = (float(np.linalg.norm(side, axis=1).mean()) for side in (probe.candidate, probe.serving))
    detail = f"mean norm {value:.6f} against {serving:.6f} of what serves, {most:g} apart allowed"
    return Check("norm", abs(value - serving) <= most, detail, {"value": value, "serving": serving})


def _rank(probe: Probe, share: float) -> Check:
    """Against the serving version's rank, scaled down where the candidate has room for less."""
    value, serving = effective_rank(probe.candidate), effective_rank(probe.serving)
    room = min(probe.candidate.shape) / min(probe.serving.shape)
    least = share * serving * min(1.0, room)
    detail = (
        f"effective rank {value:.1f} of {min(probe.candidate.shape)} possible against {serving:.1f} of "
        f"{min(probe.serving.shape)} of what serves, at least {least:.1f} asked"
    )
    return Check("effective_rank", value >= least, detail, {"value": value, "serving": serving, "least": least})


def _near_duplicates(ours: Vectors, theirs: Vectors, thresholds: GateSettings) -> Check:
    least, most = thresholds.near_duplicate, thresholds.max_near_duplicates
    value, serving = near_duplicates(ours, least), near_duplicates(theirs, least)
    detail = (
        f"{value:.3%} of the pairs of different photos have a cosine of at least {least:g}, {serving:.3%} by what "
        f"serves, {most:.3%} more allowed"
    )
    figures = {"value": value, "serving": serving, "near_duplicate": least, "max_near_duplicates": most}
    return Check("near_duplicates", value - serving <= most, detail, dict(figures))


def _overlap(ours: Vectors, theirs: Vectors, least: float) -> Check:
    value = overlap(ours, theirs)
    detail = f"{value:.1%} of the {NEIGHBOURS} nearest are those of what serves"
    return _warning("neighbours", detail, {"value": value, "min_overlap": least}, value < least)


def _direction(probe: Probe, least: float) -> Check:
    if not probe.same_encoder or probe.candidate.shape != probe.serving.shape:
        return Check.skipped("mean_direction", "another encoder serves, whose directions are its own")
    means = [side.mean(axis=0) for side in (probe.candidate, probe.serving)]
    lengths = float(np.linalg.norm(means[0]) * np.linalg.norm(means[1]))
    value = float(means[0] @ means[1]) / lengths if lengths else 0.0
    detail = f"the mean directions have a cosine of {value:.4f}"
    return _warning("mean_direction", detail, {"value": value, "min_mean_cosine": least}, value < least)


def _warning(name: str, detail: str, figures: dict[str, float | str], warns: bool) -> Check:
    """A check that passes in any case; ``warning`` says that it is worth a look."""
    return Check(name, True, detail, figures | ({"warning": "below what is usual"} if warns else {}))


# ---- from the lake ----


def read_probe(settings: Settings, candidate: EncodedSet, serving: EncodedSet, photos: int) -> Probe | None:
    """The first ``photos`` by SHA-256 of the image id that both have a vector of, one of each content.

    Vectors that are broken (NaN, another dimension than most) are left out: other checks refuse those. None where fewer
    than ``FEWEST`` are left.
    """
    sides = (candidate, serving)
    first, second = (f"(SELECT image_id, content_sha256 FROM {EMBEDDINGS.name} WHERE {side.where})" for side in sides)
    chosen = lake.query(
        settings,
        f"SELECT min(a.image_id) AS image_id FROM {first} a JOIN {second} b ON a.image_id = b.image_id "
        "AND a.content_sha256 = b.content_sha256 GROUP BY a.content_sha256 "
        f"ORDER BY sha256(min(a.image_id)) LIMIT {photos}",
    )
    if len(chosen) < FEWEST:
        return None
    ids = ", ".join(map(lake.quote, chosen.column("image_id").to_pylist()))
    ours, theirs = (_vectors(settings, f"{side.where} AND image_id IN ({ids})") for side in sides)
    both = sorted(ours.keys() & theirs.keys())
    if len(both) < FEWEST:
        return None
    stacked = [np.stack([side[image_id] for image_id in both]) for side in (ours, theirs)]
    return Probe(stacked[0], stacked[1], candidate.encoder == serving.encoder)


def _vectors(settings: Settings, where: str) -> dict[str, Vectors]:
    """Each image's vector, float64 (D,); none of broken ones."""
    rows = lake.query(settings, f"SELECT image_id, embedding FROM {EMBEDDINGS.name} WHERE {where}")
    dims = lengths(rows.column("embedding"))
    whole = rows.filter(pa.array((dims == np.bincount(dims).argmax()) & (dims > 0)))
    vectors = matrix(whole.column("embedding")).astype(np.float64)
    finite = np.isfinite(vectors).all(axis=1)
    ids = whole.column("image_id").to_pylist()
    return {ids[at]: vectors[at] for at in np.flatnonzero(finite)}
