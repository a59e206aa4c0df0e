"""Names as an attacker would choose them, through every verb; and a secret that must be nowhere afterwards."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.consistency.check import state
from tests.support.project import PROJECT
from tests.support.small_shop import CONFIG
from tests.support.verbs_here import vitrine
from vitrine import lake
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import load_settings

SECRET = "pl4nted-s3cret"
PRODUCTS = ("<script>alert(1)</script>", "'; DROP TABLE catalog; --", '"><img src=x onerror=alert(1)>')
IDS = (
    *("x'; DROP TABLE embeddings; --", "<script>alert(2)</script>", 'quote"back\\slash', "$(touch /tmp/owned)`id`"),
    *("../../../etc/passwd", "line\nbreak\ttab", "{{ 7 * 7 }}{% raw %}", "%s%n%00", "' OR '1'='1", "ünï💡\u202e"),
    *("__lake__/shop", "]] or 1 == 1 or [["),
)


@pytest.fixture
def table(tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    photos = sorted(draw(3, 4).rglob("*.jpg"))
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "shop.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "image_id", "product_id", "category"])
        for at, (photo, image_id) in enumerate(zip(photos, IDS, strict=True)):
            writer.writerow([photo, image_id, PRODUCTS[at // 4], "<b>cat'; --</b>"])
    return tmp_path / "shop.csv"


def test_hostile_names_are_names_and_a_planted_secret_is_written_nowhere(
    spark: object, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    shown = ""
    monkeypatch.setenv("VITRINE_MILVUS__TOKEN", f"root:{SECRET}")
    monkeypatch.setenv("VITRINE_MLFLOW__URI", f"http://root:{SECRET}@127.0.0.1:9")
    shown += vitrine("ingest", str(table), "--dataset", "shop", "--layout", "table")
    shown += vitrine("embed", "--encoder", "small", "--dataset", "shop")
    shown += vitrine("evaluate", "--encoder", "small", "--dataset", "shop")
    shown += vitrine("promote", "small", "--dataset", "shop", "--force", "--reason", "<script>alert(3)</script>")
    shown += vitrine("report")
    shown += vitrine("check")
    shown += vitrine("status")
    shown += vitrine("sql", "SELECT image_id, product_id FROM catalog", "--format", "csv", "--trust")
    settings = load_settings(tmp_path)

    rows = lake.rows(settings, "SELECT image_id, product_id FROM embeddings")
    assert {row["image_id"] for row in rows} == {f"shop/{image_id}" for image_id in IDS}
    assert {row["product_id"] for row in rows} == {f"shop/{product}" for product in PRODUCTS}
    found = OnlineFeatures(settings).lookup("shop", [f"shop/{image_id}" for image_id in IDS])
    assert all(row["embedding"] is not None for row in found)
    assert state(settings, "shop")["differences"] == []
    page = next(settings.reports.rglob("*.html")).read_text()
    assert "&lt;script&gt;alert(1)" in page
    for raw in ("<script>alert(", "<img src=x", "<b>cat"):
        assert raw not in page
    assert not Path("/tmp/owned").exists()

    said = capfd.readouterr()
    assert SECRET not in said.out + said.err + shown
    assert "DROP TABLE embeddings" in shown  # sql prints what is there
    rendered = subprocess.run(
        [sys.executable, "-c", _RENDERED, str(PROJECT / "dags")], capture_output=True, text=True, check=True
    )
    assert "ingest" in rendered.stdout and SECRET not in rendered.stdout + rendered.stderr
    with_it = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert with_it == []
    assert not [path for path in tmp_path.rglob("*") if SECRET in path.name]


# What Airflow keeps of a task and shows on its pages.
_RENDERED = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
from airflow.sdk import DAG
for module in pkgutil.iter_modules([sys.argv[1]]):
    found = importlib.import_module(module.name)
    for dag in [value for value in vars(found).values() if isinstance(value, DAG)]:
        for task in dag.tasks:
            print(task.task_id, {name: getattr(task, name, None) for name in task.template_fields}, vars(task))
"""
