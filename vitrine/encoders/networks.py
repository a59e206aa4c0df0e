"""How a backbone is built: the network and its transform, with its weights, on the worker; and what identifies it.

What is taken as the embedding: timm, what the network pools before its classifier (``reset_classifier(0)``); open_clip,
the image tower's output (``encode_image``); torchvision, the global average pool of ``features`` where the network has
such a part, else the input of its last layer; DINO's ResNet-50 and MAWS as their authors publish them.
"""

import copy
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import re
import socket
import typing
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vitrine import files, images
from vitrine.encoders.backbones import Backbone
from vitrine.errors import UserError, unknown
from vitrine.settings import Settings

if typing.TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass
class Built:
    """A network in inference mode, float32 (B, 3, H, W) -> (B, dim), and what makes its input."""

    network: "torch.nn.Module"
    transform: "Callable[[Image.Image], torch.Tensor]"
    preprocessing: str
    """The transform in words: part of the fingerprint."""
    pooling: str
    dim: int
    input_shape: tuple[int, int]
    """Height and width of its input."""
    min_side: int
    """A photo's short side may be decoded this small without loss at the network's input."""
    licence: str | None = None
    """What the source's own configuration says of the weights, where it says something."""

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

    ``dim`` is taken for granted where it is known; else a first forward pass tells it. ``drop_path`` is the rate of
    stochastic depth in training, in networks of timm that have it.

    Raises:
        UserError: unknown model, no weights to be had, or weights of another architecture.
    """
    import torch

    if backbone.weights is None:
        _do_not_wait_for_a_hub()
    makers: dict[str, Callable[[Backbone], _Parts]] = {
        "timm": functools.partial(_build_timm, drop_path=drop_path),
        "open_clip": _build_open_clip,
        "torchvision": _build_torchvision,
        "dino": _build_dino,
        "maws": _build_maws,
    }
    if backbone.weights and backbone.weights.startswith("random:"):
        seed = backbone.weights.removeprefix("random:")
        if not re.fullmatch(r"[0-9]{1,9}", seed):
            raise UserError(f"encoder {backbone.name!r}: bad weights {backbone.weights!r}: it must be random:SEED")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            network, transform, pooling, size = makers[backbone.source](backbone)
    else:
        network, transform, pooling, size = makers[backbone.source](backbone)
    network = network.eval().requires_grad_(False)
    dim = dim or _dimension(backbone, network, size)
    words = re.sub(r"0x[0-9a-f]+", "", repr(transform))
    licence = (getattr(network, "pretrained_cfg", None) or {}).get("license")
    return Built(network, transform, words, pooling, dim, (size, size), 2 * size, licence)


def _dimension(backbone: Backbone, network: "torch.nn.Module", size: int) -> int:
    import torch

    try:
        with torch.inference_mode():
            try:  # without computing
                shapes = copy.deepcopy(network).to("meta")
                return int(shapes(torch.zeros(1, 3, size, size, device="meta")).shape[-1])
            except (RuntimeError, TypeError):  # it looks at values, which there are none of
                return int(network(torch.zeros(1, 3, size, size)).shape[-1])
    except (AssertionError, RuntimeError, ValueError) as error:
        if not backbone.input_size:
            raise
        raise UserError(
            f"encoder {backbone.name!r}: {backbone.spelled} cannot take input_size = {backbone.input_size} "
            f"({' '.join(str(error).split())[:160]}): leave it out"
        ) from None


def _do_not_wait_for_a_hub() -> None:
    """Where the hub's name does not resolve, cached weights load and missing ones fail at once, not after retries."""
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True


_Parts = tuple["torch.nn.Module", typing.Any, str, int]


