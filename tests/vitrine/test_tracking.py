"""Runs in the lake and in MLflow."""

import time

import pytest
from pydantic import SecretStr

from vitrine import lake
from vitrine.runs import record
from vitrine.setting_sections import MlflowSettings
from vitrine.settings import Settings
from vitrine.tracking import mlflow_uri, to_mlflow


def test_a_run_is_told_to_mlflow(settings: Settings):
    from mlflow import MlflowClient

    settings = settings.model_copy(update={"home": settings.home / "who? #1 100%"})
    with record(settings, "embed", "shop", "small") as run:
        run.encoder_version = "0" * 16
        run.figures |= {"embedded": 3, "images_per_second": 1.5, "devices": ["cpu"], "currency": "EUR"}
        run.figures |= {"val_mMP@5": 0.5}
    to_mlflow(settings, run)
    client = MlflowClient(mlflow_uri(settings))
    assert [path.name for path in settings.home.parent.iterdir()] == [settings.home.name], "no folder of its escapes"
    (found,) = client.search_runs([client.get_experiment_by_name("vitrine").experiment_id])
    assert found.info.run_name == "embed shop small" and found.info.status == "FINISHED"
    took = run.figures["seconds"]
    assert found.data.metrics == {"embedded": 3, "images_per_second": 1.5, "seconds": took, "val_mMP_at_5": 0.5}
    assert found.data.tags["vitrine.run_id"] == lake.rows(settings, "SELECT run_id FROM runs")[0]["run_id"]
    assert found.data.tags["vitrine.encoder_version"] == "0" * 16


@pytest.mark.parametrize(
    "uri", ["http://user:hunter2@127.0.0.1:9", "sqlite:////proc/nowhere/hunter2.db", "bad:hunter2"]
)
def test_a_server_that_is_away_costs_a_line(settings: Settings, capsys: pytest.CaptureFixture[str], uri: str):
    away = settings.model_copy(update={"mlflow": MlflowSettings(uri=SecretStr(uri))})
    with record(away, "embed", "shop", "small") as run:
        pass
    started = time.monotonic()
    to_mlflow(away, run)
    told = capsys.readouterr().err.strip().splitlines()
    assert "MLflow was not told of this run" in told[-1] and not any("hunter2" in line for line in told)
    assert time.monotonic() - started < 60
