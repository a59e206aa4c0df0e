"""The rungs that the ladder knows: what a probe of each is, and what its vectors of the judge's photos are."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training import tune
from training.ladder.cut import Cut, cut
from training.ladder.judge import INDEX, QUERIES, Answers, Embed, Judge, Judges
from training.training_set import TRAIN, VALIDATION, TrainingSet
from vitrine.encoders import backbones, heads, tuned
from vitrine.settings import Settings
from vitrine.tuning_sections import FullSettings, LinearSettings, TopSettings
from vitrine.vectors import Floats

SEEDS = (0, 1)
"""Of the probes."""
PROBED_PRODUCTS = 0.25
"""Of the products: what a probe of a network learns from."""


Finish = Callable[[], tuned.Tuned]
"""Tunes in full, records what came of it and names it."""


class Rung(ABC):
    """One strategy of tuning on one training set."""

    strategy: str
    levels: tuple[tuple[float, ...], ...] = ()
    """The shares of the full budget that are probed, at first and after each doubling."""
    probe_cost = 1.0
    """What a probe of the whole budget takes, in tunings."""
    least_cost = 0.0
    """Of a probe, however small, in probes of the whole budget."""
    start_seconds = 3.0
    """Of one probe, whatever its size."""

    def estimated_seconds(self) -> float:
        """What its whole tuning would take."""
        return 0.0

    def use_seconds(self) -> float:
        """What using it takes beyond what its encoder takes as it is."""
        return 0.0

    def products_of(self, share: float) -> float:
        """The share of the products that a probe of ``share`` learns from."""
        return share

    def beside(self, share: float, products: float) -> float:
        """The share at which it is compared with another rung's probe of ``share``, on so many products."""
        return products

    @abstractmethod
    def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
        """Seconds that a probe of ``share`` takes, and what it answers of photos beside a share of ``products``."""

    @abstractmethod
    def judged(self) -> tuple[float, Answers]:
        """As ``probe``, after the whole tuning, which validation photos were kept out of."""


class TunedRung(Rung):
    """A rung that can be paid for."""

    made: tuned.Tuned
    """Once ``tune`` is through."""

    def __init__(self, finish: Finish) -> None:
        self.finish = finish

    def tune(self) -> tuned.Tuned:
        self.made = self.finish()
        return self.made


class AsItIs(Rung):
    """The encoder without tuning."""

    strategy = "pretrained"

    def __init__(self, judges: Judges) -> None:
        self.judges = judges

    def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
        judge = self.judges.of(products, seed)
        return 0.0, judge.answers(judge.by(lambda vectors: vectors))

    def judged(self) -> tuple[float, Answers]:
        return self.probe(1.0, SEEDS[0], 1.0)


class HeadRung(TunedRung):
    """A head on stored vectors: its probes learn from a share of the products, by the same protocol."""

    def __init__(
        self, settings: Settings, judges: Judges, protocol: LinearSettings | TopSettings, finish: Finish
    ) -> None:
        super().__init__(finish)
        self.settings, self.judges, self.whole, self.protocol = settings, judges, judges.whole, protocol
        # A closed form takes seconds: it is probed whole, and on half of the products for what it does to new ones.
        linear = isinstance(protocol, LinearSettings)
        self.strategy, self.levels = ("linear", ((0.5, 1.0),)) if linear else ("top", ((0.125, 0.25), (0.5,)))
        self.least_cost = float(linear)  # its time goes into matrices of the dimension's size

    def estimated_seconds(self) -> float:
        estimate = tune.estimate_head(self.settings, self.whole, self.protocol)
        return float(estimate["seconds"])

    def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
        protocol = self.protocol.probe() if isinstance(self.protocol, TopSettings) else self.protocol
        rows = cut(self.settings, self.whole, share, seed).rows
        made, _ = tune.tune_head(self.settings, rows, protocol, "probe")
        return made.cost["seconds"], self._answers(made, products, seed)

    def judged(self) -> tuple[float, Answers]:
        # A linear head is fitted to the validation part too, in the end: the one that was not is judged. A perceptron's
        # epoch is chosen by that part, no more.
        if self.strategy == "linear":
            return self.probe(1.0, SEEDS[0], 1.0)
        return 0.0, self._answers(self.made, 1.0, SEEDS[0])

    def _answers(self, made: tuned.Tuned, products: float, seed: int) -> Answers:
        judge = self.judges.of(products, seed)
        return judge.answers(judge.by(heads.load(made.path(self.settings)).embed))


class NetworkRung(TunedRung):
    """All weights, on photos: its probes learn from a quarter of the products in a share of the epochs."""

    levels = ((0.1, 0.2), (0.4,), (0.8,))
    probe_cost = PROBED_PRODUCTS

    def __init__(
        self,
        settings: Settings,
        judges: Judges,
        photos: TrainingSet,
        encoder: str,
        protocol: FullSettings,
        finish: Finish,
        use: float,
    ) -> None:
        """``photos``: the rows of the judges' training set, with the photos' uris; ``use``: ``use_seconds``."""
        super().__init__(finish)
        self.settings, self.judges, self.photos, self.encoder = settings, judges, photos, encoder
        self.protocol, self.use, self.strategy = protocol, use, protocol.strategy

    def estimated_seconds(self) -> float:
        return float(tune.estimate_full(self.settings, self.photos, self.encoder, self.protocol)["seconds"])

    def use_seconds(self) -> float:
        return self.use

    def products_of(self, share: float) -> float:
        return PROBED_PRODUCTS

    def beside(self, share: float, products: float) -> float:
        return share

    def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
        part: Cut = cut(self.settings, self.photos, PROBED_PRODUCTS, seed)
        epochs = max(1, round(self.protocol.epochs * share))
        short = {"epochs": epochs, "warmup_epochs": min(self.protocol.warmup_epochs, max(0, epochs // 10))}
        made, _ = tune.tune_full(
            self.settings, part.rows, self.encoder, self.protocol.model_copy(update=short), "probe"
        )
        judge = self.judges.of(products, seed)
        seconds, embed = self._embedded(made, judge)
        return made.cost["seconds"] + seconds, judge.answers(embed)

    def judged(self) -> tuple[float, Answers]:
        judge = self.judges.of(1.0, SEEDS[0])
        seconds, embed = self._embedded(self.made, judge)
        return seconds, judge.answers(embed)

    def _embedded(self, made: tuned.Tuned, judge: Judge) -> tuple[float, Embed]:
        """The judge's photos by the tuned network, in their order; a photo that it could not read has zeros."""
        network = replace(
            backbones.resolve(self.settings, self.encoder), weights=str(made.path(self.settings) / tuned.WEIGHTS)
        )
        rows = {TRAIN: INDEX, VALIDATION: QUERIES}
        seconds, parts = tune.photo_vectors(self.settings, self.photos, network, made.encoder_version, rows)

        def embed(part: str) -> Floats:
            ids, vectors = parts[part]
            places = {image_id: place for place, image_id in enumerate(ids)}
            none = np.zeros(vectors.shape[1], np.float32)
            at = (places.get(image_id) for image_id in judge.ids[part])
            return np.stack([none if place is None else vectors[place] for place in at])

        return seconds, embed
