"""Partial tuning: where a network is cut, that the trunk runs once, and that a kill changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spark_jobs.worker.encoder import Encoder, together
from spark_jobs.worker.encoder_plan import EncoderPlan
from tests.training.test_full_tuning import PLAIN, SMALL, request, rows, same, weights
from training.cached_trunk import Activations, CutNetwork
from training.partial_tuning import PartialTuner
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build
from vitrine.encoders.projected import named
from vitrine.tuning_sections import PartialSettings

__all__ = ["rows"]

CNNS = ["convnext_atto", "resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_100", "regnety_002"]


def network(model: str, source: str = "timm") -> Any:
    return build(Backbone("small", source, model, "supervised", weights="random:1", input_size=64)).network


def photo(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("model", CNNS)
@torch.inference_mode()
def test_both_parts_are_the_network_and_the_last_is_cheap(model: str):
    whole = network(model)
    wanted = whole(photo(1))
    cut = CutNetwork(whole, photo()[:1], 0.3)
    kept = cut.trunk(photo(1))
    cut.remove_trunk()
    assert torch.allclose(whole(kept), wanted, atol=1e-4) and kept.shape[0] == 2
    assert sum(each.numel() for each in whole.parameters()) < sum(each.numel() for each in network(model).parameters())


def test_what_cannot_be_cut_is_said():
    with pytest.raises(ArithmeticError, match="do not follow each other one by one"):
        CutNetwork(network("vit_tiny_patch16_224"), photo()[:1], 0.3)
    with pytest.raises(ArithmeticError, match="no part of the network has 1e-09"):
        CutNetwork(network("resnet18"), photo()[:1], 1e-9)


def test_views_of_one_photo_in_a_row_are_different_draws(tmp_path: Path):
    paths = [tmp_path / f"{draw}.npy" for draw in range(3)]
    for draw, path in enumerate(paths):
        np.save(path, np.array([[draw], [10 + draw]], np.float16))
    kept = Activations(paths, np.array([4, 5]), torch.zeros(2, dtype=torch.bool))

    def views(draw: int, *photos: int) -> list[int]:
        kept.turn_to(draw)
        return [int(kept[at][0]) for at in photos]

    assert views(1, 0, 0, 1, 1, 0) == [1, 2, 11, 12, 1]
    assert views(2, 0, 0, 0, 0) == [2, 0, 1, 2] and views(0, 1) == [10]


def partial(folder: Path, rows: Path, **settings: Any) -> Path:
    given = {**PLAIN, "epochs": 3, "batch_size": 8, "precision": "fp32", "draws": 2, **settings}
    request(folder, rows)
    asked = json.loads((folder / "request.json").read_text())
    asked |= {"from_head": True, "settings": PartialSettings(**given).model_dump(mode="json")}
    (folder / "request.json").write_text(json.dumps(asked))
    return folder


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "training.partial_tuning", str(folder), *arguments]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True, text=True)


def test_the_last_part_learns_and_the_first_stays(tmp_path: Path, rows: Path):
    folder = partial(tmp_path / "run", rows)
    assert start(folder, "--estimate").wait() == 0
    estimate = json.loads((folder / "estimate.json").read_text())
    assert estimate["training_seconds"] > 0 and estimate["photos_per_second"] > 0
    (folder / "estimate.json").unlink()
    assert start(folder).wait() == 0
    result = json.loads((folder / "result.json").read_text())
    assert len(result["epochs"]) == 3 and len(result["interpolation"]) == 5 and result["unreadable"] == 0
    assert {path.name for path in folder.iterdir()} == {"request.json", "result.json", "model.safetensors"}
    before, after = build(SMALL).network.state_dict(), weights(folder)
    assert before.keys() == after.keys()
    changed = {key for key, value in before.items() if not np.array_equal(value.numpy(), after[key])}
    assert changed < before.keys() and not any(key.startswith(("stem", "stages.0")) for key in changed)
    if max(result["interpolation"], key=lambda step: step["mMP@5"])["share"] > 0:
        assert changed
    plan = EncoderPlan(SMALL, batch_size=4, precision="fp32", max_pixels=1_000_000, threads=1)
    made = replace(plan, backbone=replace(SMALL, name="made", weights=str(folder / "model.safetensors")))
    (joined,) = together((Encoder(plan), Encoder(made)))
    assert joined.names == [SMALL.name, "made"], "one pass over the photos computes the first part once for both"


def test_where_it_starts_from_stays_while_it_learns(tmp_path: Path, rows: Path):
    tuner = PartialTuner(partial(tmp_path / "run", rows))
    fresh, start = named(build(SMALL).network, "timm"), tuner.start()
    as_it_is = tuner.found_again(fresh)
    x, y = next(iter(torch.utils.data.DataLoader(tuner.augmented(), 8)))
    for group in tuner.optimizer.param_groups:
        group["lr"] = 0.1
    tuner.parallel.train()
    tuner.step(tuner.placed(x), y)
    moved = tuner.weights()
    assert any(not torch.equal(moved[key], value) for key, value in fresh.items())
    assert start.keys() == fresh.keys() and all(torch.equal(start[key], value) for key, value in fresh.items())
    assert tuner.found_again(start) == as_it_is


def test_killed_while_it_keeps_and_while_it_learns_it_ends_with_the_same(tmp_path: Path, rows: Path):
    whole, cut = (partial(tmp_path / name, rows) for name in ("whole", "cut"))
    assert start(whole).wait() == 0
    for sign in ("activations/augmented-0.npy", "last.pt"):
        process = start(cut)
        while process.poll() is None and not (cut / sign).exists():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (cut / "activations").glob("*-0.npy")}
    assert len(kept) == 3
    assert start(cut).wait() == 0
    found, wanted = (json.loads((folder / "result.json").read_text()) for folder in (cut, whole))
    assert [epoch["loss"] for epoch in found["epochs"]] == [epoch["loss"] for epoch in wanted["epochs"]]
    assert found["interpolation"] == wanted["interpolation"] and same(weights(cut), weights(whole), 0)


def test_a_full_disk_is_said_and_nothing_half_written_stays(tmp_path: Path, rows: Path):
    folder = partial(tmp_path / "run", rows)
    code = (
        "import resource, sys; from training.partial_tuning import estimate, run, tune; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000)); run(tune, estimate, sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert [path.name for path in (folder / "activations").iterdir()] == []
