"""A tuned encoder gets its name once, after MLflow was told; one that was killed before gets it by the next call."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training import tune as jobs
from training.training_set import TrainingSet
from vitrine import lake, runs, tracking
from vitrine.cli import tuning
from vitrine.cli.tuning import Strategy, Tuning
from vitrine.encoders import heads, tuned
from vitrine.encoders.heads import Head
from vitrine.settings import Settings
from vitrine.tables import ENCODERS

V, NAME = "00000000000000aa", "small__top__shop"


@pytest.fixture
def rows(settings: Settings) -> TrainingSet:
    """A training set of an encoder that the lake knows."""
    blank: dict[str, Any] = dict.fromkeys(ENCODERS.schema.names, "")
    lake.create_tables(settings)
    lake.append(settings, ENCODERS, [blank | {"encoder_version": V, "encoder": "small", "dim": 4} | _moment()])
    return TrainingSet(
        **{"folder": "", "dataset": "shop", "label": "product_id", "encoder": "small", "encoder_version": V},
        **{"as_of": "", "seed": 0, "classes": ["a", "b"], "train": 6, "validation": 2, "validation_from": "train"},
        **{"only_trained": [], "without_features": 0, "left_out": 0, "fingerprint": "f"},
    )


def _moment() -> dict[str, Any]:
    return {"created_at": lake.now()}


@pytest.fixture
def done(settings: Settings, rows: TrainingSet) -> Path:
    """The folder of a tuning that came to its end, as its process leaves it."""
    folder = jobs._head_job(settings, rows, settings.tune.top)[1].folder
    folder.mkdir(parents=True)
    layer = np.ones((4, 3), np.float32), np.zeros(3, np.float32)
    heads.save(Head((layer,), (np.ones((3, 2), np.float32), np.zeros(2, np.float32)), ("a", "b")), folder)
    epoch = {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}
    result = {"recipe": {"layers": 2}, "val_accuracy": 0.5, "best_epoch": 1, "epochs": [epoch], "trials": []}
    (folder / "result.json").write_text(json.dumps({**result, "seconds": {"search": 1.0, "training": 2.0}}))
    return folder


@pytest.mark.usefixtures("done")
def test_the_name_is_given_once_and_holds_mlflows_id(
    settings: Settings, rows: TrainingSet, monkeypatch: pytest.MonkeyPatch
):
    named: list[tuned.Tuned] = []
    register = tuned.register
    monkeypatch.setattr(tuned, "register", lambda settings, made: (named.append(made), register(settings, made)))

    def killed(*_: Any) -> str:
        raise KeyboardInterrupt

    asked = Tuning(Strategy.top, "shop", "small", NAME)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tracking, "to_mlflow", killed)
        tuning.tune(settings, asked, rows)
    assert not named and tuned.find(settings, NAME) is None

    def told(_: Settings, run: runs.Run, details: tracking.Details) -> str:
        assert not named, "the name comes last"
        assert run.figures["tuning_seconds"] == 3.0 and details.params["layers"] == 2
        return "mlflows-id"

    monkeypatch.setattr(tracking, "to_mlflow", told)
    figures = tuning.tune(settings, asked, rows)
    (made,) = named
    assert tuned.find(settings, NAME) == made
    assert (made.mlflow_run, made.encoder_version) == ("mlflows-id", figures["encoder_version"])
    assert figures["encoder"] == NAME and figures["trials"] == 0 and "split" not in figures
    recorded = runs.read(settings, lake.matches(verb="tune top"))
    assert [run.encoder_version for run in recorded] == [made.encoder_version] * 2


@pytest.mark.usefixtures("rows")
def test_what_is_done_costs_nothing_more(settings: Settings, rows: TrainingSet, done: Path):
    asked = Tuning(Strategy.top, "shop", "small", NAME)
    figures = tuning.estimate(settings, asked, rows)
    assert (figures["done"], figures["money"], figures["train"], figures["validation"]) == (True, 0, 6, 2)
    assert tuned.find(settings, NAME) is None and not (done / "estimate.json").exists()
    assert Tuning(Strategy.full, "shop", "small", NAME).source == ("shop", None)
    assert replace(asked, base="other").source == ("shop", "other")
