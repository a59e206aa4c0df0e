"""Tags from stored vectors: a story of nights, as for embeddings."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from spark_jobs.sql.queries import ask
from spark_jobs.tag_catalog import tag_catalog
from tests.support.table_sizes import IN_BOTH_SIZES
from vitrine import lake
from vitrine.encoders.classifiers import MAHALANOBIS, UNLIKE, UNSURE, About, Classifier, Space, with_threshold
from vitrine.encoders.heads import Head
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, LABELS
from vitrine.tag_review import tags_beside_labels

V, DIM = "00000000000000aa", 4
MOMENT = lake.now()
_SAID = "SELECT image_id, last_value(category ORDER BY valid_from) AS category FROM labels GROUP BY image_id"


def classifier(threshold: float = 0.6) -> Classifier:
    eye, zero = np.eye(DIM, dtype=np.float32), np.zeros(DIM, np.float32)
    about = About("d", "category", "e", V, "ridge", 0.1, "t", threshold, 0.7, {})
    head = Head(((eye, zero),), (10 * eye[:, :2], zero[:2]), ("a", "b"), activation="linear")
    return Classifier(about, head, Space(MAHALANOBIS, eye, None, np.eye(2, DIM, dtype=np.float32)))


def put(settings: Settings, photos: dict[str, tuple[str | None, list[float]]]) -> None:
    """The catalog and the vectors of ``photos``: category and vector by name; a name starts with its product's."""
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), MOMENT)
    of_vector = dict.fromkeys(("event_timestamp", "created_timestamp"), MOMENT)
    catalog, embeddings = [], []
    for name, (category, vector) in photos.items():
        same: dict[str, Any] = {"image_id": f"d/{name}", "dataset": "d", "product_id": f"d/{name[0]}", "split": None}
        same |= {"category": category, "content_sha256": str(vector)}
        catalog.append({**same, **times, "uri": "nowhere", "size": 1, "width": 1, "height": 1})
        embeddings.append({**same, **of_vector, "embedding": vector, "encoder_version": V, "encoder": "e"})
    said = {row["image_id"]: row["category"] for row in lake.rows(settings, _SAID)}
    now = [{name: row[name] for name in ("image_id", "dataset", "product_id", "category")} for row in catalog]
    fresh = [row | {"valid_from": lake.now()} for row in now if said.get(row["image_id"], "") != row["category"]]
    if fresh:
        lake.append(settings, LABELS, fresh)
    for table, made in ((CATALOG, catalog), (EMBEDDINGS, embeddings)):
        lake.write(settings, table, pa.Table.from_pylist(made, schema=table.schema), replacing={"dataset": "d"})


def tags(settings: Settings, table: str = "tags") -> dict[str, tuple[str, str | None]]:
    key = "image_id" if table == "tags" else "product_id"
    return {row[key]: (row["value"], row["reason"]) for row in lake.rows(settings, f"SELECT * FROM {table}")}


