"""A head: matrices in, unit vectors out, and files that come back as they were."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from vitrine.encoders import heads
from vitrine.encoders.heads import Head
from vitrine.errors import UserError


def head(inputs: int = 6, units: tuple[int, ...] = (5, 4), classes: int = 3, seed: int = 0) -> Head:
    random = np.random.default_rng(seed)
    widths = [inputs, *units, classes]
    made = [
        (random.normal(size=(a, b)).astype(np.float32), random.normal(size=b).astype(np.float32))
        for a, b in itertools.pairwise(widths)
    ]
    return Head(tuple(made[:-1]), made[-1], tuple(f"class {number}" for number in range(classes)))


def test_a_linear_head_keeps_what_is_below_zero_and_is_another_version(tmp_path: Path):
    made, x = head(units=(4,)), np.random.default_rng(1).normal(size=(7, 6)).astype(np.float32)
    linear = dataclasses.replace(made, activation="linear")
    wanted = x @ made.layers[0][0] + made.layers[0][1]
    assert np.allclose(linear.embed(x), wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert heads.version("base", linear) != heads.version("base", made)
    heads.save(linear, tmp_path)
    assert heads.load(tmp_path).activation == "linear"
    assert heads.version("base", heads.load(tmp_path)) == heads.version("base", linear)


def test_it_is_the_last_hidden_layer_at_unit_length():
    made, x = head(), np.random.default_rng(1).normal(size=(7, 6)).astype(np.float32)
    given = x.copy()
    wanted = x.astype(np.float64)
    for weight, bias in made.layers:
        wanted = np.maximum(wanted @ weight + bias, 0)
    found = made.embed(x)
    assert found.dtype == np.float32 and found.shape == (7, made.dim) == (7, 4)
    lengths = np.linalg.norm(wanted, axis=1)
    there = lengths > 0
    assert np.allclose(found[there], wanted[there] / lengths[there, None], atol=1e-6)
    assert np.isnan(found[~there]).all()
    assert np.allclose(made.logits(x), wanted @ made.classifier[0] + made.classifier[1], atol=1e-4)
    assert np.array_equal(x, given), "the input is left as it was"


def test_files_come_back_and_the_version_is_of_base_and_layers(tmp_path: Path):
    made = head()
    heads.save(made, tmp_path)
    back = heads.load(tmp_path)
    assert back.classes == made.classes and back.fingerprint() == made.fingerprint()
    pairs = zip((*back.layers, back.classifier), (*made.layers, made.classifier), strict=True)
    assert all(np.array_equal(one[at], two[at]) for one, two in pairs for at in (0, 1))
    version = heads.version("aa", made)
    assert len(version) == 16 and version != heads.version("bb", made) != heads.version("bb", head(seed=1))
    relabelled = Head(made.layers, made.classifier, ("x", "y", "z"))
    assert heads.version("aa", relabelled) == version, "the classifier decides no vector"


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_a_codec_on_it_takes_unit_length_and_is_another_version(tmp_path: Path, activation: str):
    made = dataclasses.replace(head(), activation=activation)
    random = np.random.default_rng(1)
    x, mean = (random.normal(size=shape).astype(np.float32) for shape in ((50, 6), 4))
    projection = random.normal(size=(4, 2)).astype(np.float32)
    short = made.shortened(projection, -mean @ projection)
    given, long = x.copy(), made.embed(x)
    there = np.isfinite(long).all(1)
    wanted = (long[there] - mean) @ projection
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.allclose(short.embed(x)[there], wanted, atol=1e-5) and np.isnan(short.embed(x)[~there]).all()
    assert np.array_equal(x, given), "the input is left as it was"
    assert (short.dim, short.inputs, short.activation, short.classes) == (2, 6, activation, ())

    as_a_layer = dataclasses.replace(short, codecs=0)
    assert len({each.fingerprint() for each in (made, short, as_a_layer)}) == 3
    heads.save(short, tmp_path)
    back = heads.load(tmp_path)
    assert back.fingerprint() == short.fingerprint() and np.array_equal(back.embed(x)[there], short.embed(x)[there])
    twice = short.shortened(np.eye(2, dtype=np.float32), np.ones(2, np.float32))
    again = short.embed(x)[there] + 1
    again /= np.linalg.norm(again, axis=1, keepdims=True)
    assert twice.codecs == 2 and np.allclose(twice.embed(x)[there], again, atol=1e-5)


@pytest.mark.parametrize("codecs", [0, 3])
def test_a_head_that_says_more_codecs_than_it_has_is_refused(tmp_path: Path, codecs: int):
    heads.save(head().shortened(np.eye(4, dtype=np.float32), np.ones(4, np.float32)), tmp_path)
    said = json.loads((tmp_path / "head.json").read_text()) | {"codecs": codecs}
    (tmp_path / "head.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match="cannot read the head"):
        heads.load(tmp_path)


@pytest.mark.parametrize("fault", ["gone", "cut", "widths", "format", "classes"])
def test_a_damaged_head_is_refused(tmp_path: Path, fault: str):
    heads.save(head(), tmp_path)
    said = json.loads((tmp_path / "head.json").read_text())
    if fault == "gone":
        (tmp_path / "head.safetensors").unlink()
    if fault == "cut":
        data = (tmp_path / "head.safetensors").read_bytes()
        (tmp_path / "head.safetensors").write_bytes(data[:-20])
    if fault == "widths":
        said["inputs"] = 7
    if fault == "format":
        said["format"] = "another"
    if fault == "classes":
        said["classes"] = said["classes"][:-1]
    (tmp_path / "head.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match="cannot read the head"):
        heads.load(tmp_path)
