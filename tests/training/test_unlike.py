"""The distance that tells what is unlike: in the discriminants' space, or, where classes are few, in all directions."""

import numpy as np

from training.linear_tuning import Moments, solutions
from training.unlike import KINDS, choose, space
from vitrine.encoders.classifiers import COSINE, MAHALANOBIS

DIM = 40


def classes(count: int, photos: int, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Photos of ``count`` classes, whose means lie in a few directions; the others say nothing of the class."""
    centres = np.random.default_rng(0).normal(size=(count, 12)) @ np.eye(12, DIM)
    chance, y = np.random.default_rng(seed), np.repeat(np.arange(count, dtype=np.int32), photos)
    spread = np.r_[np.full(12, 0.5), np.full(DIM - 12, noise)]
    return (centres[y] + chance.normal(size=(len(y), DIM)) * spread).astype(np.float32), y


def test_where_many_directions_say_nothing_the_discriminants_tell_best():
    x, y = classes(24, 40, 1, noise=6.0)
    choice = choose(x, y, np.arange(len(y)) % 2 == 0, 24, 0.1)
    assert choice.rule == COSINE and choice.auroc[COSINE] > choice.auroc[MAHALANOBIS]


def test_few_classes_leave_too_few_directions():
    x, y = classes(3, 40, 1, noise=0.5)
    assert choose(x, y, np.arange(len(y)) % 2 == 0, 3, 0.1).rule == MAHALANOBIS
    x, y = classes(4, 40, 1, noise=0.5)
    choice = choose(x, y, np.arange(len(y)) % 2 == 0, 4, 0.1)
    assert choice.rule == MAHALANOBIS and choice.auroc[MAHALANOBIS] > choice.auroc[COSINE]


def test_distances_are_those_of_the_definition():
    x, y = classes(5, 30, 2, noise=0.5)
    moments = Moments.of_rows(x, y, 5)
    for rule, kind in KINDS.items():
        (fitted,) = solutions(moments, [kind], [0.2])
        here = (x - fitted.mean) @ fitted.weight
        means = np.array([here[y == number].mean(0) for number in range(5)])
        if rule == COSINE:
            lengths = np.linalg.norm(here, axis=1)[:, None] * np.linalg.norm(means, axis=1)
            expected = 1 - (here @ means.T / lengths).max(1)
        else:
            expected = ((here[:, None] - means) ** 2).sum(2).min(1)
        np.testing.assert_allclose(space(rule, fitted, moments).distances(x), expected, rtol=2e-3, atol=2e-4)
