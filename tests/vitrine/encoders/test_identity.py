"""A version is what decides a vector, and is kept until something moves."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.own_encoder import mine
from vitrine import files
from vitrine.encoders import identity
from vitrine.encoders.identity import identify
from vitrine.settings import Settings


def test_a_version_is_what_decides_a_vector(settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor]):
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    save_file(state | {"conv1.weight": state["conv1.weight"] + 1e-3}, tmp_path / "c.safetensors")

    def version(**entry: Any) -> str:
        return identify(settings, mine(settings, **entry)).encoder_version

    first = version(weights="a.safetensors")
    assert first == version(weights="b.pt") == version(weights="a.safetensors", licence="x", family="contrastive")
    others = [version(weights="c.safetensors"), version(weights="a.safetensors", input_size=160)]
    assert len({first, *others}) == 3 and all(len(value) == 16 for value in (first, *others))
    assert identify(settings, replace(mine(settings, weights="a.safetensors"), name="other")).encoder_version == first


def test_the_decode_policy_is_part_of_a_version(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    first = identify(settings, mine(settings, weights="random:1"))
    monkeypatch.setattr(identity.images, "DECODE_POLICY", "2")
    assert identify(settings, mine(settings, weights="random:1")) != first


def test_colours_that_are_asked_for_are_another_version_and_others_stay(settings: Settings):
    """Homes hold vectors under the versions of before, and heads that were tuned on them."""
    first = identify(settings, mine(settings, weights="random:1"))
    assert identify(settings, mine(settings, weights="random:1", colours="srgb")) != first
    kept = len(list((settings.home / "models" / "versions").iterdir()))
    assert identify(settings, mine(settings, weights="random:1")) == first
    assert len(list((settings.home / "models" / "versions").iterdir())) == kept == 2


def test_an_identity_is_kept_until_something_moves(
    settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    save_file(state, tmp_path / "a.safetensors")
    backbone = mine(settings, weights="a.safetensors")
    first = identify(settings, backbone)
    with monkeypatch.context() as nobody:
        nobody.setattr(identity, "build", lambda _: pytest.fail("it was built again"))
        assert identify(settings, backbone) == first
    kept = list((settings.home / "models" / "versions").iterdir())
    assert [json.loads(path.read_text()) for path in kept] == [asdict(first)]
    save_file(state | {"conv1.weight": state["conv1.weight"] * 2}, tmp_path / "a.safetensors")
    assert identify(settings, backbone) != first
    asked: list[str] = []
    real = importlib.metadata.version
    monkeypatch.setattr(identity.importlib.metadata, "version", lambda name: asked.append(name) or real(name) + "x")
    identify(settings, backbone)
    assert asked == ["torchvision"]
    assert len(list((settings.home / "models" / "versions").iterdir())) == 3


def test_what_a_home_knows_is_found_again(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """A home of before commits were kept names its identities by these facts, and has three fields in them."""
    facts = {
        **{"source": "timm", "model": "resnet18.a1_in1k", "tag": None, "weights": None, "hub": None},
        **{"input_size": None, "file": None, "decode": identity.images.DECODE_POLICY},
        "library": importlib.metadata.version("timm"),
    }
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    kept = {"encoder_version": "0" * 16, "dim": 512, "licence": "apache-2.0"}
    files.write_json(settings.home / "models" / "versions" / f"{name}.json", kept)
    monkeypatch.setattr(identity, "build", lambda _: pytest.fail("it was built again"))
    backbone = mine(settings, "timm/resnet18.a1_in1k")
    known = identify(settings, backbone)
    assert (known.encoder_version, known.revision) == ("0" * 16, None)
    assert known.pinned(backbone) == replace(backbone, encoder_version="0" * 16)
    assert repr(known.pinned(backbone)) == repr(backbone)  # by which machines keep the batch sizes that they found
