"""Top-tuning in its own process: it learns, it repeats itself, it goes on after a kill, and NumPy says what Keras says.

No test here imports TensorFlow: this process may have torch in it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from vitrine.encoders import heads
from vitrine.encoders.heads import Head
from vitrine.tuning_sections import TopSettings

CLASSES, DIM = 4, 16


def request(folder: Path, trials: int = 3, epochs: int = 3, final_epochs: int = 40, **other: Any) -> Path:
    """A training set of clusters on the sphere, and what is asked of it."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, DIM))
    rows = {"train": 400, "validation": 80}
    for part, count in rows.items():
        labels = random.integers(CLASSES, size=count)
        x = centres[labels] + 0.9 * random.normal(size=(count, DIM))
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        (folder / "set" / part).mkdir(parents=True)
        values = pa.ListArray.from_arrays(np.arange(0, count * DIM + 1, DIM, dtype=np.int32), x.reshape(-1))
        data = pa.table(
            {"image_id": [str(n) for n in range(count)], "label": pa.array(labels, pa.int32()), "embedding": values}
        )
        pyarrow.parquet.write_table(data, folder / "set" / part / "part-0.parquet", row_group_size=100)
    asked = {
        "training_set": str(folder / "set"),
        "rows": rows,
        "classes": [f"c{number}" for number in range(CLASSES)],
        "settings": TopSettings(
            trials=trials, epochs=epochs, executions=2, final_epochs=final_epochs, patience=5, units=(8, 32), **other
        ).model_dump(mode="json"),
        "seed": 1,
    }
    (folder / "run").mkdir()
    (folder / "run" / "request.json").write_text(json.dumps(asked))
    return folder / "run"


def run(folder: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, "-m", "training.top_tuning", str(folder)], check=True)
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = request(tmp_path_factory.mktemp("tuned"))
    return folder, run(folder)


def test_it_learns_and_says_how(tuned: tuple[Path, dict[str, Any]]):
    folder, result = tuned
    assert result["val_accuracy"] > 0.6 > 1 / CLASSES
    assert len(result["trials"]) == 3 and all(len(trial["executions"]) == 2 for trial in result["trials"])
    assert all(len(history) == 3 for trial in result["trials"] for history in trial["executions"])
    assert 2 <= result["recipe"]["layers"] <= 3 and 8 <= result["recipe"]["units"] <= 32
    ranks = [(epoch["val_accuracy"], -epoch["val_loss"]) for epoch in result["epochs"]]
    assert result["best_epoch"] == ranks.index(max(ranks)) + 1 and len(ranks) <= 40
    assert result["seconds"].keys() == {"search", "training"}
    left = {path.name for path in folder.iterdir()} - {"lock"}
    assert left == {"request.json", "result.json", "searched.json", "seconds.json", "head.json", "head.safetensors"}


def test_an_estimate_tunes_nothing(tmp_path: Path):
    folder = request(tmp_path, trials=10, epochs=5, final_epochs=40)
    subprocess.run([sys.executable, "-m", "training.top_tuning", str(folder), "--estimate"], check=True)
    found = json.loads((folder / "estimate.json").read_text())
    assert found["epoch_seconds"] > 0 and found["training_seconds"] == pytest.approx(
        40 * found["epoch_seconds"], abs=0.1
    )
    assert not (folder / "head.json").exists() and not (folder / "result.json").exists()


