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
from pyspark.sql import SparkSession
from safetensors.numpy import load_file

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
