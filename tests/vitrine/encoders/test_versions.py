"""Versions that homes already hold: whatever the code becomes, the same network and the same head keep theirs."""

import numpy as np
import pytest
import torch

from tests.support.own_encoder import mine
from vitrine.encoders import heads, processor
from vitrine.encoders.backbones import REGISTRY
from vitrine.encoders.heads import Head
from vitrine.encoders.identity import fingerprint
from vitrine.encoders.networks import build
from vitrine.settings import Settings

# torch's dice fall another way on a processor without these instructions.
same_dice = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="other random weights on this processor"
)


@same_dice
@pytest.mark.parametrize(
    ("backbone", "weights", "input_size", "encoder_version"),
    [
        ("torchvision/squeezenet1_0", "random:1", 64, "294f4fe94aeead2e"),
        ("torchvision/mobilenet_v3_large", "random:2", 64, "3cb9c49f7798eb61"),
        ("torchvision/resnet18", "random:3", None, "76b3c86f01b0112d"),
        ("timm/resnet18.a1_in1k", "random:3", 64, "814efdbf41ac1499"),
        ("open_clip/RN50", "random:4", None, "355dfb23e58d7e69"),
        ("dino/resnet50", "random:5", None, "12bdc41bee4e45eb"),
    ],
)
def test_the_version_of_random_weights(
    settings: Settings, backbone: str, weights: str, input_size: int | None, encoder_version: str
):
    built = build(mine(settings, backbone, weights=weights, input_size=input_size))
    assert fingerprint(built).encoder_version == encoder_version


@same_dice
def test_the_version_of_random_weights_of_a_transformer(settings: Settings):
    """torch draws its truncated normals by MKL, which computes them by the processor's maker and instructions."""
    built = build(mine(settings, "maws/vit_b16", weights="random:6"))
    on_intel = ("b76e99f1244da923", "f69c6b23ce7b0a27")  # by AVX-512, by AVX2
    known = on_intel if "Intel" in processor.model() else ("3395162260257f31",)
    assert fingerprint(built).encoder_version in known


def test_the_version_of_packaged_weights():
    assert fingerprint(build(REGISTRY["efficientnet_lite0"])).encoder_version == "2746ea19feb3fc4a"


def test_the_version_of_a_head():
    def matrix(rows: int, columns: int) -> heads.Floats:
        return (np.arange(rows * columns, dtype=np.float32).reshape(rows, columns) - 7) / 16

    layers = ((matrix(6, 5), matrix(1, 5)[0]), (matrix(5, 4), matrix(1, 4)[0]))
    head = Head(layers, (matrix(4, 3), matrix(1, 3)[0]), ("a", "b", "c"))
    assert heads.version("2746ea19feb3fc4a", head) == "1aa68b338d6cc9db"
