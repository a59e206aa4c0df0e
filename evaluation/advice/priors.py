"""What is known of an encoder before a photo of the catalog was embedded: public figures, as standard scores.

Levels of different protocols cannot be compared, so a figure counts as its distance from the mean of all models of its
task, in standard deviations. An encoder without public figures stands one deviation below those that learned alike,
moved by its size; an encoder's own part of the model in ``order`` is as wide for all, so none is excluded by that.

Each catalog of this installation that enough encoders were evaluated on is one more task.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics_table import ALL_QUERIES, newest
from vitrine import lake
from vitrine.encoders.backbones import CONTRASTIVE, SELF_SUPERVISED, SUPERVISED, Backbone
from vitrine.settings import Settings

Floats = NDArray[np.float64]
FILE = Path(__file__).with_name("priors.csv")
SIGMOID = "sigmoid contrastive"
_PRETRAININGS = {SUPERVISED: "supervised", SELF_SUPERVISED: "self-supervised", CONTRASTIVE: "contrastive"}
_WITHOUT_FIGURES = -1.0
_A_DOUBLING = 0.2
"""Standard scores that a model gains with twice the arithmetic: LAION's and OpenAI's CLIPs from B/32 to bigG/14, 8.8 to
about 1,000 GFLOPs, gain 1.4 in ``priors.csv``."""
_USUAL_GFLOPS = 35.0
_FEWEST = 3
"""Encoders that a catalog of this installation has to know."""
_LEAST_SPREAD = 0.02
"""Of R@1 over the encoders of one catalog, so that noise does not pass for a difference."""


@dataclass(frozen=True)
class Public:
    """The public figures of M models on T tasks."""

    models: list[str]
    encoders: list[str]
    """Vitrine's name of each model; empty where it has none."""
    pretrainings: list[str]
    """What each model learned from."""
    tasks: list[str]
    recall: Floats
    """R@1, (M, T)."""
    seconds: Floats
    """What all tasks took on the machines of those who measured, (M,)."""


@dataclass(frozen=True)
class Candidate:
    """What can be measured."""

    name: str
    pretraining: str
    scores: Floats
    """Standard scores on public tasks, (T,)."""
    seconds: float = 1.0
    """What measuring it is going to take."""

    @property
    def prior(self) -> float:
        return float(self.scores.mean())


@cache
def public() -> Public:
    """The figures of ``priors.csv``."""
    with FILE.open(newline="") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    about = ("model", "encoder", "pretraining", "seconds")
    tasks = [name for name in rows[0] if name not in about]
    return Public(
        [row["model"] for row in rows],
        [row["encoder"] for row in rows],
        [row["pretraining"] for row in rows],
        tasks,
        np.array([[float(row[task]) for task in tasks] for row in rows]),
        np.array([float(row["seconds"]) for row in rows]),
    )


def standard_scores(figures: Floats) -> Floats:
    """Each column's distances from its mean in standard deviations, (M, T)."""
    return np.asarray((figures - figures.mean(0)) / figures.std(0))


def pretraining(backbone: Backbone) -> str:
    """What the network learned from: finer than its family, since losses make neighbourhoods."""
    if "siglip" in backbone.model.lower():
        return SIGMOID
    return _PRETRAININGS[backbone.family]


def candidates(
    backbones: Sequence[Backbone], seconds: Sequence[float], own: Sequence[Mapping[str, float]] = ()
) -> list[Candidate]:
    """What is known of each of ``backbones``, of which measuring takes ``seconds``; ``own``: R@1 by encoder, of each
    catalog of this installation."""
    known = public()
    scores = standard_scores(known.recall)
    rows = {name: scores[at] for at, name in enumerate(known.encoders) if name}
    made = []
    for backbone, takes in zip(backbones, seconds, strict=True):
        kind = pretraining(backbone)
        row = rows.get(backbone.name)
        if row is None:
            alike = [at for at, each in enumerate(known.pretrainings) if each == kind]
            gflops = backbone.facts.gflops if backbone.facts else _USUAL_GFLOPS
            by_size = _A_DOUBLING * np.log2(gflops / _USUAL_GFLOPS)
            row = scores[alike or slice(None)].mean(0) + _WITHOUT_FIGURES + by_size
        made.append(Candidate(backbone.name, kind, row, takes))
    return _with_own(made, own)


def _with_own(made: list[Candidate], own: Sequence[Mapping[str, float]]) -> list[Candidate]:
    """With a task more for each of ``own`` that has figures of ``_FEWEST`` candidates. Which these are is no accident:
    their scores there are centred on what is known of them elsewhere, and a candidate without a figure keeps that."""
    columns = []
    for figures in own:
        there = [figures[each.name] for each in made if each.name in figures]
        if len(there) >= _FEWEST:
            usual = np.mean([each.prior for each in made if each.name in figures])
            mean, spread = np.mean(there), max(float(np.std(there)), _LEAST_SPREAD)
            scores = [
                usual + (figures[each.name] - mean) / spread if each.name in figures else each.prior for each in made
            ]
            columns.append(scores)
    if not columns:
        return made
    more = np.array(columns).T
    return [replace(each, scores=np.concatenate([each.scores, row])) for each, row in zip(made, more, strict=True)]


def own_catalogs(settings: Settings, dataset: str) -> list[dict[str, float]]:
    """mR@1 by encoder of each other data set, of the newest evaluation by products that each encoder has there; by the
    protocol that most encoders share."""
    where = f"{lake.matches(classifier='', slice=ALL_QUERIES, metric='mR@1', relevant='product_id')}"
    found: dict[str, dict[tuple[str, str, str], dict[str, float]]] = {}
    for each in reversed(newest(settings, f"{where} AND dataset <> {lake.quote(dataset)}")):  # the last one counts
        of_dataset = found.setdefault(each.encoded.dataset, {})
        of_dataset.setdefault(each.protocol, {})[each.encoded.encoder] = each.scores[ALL_QUERIES].values["mR@1"]
    return [max(protocols.values(), key=len) for _, protocols in sorted(found.items())]
