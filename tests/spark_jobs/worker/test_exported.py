"""Networks as processors compute them: the same vectors by OpenVINO, exported once, and torch where that fails."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from spark_jobs.worker import exported
from spark_jobs.worker.encoder import Encoder
from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.exported import Exported
from spark_jobs.worker.precision import finish_forward, prepare, start_forward
from tests.support.architectures import EACH
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import Built, build

SMALL = Backbone("small", "torchvision", "squeezenet1_0", "supervised", weights="random:1", input_size=64)
PLAN = EncoderPlan(SMALL, batch_size=4, precision="fp32", max_pixels=1_000_000, threads=1)

LARGE = pytest.mark.large
FAMILIES = [
    ("timm", "resnet18", 64),
    ("timm", "mobilenetv3_small_100", 64),
    ("timm", "tf_efficientnet_lite0", 64),
    ("timm", "convnext_atto", 64),
    ("timm", "vit_tiny_patch16_224", None),
    ("timm", "swin_tiny_patch4_window7_224", None),
    ("open_clip", "ViT-B-32-quickgelu", None),
    pytest.param("open_clip", "RN50", None, marks=LARGE),
    ("torchvision", "resnet18", 64),
    pytest.param("torchvision", "vit_b_32", None, marks=LARGE),
    pytest.param("dino", "resnet50", 64, marks=LARGE),
    pytest.param("maws", "vit_b16", None, marks=LARGE),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the exports of the test lie."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "vitrine" / "networks"
    shutil.rmtree(tmp_path)  # pytest would keep the gigabytes


@pytest.fixture(scope="module")
def built() -> Built:
    """A network that is exported quickly."""
    return replace(build(SMALL), network=tiny(0))


def tiny(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    parts = (torch.nn.Conv2d(3, 512, 8, 8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(*parts).eval().requires_grad_(False)


def exports(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def assert_gives_its_vectors(backbone: Backbone) -> None:
    """By OpenVINO, at every batch size, as torch gives them one by one."""
    built = build(backbone)
    network, precision = prepare(built, replace(PLAN, backbone=backbone), "cpu")
    assert isinstance(network, Exported) and precision == "fp32"
    photos = torch.randn(4, 3, *built.input_shape, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        plain = torch.cat([built.network(photo[None]) for photo in photos]).double().numpy()
    for size in (3, 1, 4):
        vectors = finish_forward(start_forward(network, photos[:size], "cpu", "fp32"))
        assert vectors.shape == (size, built.dim)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(plain[:size], axis=1)
        assert ((vectors * plain[:size]).sum(axis=1) / lengths).min() >= 0.99999


@pytest.mark.parametrize(("source", "model", "size"), FAMILIES)
def test_every_kind_of_network_gives_its_vectors(cache: Path, source: str, model: str, size: int | None):
    assert_gives_its_vectors(Backbone("x", source, model, "supervised", weights="random:2", input_size=size))


@pytest.mark.large
@pytest.mark.parametrize("entry", EACH)
def test_every_network_of_the_registry_gives_its_vectors(cache: Path, entry: Backbone):
    assert_gives_its_vectors(entry)


def test_a_kept_export_needs_neither_a_new_one_nor_torch(
    cache: Path, built: Built, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    photos = torch.rand(2, 3, 64, 64)
    first, _ = prepare(built, PLAN, "cpu")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(exported, "_export", refuse)
    monkeypatch.setattr(torch.nn.Sequential, "forward", refuse)
    second, _ = prepare(built, PLAN, "cpu")
    assert isinstance(second, Exported) and torch.equal(first(photos), second(photos))
    assert len(exports(cache)) == 1 and not capfd.readouterr().err


def test_other_weights_and_another_input_are_another_export(cache: Path, built: Built):
    seen = []
    for other in (built, replace(built, network=tiny(1)), replace(built, input_shape=(96, 96))):
        network, _ = prepare(other, PLAN, "cpu")
        seen.append(network(torch.ones(1, 3, *other.input_shape)))
    assert len(exports(cache)) == 3 and not torch.equal(seen[0], seen[1])


class Branching(torch.nn.Module):
    """A trace holds the branch that it saw, that of two photos."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        vectors = self.network(batch)
        return vectors if len(batch) == 2 else vectors.flip(1)


