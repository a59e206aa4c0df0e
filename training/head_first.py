"""Full tuning that starts from a fitted classifier and ends between two networks: LP-FT, then WiSE-FT.

From a random classifier, the first steps distort features that were good (Kumar et al., Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution, arXiv 2202.10054): so it is fitted to the frozen network's
features first. In the end the weights are taken that lie on the line from the network as it was to the tuned one
(Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903), where photos left aside are found best.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from training.linear_tuning import Moments, as_head, likeliest_scale, solutions
from training.nearest_scores import mmp_by_query
from training.photo_loader import outputs
from vitrine import files
from vitrine.encoders.networks import Built
from vitrine.vectors import Floats

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of the tuned network's weights that are tried; of equal ones the first is taken."""
ROWS = {"train": 4_000, "validation": 2_000}
"""First photos of the parts, which are shuffled, that the share is chosen with."""
FITTED = 20_000
"""First photos that the classifier is fitted to."""
_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 0.6)
"""Shrinkages of the classifier's covariance that are tried."""

Labels = NDArray[np.int64]


def photos_asked(rows: dict[str, int]) -> int:
    """Forward passes of ``go_back``, of a training set with so many ``rows`` by part."""
    return len(SHARES) * sum(min(most, rows[part]) for part, most in ROWS.items())


def features(built: Built, photos: Any, most: int, device: torch.device) -> tuple[Floats, Labels]:
    """What the network makes of the first ``most`` photos: float32 (N, D), not of unit length, and their labels, (N,).

    ``photos``: of ``photo_loader``, or what ``cached_trunk`` kept of them. Photos that cannot be read are left out.
    """
    count = min(most, len(photos))
    made = outputs(built.network, photos, count, device)
    readable = ~photos.unreadable[:count].numpy()  # known once they were read
    return made[readable], photos.labels[:count][readable]


def fitted_classifier(
    learned: tuple[Floats, Labels], aside: tuple[Floats, Labels], classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Discriminants in closed form, their shrinkage chosen, and their logits scaled, by the photos left aside.

    Returns:
        Weight, float32 (classes, D), and bias, (classes,), that take features as they are; a class without a photo has
        the least bias and no weight.

    Raises:
        ArithmeticError: every class has one photo.
    """
    moments = Moments.of_rows(*learned, classes)
    names = [str(number) for number in range(classes)]
    heads = [as_head(each, moments, names) for each in solutions(moments, ["discriminants"], _STRENGTHS)]
    x, y = aside
    best = max(heads, key=lambda head: float((head.logits(x).argmax(1) == y).mean()) if len(y) else 0.0)
    ((projection, offset),), (directions, prior) = best.layers, best.classifier
    factor = likeliest_scale(best.logits(x), y) if len(y) else 1.0
    present = moments.counts > 0
    weight = (projection @ directions).T * factor
    bias = (prior + offset @ directions) * factor
    bias[~present] = bias[present].min()
    return torch.from_numpy(weight * present[:, None]).float(), torch.from_numpy(bias).float()


def between(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """The weights at ``share`` of the way from ``start`` to ``end``; counters are the end's."""
    return {
        key: torch.lerp(start[key].float(), value.float(), share).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in end.items()
    }


def found_again(index: tuple[Floats, Labels], queries: tuple[Floats, Labels]) -> float:
    """mMP@5 of the queries among the index, by cosine; 0 where none has anything to find."""

    def unit(rows: Floats) -> Floats:
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)

    found = mmp_by_query(unit(queries[0]), queries[1], unit(index[0]), index[1])
    asked = found[~np.isnan(found)]
    return float(asked.mean()) if len(asked) else 0.0


def keep_statistics(network: torch.nn.Module) -> None:
    """From now on batch normalisation takes the mean and variance that it has, as in embedding."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def go_back(
    start: dict[str, torch.Tensor],
    end: dict[str, torch.Tensor],
    worth: Callable[[dict[str, torch.Tensor]], float],
    path: Path,
) -> list[dict[str, float]]:
    """Write the weights between ``start`` and ``end`` that are ``worth`` most to ``path``; what each step was worth."""
    steps: list[dict[str, float]] = []
    for share in SHARES:
        weights = between(start, end, share)
        step = {"share": share, "mMP@5": round(worth(weights), 6)}
        print(f"{share:g} of the way: mMP@5 {step['mMP@5']:.4f}", file=sys.stderr, flush=True)
        if all(step["mMP@5"] > other["mMP@5"] for other in steps):
            with files.whole(path) as fresh:
                save_file(weights, fresh)
        steps.append(step)
    return steps
