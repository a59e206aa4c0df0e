"""The newest figures: of each encoder version and protocol those that were computed last."""

import pytest

from evaluation.metrics_table import Evaluation, Scores, newest, write_scores
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.lake import matches
from vitrine.settings import Settings, load_settings
from vitrine.tables import METRICS

E, F = EncodedSet("d", "e", "1" * 16), EncodedSet("d", "f", "2" * 16)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    lake.create_tables(settings)
    return settings


def write(settings: Settings, encoded: EncodedSet, value: float, **key: str) -> None:
    columns = {"encoder_version": encoded.encoder_version, "dataset": encoded.dataset, "catalog_version": "old"}
    columns |= {"query_split": "test", "index_split": "train", "relevant": "product_id", "classifier": ""} | key
    about = {"encoder": encoded.encoder, "run_id": "r"}
    slices = [Scores(name, {"R@10": value, "MRR": value / 2}, {"R@10": (0.1, 0.9), "MRR": (None, None)}, 7, 1, 30)
              for name in ("all", "category=mugs")]  # fmt: skip
    write_scores(settings, columns | {"seed": 0}, about, slices)


def test_of_each_version_and_protocol_what_was_computed_last(settings):
    write(settings, E, 0.2)
    write(settings, E, 0.3, catalog_version="new")
    write(settings, E, 0.4, relevant="category")
    write(settings, F, 0.5)
    write(settings, E, 0.6, classifier="knn", index_split="")
    write(settings, EncodedSet("other", "e", E.encoder_version), 0.7)
    found = newest(settings, matches(dataset="d", classifier=""))
    assert [(one.encoded, one.catalog_version, one.relevant) for one in found] == [
        *((F, "old", "product_id"), (E, "old", "category"), (E, "new", "product_id"))
    ]
    scores = found[2].scores["all"]
    assert scores.values == {"R@10": 0.3, "MRR": 0.15} and scores.intervals["R@10"] == (0.1, 0.9)
    assert (scores.queries, scores.queries_left_out, scores.index_size) == (7, 1, 30)
    assert found[2].protocol == ("test", "train", "product_id") and set(found[2].scores) == {"all", "category=mugs"}


def test_the_condition_says_what_is_read(settings):
    write(settings, E, 0.2)
    at = lake.version(settings, METRICS)
    write(settings, E, 0.3, catalog_version="new")
    (one,) = newest(settings, matches(encoder_version=E.encoder_version, slice="all", metric="MRR"))
    assert one.scores == {"all": Scores("all", {"MRR": 0.15}, {"MRR": (None, None)}, 7, 1, 30)}
    (older,) = newest(settings, matches(dataset="d"), {METRICS.name: at})
    assert isinstance(older, Evaluation) and older.catalog_version == "old" and older.encoded == E
    (older,) = newest(settings, matches(dataset="d", catalog_version="old"))
    assert older.scores["all"].values["R@10"] == 0.2
    assert newest(settings, matches(dataset="none")) == []
