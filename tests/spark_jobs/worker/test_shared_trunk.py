"""Networks that begin alike are computed as one, and give what each gives by itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spark_jobs.worker import exported, shared_trunk
from spark_jobs.worker.cost import Cost
from spark_jobs.worker.encoder import Encoder, encode, together
from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.exported import Exported
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build

BASE = Backbone("base", "timm", "mobilenetv3_small_100", "supervised", weights="random:1", input_size=64)
PLAN = EncoderPlan(BASE, batch_size=3, precision="fp32", max_pixels=1_000_000, threads=1)


def changed(folder: Path, name: str, tensors: int) -> EncoderPlan:
    """The base with its last so many tensors changed, from a file."""
    state = build(BASE).network.state_dict()
    last = [key for key, value in state.items() if value.is_floating_point()][-tensors:]
    path = folder / f"{name}.safetensors"
    save_file({key: value * 1.5 if key in last else value.clone() for key, value in state.items()}, path)
    return replace(PLAN, backbone=replace(BASE, name=name, weights=str(path)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, list[str]]]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number}.jpg" for number in range(8)]
    for number, path in enumerate(paths):
        path.write_bytes(draw_photo(product(number), 0, size=120))
    paths[5].write_bytes(b"no picture")
    return [(path.name, [str(path)]) for path in paths]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[Encoder]:
    """The base, two with other last parts, and one with other weights throughout."""
    folder = tmp_path_factory.mktemp("weights")
    other = replace(PLAN, backbone=replace(BASE, name="other", weights="random:2"))
    return [Encoder(plan) for plan in (PLAN, changed(folder, "last", 2), other, changed(folder, "more", 30))]


def found_by(encoders: list[Encoder], wanted: list[tuple[str, list[str], tuple[int, ...]]], cost: Cost):
    vectors: list[dict[str, np.ndarray]] = [{} for _ in encoders]
    refused: list[list[str]] = [[] for _ in encoders]
    for number, done in encode(encoders, wanted, cost=cost):
        vectors[number] |= dict(zip(done.keys, done.vectors, strict=True))
        refused[number] += [key for key, _, _ in done.refused]
    return vectors, refused


def test_what_begins_alike_runs_once_and_gives_the_same_vectors(
    encoders: list[Encoder], photos: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
):
    own = [
        {key: vector for done in each.encode(photos) for key, vector in zip(done.keys, done.vectors, strict=True)}
        for each in encoders
    ]
    assert min(float(own[0][key] @ own[3][key]) for key in own[0]) < 0.999, "their last parts differ"
    (joined,) = together(tuple(encoders))
    assert [*joined.members] == [0, 1, 3] and joined.names == ["base", "last", "more"]
    assert together(tuple(encoders))[0] is joined, "made once"

    calls = {"joined": 0, "alone": 0}

    def counted(owner: type, method: str, name: str) -> None:
        real: Callable[..., object] = getattr(owner, method)

        def call(self: object, batch: torch.Tensor) -> object:
            calls[name] += len(batch)
            return real(self, batch)

        monkeypatch.setattr(owner, method, call)

    counted(shared_trunk.Joined, "all", "joined")
    counted(Exported, "__call__", "alone")
    cost = Cost()
    wanted = [(key, uris, (0, 1, 2, 3) if number != 2 else (0, 2)) for number, (key, uris) in enumerate(photos)]
    vectors, refused = found_by(encoders, wanted, cost)
    for number, mine in enumerate(vectors):
        assert [*sorted(mine)] == [
            key for at, (key, _) in enumerate(photos) if at != 5 and (at != 2 or number in (0, 2))
        ]
        assert min(float(mine[key] @ own[number][key]) for key in mine) > 1 - 1e-6
    assert refused == [["5.jpg"]] * 4
    assert calls == {"joined": 6, "alone": 7 + 1}, "the photo that not all of them want goes through the base alone"
    assert cost.forward_seconds.keys() == {"base", "last", "other", "more"} and cost.photos == 8
    assert cost.forward_seconds["last"] == cost.forward_seconds["more"] > 0


def test_the_graph_holds_what_is_shared_once(encoders: list[Encoder]):
    base, last, other, more = (each.network for each in encoders)

    def nodes(*networks: object) -> int:
        models = [exported.read(each.model) for each in networks if isinstance(each, Exported)]
        return len(
            [node for node in shared_trunk._joined(models).get_ordered_ops() if node.get_type_name() != "Result"]
        )

    alone = nodes(base)
    assert nodes(base, last) < 1.1 * alone < nodes(base, more) < 1.9 * alone < nodes(base, last, other)
    assert shared_trunk.begin_alike(base, last) and shared_trunk.begin_alike(more, base)
    assert not shared_trunk.begin_alike(base, other)


def test_equal_weights_used_otherwise_are_not_shared(tmp_path: Path):
    def network(stride: int, slope: float) -> Exported:
        torch.manual_seed(0)
        parts = (torch.nn.Conv2d(3, 8, 3, stride=stride), torch.nn.LeakyReLU(slope), torch.nn.Conv2d(8, 32, 3))
        whole = torch.nn.Sequential(*parts, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
        model = exported.ov.convert_model(whole, example_input=torch.zeros(2, 3, 32, 32))
        model.reshape([-1, 3, 32, 32])
        return Exported(model, "fp32", 1)

    first = network(1, 0.1)
    assert shared_trunk.begin_alike(first, network(1, 0.1))
    assert not shared_trunk.begin_alike(first, network(2, 0.1)), "another stride"
    assert shared_trunk.begin_alike(first, network(1, 0.2)) is False, "the second layer sees other activations"
    x = torch.randn(2, 3, 32, 32)
    for one, two in zip(
        shared_trunk.Joined([first, network(2, 0.1)]).all(x), (first(x), network(2, 0.1)(x)), strict=True
    ):
        assert torch.equal(one, two)


def test_encoders_of_other_inputs_or_precisions_stay_apart(tmp_path: Path):
    larger = replace(PLAN, backbone=replace(BASE, name="larger", input_size=96))
    assert together((Encoder(PLAN), Encoder(larger))) == []


def test_where_no_graph_can_be_read_each_is_computed_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pair = (Encoder(PLAN), Encoder(changed(tmp_path, "tail", 2)))

    def fails(*_: object) -> None:
        raise RuntimeError("no file")

    monkeypatch.setattr("spark_jobs.worker.shared_trunk.read", fails)
    assert together(pair) == []
