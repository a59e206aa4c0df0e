"""Photos from outside the catalog: checked, kept in memory for a while, and embedded like those of the catalog."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from evaluation.browse.catalog import Candidate
from vitrine import images, thumbnails
from vitrine.encoders import backbones, by_name, heads, networks
from vitrine.encoders.identity import identify
from vitrine.encoders.networks import Built
from vitrine.errors import UserError
from vitrine.names import split_joined
from vitrine.photo_files import MOST_UPLOAD_BYTES as MOST_BYTES
from vitrine.settings import Settings
from vitrine.vectors import Floats

MOST_KEPT = 8
SIDE = 640
"""Pixels, the longest side as it is shown."""


@dataclass
class Upload:
    """One photo that somebody uploaded."""

    name: str
    """The file's name on their side: hostile text."""
    data: bytes
    shown: bytes
    """A JPEG of at most ``SIDE`` pixels a side."""
    vectors: dict[str, Floats] = field(default_factory=dict)
    """By encoder version, as far as they were asked for."""


class Uploads:
    """The last uploads by token, and the networks that embed them: each loaded when it is first needed, then kept.

    Safe to call from threads; one computes at a time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._networks: dict[str, Built] = {}
        self._lock = threading.Lock()

    def take(self, name: str, data: bytes) -> str:
        """Keep a photo and return the token of it, which nobody can guess.

        Raises:
            ImageError: it is too large, or no picture that is read here.
        """
        if len(data) > MOST_BYTES:
            raise images.ImageError("too_large", f"{len(data):,} bytes, more than the limit of {MOST_BYTES:,}")
        upload = Upload(name, data, thumbnails.draw(data, SIDE, self._settings.max_pixels))
        token = secrets.token_urlsafe(12)
        self._kept[token] = upload
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return token

    def find(self, token: str) -> Upload | None:
        """What was kept under ``token``; None where it was not, or is gone by now."""
        return self._kept.get(token)

    def vector(self, upload: Upload, by: Candidate) -> Floats:
        """(D,): the photo's vector by an encoder, of unit length.

        Raises:
            ImageError: the photo cannot be made this network's input, or its vector has no length.
            UserError: the encoder's name means another version by now, or its network cannot be built.
        """
        with self._lock:
            if by.encoder_version not in upload.vectors:
                upload.vectors[by.encoder_version] = self._embed(upload.data, by)
            return upload.vectors[by.encoder_version]

    def _embed(self, data: bytes, by: Candidate) -> Floats:
        head = by_name.find_head(self._settings, by.encoder)
        now = by_name.version(self._settings, by.encoder)
        if now != by.encoder_version:
            raise UserError(
                f"encoder {by.encoder!r} is version {now} by now, and what is searched are vectors of "
                f"{by.encoder_version}: run vitrine embed --encoder {by.encoder}"
            )
        if head is None:
            return self._forward(data, by.encoder)
        joined = np.concatenate([self._forward(data, name) for name in split_joined(head.base)])
        return heads.load(head.path(self._settings)).embed(joined[None])[0]

    def _forward(self, data: bytes, name: str) -> Floats:
        """The vector by a network in float32: precision decides how a vector is computed, not what it is."""
        import torch

        backbone = backbones.resolve(self._settings, name)
        identity = identify(self._settings, backbone)
        if identity.encoder_version not in self._networks:
            self._networks[identity.encoder_version] = networks.build(identity.pinned(backbone))
        built = self._networks[identity.encoder_version]
        photo = images.decode(data, self._settings.max_pixels, built.min_side, built.managed)
        with torch.inference_mode():
            output = built.network(built.input(photo)[None]).double().numpy()[0]
        length = float(np.linalg.norm(output))
        if not (np.isfinite(length) and length > 1e-12):
            raise images.ImageError("bad_vector", "the network's output has no finite length")
        return np.asarray(output / length, dtype=np.float32)
