"""A student from photos to a served encoder, by the command line's verbs: its teacher is a head."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.verbs_here import told
from vitrine import facts, lake
from vitrine.encoders import backbones, tuned
from vitrine.encoders.query_encoder import QueryEncoder
from vitrine.errors import UserError
from vitrine.settings import load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64
licence = "MIT"

[encoders.other]
backbone = "timm/tf_efficientnet_lite0"
weights = "random:1"
input_size = 64
licence = "CC-BY-NC-4.0"

[embed]
precision = "fp32"
"""
ON = ("--dataset", "shop")


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_student_embeds_evaluates_and_is_exported_like_any_other(
    tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    for split, photos in (("train", 4), ("test", 2), ("gallery", 1)):
        draw(4, photos, f"photos/{split}")
    for at, split in enumerate(("test", "gallery"), 1):
        for path in (tmp_path / "photos" / split).rglob("*.jpg"):
            path.write_bytes(path.read_bytes() + at * b"\0")  # drawn alike: other contents, so no picture is in both
    told("ingest", "photos", *ON)
    head = told("tune", "linear", "--encoder", "other", *ON)
    made = told("tune", "distil", "--teacher", head["encoder"], "--encoder", "small", *ON, "--quick")
    name = "small__distil__shop"
    assert (made["encoder"], made["teacher"], made["dim"]) == (name, "other__linear__shop", head["dim"])
    assert (made["train"], made["validation"]) == (12, 4) and -1 <= made["val_cosine"] <= 1
    assert all(0 <= made[f"val_mMP@5_{who}"] <= 1 for who in ("teacher", "as_it_was", "student", "asymmetric"))
    settings = load_settings(tmp_path)
    student = tuned.find(settings, name)
    assert student and (student.base, student.teacher, student.projection) == ("small", made["teacher"], head["dim"])
    assert student.licence == "MIT AND CC-BY-NC-4.0" and backbones.forbids_commerce(student.licence)
    embedded = told("embed", "--encoder", name, *ON)
    assert (embedded["embedded"], embedded["dim"], embedded["encoder_version"]) == (
        28,
        head["dim"],
        made["encoder_version"],
    )
    assert 0 < told("evaluate", "--encoder", name, *ON)["metrics"]["mMP@5"] <= 1
    assert facts.encoder_row(settings, made["encoder_version"])["strategy"] == "distil"
    again_by = ("tune", "distil", "--teacher", head["encoder"], "--encoder", "small", *ON, "--quick")
    again = told(*again_by)
    assert again["encoder_version"] == made["encoder_version"] and again["training_seconds"] == made["training_seconds"]

    told("export", name, "--to", str(tmp_path / "bundle"))
    sql = "SELECT uri, embedding FROM embeddings JOIN catalog USING (image_id) WHERE " + lake.matches(
        encoder_version=made["encoder_version"]
    )
    row = lake.rows(settings, f"{sql} ORDER BY uri LIMIT 1")[0]
    photo = Path(row["uri"].removeprefix("file://")).read_bytes()
    assert np.array(row["embedding"]) @ QueryEncoder(tmp_path / "bundle").encode(photo) > 0.9999

    # Photos of a further split teach too, and their labels stay unread.
    wider = (*again_by, "--unlabelled", "gallery", "--name", "wider")
    widened = told(*wider)
    assert (widened["train"], widened["validation"], widened["classes"]) == (16, 4, 4)
    assert widened["encoder_version"] != made["encoder_version"]
    with pytest.raises(UserError, match=r"nothing can be learned from split 'test' of 'shop'.*there is gallery"):
        told(*again_by, "--unlabelled", "test", "--name", "widest")

    # Joined teachers: one vector after the other.
    joined = ("tune", "distil", "--teacher", "other__linear__shop+other", "--encoder", "small", *ON, "--quick")
    planned = told(*joined, "--dry-run")
    assert planned["dry_run"] and planned["training_seconds"] > 0
    with pytest.raises(UserError, match="is the student too"):
        told("tune", "distil", "--teacher", "small", "--encoder", "small", *ON)
    with pytest.raises(UserError, match="unknown encoder 'nobody'"):
        told("tune", "distil", "--teacher", "nobody", "--encoder", "small", *ON)
    with pytest.raises(UserError, match="a distillation has a teacher"):
        told("tune", "cross", "--strategy", "distil", "--encoder", "small", *ON, "--dataset", "shop")
