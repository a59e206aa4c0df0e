"""Full tuning on drawn photos: it learns, goes on after a kill, and two processes are as good as one."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from pyspark.sql import SparkSession
from safetensors.numpy import load_file

from training import full_tuning
from training.photo_loader import RepeatedShuffle
from training.tune import _distribute
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders.backbones import Backbone
from vitrine.tuning_sections import FullSettings

SMALL = Backbone("small", "timm", "convnext_atto", "supervised", weights="random:1", input_size=32)
PLAIN: dict[str, Any] = {"mixup": 0, "cutmix": 0, "rand_augment": "", "repeats": 1, "drop_path": 0, "warmup_epochs": 0}
CLASSES, PHOTOS = 3, 8


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set of photos by uri."""
    folder = tmp_path_factory.mktemp("rows")
    for part, photos in (("train", range(PHOTOS)), ("validation", range(PHOTOS, PHOTOS + 2))):
        uris, labels = [], []
        for label in range(CLASSES):
            for photo in photos:
                path = folder / f"{label}-{photo}.jpg"
                path.write_bytes(draw_photo(product(label), photo, size=64, difficulty=0.1))
                uris.append(str(path))
                labels.append(label)
        (folder / part).mkdir()
        ids = [Path(uri).stem for uri in uris]
        table = pa.table({"image_id": ids, "label": pa.array(labels, pa.int32()), "uri": uris})
        pyarrow.parquet.write_table(table, folder / part / "part-0.parquet")
    return folder


def request(folder: Path, rows: Path, **settings: Any) -> Path:
    given = {"epochs": 3, "batch_size": 8, "precision": "fp32", **settings}
    asked = {
        "training_set": str(rows),
        "rows": {"train": CLASSES * PHOTOS, "validation": CLASSES * 2},
        "classes": [f"c{label}" for label in range(CLASSES)],
        "backbone": asdict(SMALL),
        "settings": FullSettings(**given).model_dump(mode="json"),
        "seed": 1,
        "max_pixels": 1_000_000,
    }
    folder.mkdir()
    (folder / "request.json").write_text(json.dumps(asked))
    return folder


def run(folder: Path, *, processes: int = 1, code: int = 0) -> dict[str, Any]:
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [sys.executable, "-m", *(several if processes > 1 else []), "training.full_tuning", str(folder)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-3000:]
    return {"said": done.stderr} if code else json.loads((folder / "result.json").read_text())


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], tolerance: float) -> bool:
    return one.keys() == other.keys() and all(np.allclose(one[key], other[key], atol=tolerance) for key in one)


def test_the_a2_recipe_learns_and_its_weights_load(tmp_path: Path, rows: Path):
    from vitrine.encoders.identity import fingerprint
    from vitrine.encoders.networks import build

    folder = request(tmp_path / "run", rows, epochs=4, learning_rate=0.05, ema=0.5, layer_decay=0.9, micro_batch=4)
    result = run(folder)
    losses = [epoch["loss"] for epoch in result["epochs"]]
    assert len(losses) == 4 and losses[-1] < losses[0]
    accuracies = [epoch["val_accuracy"] for epoch in result["epochs"]]
    assert result["val_accuracy"] == max(accuracies) == accuracies[result["best_epoch"] - 1]
    assert {path.name for path in folder.iterdir()} == {"request.json", "result.json", "model.safetensors"}
    tuned = Backbone(**{**asdict(SMALL), "facts": None, "weights": str(folder / "model.safetensors")})
    before, after = build(SMALL), build(tuned)
    assert after.dim == result["dim"] == before.dim
    assert fingerprint(after).encoder_version != fingerprint(before).encoder_version


def test_killed_it_goes_on_to_the_same_weights(tmp_path: Path, rows: Path):
    whole, cut = (request(tmp_path / name, rows, epochs=4) for name in ("whole", "cut"))
    wanted = run(whole)
    command = [sys.executable, "-m", "training.full_tuning", str(cut)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True)
    while process.poll() is None and not (cut / "last.pt").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    found = run(cut)
    for name in ("loss", "val_accuracy"):
        assert [epoch[name] for epoch in found["epochs"]] == [epoch[name] for epoch in wanted["epochs"]]
    assert same(weights(cut), weights(whole), 0)


