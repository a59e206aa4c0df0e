"""Networks in eight bits give the same vectors on every processor that takes them."""

from pathlib import Path

import pytest
import torch

from tests.support.own_encoder import mine, photo
from training.quantize import quantised
from vitrine.encoders import int8_network, processor
from vitrine.encoders.networks import build
from vitrine.errors import UserError
from vitrine.settings import Settings


def test_one_that_would_overflow_here_is_refused(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    built = build(mine(settings, "torchvision/squeezenet1_0", weights="random:1", input_size=64))
    inputs = [built.transform(photo(seed)) for seed in range(8)]
    made = {}
    for exact in (True, False):
        monkeypatch.setattr(processor, "adds_products_exactly", lambda exact=exact: exact)
        made[exact] = tmp_path / f"{exact}.safetensors"
        int8_network.write(quantised(built, inputs, "mine"), made[exact])
    with pytest.raises(UserError, match=r"was quantised on a processor with VNNI, and this one has none.*quantize"):
        int8_network.read(made[True])
    network, dim = int8_network.read(made[False])
    with torch.inference_mode():
        batch = torch.stack(inputs)
        ours, plain = (torch.nn.functional.normalize(each(batch), dim=1) for each in (network, built.network))
    assert dim == built.dim and (ours * plain).sum(1).min() > 0.99
    monkeypatch.setattr(processor, "adds_products_exactly", lambda: True)
    assert int8_network.read(made[True])[1] == int8_network.read(made[False])[1] == dim


@pytest.mark.parametrize(
    ("machine", "flags", "exactly"),
    [
        ("x86_64", "avx2", False),
        ("x86_64", "avx512f", False),
        ("x86_64", "avx512f avx512_vnni", True),
        ("AMD64", "", False),
        ("x86_64", "avx2 avx_vnni", True),
        ("aarch64", "", True),
        ("arm64", "", True),
    ],
)
def test_processors_without_vnni_overflow(monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, exactly: bool):
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "_fact", lambda name: flags)
    assert processor.adds_products_exactly() is exactly