@IN_BOTH_SIZES
@pytest.mark.usefixtures("taken_as_large")
def test_nights_of_tags(settings: Settings, spark: SparkSession):
    photos: dict[str, tuple[str | None, list[float]]] = {
        "p1": (None, [1, 0, 0, 0]),
        "p2": (None, [0.7, 0.7, 0.1, 0]),
        "q1": (None, [0, 0, 1, 0]),
        "r1": ("a", [0, 1, 0, 0]),
    }
    put(settings, photos)
    first = tag_catalog(spark, settings, classifier())
    came_of = {"open": 3, "confirmed": 0, "corrected": 0, "disagrees": 0}
    assert first == {"tagged": 3, "products_tagged": 2, "removed": 0, "photos": 3, "abstained": 2, "outcomes": came_of}
    assert tags(settings) == {"d/p1": ("a", None), "d/p2": ("a", UNSURE), "d/q1": ("a", UNLIKE)}
    assert tags(settings, "product_tags") == {"d/p": ("a", None), "d/q": ("a", UNLIKE)}

    versions = [lake.version(settings, lake.TABLES[name]) for name in ("tags", "product_tags")]
    assert tag_catalog(spark, settings, classifier())["tagged"] == 0
    assert versions == [lake.version(settings, lake.TABLES[name]) for name in ("tags", "product_tags")]

    # A photo left, one changed, and one got its label: its tag stays, to be held against the label.
    del photos["q1"]
    photos |= {"p2": (None, [0, 1, 0, 0]), "p1": ("b", photos["p1"][1])}
    put(settings, photos)
    second = tag_catalog(spark, settings, classifier())
    assert (second["tagged"], second["removed"], second["products_tagged"]) == (1, 2, 1)
    assert second["outcomes"] == {"open": 1, "confirmed": 0, "corrected": 1, "disagrees": 0}
    assert tags(settings) == {"d/p1": ("a", None), "d/p2": ("b", None)}

    assert tag_catalog(spark, settings, classifier(), everything=True)["tagged"] == 1
    assert tags(settings)["d/r1"] == ("b", None)
    other = with_threshold(classifier(), None)
    assert tag_catalog(spark, settings, other) | {"removed": 0} == {
        **{"tagged": 3, "products_tagged": 2, "removed": 0},
        **{"photos": 3, "abstained": 3},
        # The tag of p1 was made anew, after the label: that the two disagree is to be looked at again.
        "outcomes": {"open": 1, "confirmed": 0, "corrected": 0, "disagrees": 2},
    }
    assert {row["classifier_version"] for row in lake.rows(settings, "SELECT * FROM tags")} == {other.version}


def test_the_table_says_what_became_of_a_tag(settings: Settings, spark: SparkSession):
    """A person corrects one tag, confirms another; both are labels in the next night's source. A third disagrees with
    a label that was there before."""
    lake.create_tables(settings)
    photos: dict[str, tuple[str | None, list[float]]] = {
        "p1": (None, [1, 0, 0, 0]),
        "q1": (None, [0, 1, 0, 0]),
        "r1": ("a", [0, 1, 0, 0]),
        "s1": (None, [0.7, 0.7, 0.1, 0]),
        "t1": (None, [0.9, 0.1, 0, 0]),
    }
    put(settings, photos)
    tag_catalog(spark, settings, classifier(), everything=True)
    review = "SELECT image_id, why FROM tags_to_review ORDER BY place"
    queue = [["d/r1", "disagrees"], ["d/s1", "no label"], ["d/p1", "no label"], ["d/q1", "no label"]]
    asked = ask(settings, review, 10)[1]
    assert asked[:2] == queue[:2] and sorted(asked[2:]) == sorted([*queue[2:], ["d/t1", "no label"]])

    photos |= {"p1": ("b", photos["p1"][1]), "q1": ("b", photos["q1"][1])}
    put(settings, photos)
    told = tag_catalog(spark, settings, classifier(), everything=True)
    assert told["tagged"] == 0 and told["outcomes"] == {"open": 2, "confirmed": 1, "corrected": 1, "disagrees": 1}
    came_of = ask(settings, "SELECT image_id, label, tag, outcome FROM current_tags ORDER BY image_id", 10)[1]
    assert came_of == [
        ["d/p1", "b", "a", "corrected"],
        ["d/q1", "b", "b", "confirmed"],
        ["d/r1", "a", "b", "disagrees"],
        ["d/s1", None, "a", "open"],
        ["d/t1", None, "a", "open"],
    ]
    by_lake = f"SELECT image_id, label, tag, outcome FROM ({tags_beside_labels('d', 'category')}) ORDER BY image_id"
    assert [list(row.values()) for row in lake.rows(settings, by_lake)] == came_of
    assert ask(settings, review, 10)[1] == [["d/r1", "disagrees"], ["d/s1", "no label"], ["d/t1", "no label"]]
