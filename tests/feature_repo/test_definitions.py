"""feature_repo: Feast's own command line works in the folder, and training joins see what was known then."""

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from feature_repo import definitions
from tests.support.project import PROJECT
from vitrine import feature_store, lake
from vitrine.online.lookup import OnlineFeatures
from vitrine.online.sync import sync_all
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS, PROMOTIONS

V1 = "00000000000000aa"


def blank(table: Any, **own: Any) -> dict[str, Any]:
    """A row of ``table`` with something in every column."""
    fill = {"string": "", "double": 0.0, "bool": False, "list<item: float>": [1.0, 0.0], "map<string, string>": None}
    kinds = {field.name: str(field.type) for field in table.schema}
    row = {name: lake.now() if kind.startswith("timestamp") else fill.get(kind, 0) for name, kind in kinds.items()}
    return row | own


def fill(settings: Settings) -> None:
    lake.append(settings, ENCODERS, [blank(ENCODERS, encoder_version=V1, encoder="small", dim=2, state="nightly")])
    vectors = {"image_id": "d/1", "dataset": "d", "encoder_version": V1, "encoder": "small", "product_id": "d/new"}
    lake.append(settings, EMBEDDINGS, [blank(EMBEDDINGS, **vectors, embedding=[0.6, 0.8])])
    lake.append(settings, PROMOTIONS, [blank(PROMOTIONS, dataset="d", encoder="small", encoder_version=V1)])


def names(objects: list[Any]) -> list[str]:
    return [item.name for item in objects]


def test_an_empty_lake_has_the_catalog_alone(settings: Settings):
    assert names(definitions.objects(settings)) == ["image", "product", "catalog", "labels"]
    assert definitions.serving_services(settings) == []


def test_each_version_has_a_view_and_a_service_and_each_data_set_its_pointer(settings: Settings):
    fill(settings)
    lake.append(settings, ENCODERS, [blank(ENCODERS, encoder_version="old", encoder="gone", state="retired")])
    views, service = [f"images_small_{V1}", f"products_small_{V1}"], f"small_{V1}"
    assert names(definitions.objects(settings)) == ["image", "product", "catalog", "labels", *views, service]
    pointers = definitions.serving_services(settings)
    assert names(pointers) == ["d_images_serving", "d_products_serving"]
    assert {pointer.tags["encoder_version"] for pointer in pointers} == {V1}
    assert [projection.name for pointer in pointers for projection in pointer.feature_view_projections] == views


def test_importing_does_nothing(tmp_path: Path):
    code = "import feature_repo.definitions as d; assert not any(n.startswith('_F') for n in vars(d)), vars(d)"
    (tmp_path / "vitrine.toml").write_text("home = [")  # would fail when read
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)}, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["vitrine.toml"]


def test_the_folders_configuration_is_that_of_the_default_home(tmp_path: Path):
    (tmp_path / "vitrine.toml").write_text("")
    ours = feature_store.repo_config(load_settings(tmp_path))
    text = (PROJECT / "feature_repo" / "feature_store.yaml").read_text()
    theirs = yaml.safe_load(text.replace("../.vitrine", str(tmp_path / ".vitrine")))
    assert theirs == ours


@pytest.mark.slow
def test_feasts_own_command_line(tmp_path: Path):
    shutil.copytree(PROJECT / "feature_repo", tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "vitrine.toml").write_text("")
    settings = load_settings(tmp_path)
    fill(settings)
    feast = str(Path(sys.executable).with_name("feast"))

    def run(*arguments: str) -> str:
        folder = tmp_path / "feature_repo"
        done = subprocess.run([feast, *arguments], cwd=folder, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("apply")
    assert {"catalog", "labels", f"images_small_{V1}"} <= set(run("feature-views", "list").split())
    # The same registry and online store as the platform's own, whichever came first.
    store = feature_store.open_store(settings)
    assert {"d_images_serving", f"small_{V1}"} <= {service.name for service in store.list_feature_services()}
    assert store.get_feature_service("d_images_serving").tags["dataset"] == "d"
    feature_store.apply(store, definitions.objects(settings))
    assert sync_all(settings, store, "d")["upserted"] == 1
    (found,) = OnlineFeatures(settings).lookup("d", ["d/1"])
    assert found["embedding"] == pytest.approx([0.6, 0.8])
    assert not list((tmp_path / "feature_repo").glob("*.db"))


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_training_joins_see_what_was_known_then(settings: Settings):
    fill(settings)
    start = lake.now() - timedelta(days=10)
    days = [start + timedelta(days=day) for day in range(5)]
    said = {"image_id": "d/1", "dataset": "d"}
    lake.append(
        settings,
        LABELS,
        [
            blank(LABELS, **said, product_id="d/old", valid_from=days[1]),
            blank(LABELS, **said, product_id="d/new", valid_from=days[3]),
        ],
    )
    lake.append(settings, CATALOG, [blank(CATALOG, **said, product_id="d/new", updated_at=days[3])])
    vector = {**said, "encoder_version": V1, "encoder": "small", "event_timestamp": days[1], "embedding": [0.0, 1.0]}
    rows = pa.Table.from_pylist([blank(EMBEDDINGS, **vector, product_id="d/new")], schema=EMBEDDINGS.schema)
    lake.write(settings, EMBEDDINGS, rows, replacing={"dataset": "d"})
    store = feature_store.open_store(settings)
    feature_store.apply(store, definitions.objects(settings))
    asked = pd.DataFrame({"image_id": ["d/1"] * 3 + ["d/2"], "event_timestamp": [days[0], days[2], days[4], days[4]]})
    found = store.get_historical_features(
        asked, features=["labels:product_id", f"images_small_{V1}:embedding"], full_feature_names=True
    ).to_df()
    found = found.sort_values(["image_id", "event_timestamp"])
    labels = [None if pd.isna(value) else value for value in found["labels__product_id"]]
    assert labels == [None, "d/old", "d/new", None]
    vectors = [None if value is None else list(value) for value in found[f"images_small_{V1}__embedding"]]
    assert vectors == [None, [0.0, 1.0], [0.0, 1.0], None]