def _build_timm(backbone: Backbone, drop_path: float = 0.0) -> _Parts:
    import timm

    architecture = backbone.model.split(".")[0]
    if not timm.is_model(architecture):
        similar = difflib.get_close_matches(architecture, timm.list_models(), 12)
        raise unknown("timm model", backbone.model, similar or ["a name of timm.list_models()"])
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if backbone.model != architecture and backbone.model not in tagged:
        raise unknown("timm model", backbone.model, [architecture, *tagged])
    from_hub = backbone.weights is None
    try:
        try:
            network = timm.create_model(backbone.model, pretrained=from_hub, drop_path_rate=drop_path or None)
        except TypeError:
            if not drop_path:
                raise
            network = timm.create_model(backbone.model, pretrained=from_hub)  # it has no stochastic depth
    except Exception as error:
        raise _no_weights(backbone, error) from error
    classifier = network.pretrained_cfg.get("classifier") or ()
    if not from_hub:
        _load(backbone, network, (classifier,) if isinstance(classifier, str) else tuple(classifier))
    network.reset_classifier(0)
    config = timm.data.resolve_model_data_config(network)
    if backbone.input_size:
        config["input_size"] = (3, backbone.input_size, backbone.input_size)
    transform = timm.data.create_transform(**config, is_training=False)
    return (
        network,
        transform,
        f"timm {network.default_cfg.get('architecture')} pooled features",
        config["input_size"][-1],
    )


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
    published = backbone.hub if from_hub else None  # then the hub's own configuration says all
    device = torch.get_default_device()  # open_clip's own default is the processor
    try:
        if published:
            model = open_clip.create_model(published, device=device)
        else:
            model = open_clip.create_model(
                backbone.model, backbone.tag if from_hub else None, device=device, load_weights=from_hub
            )
    except Exception as error:
        raise _no_weights(backbone, error) from error
    network = model.visual
    if not from_hub:
        _load(backbone, network, (), prefix="visual.")
    # Without pretrained weights open_clip states CLIP's own mean and std whatever the tag says.
    config = open_clip.get_model_preprocess_cfg(model)
    if backbone.tag and not published:
        said = open_clip.get_pretrained_cfg(backbone.model, backbone.tag)
        config |= {key: said[key] for key in ("mean", "std", "interpolation", "resize_mode") if said.get(key)}
    if backbone.input_size:
        config["size"] = backbone.input_size
    cfg = PreprocessCfg(**config)
    size = cfg.size if isinstance(cfg.size, int) else cfg.size[0]
    return network, image_transform_v2(cfg, is_train=False), "open_clip projected image features", size


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
        raise _no_weights(backbone, error) from error
    parts = dict(network.named_children())
    last = next((name for name in ("classifier", "fc", "heads", "head") if name in parts), None)
    if last is None:
        raise UserError(f"encoder {backbone.name!r}: torchvision/{backbone.model} has no classifier to take off")
    if backbone.weights is not None:
        _load(backbone, network, (last,))
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
    _load_published(backbone, network, ("fc",))
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
    network = timm.create_model(models[backbone.model], pretrained=False, num_classes=0)
    _load_published(backbone, network, ("head",))
    size = backbone.input_size or 224
    return network, _imagenet_transform(size, size), "MAWS class token", size