def test_two_processes_are_one_on_the_joined_batch(tmp_path: Path, rows: Path):
    one, two = (request(tmp_path / name, rows, epochs=2, **PLAIN) for name in ("one", "two"))
    alone, together = run(one), run(two, processes=2)
    assert together["processes"] == 2
    assert same(weights(one), weights(two), 2e-4)
    assert alone["val_accuracy"] == together["val_accuracy"]


def test_spark_spreads_the_processes(tmp_path: Path, rows: Path, spark: SparkSession):
    folder = request(tmp_path / "run", rows, epochs=1, **PLAIN)
    _distribute(spark, folder, 2)
    found = json.loads((folder / "result.json").read_text())
    assert found["processes"] == 2 and (folder / "model.safetensors").is_file()


def test_an_estimate_tunes_nothing(tmp_path: Path, rows: Path):
    folder = request(tmp_path / "run", rows, epochs=100)
    subprocess.run([sys.executable, "-m", "training.full_tuning", str(folder), "--estimate"], check=True)
    found = json.loads((folder / "estimate.json").read_text())
    assert found["training_seconds"] == pytest.approx(100 * CLASSES * PHOTOS / found["photos_per_second"], rel=0.01)
    assert {path.name for path in folder.iterdir()} == {"request.json", "estimate.json"}


@pytest.mark.long
def test_bad_photos_are_stood_in_for_and_a_lost_loss_is_said(tmp_path: Path, rows: Path):
    table = pyarrow.parquet.read_table(rows / "train" / "part-0.parquet").to_pydict()
    table["uri"][0], table["uri"][5] = str(tmp_path / "gone.jpg"), str(tmp_path / "words.jpg")
    (tmp_path / "words.jpg").write_text("words")
    other = tmp_path / "rows"
    (other / "train").mkdir(parents=True)
    (other / "validation").symlink_to(rows / "validation")
    schema = pa.schema([("image_id", pa.string()), ("label", pa.int32()), ("uri", pa.string())])
    pyarrow.parquet.write_table(pa.table(table, schema=schema), other / "train" / "part-0.parquet")
    found = run(request(tmp_path / "bad", other, epochs=2, repeats=1))
    assert (len(found["epochs"]), found["unreadable"]) == (2, 2)
    lost = request(tmp_path / "lost", rows, epochs=3, optimizer="sgd", learning_rate=1e30, **PLAIN)
    assert "try a smaller [tune.full] learning_rate" in run(lost, code=1)["said"]
    assert not (lost / "result.json").exists()


@pytest.mark.long
def test_a_full_disk_is_said_and_what_was_kept_stays(tmp_path: Path, rows: Path):
    folder = request(tmp_path / "run", rows, epochs=2, **PLAIN)
    code = (
        "import resource, sys; from training.full_tuning import estimate, run, tune; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); run(tune, estimate, sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert {path.name for path in folder.iterdir()} == {"request.json"}
    assert len(run(folder)["epochs"]) == 2


def steps_of(folder: Path, epochs: int = 1) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], list[float]]:
    """What the steps of a tuning are given, photos and labels, and the learning rate of each; nothing is learned."""
    tuner = full_tuning.Tuner(folder)
    batches, rates = [], []

    def watched(x: torch.Tensor, y: torch.Tensor) -> float:
        batches.append((x.clone(), y.clone()))
        rates.append(max(group["lr"] for group in tuner.optimizer.param_groups))
        return 0.0

    tuner.step = watched  # type: ignore[method-assign]
    tuner.settings = tuner.settings.model_copy(update={"epochs": epochs})
    tuner.folder = folder / "kept"
    tuner.folder.mkdir()
    full_tuning._train(tuner)
    return batches, rates


def test_mixup_mixes_each_photo_with_its_opposite_and_their_labels_alike(tmp_path: Path, rows: Path):
    plain, mixed = (
        steps_of(request(tmp_path / name, rows, **{**PLAIN, "mixup": mixup}))[0]
        for name, mixup in (("plain", 0.0), ("mixed", 0.1))
    )
    for (x, y), (shown, told) in zip(plain, mixed, strict=True):
        own = torch.nn.functional.one_hot(y.long(), CLASSES).float()
        differs = y != y.flip(0)
        assert differs.any() and torch.allclose(told.sum(1), torch.ones(len(told)))
        share = told.gather(1, y[:, None].long())[differs][0, 0]  # one for the whole batch, as timm draws it
        assert torch.allclose(told, share * own + (1 - share) * own.flip(0), atol=1e-6)
        assert torch.allclose(shown, share * x + (1 - share) * x.flip(0), atol=1e-5)


