"""A checkpoint is read as people have them, or the error says what would fit."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.own_encoder import mine
from vitrine.encoders.identity import fingerprint
from vitrine.encoders.networks import build
from vitrine.errors import UserError
from vitrine.settings import Settings

State = dict[str, torch.Tensor]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def version(settings: Settings, tmp_path: Path, checkpoint: Any, backbone: str = "torchvision/resnet18", **entry: Any):
    torch.save(checkpoint, tmp_path / "w.pth")
    return fingerprint(build(mine(settings, backbone, weights="w.pth", **entry))).encoder_version


def test_a_training_scripts_checkpoint_is_the_network_that_it_holds(settings: Settings, tmp_path: Path, state: State):
    plain = version(settings, tmp_path, state)
    arguments = argparse.Namespace(lr=0.1, data="/photos")
    head = {"fc.weight": torch.ones(3, 512), "fc.bias": torch.ones(3)}
    checkpoints = [
        {"epoch": 3, "state_dict": state, "args": arguments, "optimizer": {"state": {}, "param_groups": []}},
        {"model": state, "args": arguments},
        {"model_ema": prefixed(state, "module.")},
        {"model": prefixed(state, "module."), "model_ema": {key: value * 2 for key, value in state.items()}},
        {"teacher": {**prefixed(state, "backbone."), "head.mlp.0.weight": torch.ones(4, 512)}, "student": {}},
        prefixed(state, "_orig_mod."),
        prefixed(state | head, "module._orig_mod."),
        prefixed(state, "encoder.") | {"decoder.weight": torch.ones(2)},
        prefixed(state, "model.backbone."),
    ]
    assert {version(settings, tmp_path, checkpoint) for checkpoint in checkpoints} == {plain}


def test_half_precision_is_computed_with_as_whole(settings: Settings, tmp_path: Path, state: State):
    for kind in (torch.float16, torch.bfloat16):
        half = {key: value.to(kind) if value.is_floating_point() else value for key, value in state.items()}
        save_file(half, tmp_path / "half.safetensors")
        built = build(mine(settings, weights="half.safetensors"))
        assert {parameter.dtype for parameter in built.network.parameters()} == {torch.float32}
        again = {key: value.to(state[key].dtype) for key, value in half.items()}
        assert built.version() == version(settings, tmp_path, again)


def test_the_error_names_the_prefix_that_would_fit(settings: Settings, tmp_path: Path, state: State):
    with pytest.raises(UserError, match=r"do not fit.* missing .*without the prefix 'student\.net\.' more of them"):
        version(settings, tmp_path, prefixed(state, "student.net.") | {"x.y": torch.ones(1)})
    with pytest.raises(UserError, match="1 missing") as caught:
        version(settings, tmp_path, {key: value for key, value in state.items() if key != "conv1.weight"})
    assert "prefix" not in str(caught.value)


def test_positions_of_another_size_are_interpolated_as_timm_does(settings: Settings, tmp_path: Path):
    """A file at the published size, one at the asked size, and one at neither, as its authors name the tensors."""
    import timm

    torch.manual_seed(4)
    model = "vit_tiny_patch16_224"
    published = timm.create_model(model).eval()
    torch.save(published.state_dict(), tmp_path / "published.pth")
    overlay = {"file": str(tmp_path / "published.pth")}
    at_160 = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay, img_size=160)
    spelled = f"timm/{model}"
    expected = version(settings, tmp_path, at_160.state_dict(), spelled, input_size=160)
    assert version(settings, tmp_path, published.state_dict(), spelled, input_size=160) == expected
    assert version(settings, tmp_path, {"model": prefixed(published.state_dict(), "module.")}, spelled) != expected
    authors = {**published.state_dict(), "mask_token": torch.zeros(1, 192)}  # of DINOv2, which timm leaves out
    assert version(settings, tmp_path, authors, spelled, input_size=160) == expected


def test_clips_positions_are_interpolated_as_open_clip_does(settings: Settings, tmp_path: Path):
    import open_clip

    torch.manual_seed(5)
    whole = open_clip.create_model("ViT-B-32")
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    sized = open_clip.create_model("ViT-B-32", pretrained=str(tmp_path / "whole.pth"), force_image_size=160)
    tower = dict(sized.visual.named_parameters())
    expected = version(settings, tmp_path, tower, "open_clip/ViT-B-32", input_size=160)
    assert version(settings, tmp_path, whole.state_dict(), "open_clip/ViT-B-32", input_size=160) == expected