def _imagenet_transform(resize: int, size: int) -> "Callable[[Image.Image], torch.Tensor]":
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from torchvision import transforms

    made: Callable[[Image.Image], torch.Tensor] = transforms.Compose(
        [
            transforms.Resize(resize, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ]
    )
    return made


def _load_published(backbone: Backbone, network: "torch.nn.Module", classifier: tuple[str, ...]) -> None:
    """The local file, or what the authors publish at ``hub``."""
    import torch

    if backbone.weights is not None:
        _load(backbone, network, classifier)
        return
    if backbone.hub is None:
        raise UserError(
            f"encoder {backbone.name!r}: no published weights of {backbone.spelled} are known: name a file with weights"
        )
    try:
        state = torch.hub.load_state_dict_from_url(backbone.hub, map_location="cpu", weights_only=True, progress=False)
    except Exception as error:
        raise _no_weights(backbone, error) from error
    _fit(backbone, network, state, classifier)


def _no_weights(backbone: Backbone, error: Exception) -> UserError:
    why = " ".join(str(error).split())[:160]
    return UserError(
        f"encoder {backbone.name!r}: the weights of {backbone.spelled} could not be fetched from their hub "
        f"({type(error).__name__}: {why}). Choose one of: a network connection; a local file, as in "
        f'[encoders.{backbone.name}] backbone = "{backbone.spelled}" weights = "FILE.safetensors"; '
        'or weights = "random" to try things out'
    )


def read_state(backbone: Backbone) -> "dict[str, torch.Tensor]":
    """The state dict of a local file or a package; pickles run no code (``weights_only=True``).

    Raises:
        UserError: the file is none of both kinds, or damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_file(backbone)
    assert path is not None
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        for nested in ("state_dict", "model"):
            state = state.get(nested, state)
        return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError, EOFError) as error:
        raise _bad_file(backbone, path, error) from None
    except Exception as error:  # torch wraps a refused pickle in UnpicklingError, and zip faults in others
        raise _bad_file(backbone, path, error) from None


def _bad_file(backbone: Backbone, path: Path, error: Exception) -> UserError:
    return UserError(
        f"encoder {backbone.name!r}: cannot read weights {str(path)!r} ({' '.join(str(error).split())[:120]}): "
        "it must be a safetensors file, or a PyTorch state dict without other objects in it"
    )


def weights_file(backbone: Backbone) -> Path | None:
    """The local file of the weights; None for the hub's and for random ones."""
    if backbone.weights is None or backbone.weights.startswith("random:"):
        return None
    if backbone.weights.startswith("package:"):
        name = backbone.weights.removeprefix("package:")
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        files = sorted(Path(spec.origin).parent.rglob("*.pth")) if spec and spec.origin and spec.parent else []
        if not files:
            raise UserError(f"encoder {backbone.name!r}: no installed package {name!r} with weights (.pth) in it")
        return files[0]
    return Path(backbone.weights)


def _load(backbone: Backbone, network: "torch.nn.Module", classifier: tuple[str, ...], prefix: str = "") -> None:
    """Load local weights strictly; only the classifier, which is taken off, may be missing or another."""
    if weights_file(backbone) is None:
        return
    state, wanted = read_state(backbone), network.state_dict()
    if (backbone.weights or "").startswith("package:"):
        # These packages keep the tensors in timm's order under other names.
        if len(state) != len(wanted):
            raise UserError(
                f"encoder {backbone.name!r}: weights {backbone.weights!r} do not fit {backbone.spelled}: "
                f"{len(state)} tensors, not {len(wanted)}"
            )
        state = dict(zip(wanted, state.values(), strict=True))
    if prefix and any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    _fit(backbone, network, state, classifier)


def _fit(
    backbone: Backbone, network: "torch.nn.Module", state: "dict[str, torch.Tensor]", classifier: tuple[str, ...]
) -> None:
    wanted = network.state_dict()
    own = tuple(f"{name}." for name in classifier)
    state = {key: value for key, value in state.items() if not (own and key.startswith(own))}
    # Files from before batch norm counted its batches are whole all the same: the count decides no vector.
    free = (*own, *(key for key in wanted if key.endswith("num_batches_tracked")))
    missing = [key for key in wanted if key not in state and not key.startswith(free)]
    extra = [key for key in state if key not in wanted]
    other = [key for key in state if key in wanted and state[key].shape != wanted[key].shape]
    if missing or extra or other:
        faults = (("missing", missing), ("unknown", extra), ("of another shape", other))
        said = "; ".join(f"{len(keys)} {what} ({', '.join(keys[:3])})" for what, keys in faults if keys)
        named = backbone.weights or backbone.hub
        raise UserError(f"encoder {backbone.name!r}: weights {named!r} do not fit {backbone.spelled}: tensors {said}")
    network.load_state_dict(state, strict=False)


_DESCRIBES = ("name", "licence", "family", "embedding", "facts")
"""Fields of a backbone that decide no vector."""
_LIBRARIES = {"open_clip": "open_clip_torch", "dino": "torchvision", "maws": "timm"}


@dataclass(frozen=True)
class Identity:
    """What an encoder version is."""

    encoder_version: str
    dim: int
    licence: str | None = None


def identify(settings: Settings, backbone: Backbone) -> Identity:
    """The fingerprint of everything that decides a vector: weights, preprocessing, decode policy, pooling.

    Building a network to fingerprint it takes seconds; the answer is kept under ``models/`` by the backbone's
    settings, the weights file's size and time, and the libraries' versions.
    """
    path = weights_file(backbone)
    facts = {
        **{key: value for key, value in asdict(backbone).items() if key not in _DESCRIBES},
        "file": [path.stat().st_size, path.stat().st_mtime_ns] if path else None,
        "decode": images.DECODE_POLICY,
        "library": importlib.metadata.version(_LIBRARIES.get(backbone.source, backbone.source)),
    }
    kept = settings.home / "models" / "versions" / f"{_digest(json.dumps(facts, sort_keys=True).encode())}.json"
    if kept.is_file():
        return Identity(**json.loads(kept.read_text()))
    identity = fingerprint(build(backbone))
    files.write_json(kept, asdict(identity))
    return identity


def fingerprint(built: Built) -> Identity:
    """The identity of a built network, from its very tensors."""
    import torch

    digest = hashlib.sha256(f"{built.preprocessing}\n{built.pooling}\n{images.DECODE_POLICY}\n".encode())
    for key, value in sorted(built.network.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return Identity(digest.hexdigest()[:16], built.dim, built.licence)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]
