"""Linear tuning: its closed forms are those of scikit-learn, and validation chooses what helps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.covariance import shrunk_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from training import linear_tuning
from training.linear_tuning import Moments, solutions
from vitrine.encoders import heads
from vitrine.tuning_sections import LinearSettings
from vitrine.vectors import lists

CLASSES, DIM = 8, 24


def rows(count: int, seed: int) -> tuple[Any, Any]:
    """Classes whose photos differ most in directions that say nothing of the class."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(CLASSES, DIM)) * np.r_[np.ones(12), np.zeros(12)]
    labels = random.permutation(np.arange(count) % CLASSES)
    x = 1 + centres[labels] + random.normal(size=(count, DIM)) * np.r_[np.full(12, 0.6), np.full(12, 3.0)]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels.astype(np.int32)


def moments(x: Any, y: Any) -> Moments:
    sums = np.zeros((CLASSES, x.shape[1]))
    np.add.at(sums, y, x)
    return Moments(x.T.astype(np.float64) @ x, sums, np.bincount(y, minlength=CLASSES).astype(float))


def request(folder: Path, share: float, count: int = 400, validation_from: str = "train", **settings: Any) -> Path:
    sizes = {"train": count, "validation": 160}
    for seed, (part, size) in enumerate(sizes.items()):
        x, y = rows(size, seed)
        (folder / "set" / part).mkdir(parents=True)
        table = pa.table({"label": pa.array(y, pa.int32()), "embedding": lists(x)})
        pyarrow.parquet.write_table(table, folder / "set" / part / "part-0.parquet", row_group_size=64)
    asked = {
        "training_set": str(folder / "set"),
        "rows": sizes,
        "classes": [f"c{number}" for number in range(CLASSES)],
        "settings": LinearSettings(**settings).model_dump(mode="json"),
        "seed": 1,
        "known_share": share,
        "validation_from": validation_from,
    }
    (folder / "run").mkdir()
    (folder / "run" / "request.json").write_text(json.dumps(asked))
    return folder / "run"


def cosines(x: Any) -> Any:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def test_discriminants_are_scikit_learns():
    x, y = rows(400, 0)
    made = next(solutions(moments(x, y), ["discriminants"], [1e-9]))
    theirs = LinearDiscriminantAnalysis(solver="svd").fit(x.astype(np.float64), y)
    assert made.weight.shape == (DIM, CLASSES - 1)
    wide = x.astype(np.float64)
    assert np.allclose(cosines(made.embed(wide)), cosines(theirs.transform(wide)), atol=1e-4)
    head = linear_tuning.as_head(made, moments(x, y), [str(number) for number in range(CLASSES)])
    by_count = len(x) / (len(x) - CLASSES)  # their covariance is by the number of rows
    assert np.allclose(theirs.predict_proba(x), softmax(by_count * head.logits(x)), atol=1e-3)


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("count", [5, DIM, 90])
def test_the_farthest_directions(count: int):
    made = linear_tuning._axes(rows(count, 0)[0].astype(np.float64))
    theirs = np.linalg.svd(rows(count, 0)[0])[2][: min(count, DIM)]
    assert np.allclose(np.abs(made.T @ theirs.T)[:4, :4], np.eye(4), atol=1e-3)


def test_ridge_is_scikit_learns():
    x, y = rows(400, 0)
    made = next(solutions(moments(x, y), ["ridge"], [0.2]))
    spread = np.trace(np.cov(x.T, bias=True)) / DIM
    theirs = Ridge(alpha=0.2 / 0.8 * spread * len(x)).fit(x, np.eye(CLASSES)[y])
    # Both differ by a factor, which a cosine does not see.
    assert np.allclose(0.8 * (x - made.mean) @ made.weight, (x - x.mean(0)) @ theirs.coef_.T, atol=1e-5)


def test_whitening_makes_photos_of_a_class_differ_alike_in_all_directions():
    x, y = rows(400, 0)
    made = next(solutions(moments(x, y), ["whitening"], [0.3]))
    apart = x - np.stack([x[y == number].mean(0) for number in range(CLASSES)])[y]
    within = shrunk_covariance(apart.T @ apart / (len(x) - CLASSES), 0.3)
    assert np.allclose(made.weight.T @ within @ made.weight, np.eye(DIM), atol=1e-6)


def test_the_sums_of_one_pass_are_those_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linear_tuning, "_BLOCK", 50)
    folder = request(tmp_path, 1.0)
    cells = linear_tuning.Cells(linear_tuning.LinearTuningRequest.read(folder))
    parts = [rows(400, 0), rows(160, 1)]
    x, y = (np.concatenate(values) for values in zip(*parts, strict=True))
    whole, direct = cells.all_of("train", "validation"), moments(x, y)
    drawn = np.flatnonzero(cells.learned[1])
    mine = np.isin(parts[0][1], drawn)
    half, wanted = cells.draw(1), moments(parts[0][0][mine], parts[0][1][mine])
    assert len(drawn) == CLASSES // 2
    for found, asked in ((whole, direct), (half, wanted)):
        for name in ("second", "sums", "counts"):
            assert np.allclose(getattr(found, name), getattr(asked, name), atol=1e-4), name


@pytest.mark.parametrize("share", [1.0, 0.0, 0.5])
def test_validation_chooses_what_helps(tmp_path: Path, share: float):
    folder = request(tmp_path, share)
    result = linear_tuning.tune(folder)
    assert result["val_score"] > result["val_score_as_it_is"] + 0.1
    first = max(result["candidates"], key=lambda each: each["score"])
    assert (first["kind"], first["strength"]) == (result["recipe"]["kind"], result["recipe"]["strength"])
    assert len(result["candidates"]) == 1 + 3 * 6
    for each in result["candidates"]:
        assert (each["known"] is None, each["new"] is None) == (share == 0, share == 1)
    head = heads.load(folder)
    (x, y), (fresh, truth) = rows(400, 0), rows(400, 5)
    nearest = (head.embed(fresh) @ head.embed(x).T).argmax(1)
    assert (y[nearest] == truth).mean() > (y[(fresh @ x.T).argmax(1)] == truth).mean() + 0.1
    assert linear_tuning.tune(folder) == json.loads((folder / "result.json").read_text()), "it was done before"


def test_a_validation_split_of_its_own_is_not_learned_from(tmp_path: Path):
    own, cut = request(tmp_path / "own", 1.0, validation_from="val"), request(tmp_path / "cut", 1.0)
    for folder in (own, cut):
        linear_tuning.tune(folder)
    alone = next(solutions(moments(*rows(400, 0)), **best(own)))
    assert np.allclose(heads.load(own).layers[0][0], alone.weight, atol=1e-5)
    assert not np.allclose(heads.load(cut).layers[0][0], alone.weight, atol=1e-5)


def best(folder: Path) -> dict[str, Any]:
    recipe = json.loads((folder / "result.json").read_text())["recipe"]
    return {"kinds": [recipe["kind"]], "strengths": [recipe["strength"]]}


def test_a_photo_a_class_tells_nothing():
    x, y = rows(CLASSES, 0)
    with pytest.raises(ArithmeticError, match="every class has one photo"):
        next(solutions(moments(x, y), ["whitening"], [0.1]))
