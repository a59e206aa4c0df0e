"""A training set as files, without Spark."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.training_set import ABOUT, TRAIN, VALIDATION, TrainingSet, read_training_set
from vitrine.settings import Settings, load_settings

DIM = 8


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


@pytest.fixture
def written(settings: Settings) -> Callable[..., TrainingSet]:
    def write(label: str = "product_id", classes: int = 12, noise: float = 1.0) -> TrainingSet:
        """Classes of 1, 2, 3 ... photos (at most 12) to learn from, and one each to validate with."""
        folder = settings.home / "training" / f"whole_{label}"
        random = np.random.default_rng(0)
        sizes = np.minimum(np.arange(1, classes + 1), 12)
        parts = {TRAIN: np.repeat(np.arange(classes), sizes), VALIDATION: np.arange(classes)}
        centres = 3 * random.normal(size=(classes, DIM)) / DIM**0.5
        for part, numbers in parts.items():
            (folder / part).mkdir(parents=True)
            labels = random.permutation(numbers).astype(np.int32)
            vectors = noise * random.normal(size=(len(labels), DIM)) + centres[labels]
            vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
            ids = [f"{part}/{number}" for number in range(len(labels))]
            table = pa.table({"image_id": ids, "label": pa.array(labels), "embedding": list(vectors)})
            pq.write_table(table, folder / part / "part.parquet")
        about = {
            **{"folder": "", "dataset": "d", "label": label, "encoder": "e", "encoder_version": "0" * 16},
            **{"as_of": "now", "seed": 0, "classes": [f"c{number:02d}" for number in range(classes)]},
            **{"validation_from": "train", "train": len(parts[TRAIN]), "validation": classes, "only_trained": []},
            **{"without_features": 0, "left_out": 0, "fingerprint": f"{label:0<16}"},
        }
        (folder / ABOUT).write_text(json.dumps(about))
        return read_training_set(folder)

    return write