def test_the_head_is_what_keras_computes(tuned: tuple[Path, dict[str, Any]]):
    folder, _ = tuned
    code = """
import sys, numpy as np, keras
from pathlib import Path
from vitrine.encoders import heads
head = heads.load(Path(sys.argv[1]))
x = np.load(sys.argv[2])
layers = [keras.layers.Dense(b.shape[0], activation="relu") for _, b in head.layers]
model = keras.Sequential([keras.Input((head.inputs,)), *layers])
for layer, (w, b) in zip(layers, head.layers): layer.set_weights([w, b])
hidden = keras.ops.normalize(model(x), axis=1)
np.save(sys.argv[2], np.asarray(hidden))
"""
    x = np.random.default_rng(2).normal(size=(50, DIM)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    np.save(folder.parent / "x.npy", x)
    subprocess.run([sys.executable, "-c", code, str(folder), str(folder.parent / "x.npy")], check=True)
    assert np.allclose(heads.load(folder).embed(x), np.load(folder.parent / "x.npy"), atol=1e-5)


@pytest.mark.parametrize("other", [{"loss": "cosine"}, {"label_smoothing": 0.2}], ids=str)
def test_other_losses_learn_and_their_head_classifies_as_keras_did(tmp_path: Path, other: dict[str, Any]):
    folder = request(tmp_path, final_epochs=15, **other)
    result, head = run(folder), heads.load(folder)
    recipe = result["recipe"]
    assert recipe["label_smoothing"] == other.get("label_smoothing", 0.1)
    assert recipe["loss"] == other.get("loss", "cross_entropy")
    rows = pyarrow.parquet.read_table(tmp_path / "set" / "validation")
    x, y = np.stack(rows["embedding"].to_numpy()), rows["label"].to_numpy()
    assert head.cosine == ("loss" in other) and result["val_accuracy"] > 0.6
    assert (head.logits(x).argmax(1) == y).mean() == pytest.approx(result["val_accuracy"], abs=1e-6)
    again = Head(head.layers, head.classifier, head.classes, cosine=not head.cosine)
    assert again.fingerprint() == head.fingerprint()  # the embedding is decided by the layers before


def test_what_earlier_versions_did_not_know_changes_no_request_unless_it_is_set():
    earlier = {*TopSettings().model_dump()} - {"loss", "temperature", "label_smoothing"}
    assert TopSettings().digested().keys() == earlier == TopSettings(loss="cross_entropy").digested().keys()
    assert TopSettings(loss="cosine").digested()["loss"] == "cosine"
    assert TopSettings(label_smoothing=0.0).digested()["label_smoothing"] == 0.0
    assert TopSettings(loss="cosine").smoothing == 0.1 and TopSettings(loss="cosine", label_smoothing=0).smoothing == 0


def test_smoothed_cross_entropy_by_hand():
    code = """
import numpy as np, tensorflow as tf
from training.perceptron import cross_entropies
logits = np.array([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]], "float32")
shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
truth = np.array([0, 1])
wanted = 0.7 * np.eye(3)[truth] + 0.3 / 3
assert np.allclose(cross_entropies(tf.constant(truth, tf.int32), tf.constant(logits), 0.3),
                   -(wanted * np.log(shares)).sum(1), atol=1e-6)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fused_updates_are_kerass_own():
    code = """
import keras, numpy as np, tensorflow as tf
from training import fused_optimizers
for kind, how in (("SGD", {"momentum": 0.8, "nesterov": True}), ("SGD", {}), ("RMSprop", {"momentum": 0.7}),
                  ("RMSprop", {}), ("Adam", {"beta_1": 0.85})):
    ways = [getattr(module, kind)(0.01, **how) for module in (keras.optimizers, fused_optimizers)]
    values = [tf.Variable(np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)) for _ in ways]
    for optimizer, value in zip(ways, values):
        optimizer.build([value])
        step = tf.function(lambda optimizer=optimizer, value=value: optimizer.apply([tf.sin(3 * value)], [value]))
        for _ in range(20):
            step()
    assert np.allclose(values[0], values[1], atol=1e-6), kind
    kept = [[np.asarray(v) for v in optimizer.variables] for optimizer in ways]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(*kept)), kind
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_accuracy_is_the_heads_own(tuned: tuple[Path, dict[str, Any]]):
    """The scaling that was folded in is the one that was trained with."""
    folder, result = tuned
    rows = pyarrow.parquet.read_table(folder.parent / "set" / "validation" / "part-0.parquet")
    x = np.stack(rows["embedding"].to_numpy()).astype(np.float32)
    right = heads.load(folder).logits(x).argmax(1) == rows["label"].to_numpy()
    assert right.mean() == pytest.approx(result["val_accuracy"], abs=0.013)


def test_killed_twice_it_goes_on_to_the_same_head(tmp_path: Path, tuned: tuple[Path, dict[str, Any]]):
    """After its second trial, and in the long training: as the one that nobody disturbed."""
    cut, (whole, wanted) = request(tmp_path), tuned
    for sign in ("histories/1.json", "searched.json"):
        process = subprocess.Popen([sys.executable, "-m", "training.top_tuning", str(cut)], start_new_session=True)
        while process.poll() is None and not (cut / sign).exists():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL and not (cut / "result.json").exists()
    found = run(cut)
    assert found["trials"] == wanted["trials"] and found["epochs"] == wanted["epochs"]
    assert heads.load(cut).fingerprint() == heads.load(whole).fingerprint()
