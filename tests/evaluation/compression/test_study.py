"""The study of codecs: equal to the evaluation where nothing is lost, and careful where it is not sure."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation.compression import page
from evaluation.compression.study import study
from evaluation.evaluate import evaluate
from tests.evaluation.test_evaluate import VERSION, make
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.setting_sections import Prices
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
    prices = Prices(memory_gb_month=3.0, disk_gb_month=0.1, currency="EUR")
    page.draw(done, 0.05, prices, 1_000, "Redis int8: 640 bytes.", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "a month, EUR" in text and "1,000 vectors" in text
    assert "How short may vectors of e be for shop?" in text and "PCA 4 rotated, 1 bit" in text


def test_the_page_shows_queries_that_the_codec_answers_otherwise(home: Callable[[], Settings], tmp_path: Path) -> None:
    settings = home()
    make(settings, "shop", ("train", "test"), products=30)
    done = study(settings, EncodedSet("shop", "e", VERSION), "product_id", 0.5, dims=(2,))
    codec, full = done.cheapest(), done.sides[0]
    assert codec and [side.name for side in done.sides] == ["in full, float32", codec.codec.name]
    for side, value in zip(done.sides, (done.full["mMP@5"], codec.metrics["mMP@5"]), strict=True):
        assert np.nanmean(side.values) == pytest.approx(value)
    asked = int(np.flatnonzero(~np.isnan(full.values))[0])
    found = full.nearest(asked)
    assert asked not in [at for at, _ in found] and {right for _, right in found} <= {True, False}
    shown = done.galleries(settings)
    assert [each.title for each in shown][:1] == [f"in full, float32 answers better than {codec.codec.name}"]
    prices = Prices(memory_gb_month=3.0, disk_gb_month=0.1, currency="EUR")
    page.draw(done, 0.5, prices, 1_000, "", tmp_path / "page.html", shown)
    assert f"{codec.codec.name} finds (" in (tmp_path / "page.html").read_text()


def test_nothing_is_good_enough_that_is_not_shown_to_be(home: Callable[[], Settings]) -> None:
    settings = home()
    make(settings, "shop", products=6)
    done = study(settings, EncodedSet("shop", "e", VERSION), "product_id", 0.0, dims=(2,))
    assert all(row.why for row in done.rows)
    lossy = [row for row in done.rows if row.codec.linear.dim == 2]
    assert lossy and not any(row.good_enough for row in lossy)


def test_a_second_pass_finds_what_its_longer_codec_finds_among_the_candidates(home: Callable[[], Settings]) -> None:
    settings = home()
    make(settings, "shop", products=30)
    by_name = {
        row.codec.name: row for row in study(settings, EncodedSet("shop", "e", VERSION), "product_id", 0.05).rows
    }
    twice, int8 = by_name["centred and rotated, 1 bit; 100 again by int8"], by_name["int8"]
    assert twice.codec.bytes == 2 + 16 and twice.codec.searched_bytes == 2
    one = by_name["centred and rotated, 1 bit"].metrics["mMP@5"]
    assert one < twice.metrics["mMP@5"] and twice.metrics["mMP@5"] == pytest.approx(int8.metrics["mMP@5"], abs=0.02)
    prices = Prices(memory_gb_month=3.0, disk_gb_month=0.5)
    assert twice.money(prices, 10**9) == pytest.approx(2 * 3.0 + 18 * 0.5)


def test_products_that_nothing_was_learned_from_are_told_apart(home: Callable[[], Settings]) -> None:
    settings = home()
    make(settings, "shop", ("train", "query", "gallery"), products=110)
    done = study(settings, EncodedSet("shop", "e", VERSION), "product_id", 0.05, dims=(4,))
    of = "SELECT product_id FROM embeddings WHERE split"
    new = f"SELECT count(*) AS n FROM embeddings WHERE split = 'query' AND product_id IN ({of} = 'gallery')"
    new += f" AND product_id NOT IN ({of} = 'train')"
    (row,) = lake.rows(settings, new)
    assert done.new_queries == row["n"] > 0 and all(row.on_new for row in done.rows)
    exact = next(row for row in done.rows if row.codec.name == "fp16")
    assert exact.on_new and exact.on_new.queries == row["n"] and abs(exact.on_new.value) < 0.05


def test_a_split_that_learning_reads_has_no_new_products(home: Callable[[], Settings]) -> None:
    settings = home()
    make(settings, "shop", ("train", "test"), products=30)
    done = study(settings, EncodedSet("shop", "e", VERSION), "product_id", 0.05, dims=(4,))
    assert done.new_queries == 0 and not any(row.on_new for row in done.rows)
