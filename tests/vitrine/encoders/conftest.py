"""Weights that the tests of encoders share."""

import pytest
import torch


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    import torchvision

    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None).state_dict()
