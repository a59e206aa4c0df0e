"""The layer of cosines and the losses for retrieval, each against its formula."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from training.classifier_layer import Classifier, CosineLayer, loss_of
from vitrine.tuning_sections import FromHeadSettings, FullSettings

DIM, CLASSES = 6, 4


def classifier(**settings: Any) -> tuple[Classifier, FullSettings]:
    """Of a network that hands its input on."""
    chosen = FromHeadSettings(**settings)
    built: Any = SimpleNamespace(network=torch.nn.Sequential(torch.nn.Identity()), dim=DIM)
    return Classifier(built, CLASSES, chosen), chosen


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def test_logits_are_scaled_cosines():
    made, _ = classifier(temperature=16)
    x = 5 * torch.randn(8, DIM, generator=torch.Generator().manual_seed(1))
    assert isinstance(made.head, CosineLayer)
    assert torch.allclose(made(x), 16 * unit(x) @ unit(made.head.weight).T, atol=1e-5)


def test_it_starts_from_each_classs_mean_direction():
    made, _ = classifier()
    random = np.random.default_rng(0)
    labels = np.repeat([0, 2, 3], 5)  # none of class 1
    rows = random.normal(size=(15, DIM)).astype(np.float32) * random.uniform(1, 9, size=(15, 1)).astype(np.float32)
    made.start_from((rows, labels), (rows[:0], labels[:0]))
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for label in (0, 2, 3):
        mean = directions[labels == label].mean(0)
        assert np.allclose(made.head.weight[label].detach(), mean / np.linalg.norm(mean), atol=1e-5)
    everything = directions.mean(0)
    assert np.allclose(made.head.weight[1].detach(), everything / np.linalg.norm(everything), atol=1e-5)


def test_proxy_anchor_by_its_formula():
    """Kim et al., arXiv 2003.13911, equation 4."""
    made, settings = classifier(loss="proxy_anchor")
    x, y = torch.randn(7, DIM, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 0, 1, 3, 3, 3, 1])
    assert torch.equal(made.train()(x), x) and made.eval()(x).shape == (7, CLASSES)
    loss = loss_of(settings, made)
    given = loss(x, y)
    cosines = (unit(x) @ unit(made.head.weight).T).detach().numpy()
    same = y.numpy()[:, None] == np.arange(CLASSES)
    near = np.log1p((np.exp(-32 * (cosines - 0.1)) * same).sum(0))
    far = np.log1p((np.exp(32 * (cosines + 0.1)) * ~same).sum(0))
    assert given.item() == pytest.approx(near[same.any(0)].mean() + far.mean(), rel=1e-4)
    given.backward()
    assert made.head.weight.grad is not None  # the proxies that it tells classes by are those that learn


def test_supervised_contrastive_by_its_formula():
    """Khosla et al., arXiv 2004.11362, equation 2, and beside it what the proxies learn by."""
    made, settings = classifier(loss="supcon", repeats=2, temperature=10, label_smoothing=0.0)
    x = torch.randn(7, DIM, generator=torch.Generator().manual_seed(2), requires_grad=True)
    y = torch.tensor([0, 0, 1, 3, 3, 3, 1])
    given = loss_of(settings, made)(made.train()(x), y)
    cosines, others = 10 * unit(x) @ unit(x).T, ~torch.eye(7, dtype=torch.bool)
    same = (y[:, None] == y) & others
    shares = cosines - torch.log((torch.exp(cosines) * others).sum(1, keepdim=True))
    pairs = -((shares * same).sum(1) / same.sum(1)).mean()
    told = torch.nn.functional.cross_entropy(made.head(x.detach()), y)
    assert given.item() == pytest.approx(float(pairs + told), rel=1e-4)
    moved = torch.autograd.grad(pairs, x)[0]
    given.backward()
    assert x.grad is not None and torch.allclose(x.grad, moved, atol=1e-5), "the proxies move no vector"
    assert made.head.weight.grad is not None


def test_what_a_loss_of_vectors_needs_is_said():
    for loss in ("proxy_anchor", "supcon"):
        with pytest.raises(ValidationError, match=f'"{loss}" has no mixed labels: set mixup and cutmix to 0'):
            FullSettings(loss=loss)
        assert FullSettings(loss=loss, mixup=0, cutmix=0).learns_cosines
    with pytest.raises(ValidationError, match="set repeats to 2 or more, not 1"):
        FromHeadSettings(loss="supcon")


def test_what_the_default_was_before_is_no_longer_found_under_its_key():
    assert FromHeadSettings().digested()["loss"] == "cosine" and "loss" not in FullSettings().digested()
