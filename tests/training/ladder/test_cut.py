"""Parts of a training set: nested, numbered anew, and without the rows that judge them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.ladder.cut import cut
from training.ladder.judge import Judge
from training.training_set import TRAIN, VALIDATION, TrainingSet, open_part
from vitrine.settings import Settings

Written = Callable[..., TrainingSet]

CLASSES = 12


def rows_of(rows: TrainingSet, part: str) -> dict[str, str]:
    """Each photo's class."""
    table = open_part(rows.folder, part).to_table()
    names = [rows.classes[number] for number in table["label"].to_pylist()]
    return dict(zip(table["image_id"].to_pylist(), names, strict=True))


def test_a_share_of_the_products_with_all_their_photos(settings: Settings, written: Written) -> None:
    whole = written()
    truth, smaller = rows_of(whole, TRAIN), set()
    for share in (0.25, 0.5, 1.0):
        part = cut(settings, whole, share, seed=1)
        rows = part.rows
        learn, validate = rows_of(rows, TRAIN), rows_of(rows, VALIDATION)
        assert len(rows.classes) == share * CLASSES and set(rows.classes) >= smaller
        assert [name for name, learned in zip(whole.classes, part.learned, strict=True) if learned] == rows.classes
        assert learn.keys().isdisjoint(validate) and len(learn) == rows.train and len(validate) == rows.validation
        assert {**learn, **validate} == {photo: name for photo, name in truth.items() if name in rows.classes}
        assert Counter(validate.values()).keys() == {*rows.classes} - {"c00"}  # the class of one photo has none left
        smaller = set(rows.classes)
    assert cut(settings, whole, 0.25, seed=2).rows.classes != cut(settings, whole, 0.25, seed=1).rows.classes


def test_the_same_cut_is_written_once(settings: Settings, written: Written) -> None:
    whole = written()
    first = cut(settings, whole, 0.5, seed=0)
    before = {path: path.stat().st_mtime_ns for path in Path(first.rows.folder).rglob("*.parquet")}
    again = cut(settings, whole, 0.5, seed=0)
    assert again.rows == first.rows and (again.learned == first.learned).all()
    assert {path: path.stat().st_mtime_ns for path in Path(first.rows.folder).rglob("*.parquet")} == before
    assert not list((settings.home / "training").glob(".*"))


def test_categories_are_all_there_with_a_share_of_their_photos(settings: Settings, written: Written) -> None:
    part = cut(settings, written("category"), 0.25, seed=0)
    counts = Counter({**rows_of(part.rows, TRAIN), **rows_of(part.rows, VALIDATION)}.values())
    assert part.learned.all() and [counts[f"c{at:02d}"] for at in (11, 4, 2, 1, 0)] == [3, 3, 3, 2, 1]
    learn = Counter(rows_of(part.rows, TRAIN).values())
    assert all(
        learn[name] >= 2 for name, count in counts.items() if count > 2
    )  # which says how photos of one class differ


def test_what_judges_is_what_was_not_learned_from(settings: Settings, written: Written) -> None:
    whole = written()
    part = cut(settings, whole, 0.5, seed=0)
    judge = Judge(whole, part.learned)
    as_it_is = judge.answers(judge.by(lambda vectors: vectors))
    assert (
        len(as_it_is.known.values) == 6
        and len(as_it_is.new.values) == (~part.learned * np.arange(1, CLASSES + 1)).sum()
    )
    noise = judge.answers(judge.by(lambda vectors: np.random.default_rng(0).normal(size=vectors.shape)))
    gains = noise.over(as_it_is)
    known, new = gains.known, gains.new
    assert {whole.classes[number] for number in known.classes} == {*part.rows.classes}
    assert {whole.classes[number] for number in new.classes}.isdisjoint(part.rows.classes)
    assert known.mean < 0 and new.mean < 0
