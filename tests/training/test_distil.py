"""Distillation: the loss by hand, a matrix that is found again, a student that comes nearer, and a kill."""

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
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from tests.training.test_full_tuning import CLASSES, PHOTOS, SMALL, request, rows, same, weights
from training import distil
from training.photo_loader import Photos, outputs
from training.training_set import TRAIN, VALIDATION
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.identity import fingerprint
from vitrine.encoders.networks import build
from vitrine.errors import UserError
from vitrine.tuning_sections import DistilSettings
from vitrine.vectors import lists

__all__ = ["rows"]

TEACHER = Backbone("teacher", "timm", "resnet18", "supervised", weights="random:3", input_size=64)


@pytest.fixture(scope="module")
def taught(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows, with the vectors that a teacher has of the photos; not of unit length."""
    folder, built = tmp_path_factory.mktemp("taught"), build(TEACHER)
    for part in (TRAIN, VALIDATION):
        (folder / part).mkdir()
        table = pyarrow.parquet.read_table(rows / part / "part-0.parquet")
        photos = Photos(str(rows), part, built.transform, built.min_side, 1_000_000, built.managed)
        vectors = outputs(built.network, photos, len(photos), torch.device("cpu"))
        table = table.append_column("embedding", lists(vectors - vectors.mean(0)))
        half = table.num_rows // 2
        for number, piece in enumerate((table[:half], table[half:])):  # the order goes over the files
            pyarrow.parquet.write_table(piece, folder / part / f"part-{number}.parquet")
    return folder


def asked(folder: Path, rows: Path, **settings: Any) -> Path:
    request(folder, rows)
    given = {"epochs": 3, "batch_size": 8, "precision": "fp32", "warmup_epochs": 0, **settings}
    wanted = json.loads((folder / "request.json").read_text())
    wanted["settings"] = DistilSettings(**given).model_dump(mode="json")
    (folder / "request.json").write_text(json.dumps(wanted))
    return folder


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "training.distil", str(folder), *arguments]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True, text=True)


def test_the_loss_by_hand():
    taught = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    made = torch.tensor([[2.0, 0.0], [3.0, 3.0]])  # cosines 1 and sqrt(1/2); of the two, sqrt(1/2) in place of 0
    assert float(distil.loss(made, taught, 0.0)) == pytest.approx((1 - 0.5**0.5) / 2)
    assert float(distil.loss(made, taught, 4.0)) == pytest.approx((1 - 0.5**0.5) / 2 + 4 * 0.5)
    assert float(distil.loss(5 * taught, taught, 4.0)) == pytest.approx(0, abs=1e-6)
    assert float(distil.loss(made[:1], taught[:1], 4.0)) == pytest.approx(0, abs=1e-6)  # no pair


def test_the_matrix_starts_from_what_explains_the_teacher():
    built = replace(build(SMALL), dim=6)
    random = np.random.default_rng(1)
    features, true = random.normal(size=(400, 6)).astype(np.float32) + 3, random.normal(size=(6, 9))
    student = distil.Student(built, 9, freeze=0)
    student.start_from(features, (features @ true + 2).astype(np.float32))
    assert np.allclose(student.projection.weight.detach().numpy(), true.T, atol=0.02)
    frozen = distil.Student(build(SMALL), 9, freeze=1)
    parts = [all(not each.requires_grad for each in part.parameters()) for part in frozen.network.children()]
    assert parts[0] and not all(parts)


def test_a_student_comes_nearer_to_its_teacher_and_is_a_network_like_any_other(tmp_path: Path, taught: Path):
    folder = asked(tmp_path / "run", taught, epochs=5)
    assert start(folder, "--estimate").wait() == 0
    estimate = json.loads((folder / "estimate.json").read_text())
    assert estimate["training_seconds"] > 0 and {path.name for path in folder.iterdir()} == {
        *("request.json", "estimate.json")
    }
    (folder / "estimate.json").unlink()
    assert start(folder).wait() == 0
    result = json.loads((folder / "result.json").read_text())
    cosines = [epoch["val_cosine"] for epoch in result["epochs"]]
    assert result["val_cosine"] == max(cosines) == cosines[result["best_epoch"] - 1]
    assert result["epochs"][-1]["loss"] < result["epochs"][0]["loss"] and max(cosines) > cosines[0]
    assert {*result["val_mMP@5"]} == {"teacher", "as_it_was", "student", "asymmetric"}
    assert all(0 <= value <= 1 for value in result["val_mMP@5"].values())
    assert {*result["seconds"]} == {"training", "fitting"} and result["dim"] == 512
    assert {path.name for path in folder.iterdir()} == {"request.json", "result.json", "model.safetensors"}
    student = replace(SMALL, weights=str(folder / "model.safetensors"), projection=512)
    built = build(student)
    assert built.dim == 512 and built.pooling.endswith("projected to 512")
    assert fingerprint(built).encoder_version != fingerprint(build(SMALL)).encoder_version
    tuner = distil.Distiller(asked(tmp_path / "again", taught), learns=False)
    photos = tuner.photos(VALIDATION, built.transform)
    made = torch.nn.functional.normalize(torch.from_numpy(outputs(built.network, photos, 6, torch.device("cpu"))))
    near = (made * tuner.vectors(VALIDATION, range(6))).sum(1)
    assert float(near.mean()) == pytest.approx(result["val_cosine"], abs=1e-4)


def test_each_photo_meets_its_own_teachers_vector(tmp_path: Path, taught: Path):
    tuner = distil.Distiller(asked(tmp_path / "run", taught), learns=False)
    whole = pyarrow.dataset.dataset(sorted(map(str, (taught / TRAIN).glob("*")))).to_table(use_threads=False)
    photos = tuner.augmented()
    assert len(photos) == CLASSES * PHOTOS and [photos[at][1] for at in (0, 13)] == [0, 13]
    vectors = np.array(whole["embedding"].to_pylist(), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.allclose(tuner.vectors(TRAIN, range(len(vectors))), vectors, atol=1e-6)
    photos.uris = pa.array(["/gone.jpg", *photos.uris.to_pylist()[1:]])
    assert photos[0][1] == 1 and photos.unreadable[0]  # its stand-in's vector, not its own
    given, rows = torch.rand(4, 512), torch.tensor([5, 1, 7, 2])
    by_hand = distil.loss(given, torch.from_numpy(vectors[rows.numpy()]), tuner.settings.relations)
    assert float(tuner.loss(given, rows)) == pytest.approx(float(by_hand), rel=1e-4)


def test_killed_it_goes_on_to_the_same_student(tmp_path: Path, taught: Path):
    whole, cut = (asked(tmp_path / name, taught, epochs=3) for name in ("whole", "cut"))
    assert start(whole).wait() == 0
    for sign in ("teacher/validation.npy", "last.pt"):
        process = start(cut)
        while process.poll() is None and not (cut / sign).exists():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    assert start(cut).wait() == 0
    found, wanted = (json.loads((folder / "result.json").read_text()) for folder in (cut, whole))
    for name in ("loss", "val_cosine"):
        assert [epoch[name] for epoch in found["epochs"]] == [epoch[name] for epoch in wanted["epochs"]]
    assert found["val_mMP@5"] == wanted["val_mMP@5"] and same(weights(cut), weights(whole), 0)


def test_a_file_without_its_matrix_is_refused(tmp_path: Path):
    built = build(Backbone("v", "torchvision", "squeezenet1_0", "supervised", weights="random:1", input_size=64))
    student, path = distil.Student(built, 4, freeze=0), tmp_path / "model.safetensors"
    from safetensors.torch import save_file

    state = distil.named(student, "torchvision")
    save_file(state, path)
    backbone = Backbone("v", "torchvision", "squeezenet1_0", "supervised", weights=str(path), input_size=64)
    again = build(replace(backbone, projection=4))
    x = torch.rand(2, 3, 64, 64)
    assert torch.allclose(again.network(x), student.eval()(x), atol=1e-6)
    with pytest.raises(UserError, match=r"projection\.weight and .* of 5 dimensions are missing"):
        build(replace(backbone, projection=5))
    save_file({key: value for key, value in state.items() if not key.startswith("projection.")}, path)
    with pytest.raises(UserError, match="are missing"):
        build(replace(backbone, projection=4))
    assert asdict(backbone)["projection"] is None