def test_cutmix_puts_in_a_rectangle_and_labels_by_its_area(tmp_path: Path, rows: Path):
    plain, mixed = (
        steps_of(request(tmp_path / name, rows, **{**PLAIN, "cutmix": cutmix}))[0]
        for name, cutmix in (("plain", 0.0), ("mixed", 1.0))
    )
    areas = []
    for (x, y), (shown, told) in zip(plain, mixed, strict=True):
        from_other = (shown == x.flip(0)).all(1) & (shown != x).any(1)
        assert torch.equal(torch.where(from_other[:, None], x.flip(0), x), shown)
        rectangle = from_other.any(0)
        height, width = rectangle.any(1).sum(), rectangle.any(0).sum()
        areas.append(float(height * width / rectangle.numel()))
        differs = y != y.flip(0)
        told_share = 1 - told.gather(1, y[:, None].long())[differs]
        assert torch.allclose(told_share, torch.full_like(told_share, areas[-1]), atol=1e-5)
    assert 0 < max(areas) < 1


def test_a_label_of_a_fifth_is_there_and_less_is_not(tmp_path: Path, rows: Path):
    tuner = full_tuning.Tuner(request(tmp_path / "run", rows))
    logits, mixed = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[0.79, 0.21, 0.0]])
    present = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 1.0, 0.0]]))
    assert tuner.loss(logits, mixed) == pytest.approx(float(present))
    alone = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert tuner.loss(logits, torch.tensor([[0.81, 0.19, 0.0]])) == pytest.approx(float(alone))


def test_each_photo_comes_three_times_in_a_row_and_looks_another_way(tmp_path: Path, rows: Path):
    first, second = (RepeatedShuffle(10, 3, 0, 1, seed=1) for _ in range(2))
    second.epoch = 1
    order = list(first)
    assert len(order) == 10 and all(len({*order[at : at + 3]}) == 1 for at in (0, 3, 6)) and order != list(second)
    assert sorted([*RepeatedShuffle(10, 3, 0, 2, seed=1), *RepeatedShuffle(10, 3, 1, 2, seed=1)]) == sorted(order)
    ((x, y), *_), _ = steps_of(request(tmp_path / "run", rows, **{**PLAIN, "repeats": 2, "rand_augment": "rand-m7-n2"}))
    assert torch.equal(y[::2], y[1::2]) and not any(torch.equal(x[at], x[at + 1]) for at in range(0, len(x), 2))


def test_early_layers_learn_slower_and_the_classifier_at_the_full_rate(tmp_path: Path, rows: Path):
    tuner = full_tuning.Tuner(request(tmp_path / "run", rows, layer_decay=0.5))
    rates = {id(each): group["lr_scale"] for group in tuner.optimizer.param_groups for each in group["params"]}
    first, *_, last = (rates[id(each)] for each in tuner.network.network.parameters())
    assert first < 0.1 and first < last <= 1 and rates[id(tuner.network.head.weight)] == 1


def test_the_learning_rate_warms_up_and_falls_as_a_cosine(tmp_path: Path, rows: Path):
    asked = {**PLAIN, "epochs": 6, "warmup_epochs": 2, "learning_rate": 0.1, "least_learning_rate": 0.001}
    _, rates = steps_of(request(tmp_path / "run", rows, **asked, warmup_learning_rate=0.01), epochs=6)
    steps, top = CLASSES * PHOTOS // 8, 0.1 * (8 / 2048) ** 0.5
    warm, total = 2 * steps, 6 * steps
    assert len(rates) == total
    for step, rate in enumerate(rates):
        falling = 0.001 + (top - 0.001) * (1 + np.cos(np.pi * step / total)) / 2
        wanted = 0.01 + step * (top - 0.01) / warm if step < warm else falling
        assert rate == pytest.approx(wanted, rel=1e-6)
