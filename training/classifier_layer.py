"""The layer by which a network in tuning tells classes apart, and the losses that it learns by.

Retrieval is by cosine. ``cosine`` and ``proxy_anchor`` learn the cosines themselves: to a vector for each class, its
proxy. ``supcon`` learns those of a batch's photos to each other; the proxies beside it learn to tell classes apart, and
move no vector.
"""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from timm.loss import BinaryCrossEntropy
from torch.nn import functional

from training import head_first
from vitrine.encoders.networks import Built
from vitrine.tuning_sections import FullSettings
from vitrine.vectors import Floats

Labelled = tuple[Floats, NDArray[np.int64]]


class CosineLayer(torch.nn.Module):
    """``temperature`` times the cosine to each class's proxy (NormFace, arXiv 1704.06369)."""

    def __init__(self, dim: int, classes: int, temperature: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(classes, dim))
        self.temperature = temperature

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.temperature * functional.linear(functional.normalize(x), functional.normalize(self.weight))


class Classifier(torch.nn.Module):
    """The network as it embeds, and a layer on it, ``head``: a linear one, or one of cosines.

    A linear one starts from each class's share of equally many photos (the prior of Lin et al., Focal loss, 2017, 3.3):
    from 1/2 of each, a short training would do little else than learn that a photo is of few classes.
    """

    pretrained_cfg: ClassVar = {"classifier": "head"}
    """timm's layer-wise rates ask it what is no layer of the network."""

    def __init__(self, built: Built, classes: int, settings: FullSettings) -> None:
        super().__init__()
        self.network = built.network.requires_grad_(True)
        self.learns_vectors = settings.learns_vectors
        self.head: torch.nn.Linear | CosineLayer
        if settings.learns_cosines:
            self.head = CosineLayer(built.dim, classes, settings.temperature)
        else:
            self.head = torch.nn.Linear(built.dim, classes)
            torch.nn.init.constant_(self.head.bias, -math.log(max(classes - 1, 1)))
        for part in list(self.network.children())[: settings.freeze]:
            part.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (N, classes); while it learns by a loss of vectors, these, (N, D)."""
        vectors = self.network(x)
        logits: torch.Tensor = vectors if self.training and self.learns_vectors else self.head(vectors)
        return logits

    def start_from(self, learned: Labelled, aside: Labelled) -> None:
        """Fit the layer to what the frozen network makes of photos, float32 (N, D) and labels (N,): discriminants in
        closed form, or the mean direction of each class; ``aside``: photos to choose with."""
        classes = len(self.head.weight)
        with torch.no_grad():
            if isinstance(self.head, CosineLayer):
                self.head.weight.copy_(_means(*learned, classes))
            else:
                weight, bias = head_first.fitted_classifier(learned, aside, classes)
                self.head.weight.copy_(weight)
                self.head.bias.copy_(bias)


def _means(rows: Floats, labels: NDArray[np.int64], classes: int) -> torch.Tensor:
    """Each class's mean of unit vectors, (classes, D); of a class without a photo, that of all."""
    unit = functional.normalize(torch.from_numpy(np.asarray(rows, np.float32)))
    sums = torch.zeros(classes, unit.shape[1]).index_add_(0, torch.from_numpy(labels).long(), unit)
    empty = torch.from_numpy(np.bincount(labels, minlength=classes) == 0)
    sums[empty] = unit.mean(0)
    return functional.normalize(sums)


def loss_of(settings: FullSettings, classifier: Classifier) -> Any:
    """What takes the classifier's output while it learns, and the classes, to a number."""
    if settings.loss == "proxy_anchor":  # Kim et al., arXiv 2003.13911, with its margin and scale
        # Not at the top: it takes a second, and this loss alone needs it.
        from pytorch_metric_learning.losses import ProxyAnchorLoss

        classes, dim = classifier.head.weight.shape
        loss = ProxyAnchorLoss(classes, dim, margin=0.1, alpha=32)
        loss.proxies = classifier.head.weight
        return loss
    if settings.loss == "binary":
        return BinaryCrossEntropy(smoothing=0.0, target_threshold=settings.label_threshold)
    of_logits = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    if settings.loss != "supcon":
        return of_logits
    from pytorch_metric_learning.losses import SupConLoss  # as above

    of_pairs = SupConLoss(temperature=1 / settings.temperature)
    return lambda vectors, y: of_pairs(vectors, y) + of_logits(classifier.head(vectors.detach()), y)
