"""An encoder of one's own, as vitrine.toml names it, and something to show it."""

from typing import Any

import numpy as np
from PIL import Image

from vitrine.encoders.backbones import Backbone, resolve
from vitrine.setting_sections import EncoderSettings
from vitrine.settings import Settings

RESNET = "torchvision/resnet18"


def with_encoder(settings: Settings, backbone: str = RESNET, **entry: Any) -> Settings:
    return settings.model_copy(update={"encoders": {"mine": EncoderSettings(backbone=backbone, **entry)}})


def mine(settings: Settings, backbone: str = RESNET, **entry: Any) -> Backbone:
    return resolve(with_encoder(settings, backbone, **entry), "mine")


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (90, 120, 3), dtype=np.uint8))