class Unknown(torch.nn.Module):
    """What no converter takes."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise NotImplementedError("no trace of this")
        return batch.mean((2, 3))


@pytest.mark.parametrize(
    ("wrap", "why"),
    [
        (lambda network: Branching(network), "the export gives other vectors than the network"),
        (lambda _: Unknown(), "no trace of this"),
    ],
)
def test_where_the_export_fails_torch_computes_and_one_line_says_why(
    cache: Path,
    built: Built,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wrap: Callable[[torch.nn.Module], torch.nn.Module],
    why: str,
):
    other = replace(built, network=wrap(built.network).eval())
    for _ in range(2):
        network, precision = prepare(other, PLAN, "cpu")
        assert not isinstance(network, Exported) and precision == "fp32"
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("small: torch computes it, and not OpenVINO (") and why in line
        monkeypatch.setattr(openvino, "convert_model", None)  # the failure is kept too
    with torch.inference_mode():
        assert torch.equal(network(torch.ones(1, 3, 64, 64)), other.network(torch.ones(1, 3, 64, 64)))


@pytest.mark.parametrize("name", ["network.bin", "network.xml", "vectors.npy"])
def test_a_damaged_export_is_made_anew_by_the_next_worker(
    cache: Path, built: Built, capfd: pytest.CaptureFixture[str], name: str
):
    prepare(built, PLAN, "cpu")
    (folder,) = exports(cache)
    (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    network, _ = prepare(built, PLAN, "cpu")
    assert isinstance(network, torch.nn.Module) and str(folder) in capfd.readouterr().err
    network, _ = prepare(built, PLAN, "cpu")
    assert isinstance(network, Exported) and not capfd.readouterr().err


def test_where_nothing_can_be_kept_torch_computes(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    network, _ = prepare(built, PLAN, "cpu")
    assert isinstance(network, torch.nn.Module) and "file/vitrine/networks" in capfd.readouterr().err


def test_exports_that_nobody_used_for_a_month_leave(cache: Path, built: Built):
    prepare(built, PLAN, "cpu")
    (first,) = exports(cache)
    month_ago = time.time() - 31 * 86400
    os.utime(first, (month_ago, month_ago))
    prepare(built, PLAN, "cpu")
    prepare(replace(built, network=tiny(1)), PLAN, "cpu")
    assert len(exports(cache)) == 2, "it was used just now"
    os.utime(first, (month_ago, month_ago))
    prepare(replace(built, network=tiny(2)), PLAN, "cpu")
    assert len(exports(cache)) == 2 and not first.exists()


WORKER = """
import os, sys, time
def threads():
    return {path: open(f"/proc/self/task/{path}/status").read() for path in os.listdir("/proc/self/task")}
import torch
before = threads()
from spark_jobs.worker import exported
assert len(threads()) == len(before), "loaded before the fork, it must start no thread"
assert sys.modules["openvino_telemetry"] is None, "it would report each import"
from spark_jobs.worker.encoder import Encoder
from spark_jobs.worker.encoder_plan import EncoderPlan
from vitrine.encoders.backbones import Backbone
small = Backbone("small", "torchvision", "squeezenet1_0", "supervised", weights="random:1", input_size=64)
encoder = Encoder(EncoderPlan(small, 4, "fp32", 1_000_000, 1))
spent, started = time.process_time(), time.monotonic()
for _ in range(50):
    vectors = encoder.network(torch.ones(4, 3, 64, 64))
assert time.process_time() - spent < 1.2 * (time.monotonic() - started) + 0.1, "one core for one thread"
spent = time.process_time()
time.sleep(0.5)
assert time.process_time() - spent < 0.1, "threads without work spin"
cores = {line for text in threads().values() for line in text.splitlines() if line.startswith("Cpus_allowed_list")}
assert cores == {line for text in before.values() for line in text.splitlines() if line.startswith("Cpus_allowed_list")}
print(type(encoder.network).__name__, float(vectors.double().sum()))
"""


def test_workers_that_start_together_share_one_export_and_no_core(cache: Path):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1 and outputs[0][0].startswith("Exported ")
    assert len(exports(cache)) == 1


def test_the_batch_size_of_an_export_is_its_own(cache: Path, built: Built):
    plan = replace(PLAN, batch_size=None)
    exported_size = Encoder(plan, built=built).batch_size._file
    other = replace(built, network=Unknown())
    assert Encoder(plan, built=other).batch_size._file != exported_size
