"""What a probe is judged by: photos that it did not learn from, of classes that it did and of classes that it did not.

``known`` are the validation part's photos of the learned classes, asked among those classes' photos of the training
part: once all is learned, nothing else lies in the index. ``new`` are the training part's photos of the other classes,
asked among themselves. All rungs of one cut answer the same queries, so that their answers are paired.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.ladder.cut import cut
from training.ladder.forecast import ByQuery
from training.nearest_scores import mmp_by_query
from training.training_set import TRAIN, VALIDATION, TrainingSet, open_part
from vitrine.settings import Settings
from vitrine.vectors import Floats, matrix

QUERIES, INDEX = 2000, 10_000
Embed = Callable[[str], Floats]
"""A part's name to the vectors of its first rows, float32 (N, D) of unit length, as many as ``Judge`` has of it."""


@dataclass(frozen=True)
class Answers:
    """mMP@5 of the queries that one ``Judge`` asks."""

    known: ByQuery
    new: ByQuery

    def over(self, base: "Answers") -> "Answers":
        """What is answered better than by ``base``, query by query."""
        return Answers(self.known.over(base.known), self.new.over(base.new))


class Judge:
    """The queries of one cut of a training set, whose rows have vectors."""

    def __init__(self, whole: TrainingSet, learned: NDArray[np.bool_]) -> None:
        self.vectors, self.labels, self.ids = {}, {}, {}
        for part, most in ((TRAIN, INDEX), (VALIDATION, QUERIES)):
            columns = ["image_id", "embedding", "label"]
            table: Any = open_part(whole.folder, part).head(most, columns=columns, use_threads=False)
            self.vectors[part], self.labels[part] = matrix(table["embedding"]), table["label"].to_numpy()
            self.ids[part] = table["image_id"].to_pylist()
        self.is_known = learned[self.labels[VALIDATION]]
        self.is_new = ~learned[self.labels[TRAIN]]

    def answers(self, embed: Embed) -> Answers:
        """What vectors by ``embed`` answer."""
        among, asked = embed(TRAIN), embed(VALIDATION)[self.is_known]
        learned = ~self.is_new
        truth = self.labels[VALIDATION][self.is_known]
        known = mmp_by_query(asked, truth, among[learned], self.labels[TRAIN][learned])
        others, classes = among[self.is_new], self.labels[TRAIN][self.is_new]
        new = mmp_by_query(others[:QUERIES], classes[:QUERIES], others, classes, themselves=True)
        return Answers(ByQuery(known, truth), ByQuery(new, classes[:QUERIES]))

    def by(self, embed: Callable[[Floats], Floats]) -> Embed:
        """Vectors by a head on the rows' own."""
        return lambda part: embed(self.vectors[part])


class Judges:
    """The judges of one training set: for each share of its products and seed, of what was not learned from."""

    def __init__(self, settings: Settings, whole: TrainingSet) -> None:
        self.settings, self.whole = settings, whole
        self._made: dict[tuple[float, int], Judge] = {}

    def of(self, products: float, seed: int) -> Judge:
        if (products, seed) not in self._made:
            learned = cut(self.settings, self.whole, products, seed).learned
            self._made[products, seed] = Judge(self.whole, learned)
        return self._made[products, seed]
