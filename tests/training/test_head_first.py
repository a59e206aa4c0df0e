"""LP-FT and WiSE-FT: the classifier's start, the weights between two networks, and a tuning that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.test_full_tuning import PLAIN, request, rows, run, same, weights
from training import head_first
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build
from vitrine.tuning_sections import FromHeadSettings, FullSettings

__all__ = ["rows"]


def drawn(classes: list[int], seed: int) -> tuple[Any, Any]:
    """Features of 30 photos of each class: far from unit length, and not centred."""
    random, labels = np.random.default_rng(seed), np.repeat(classes, 30)
    centres = np.random.default_rng(9).normal(size=(10, 16)) * 3 + 5
    return (centres[labels] + random.normal(size=(len(labels), 16))).astype(np.float32), labels


@pytest.mark.parametrize("classes", [[0, 1], [0, 2, 5]])
def test_the_classifier_tells_features_as_they_are_apart(classes: list[int]):
    weight, bias = head_first.fitted_classifier(drawn(classes, 1), drawn(classes, 2), 6)
    x, y = drawn(classes, 3)
    logits = torch.from_numpy(x) @ weight.T + bias
    assert (logits.argmax(1).numpy() == y).mean() > 0.95
    assert {*logits.argmax(1).tolist()} == {*classes}  # a class without a photo is never told


def test_between_two_networks_by_hand():
    start = {"w": torch.tensor([0.0, 4.0]), "half": torch.tensor([1.0]).half(), "seen": torch.tensor(3)}
    end = {"w": torch.tensor([8.0, 0.0]), "half": torch.tensor([2.0]).half(), "seen": torch.tensor(9)}
    quarter = head_first.between(start, end, 0.25)
    assert quarter["w"].tolist() == [2.0, 3.0] and quarter["half"].item() == 1.25 and quarter["seen"].item() == 9
    assert quarter["half"].dtype == torch.float16
    for share, whole in ((0.0, start), (1.0, end)):
        assert torch.equal(head_first.between(start, end, share)["w"], whole["w"])


def test_what_it_was_told_before_is_found_by_the_same_key():
    assert {"loss", "label_smoothing", "keep_statistics"}.isdisjoint(FullSettings().digested())
    assert FullSettings(label_smoothing=0.1).digested()["label_smoothing"] == 0.1
    assert FromHeadSettings().digested() != FullSettings().digested()


def from_head(folder: Path, rows: Path, **settings: Any) -> Path:
    request(folder, rows, **{**PLAIN, "loss": "cross_entropy", "label_smoothing": 0.1, **settings})
    asked = json.loads((folder / "request.json").read_text())
    (folder / "request.json").write_text(json.dumps(asked | {"from_head": True}))
    return folder


def test_it_starts_from_what_is_known_and_ends_where_photos_aside_are_found_best(tmp_path: Path, rows: Path):
    folder = from_head(tmp_path / "run", rows, epochs=2, learning_rate=1e-4, optimizer="adamw")
    cold = run(request(tmp_path / "cold", rows, epochs=2, learning_rate=1e-4, optimizer="adamw", **PLAIN))
    result = run(folder)
    assert result["epochs"][0]["loss"] < 0.9 * np.log(3) and result["val_accuracy"] > cold["val_accuracy"]
    steps = result["interpolation"]
    assert [step["share"] for step in steps] == [*head_first.SHARES]
    assert {*result["seconds"]} == {"training", "fitting", "interpolation"} and all(result["seconds"].values())
    assert {path.name for path in folder.iterdir()} == {"request.json", "result.json", "model.safetensors"}


def test_killed_between_two_networks_it_ends_with_the_same(tmp_path: Path, rows: Path):
    whole, cut = (from_head(tmp_path / name, rows, epochs=1) for name in ("whole", "cut"))
    wanted = run(whole)
    process = subprocess.Popen(
        [sys.executable, "-m", "training.full_tuning", str(cut)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    while process.poll() is None and not (cut / "model.safetensors").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    found = run(cut)
    assert (
        found["interpolation"] == wanted["interpolation"] and found["epochs"][0]["loss"] == wanted["epochs"][0]["loss"]
    )
    assert same(weights(cut), weights(whole), 0)


def test_batch_normalisation_keeps_its_statistics_where_it_is_asked_to(tmp_path: Path, rows: Path):
    norm = {}
    for keeps in (True, False):
        folder = request(tmp_path / f"{keeps}", rows, **{**PLAIN, "epochs": 1, "keep_statistics": keeps})
        asked = json.loads((folder / "request.json").read_text())
        asked["backbone"] |= {"model": "resnet18", "input_size": 32}
        (folder / "request.json").write_text(json.dumps(asked))
        run(folder)
        norm[keeps] = weights(folder)
    start = build(Backbone("small", "timm", "resnet18", "supervised", weights="random:1", input_size=32)).network
    means = {key: value.numpy() for key, value in start.state_dict().items() if key.endswith("running_mean")}
    assert means and all(np.array_equal(norm[True][key], value) for key, value in means.items())
    assert not any(np.array_equal(norm[False][key], value) for key, value in means.items())
