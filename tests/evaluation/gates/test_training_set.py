"""The gate on training sets: each thing that would teach a tuning something wrong, or nothing."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.gates.ask_gate import ask_training_set
from evaluation.gates.training_set import gate_training_set
from vitrine import lake
from vitrine.errors import GateRefused
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG


@dataclass(frozen=True)
class Rows:
    folder: str
    dataset: str
    encoder: str | None
    classes: list[str]
    train: int
    validation: int
    without_features: int
    unlabelled: list[str] = field(default_factory=list)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


def photo(number: int, split: str, content: int | None = None) -> dict[str, Any]:
    moment = lake.now()
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), moment)
    own = {
        "image_id": f"d/{number}",
        "split": split,
        "content_sha256": f"{number if content is None else content:064x}",
    }
    same = {"dataset": "d", "product_id": "d/p", "uri": "u", "size": 1, "width": 1, "height": 1}
    return {**same, **times, **own}


def write(folder: Path, part: str, rows: list[dict[str, Any]], name: str = "0.parquet") -> None:
    schema = pa.schema({"image_id": pa.string(), "label": pa.int32(), "embedding": pa.list_(pa.float32())})
    (folder / part).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / part / name)


def unit(number: int) -> list[float]:
    vector = np.random.default_rng(number).normal(size=8)
    return list(vector / np.linalg.norm(vector))


def learned(number: int, **other: Any) -> dict[str, Any]:
    return {"image_id": f"d/{number}", "label": number % 4, "embedding": unit(number)} | other


@pytest.fixture
def rows(settings: Settings, tmp_path: Path) -> Rows:
    """40 photos of four classes, the last eight to validate with; ten more are measured on."""
    lake.append(settings, CATALOG, [photo(number, "train" if number < 40 else "test") for number in range(50)])
    folder = tmp_path / "set"
    write(folder, "train", [learned(number) for number in range(32)])
    write(folder, "validation", [learned(number) for number in range(32, 40)])
    return Rows(str(folder), "d", "small", list("abcd"), 32, 8, 0)


def failed(settings: Settings, rows: Rows) -> dict[str, dict[str, Any]]:
    result = gate_training_set(settings, rows, "run")
    return {check["expectation"]: check["figures"] for check in result.failed}


def test_a_sound_set_passes_with_vectors_and_with_photos(settings: Settings, rows: Rows) -> None:
    result = gate_training_set(settings, rows, "run")
    assert result.success and len(result.checks) == 8 and Path(result.data_docs).is_file()
    for part in ("train", "validation"):
        path = Path(rows.folder) / part / "0.parquet"
        pq.write_table(pq.read_table(path).drop_columns("embedding"), path)
    result = gate_training_set(settings, replace(rows, encoder=None), "run")
    assert result.success and len(result.checks) == 7


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        ({"label": 4}, "every label is one of its 4 classes"),
        ({"label": None}, "every label is one of its 4 classes"),
        ({"image_id": "d/1"}, "each photo is there once"),
        ({"embedding": [2.0] + 7 * [0.0]}, "every vector's norm is 1 ± 0.001"),
        ({"embedding": [float("nan")] + 7 * [0.0]}, "every vector's norm is 1 ± 0.001"),
        ({"embedding": []}, "every vector's norm is 1 ± 0.001"),
    ],
)
def test_a_spoiled_row_is_refused(settings: Settings, rows: Rows, spoiled: dict[str, Any], said: str) -> None:
    write(Path(rows.folder), "train", [learned(number) for number in range(31)] + [learned(31) | spoiled])
    found = failed(settings, rows)
    assert said in found and len(found) == 1, found


def test_a_photo_that_is_measured_on_by_now_is_seen_twice(settings: Settings, rows: Rows) -> None:
    moved = [photo(number, "test" if number in (3, 35) else "train") for number in range(40)]
    lake.write(settings, CATALOG, pa.Table.from_pylist(moved, schema=CATALOG.schema), replacing={"dataset": "d"})
    text = "no picture is in both parts, nor in a split that is measured on"
    assert failed(settings, rows)[text]["unexpected"] == 2
    gone = [row for row in moved if row["split"] == "train"]
    lake.write(settings, CATALOG, pa.Table.from_pylist(gone, schema=CATALOG.schema), replacing={"dataset": "d"})
    assert not failed(settings, rows), "photos that left the catalog are seen once"


def test_photos_without_labels_pass_where_their_split_is_named(settings: Settings, rows: Rows) -> None:
    lake.append(settings, CATALOG, [photo(number, "gallery") for number in range(50, 54)])
    beside = [learned(number, label=-1) for number in range(50, 54)]
    write(Path(rows.folder), "train", [learned(number) for number in range(32)] + beside)
    wider = replace(rows, train=36)
    numbered, measured = "every label is one of its 4 classes", "no picture is in both parts, nor in a split that is "
    assert failed(settings, wider).keys() == {numbered, f"{measured}measured on"}
    assert not failed(settings, replace(wider, unlabelled=["gallery"]))
    beside[3]["label"] = None
    write(Path(rows.folder), "train", [learned(number) for number in range(32)] + beside)
    assert failed(settings, replace(wider, unlabelled=["gallery"])).keys() == {f"{numbered}, or none, as in gallery"}


def test_lost_files_are_missed(settings: Settings, rows: Rows) -> None:
    (Path(rows.folder) / "validation" / "0.parquet").unlink()
    assert failed(settings, rows).keys() == {"all its 40 photos are there", "both parts have photos"}


def test_pictures_that_are_measured_on_or_seen_twice(settings: Settings, rows: Rows) -> None:
    lake.append(settings, CATALOG, [photo(60, "test", content=3), photo(61, "train", content=5)])
    write(Path(rows.folder), "validation", [learned(number) for number in (*range(32, 39), 61)])
    (figures,) = failed(settings, rows).values()
    assert figures["unexpected"] == 2  # 3 is in the test split too, 61 shows what 5 shows


def test_too_few_to_learn_from(settings: Settings, rows: Rows) -> None:
    write(Path(rows.folder), "train", [learned(number, label=0) for number in range(31)] + [learned(31, label=1)])
    found = failed(settings, replace(rows, without_features=3))
    assert found == {
        "at most 50% of the classes have fewer than 2 photos to learn from": {
            **{"value": 0.75, "limit": 0.5, "examples": ["b", "c", "d"]},
        },
        "at most 5% of the photos lack their label or what is learned from": {"value": 3 / 43, "limit": 0.05},
    }


def test_a_refusal_is_a_row_of_runs_and_says_why(settings: Settings, rows: Rows) -> None:
    with pytest.raises(GateRefused, match=r"gate training_set refused 32 photos of d by small: .*Nothing is tuned"):
        ask_training_set(settings, replace(rows, without_features=30), "00000000000000aa")
    (run,) = lake.rows(settings, "SELECT state, verb, encoder, figures FROM runs")
    assert (run["state"], run["verb"], run["encoder"]) == ("refused", "gate", "small")
    assert json.loads(run["figures"])["gate"] == "training_set"
