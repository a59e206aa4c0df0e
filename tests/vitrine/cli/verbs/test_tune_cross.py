"""``vitrine tune cross`` and ``tune full`` from photos to figures, and again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.verbs_here import told, vitrine
from training import tune as jobs
from training.training_set import TRAIN
from vitrine import lake
from vitrine.cli import tuning
from vitrine.cli.training_sets import training_sets
from vitrine.encoders import backbones, tuned
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS, QUERY_RESULTS

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[tune.full]
epochs = 1
batch_size = 16
warmup_epochs = 0
precision = "fp32"
"""


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_each_is_tuned_measured_on_all_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    for name, seed in (("shop", 1), ("other", 2)):
        vitrine("ingest", f"8x6:{seed}", "--dataset", name, "--layout", "generated", "--test-share", "0.3")
    settings = load_settings(tmp_path)
    cross = ("tune", "cross", "--strategy", "linear", "--encoder", "small", "--dataset", "shop", "--dataset", "other")
    with pytest.raises(UserError, match="joins an encoder with itself"):
        told(*cross[:5], "small+small", *cross[6:])
    named = tuning.plan(settings, tuning.Strategy.top, ["shop", "other"], ["small"], "ours", on_each=True)
    assert [(each.dataset, each.name) for each in named] == [("shop", "ours__shop"), ("other", "ours__other")]
    said_before_tuning: list[str] = []

    def tune_after_listening(*arguments: Any) -> dict[str, Any]:
        said_before_tuning.append(capfd.readouterr().err)
        return tune(*arguments)

    tune = tuning.tune
    monkeypatch.setattr(tuning, "tune", tune_after_listening)
    first = told(*cross)
    assert "shop and other: Fréchet distance" in said_before_tuning[0]
    assert first["datasets"] == ["shop", "other"] and first["tuned"] == ["small__linear__shop", "small__linear__other"]
    assert first["distances"][0][1] == first["distances"][1][0] > 0 == first["distances"][0][0]
    where = lake.matches(slice="all", metric="mMP@5", classifier="")
    rows = lake.rows(settings, f"SELECT * FROM metrics WHERE {where}")
    figures = {(row["encoder"], row["dataset"]): row["value"] for row in rows}
    for i, source in enumerate(("shop", "other")):
        for j, target in enumerate(("shop", "other")):
            change = figures[f"small__linear__{source}", target] - figures["small", target]
            assert first["deltas"][i][j] == pytest.approx(change)
    assert Path(first["heat_map"]).is_file()
    before = [lake.version(settings, table) for table in (EMBEDDINGS, QUERY_RESULTS)]
    again = told(*cross)
    assert again["deltas"] == first["deltas"]
    assert [lake.version(settings, table) for table in (EMBEDDINGS, QUERY_RESULTS)] == before
    check_full(settings)


def check_full(settings: Settings) -> None:
    """A network tuned as a whole embeds like any other, and is found again however many processes are asked for."""
    made = told("tune", "full", "--encoder", "small", "--dataset", "shop")
    again = told("tune", "full", "--encoder", "small", "--dataset", "shop", "--processes", "2")
    assert again["encoder_version"] == made["encoder_version"] and again["training_seconds"] == made["training_seconds"]
    name = made["encoder"]
    embedded = told("embed", "--encoder", name, "--dataset", "shop")
    assert (embedded["embedded"], embedded["dim"], name) == (48, made["dim"], "small__full__shop")
    assert 0 < told("evaluate", "--encoder", name, "--dataset", "shop")["metrics"]["mMP@5"] <= 1
    photos = training_sets(settings, [("shop", None)], "product_id", None)["shop", None]
    network = backbones.resolve(settings, name)
    ids, vectors = jobs.photo_vectors(settings, photos, network, made["encoder_version"], {TRAIN: 5})[1][TRAIN]
    sql = f"SELECT image_id, embedding FROM embeddings WHERE encoder_version = '{made['encoder_version']}'"
    stored = {row["image_id"]: np.array(row["embedding"]) for row in lake.rows(settings, sql)}
    assert len(ids) == 5 and all(stored[image_id] @ vectors[at] > 0.999 for at, image_id in enumerate(ids))
    check_earlier_key(settings)
    for verb, strategy in ((("full", "--from-head"), "from_head"), (("partial",), "partial")):
        made = told("tune", *verb, "--encoder", "small", "--dataset", "shop", "--quick")
        assert (made["strategy"], made["encoder"]) == (strategy, f"small__{strategy}__shop")
        assert [step["share"] for step in made["interpolation"]] == [1.0, 0.75, 0.5, 0.25, 0.0]
        assert told("embed", "--encoder", made["encoder"], "--dataset", "shop")["embedded"] == 48
        registered = lake.rows(settings, f"SELECT strategy FROM encoders WHERE encoder = '{made['encoder']}'")
        assert registered == [{"strategy": strategy}]


def check_earlier_key(settings: Settings) -> None:
    """Earlier versions had the number of processes in the folder's key: what they made is found."""
    photos = training_sets(settings, [("shop", None)], "product_id", None)["shop", None]
    job = jobs._full_job(settings, photos, "small", settings.tune.full, 1)
    version = tuned.find(settings, "small__full__shop").base_version  # type: ignore[union-attr]
    earlier = jobs._folder(settings, "full", photos, settings.tune.full, version, 4)
    job.folder.rename(earlier)
    for processes in (1, 2, 4):
        assert jobs._full_job(settings, photos, "small", settings.tune.full, processes).folder == earlier


def test_a_process_of_full_tuning_has_a_gpu_of_its_own(tmp_path: Path):
    (tmp_path / "vitrine.toml").write_text('[spark.conf]\n"spark.task.resource.gpu.amount" = "0.5"\n"a.b" = "0.5"\n')
    conf = tuning._whole_gpus(load_settings(tmp_path)).spark.conf
    assert conf == {"spark.task.resource.gpu.amount": "1", "a.b": "0.5"}

    class Session:
        class conf:  # noqa: N801
            get = staticmethod(lambda name, default: "0.5")

    with pytest.raises(UserError, match=r"is 0\.5, and each process of a full tuning needs a whole GPU"):
        jobs._distribute(Session, tmp_path, 2)  # type: ignore[arg-type]
