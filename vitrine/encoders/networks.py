"""How a backbone is built, on the driver or a worker: the network with its weights, and the transform of its input.

What is taken as the embedding: timm, what the network pools before its classifier (``reset_classifier(0)``); open_clip,
the image tower's output (``encode_image``); torchvision, the global average pool of ``features`` where the network has
such a part, else the input of its last layer; DINO's ResNet-50 and MAWS as their authors publish them.
"""

import copy
import difflib
import functools
import hashlib
import platform
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace

from vitrine import images
from vitrine.encoders import checkpoints, weights
from vitrine.encoders.backbones import ATTENTION, AVERAGE, CLS, PROJECTED, Backbone
from vitrine.encoders.checkpoints import Conversion, State
from vitrine.errors import UserError, one_line, unknown

if typing.TYPE_CHECKING:
    import torch
    from PIL import Image


_Parts = tuple["torch.nn.Module", typing.Any, str, int]
"""The network without its classifier, its transform, its pooling in words, and the side of its input in pixels."""


@dataclass
class Built:
    """A network in inference mode, float32 (B, 3, H, W) -> (B, dim), and what makes its input."""

    network: "torch.nn.Module"
    transform: "Callable[[Image.Image], torch.Tensor]"
    preprocessing: str
    """The transform in words: part of the fingerprint."""
    pooling: str
    """What is taken as the embedding, in words: part of the fingerprint."""
    dim: int
    input_shape: tuple[int, int]
    """Height and width of its input."""
    min_side: int
    """A photo's short side may be decoded this small without loss at the network's input."""
    licence: str | None = None
    """What the source's own configuration says of the weights, where it says something."""
    revision: str | None = None
    """The commit on the Hugging Face Hub that its weights are of, where they are of one."""
    managed: bool = False
    """Do the colour profiles of all formats count when its photos are decoded?"""

    def version(self) -> str:
        """What decides its vectors, in 16 hex digits: a digest of preprocessing, pooling, decode policy and tensors.

        Homes hold vectors under these digests: what goes into one, to the byte, stays as it is.
        """
        import torch

        policy = images.MANAGED_POLICY if self.managed else images.DECODE_POLICY
        digest = hashlib.sha256(f"{self.preprocessing}\n{self.pooling}\n{policy}\n".encode())
        for key, value in sorted(self.network.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def input(self, photo: "Image.Image") -> "torch.Tensor":
        """The network's input, float32 (3, H, W).

        Raises:
            ImageError: the photo is so long and narrow that scaling it would fill the memory.
        """
        if max(photo.size) / min(photo.size) * self.min_side**2 > images.DEFAULT_MAX_PIXELS:
            reason = f"{photo.width} x {photo.height} pixels are too long and narrow to scale"
            raise images.ImageError("too_large", reason)
        return self.transform(photo)


def build(backbone: Backbone, dim: int | None = None, drop_path: float = 0.0) -> Built:
    """Make the network and its transform, with its weights.

    ``dim`` is believed where the caller knows it; else a first forward pass tells it. ``drop_path`` is the rate of
    stochastic depth in training, in networks of timm that have it.

    Raises:
        UserError: unknown model, no weights to be had, weights of another architecture, or another version than
            ``backbone`` asks for.
    """
    if backbone.weights is None:
        weights.do_not_wait_for_hub()
    makers: dict[str, Callable[[Backbone], _Parts]] = {
        "timm": functools.partial(_build_timm, drop_path=drop_path),
        "open_clip": _build_open_clip,
        "torchvision": _build_torchvision,
        "dino": _build_dino,
        "maws": _build_maws,
    }
    # Of a network in eight bits the file has all but the input, which the source's own network tells.
    plain = replace(backbone, weights="random:0") if backbone.int8 else backbone
    with weights.seeded(plain):
        network, transform, pooling, size = makers[backbone.source](plain)
    revision = weights.revision(backbone, network)
    licence = weights.licence(network)
    if backbone.int8:
        network, dim = weights.int8(backbone)
        pooling = f"{pooling}, in 8 bits"
    if backbone.projection:
        network, pooling = weights.projected(backbone, network), f"{pooling}, projected to {backbone.projection}"
    network = network.eval().requires_grad_(False)
    _check_patches(backbone, network)
    dim = dim or _dimension(backbone, network, size)
    words = re.sub(r"0x[0-9a-f]+", "", repr(transform))
    managed = backbone.colours is not None
    built = Built(network, transform, words, pooling, dim, (size, size), 2 * size, licence, revision, managed)
    if backbone.encoder_version and (loaded := built.version()) != backbone.encoder_version:
        raise UserError(
            f"encoder {backbone.name!r}: version {backbone.encoder_version} was asked for, and {platform.node()} loads "
            f"{loaded} from {backbone.weights or 'its hub'}: let all machines have the same weights and libraries "
            "(revision in vitrine.toml names a hub's commit)"
        )
    return built


def _dimension(backbone: Backbone, network: "torch.nn.Module", size: int) -> int:
    import torch

    try:
        with torch.inference_mode():
            try:  # on the meta device, which computes shapes and no values
                network_of_shapes = copy.deepcopy(network).to("meta")
                return int(network_of_shapes(torch.zeros(1, 3, size, size, device="meta")).shape[-1])
            except (RuntimeError, TypeError):  # the network looks at values
                return int(network(torch.zeros(1, 3, size, size)).shape[-1])
    except (AssertionError, RuntimeError, ValueError) as error:
        if not backbone.input_size:
            raise
        raise UserError(
            f"encoder {backbone.name!r}: {backbone.spelled} cannot take input_size = {backbone.input_size} "
            f"({one_line(error)}): leave it out"
        ) from None


def _check_patches(backbone: Backbone, network: "torch.nn.Module") -> None:
    """Raises UserError where timm's patches would not cover the whole input: it leaves the rest out in silence."""
    for name, part in network.named_modules():
        if name.split(".")[-1] != "patch_embed" or not getattr(part, "strict_img_size", False):
            continue
        side = typing.cast("tuple[int, int]", part.patch_size)[0]
        if backbone.input_size and backbone.input_size % side:
            less = backbone.input_size // side * side
            near = " and ".join(str(size) for size in (less, less + side) if size)
            raise UserError(
                f"encoder {backbone.name!r}: {backbone.spelled} cannot take input_size = {backbone.input_size}: "
                f"it must be a multiple of {side}, as {near} are"
            )


def _build_timm(backbone: Backbone, drop_path: float = 0.0) -> _Parts:
    import timm

    architecture = backbone.model.split(".")[0]
    if not timm.is_model(architecture):
        similar = difflib.get_close_matches(architecture, timm.list_models(), 12)
        raise unknown("timm model", backbone.model, similar or ["a name of timm.list_models()"])
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if backbone.model != architecture and backbone.model not in tagged:
        raise unknown("timm model", backbone.model, [architecture, *tagged])
    published = timm.get_pretrained_cfg(backbone.model)
    options: dict[str, typing.Any] = {"pretrained": backbone.weights is None}
    if published and published.fixed_input_size and not _takes_size(backbone):
        options["img_size"] = backbone.input_size  # timm interpolates the positions
    if published and backbone.revision:
        options["pretrained_cfg_overlay"] = {"hf_hub_id": f"{published.hf_hub_id}@{backbone.revision}"}
    try:
        try:
            network = timm.create_model(backbone.model, **options, drop_path_rate=drop_path or None)
        except TypeError:
            if not drop_path:
                raise
            network = timm.create_model(backbone.model, **options)  # it has no stochastic depth
    except Exception as error:
        raise weights.not_built(backbone, error) from error
    classifier = network.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    weights.load_local(backbone, network, heads, checkpoints.of_timm(network))
    network.reset_classifier(0)
    config = timm.data.resolve_model_data_config(network)
    if backbone.input_size:
        config["input_size"] = (3, backbone.input_size, backbone.input_size)
    transform = timm.data.create_transform(**config, is_training=False)
    pooling = f"timm {network.default_cfg.get('architecture')} pooled features"
    pooled = CLS if getattr(network, "global_pool", None) == "token" else AVERAGE
    return network, transform, pooling + _otherwise(backbone, pooled), config["input_size"][-1]


def _takes_size(backbone: Backbone) -> bool:
    """Does timm's network take the size that is asked for as it is? On the meta device, which computes shapes alone."""
    import timm
    import torch

    size = backbone.input_size
    if not size:
        return True
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.inference_mode():
            timm.create_model(backbone.model).eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def _otherwise(backbone: Backbone, pooled: str) -> str:
    """What is pooled, where the library pools otherwise than when ``backbone`` got its place in the registry."""
    return "" if backbone.embedding in (None, pooled) else f", {pooled}"


def _build_open_clip(backbone: Backbone) -> _Parts:
    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    if backbone.model not in open_clip.list_models():
        raise unknown("open_clip model", backbone.model, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(backbone.model)
    if backbone.tag and backbone.tag not in tags:
        raise unknown(f"open_clip tag of {backbone.model}", backbone.tag, tags)
    from_hub = backbone.weights is None
    if from_hub and not backbone.tag:
        raise UserError(f"encoder {backbone.name!r}: open_clip needs a tag, NAME:TAG: choose one of {', '.join(tags)}")
    published = backbone.hub if from_hub else None  # its configuration there has the preprocessing too
    # open_clip's own default device is the processor; it interpolates the positions.
    options = {"device": torch.get_default_device(), "force_image_size": backbone.input_size}
    try:
        if from_hub and (pinned := weights.of_revision(backbone)):
            source = (f"local-dir:{pinned.parent}",) if published else (backbone.model, str(pinned))
            model = open_clip.create_model(*source, **options)
        elif published:
            model = open_clip.create_model(published, **options)
        else:
            tag = backbone.tag if from_hub else None
            model = open_clip.create_model(backbone.model, tag, load_weights=from_hub, **options)
    except Exception as error:
        raise weights.not_built(backbone, error) from error
    network = model.visual
    weights.load_local(backbone, network, (), _convert_open_clip(model))
    # Without pretrained weights open_clip gives CLIP's own mean and std, whatever the tag's are.
    config = open_clip.get_model_preprocess_cfg(model)
    if backbone.tag and not published:
        of_tag = open_clip.get_pretrained_cfg(backbone.model, backbone.tag)
        config |= {key: of_tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if of_tag.get(key)}
    if backbone.input_size:
        config["size"] = backbone.input_size
    cfg = PreprocessCfg(**config)
    size = cfg.size if isinstance(cfg.size, int) else cfg.size[0]
    attention = type(getattr(getattr(network, "trunk", None), "attn_pool", None)).__name__
    pooling = "open_clip projected image features" + _otherwise(
        backbone, ATTENTION if attention.startswith("Attention") else PROJECTED
    )
    return network, image_transform_v2(cfg, is_train=False), pooling, size


def _convert_open_clip(model: "torch.nn.Module") -> Conversion | None:
    """open_clip's own interpolation of the positions of its image tower; a tower of timm has timm's."""
    from open_clip.model import resize_pos_embed

    tower = typing.cast("torch.nn.Module", model.visual)
    if hasattr(tower, "trunk"):
        return checkpoints.of_timm(typing.cast("torch.nn.Module", tower.trunk), "trunk.")

    def convert(state: State) -> State:
        whole = {f"visual.{key}": value for key, value in state.items()}
        resize_pos_embed(whole, model)
        return {key.removeprefix("visual."): value for key, value in whole.items()}

    return convert


def _build_torchvision(backbone: Backbone) -> _Parts:
    import torch
    import torchvision

    if backbone.model not in torchvision.models.list_models(torchvision.models):
        choices = torchvision.models.list_models(torchvision.models)
        raise unknown("torchvision model", backbone.model, choices)
    defaults = torchvision.models.get_model_weights(backbone.model).DEFAULT
    try:
        network = torchvision.models.get_model(backbone.model, weights=defaults if backbone.weights is None else None)
    except Exception as error:
        raise weights.not_built(backbone, error) from error
    parts = dict(network.named_children())
    last = next((name for name in ("classifier", "fc", "heads", "head") if name in parts), None)
    if last is None:
        raise UserError(f"encoder {backbone.name!r}: torchvision/{backbone.model} has no classifier to take off")
    weights.load_local(backbone, network, (last,))
    transform = defaults.transforms()
    size = transform.crop_size[0]
    if backbone.input_size:
        resize = round(transform.resize_size[0] * backbone.input_size / size)
        transform = defaults.transforms.func(
            **{**defaults.transforms.keywords, "crop_size": backbone.input_size, "resize_size": resize}
        )
        size = backbone.input_size
    if "features" in parts:
        pool = torch.nn.Sequential(parts["features"], torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        return pool, transform, "torchvision global average pool of features", size
    setattr(network, last, torch.nn.Identity())
    return network, transform, f"torchvision input of {last}", size


def _build_dino(backbone: Backbone) -> _Parts:
    """DINO's ResNet-50: torchvision's, without its last layer.

    Source: hubconf.py (layout, weights) and eval_linear.py, eval_knn.py (preprocessing) of
    github.com/facebookresearch/dino.
    """
    import torch
    import torchvision

    if backbone.model != "resnet50":
        raise unknown("dino model", backbone.model, ["resnet50"])
    network = torchvision.models.resnet50(weights=None)
    network.fc = torch.nn.Identity()
    weights.load_published(backbone, network, ("fc",))
    size = backbone.input_size or 224
    return network, _imagenet_transform(round(size * 256 / 224), size), "DINO global average pool", size


def _build_maws(backbone: Backbone) -> _Parts:
    """MAWS (masked autoencoding, then weakly supervised pre-training): timm's vision transformers without a head.

    Source: maws/model_builder.py (layout), maws/model.py (preprocessing) and the README's table of weights of
    github.com/facebookresearch/maws.
    """
    import timm

    models = {"vit_b16": "vit_base_patch16_224", "vit_l16": "vit_large_patch16_224"}
    if backbone.model not in models:
        raise unknown("maws model", backbone.model, models)
    size = backbone.input_size or 224
    network = timm.create_model(models[backbone.model], pretrained=False, num_classes=0, img_size=size)
    weights.load_published(backbone, network, ("head",), checkpoints.of_timm(network))
    return network, _imagenet_transform(size, size), "MAWS class token", size


def _imagenet_transform(resize: int, size: int) -> "Callable[[Image.Image], torch.Tensor]":
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from torchvision import transforms

    steps = [
        transforms.Resize(resize, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    ]
    return typing.cast("Callable[[Image.Image], torch.Tensor]", transforms.Compose(steps))
