"""Low-rank tuning: the network begins as it is, its changes alone learn, and what comes of it is a plain network."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.test_full_tuning import PLAIN, request, rows, same, weights
from training.low_rank_tuning import LowRank, LowRankTuner, adapt, matrices, merged
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build
from vitrine.encoders.projected import named
from vitrine.tuning_sections import LowRankSettings

__all__ = ["rows"]

VIT = Backbone("small", "timm", "vit_tiny_patch16_224", "supervised", weights="random:1", input_size=32)
SOURCES = {
    "vit_tiny_patch16_224": VIT,
    "mobilenetv3_small_100": replace(VIT, model="mobilenetv3_small_100"),
    "ViT-S-32": Backbone("small", "open_clip", "ViT-S-32", "contrastive", weights="random:1"),
    "resnet50": Backbone("small", "torchvision", "resnet50", "supervised", weights="random:1", input_size=32),
}


def low_rank(folder: Path, rows: Path, backbone: Backbone = VIT, **settings: Any) -> Path:
    given = {**PLAIN, "epochs": 3, "batch_size": 8, "precision": "fp32", "rank": 2, **settings}
    request(folder, rows)
    asked = json.loads((folder / "request.json").read_text())
    asked |= {"from_head": True, "settings": LowRankSettings(**given).model_dump(mode="json")}
    asked |= {"backbone": asdict(backbone)}
    (folder / "request.json").write_text(json.dumps(asked))
    return folder


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "training.low_rank_tuning", str(folder), *arguments]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True, text=True)


@pytest.mark.parametrize("model", SOURCES)
@torch.no_grad()
def test_changes_are_of_low_rank_and_added_in_the_end(model: str):
    built, plain = build(SOURCES[model]), build(SOURCES[model])
    photo = torch.randn(2, 3, *built.input_shape, generator=torch.Generator().manual_seed(0))
    before = built.network.eval()(photo)
    original = {key: value.clone() for key, value in plain.network.state_dict().items()}
    adapt(built.network.requires_grad_(True), 3, 6.0)
    assert torch.equal(built.network(photo), before), "it begins as it is"
    learning = {key for key, value in built.network.named_parameters() if value.requires_grad}
    assert learning and all(key.endswith((".down", ".up")) for key in learning)
    for key, value in built.network.named_parameters():
        if key.endswith(".up"):
            value.normal_(std=0.1)
    changed = built.network(photo)
    assert not torch.allclose(changed, before, rtol=0, atol=1e-2 * float(before.abs().max()))
    state = merged(built.network)
    assert state.keys() == original.keys()
    plain.network.load_state_dict(state)
    assert torch.allclose(plain.network.eval()(photo), changed, rtol=0, atol=1e-4 * float(changed.abs().max()))
    differences = {key: state[key] - value for key, value in original.items() if not torch.equal(state[key], value)}
    ranks = {key: int(torch.linalg.matrix_rank(each.flatten(1), rtol=1e-3)) for key, each in differences.items()}
    assert set(ranks.values()) <= {1, 2, 3} and len(ranks) == len(list(matrices(plain.network)))


def test_what_has_no_matrix_is_said():
    with pytest.raises(ArithmeticError, match="no linear layer and no convolution of one pixel"):
        adapt(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), 8, 16.0)


def test_a_step_moves_the_changes_alone(tmp_path: Path, rows: Path):
    tuner = LowRankTuner(low_rank(tmp_path / "run", rows))
    fresh = named(build(VIT).network, "timm")
    assert same({k: v.numpy() for k, v in tuner.weights().items()}, {k: v.numpy() for k, v in fresh.items()}, 0)
    frozen = {key: value.clone() for key, value in tuner.built.network.state_dict().items() if "original" in key}
    x, y = next(iter(torch.utils.data.DataLoader(tuner.augmented(), 8)))
    for group in tuner.optimizer.param_groups:
        group["lr"] = 0.1
    tuner.parallel.train()
    tuner.step(tuner.placed(x), y)
    after = tuner.built.network.state_dict()
    assert frozen and all(torch.equal(after[key], value) for key, value in frozen.items())
    moved = {key for key, value in tuner.weights().items() if not torch.equal(value, fresh[key])}
    assert moved and all(key.endswith("weight") for key in moved) and moved < fresh.keys()


def test_killed_it_ends_with_the_same_network(tmp_path: Path, rows: Path):
    whole, cut = (low_rank(tmp_path / name, rows) for name in ("whole", "cut"))
    assert start(whole, "--estimate").wait() == 0
    assert json.loads((whole / "estimate.json").read_text())["training_seconds"] > 0
    (whole / "estimate.json").unlink()
    assert start(whole).wait() == 0
    process = start(cut)
    while process.poll() is None and not (cut / "last.pt").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start(cut).wait() == 0
    found, wanted = (json.loads((folder / "result.json").read_text()) for folder in (cut, whole))
    assert [epoch["loss"] for epoch in found["epochs"]] == [epoch["loss"] for epoch in wanted["epochs"]]
    assert found["interpolation"] == wanted["interpolation"] and same(weights(cut), weights(whole), 0)
    assert {path.name for path in whole.iterdir()} == {"request.json", "result.json", "model.safetensors"}
    assert weights(whole).keys() == build(VIT).network.state_dict().keys()
    assert np.isfinite(found["val_accuracy"])


def test_what_is_frozen_has_no_change(tmp_path: Path, rows: Path):
    frozen = [name for name, _ in build(VIT).network.named_children()].index("blocks") + 1
    with pytest.raises(ArithmeticError, match="that may learn"):
        LowRankTuner(low_rank(tmp_path / "all", rows, freeze=frozen))
    tuner = LowRankTuner(low_rank(tmp_path / "none of them", rows, freeze=frozen - 1))
    assert any(isinstance(each, LowRank) for each in tuner.built.network.blocks.modules())
