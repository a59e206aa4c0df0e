"""What identifies a backbone's vectors: its encoder version, a digest of everything that decides them."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vitrine import files, images
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import Built, build
from vitrine.encoders.weights import weights_file
from vitrine.errors import UserError
from vitrine.settings import Settings

_DESCRIPTIVE = ("name", "licence", "family", "embedding", "facts", "encoder_version")
"""Fields of a backbone that decide no vector."""
_WHERE_SET = ("revision", "colours", "projection", "int8")
"""Fields that came later: homes keep what they know under the names that it had without them."""
_LIBRARIES = {"open_clip": "open_clip_torch", "dino": "torchvision", "maws": "timm"}
"""The package that builds the networks of a source, where it is not called like the source."""


@dataclass(frozen=True)
class Identity:
    """What an encoder version is."""

    encoder_version: str
    """16 hex digits."""
    dim: int
    licence: str | None = None
    """What the source's own configuration says of the weights, where it says something."""
    revision: str | None = None
    """The commit on the Hugging Face Hub that the weights are of, where they are of one."""

    def pinned(self, backbone: Backbone) -> Backbone:
        """``backbone`` as every machine has to build it: of this commit, and of this version."""
        return replace(backbone, revision=self.revision, encoder_version=self.encoder_version)


def identify(settings: Settings, backbone: Backbone) -> Identity:
    """The identity of ``backbone`` with the weights that it has now.

    Building a network to fingerprint it takes seconds; the answer is kept under ``models/`` by the backbone's
    settings, the weights file's size and time, and the library's version.

    Raises:
        UserError: as ``networks.build``.
    """
    kept = _kept(settings, backbone)  # before it is built: the file may be another one afterwards
    if known := _read(kept):
        return known
    identity = fingerprint(build(backbone))
    files.write_json(kept, asdict(identity))
    return identity


def find(settings: Settings, backbone: Backbone) -> Identity | None:
    """As ``identify``, where this home did so before; None where it did not."""
    return _read(_kept(settings, backbone))


def _read(kept: Path) -> Identity | None:
    return Identity(**json.loads(kept.read_text())) if kept.is_file() else None


def can_be_had_here(settings: Settings, backbone: Backbone) -> bool:
    """Are its weights on this machine? Those of a hub are taken to be where this home built the network before."""
    try:
        return find(settings, backbone) is not None or backbone.weights is not None
    except UserError:  # the package is not installed
        return False


def _kept(settings: Settings, backbone: Backbone) -> Path:
    """Where the identity of ``backbone`` is kept."""
    path = weights_file(backbone)
    facts = {
        **{
            key: value
            for key, value in asdict(backbone).items()
            if key not in _DESCRIPTIVE and not (key in _WHERE_SET and value is None)
        },
        "file": [path.stat().st_size, path.stat().st_mtime_ns] if path else None,
        "decode": images.DECODE_POLICY,
        "library": importlib.metadata.version(_LIBRARIES.get(backbone.source, backbone.source)),
    }
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    return settings.home / "models" / "versions" / f"{name}.json"


def fingerprint(built: Built) -> Identity:
    """The identity of a built network."""
    return Identity(built.version(), built.dim, built.licence, built.revision)
