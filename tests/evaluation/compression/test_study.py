"""The study of codecs: equal to the evaluation where nothing is lost, and careful where it is not sure."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.compression import page
from evaluation.compression.study import study
from evaluation.evaluate import evaluate
from tests.evaluation.test_evaluate import VERSION, make
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings, load_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Settings]:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return lambda: load_settings(tmp_path)


def test_in_full_it_is_the_evaluation(home: Callable[[], Settings], tmp_path: Path) -> None:
    settings = home()
    make(settings, "shop", ("train", "test"), products=30)
    encoded = EncodedSet("shop", "e", VERSION)
    done = study(settings, encoded, "product_id", 0.05, dims=(8, 4))
    measured = evaluate(settings, encoded, run_id="r")
    assert done.full == pytest.approx({name: measured["metrics"][name] for name in done.full}, abs=1e-6)
    by_name = {row.codec.name: row for row in done.rows}
    assert by_name["fp16"].good_enough and by_name["fp16"].change.value == pytest.approx(0, abs=0.01)
    assert [row.bytes for row in done.rows] == sorted((row.bytes for row in done.rows), reverse=True)
    cheapest = done.cheapest()
    assert cheapest and all(row.bytes >= cheapest.bytes for row in done.rows if row.good_enough)
    assert done.cheapest(bytes_at_most=0) is None
    again = study(settings, encoded, "product_id", 0.05, dims=(8, 4))
    assert [(row.codec.name, row.metrics) for row in again.rows] == [(row.codec.name, row.metrics) for row in done.rows]
    page.draw(done, 0.05, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "How short may vectors of e be for shop?" in text and "PCA 4 rotated, 1 bit" in text


def test_nothing_is_good_enough_that_is_not_shown_to_be(home: Callable[[], Settings]) -> None:
    settings = home()
    make(settings, "shop", products=6)
    done = study(settings, EncodedSet("shop", "e", VERSION), "product_id", 0.0, dims=(2,))
    assert all(row.why for row in done.rows)
    lossy = [row for row in done.rows if row.codec.linear.dim == 2]
    assert lossy and not any(row.good_enough for row in lossy)
