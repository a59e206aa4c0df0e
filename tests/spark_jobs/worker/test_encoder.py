"""The encoder: vectors do not depend on company, precision is how and not what, and one bad photo costs one row."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from spark_jobs.worker import encoder as encoder_module
from spark_jobs.worker import precision
from spark_jobs.worker.cost import Cost
from spark_jobs.worker.encoder import Encoder, encode, kept
from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.exported import CannotExport
from vitrine import images, photo_files
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders import processor
from vitrine.encoders.backbones import Backbone

SMALL = Backbone("small", "torchvision", "squeezenet1_0", "supervised", weights="random:1", input_size=64)
PLAN = EncoderPlan(SMALL, batch_size=4, precision="fp32", max_pixels=1_000_000, threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, list[str]]]:
    folder = tmp_path_factory.mktemp("photos")
    found = []
    for number in range(9):
        path = folder / f"{number}.jpg"
        path.write_bytes(draw_photo(product(number), 0, size=160))
        found.append((path.name, [str(path)]))
    return found


def vectors(plan: EncoderPlan, photos: list[tuple[str, list[str]]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for done in Encoder(plan).encode(photos):
        assert not done.refused and done.vectors.dtype == np.float32
        found |= dict(zip(done.keys, done.vectors, strict=True))
    return found


@pytest.fixture(scope="module")
def plain(photos: list[tuple[str, list[str]]]) -> dict[str, np.ndarray]:
    return vectors(PLAN, photos)


def cosines(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> list[float]:
    assert a.keys() == b.keys()
    return [float(a[key] @ b[key]) for key in a]


def test_vectors_have_unit_length_and_differ(plain: dict[str, np.ndarray]):
    stacked = np.stack(list(plain.values()))
    assert stacked.shape == (9, 512)
    assert np.allclose(np.linalg.norm(stacked.astype(np.float64), axis=1), 1, atol=1e-6)
    assert len({row.tobytes() for row in stacked}) == 9


@pytest.mark.parametrize("batch_size", [1, 3, 9, 64])
def test_batch_size_order_and_neighbours_change_no_vector(
    photos: list[tuple[str, list[str]]], plain: dict[str, np.ndarray], batch_size: int
):
    other = vectors(replace(PLAN, batch_size=batch_size, threads=2), photos[::-1])
    assert min(cosines(plain, other)) > 1 - 1e-6
    assert list(other) == list(plain)[::-1]


def test_precision_is_how_a_vector_is_computed_and_not_what_it_is(
    photos: list[tuple[str, list[str]]], plain: dict[str, np.ndarray]
):
    half = vectors(replace(PLAN, precision="bf16"), photos)
    assert min(cosines(plain, half)) >= 0.999
    assert any(not np.array_equal(plain[key], half[key]) for key in plain)


@pytest.mark.parametrize("engine", ["OpenVINO", "torch"])
def test_auto_leaves_bf16_to_networks_that_bear_it(
    engine: str, photos: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    if engine == "OpenVINO" and not processor.has_bf16():
        pytest.skip("this processor does not compute in bf16, and OpenVINO does not emulate it; torch does")
    if engine == "torch":
        monkeypatch.setattr(precision, "open_exported", mock.Mock(side_effect=CannotExport("as asked for")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # exports are kept by tensors, which the two networks share
    monkeypatch.setattr(precision, "resolve_precision", lambda asked, device: "bf16" if asked == "auto" else asked)
    cost = Cost()
    robust = Encoder(replace(PLAN, precision="auto"))
    assert robust.precision == "bf16"
    list(encode([robust], [(key, uris, (0,)) for key, uris in photos[:1]], cost=cost))
    assert cost.precisions == {"small": "bf16"}

    class Cancelling(torch.nn.Module):
        """A small difference of large numbers: bf16 has no digits left for it."""

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            features = network(batch)
            far = 1000 * features.mean()
            return (features + far) @ torch.eye(features.shape[1]) - far

    network = robust.built.network
    frail = replace(robust.built, network=Cancelling())
    assert Encoder(replace(PLAN, precision="auto"), built=frail).precision == "fp32"
    assert Encoder(replace(PLAN, precision="bf16"), built=frail).precision == "bf16"


def test_a_bad_photo_costs_its_own_row(
    photos: list[tuple[str, list[str]]], plain: dict[str, np.ndarray], tmp_path: Path
):
    (tmp_path / "cut.jpg").write_bytes(Path(photos[0][1][0]).read_bytes()[:-200])
    (tmp_path / "words.jpg").write_text("words")
    Image.new("L", (1, 30_000)).save(tmp_path / "strip.png")  # as high as a picture of 64 pixels' width: 2 million
    bad = [(name, [str(tmp_path / name)]) for name in ("cut.jpg", "words.jpg", "nowhere.jpg", "strip.png")]
    mixed = [bad[0], photos[0], bad[1], bad[2], photos[1], bad[3]]
    done = list(Encoder(replace(PLAN, batch_size=3)).encode(mixed))
    assert {key: code for batch in done for key, code, _ in batch.refused} == {
        "cut.jpg": "truncated",
        "words.jpg": "not_an_image",
        "nowhere.jpg": "missing",
        "strip.png": "too_large",
    }
    assert [key for batch in done for key in batch.keys] == ["0.jpg", "1.jpg"]
    assert float(done[0].vectors[0] @ plain["0.jpg"]) > 1 - 1e-6
    only_bad = list(Encoder(PLAN).encode(bad[:2]))
    assert len(only_bad) == 1 and only_bad[0].vectors.shape == (0, 512) and len(only_bad[0].refused) == 2
    assert list(Encoder(PLAN).encode([])) == []


def test_another_copy_stands_in_and_another_picture_does_not(photos: list[tuple[str, list[str]]], tmp_path: Path):
    uris = [uri for _, (uri,) in photos]
    sha = hashlib.sha256(Path(uris[0]).read_bytes()).hexdigest()
    encoder = Encoder(PLAN)
    (found,) = encoder.encode([(sha, [str(tmp_path / "gone.jpg"), uris[1], uris[0]])], keys_are_contents=True)
    assert found.keys == [sha] and not found.refused
    (found,) = encoder.encode([(sha, [uris[1]])], keys_are_contents=True)
    assert [(key, code) for key, code, _ in found.refused] == [(sha, "changed")] and not found.keys


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_an_output_without_length_is_no_vector(photos: list[tuple[str, list[str]]], value: float):
    encoder = Encoder(PLAN)
    real = encoder.network

    class Sometimes(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            out = real(batch).clone()
            out[1] = value
            return out

    encoder.network = Sometimes()
    (done,) = encoder.encode(photos[:4])
    assert done.keys == ["0.jpg", "2.jpg", "3.jpg"] and np.isfinite(done.vectors).all()
    assert [(key, code) for key, code, _ in done.refused] == [("1.jpg", "bad_vector")]


def test_one_network_a_process_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoder_module, "_kept", {})
    made: list[EncoderPlan] = []
    monkeypatch.setattr(encoder_module, "Encoder", lambda plan, *_: (made.append(plan), object())[1])
    other = replace(PLAN, batch_size=5)
    (first,) = kept([PLAN])
    assert kept([replace(PLAN)]) == [first] and made == [PLAN]
    assert kept([other, PLAN])[1] is first and made == [PLAN, other]
    kept([other])
    assert [plan for plan, _ in encoder_module._kept] == [other], "nobody's network holds memory"


def test_encoders_share_what_is_read_and_decoded(
    photos: list[tuple[str, list[str]]], plain: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    larger = replace(PLAN, backbone=replace(SMALL, name="larger", input_size=96), batch_size=2)
    second = replace(PLAN, backbone=replace(SMALL, name="second", weights="random:2"))
    calls = {"read": 0, "decode": 0}
    for module, name in ((photo_files, "read"), (images, "decode")):
        real = getattr(module, name)

        def counted(*given: object, name: str = name, real: object = real) -> object:
            calls[name] += 1
            return real(*given)  # type: ignore[operator]

        monkeypatch.setattr(module, name, counted)
    encoders = [Encoder(plan) for plan in (PLAN, larger, second)]
    wanted = [(key, uris, (0, 1, 2) if number % 2 else (0, 2)) for number, (key, uris) in enumerate(photos)]
    found: list[dict[str, np.ndarray]] = [{}, {}, {}]
    cost = Cost()
    for number, done in encode(encoders, wanted, cost=cost):
        found[number] |= dict(zip(done.keys, done.vectors, strict=True))
    assert calls == {"read": 9, "decode": 9 + 4}, "once for the two of 64 pixels, once more for that of 96"
    assert min(cosines(found[0], plain)) > 1 - 1e-6 and list(found[1]) == [key for key, _ in photos[1::2]]
    assert min(cosines(found[2], vectors(second, photos))) > 1 - 1e-6
    assert cost.photos == 9 and cost.bytes_read == sum(Path(uri).stat().st_size for _, (uri,) in photos)
    assert set(cost.forward_seconds) == {"small", "larger", "second"} and cost.cpu_seconds > 0 and cost.peak_mib > 50


def test_reading_runs_ahead_no_further_than_asked_and_stops_when_abandoned(photos: list[tuple[str, list[str]]]):
    taken = 0
    before = threading.active_count()

    def endless() -> Iterator[tuple[str, list[str]]]:
        nonlocal taken
        while True:
            taken += 1
            yield photos[0]

    batches = Encoder(PLAN).encode(endless())
    assert len(next(batches).keys) == 4
    assert taken <= 4 + 8  # a batch, and twice as many ahead
    batches.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_what_computes_beside_hands_on_one_batch_later(
    photos: list[tuple[str, list[str]]], plain: dict[str, np.ndarray]
):
    encoder = Encoder(PLAN)
    encoder.computes_beside = True  # as a GPU
    begun: list[int] = []
    start = encoder.start
    encoder.start = lambda group: (begun.append(len(group)), start(group))[1]  # type: ignore[method-assign]
    batches = encoder.encode(photos)
    first = next(batches)
    assert len(begun) == 2 and len(first.keys) == 4
    rest = list(batches)
    keys = [key for done in (first, *rest) for key in done.keys]
    assert keys == [key for key, _ in photos]
    found = {key: vector for done in (first, *rest) for key, vector in zip(done.keys, done.vectors, strict=True)}
    assert min(cosines(found, plain)) > 1 - 1e-6


def test_the_batch_size_is_found_while_working_and_kept(
    photos: list[tuple[str, list[str]]],
    plain: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = replace(PLAN, batch_size=None)
    encoder = Encoder(plan)
    many = [(f"{key} {turn}", uris) for turn in range(60) for key, uris in photos]
    sizes = []
    for done in encoder.encode(many):
        sizes.append(len(done.keys))
        for key, vector in zip(done.keys, done.vectors, strict=True):
            assert vector @ plain[key.rsplit(" ", 1)[0]] > 1 - 1e-6
    assert sum(sizes) == len(many)
    assert sizes[:6] == [1, 1, 1, 2, 2, 2]
    (kept_file,) = (tmp_path / "vitrine" / "batch_sizes").iterdir()
    said = json.loads(kept_file.read_text())
    rates = said["photos_per_second"]
    assert rates[str(said["batch_size"])] >= 0.97 * max(rates.values())
    assert encoder.batch_size.now == Encoder(plan).batch_size.now == said["batch_size"]


def test_out_of_memory_in_the_search_ends_it_and_in_a_batch_halves_it(
    photos: list[tuple[str, list[str]]],
    plain: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    real = encoder_module.start_forward

    def small_memory(network: torch.nn.Module, batch: torch.Tensor, device: str, precision: str) -> torch.Tensor:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no")
        return real(network, batch, device, precision)

    monkeypatch.setattr(encoder_module, "start_forward", small_memory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    searching = Encoder(replace(PLAN, batch_size=None))
    assert sum(len(done.keys) for done in searching.encode(photos * 3)) == 3 * len(photos)
    assert searching.batch_size.now <= 2
    encoder = Encoder(replace(PLAN, batch_size=9))
    (done,) = encoder.encode(photos)
    assert min(cosines(dict(zip(done.keys, done.vectors, strict=True)), plain)) > 1 - 1e-6
    assert encoder.batch_size.now == 2
