"""An encoder of fewer dimensions: a codec's linear part as a head on the network whose vectors it makes shorter.

Vectors of a head are made shorter by one head more on the head's own base: its layers, then the linear part, which
takes what they give at unit length. So Spark applies it to the network's stored vectors, and needs the head's no more.
"""

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np

from vitrine import facts
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name, heads
from vitrine.encoders.codecs import LinearPart
from vitrine.encoders.tuned import Tuned
from vitrine.errors import UserError
from vitrine.names import NAME_LENGTH
from vitrine.settings import Settings


@dataclass(frozen=True)
class Longer:
    """The encoder whose vectors are made shorter."""

    encoded: EncodedSet
    head: Tuned | None
    """None: it is a network."""


def longer(settings: Settings, encoded: EncodedSet) -> Longer:
    """``encoded`` as ``make`` takes it.

    Raises:
        UserError: its name means another head by now.
    """
    head = by_name.find_head(settings, encoded.encoder)
    if head and head.encoder_version != encoded.encoder_version:
        raise UserError(
            f"encoder {encoded.encoder!r} is version {head.encoder_version} by now, and not {encoded.encoder_version}: "
            "its head is not there any more"
        )
    return Longer(encoded, head)


def make(settings: Settings, of: Longer, linear: LinearPart, name: str | None) -> Tuned:
    """``linear``, which has a matrix, as a head by ``name``, at unit length; its folder is written, and no name means
    it yet.

    Raises:
        UserError: ``name`` cannot be taken (``by_name.check_free``), or the head that it is put on is damaged.
    """
    assert linear.weight is not None
    encoded, bias = of.encoded, np.asarray(-linear.mean @ linear.weight, np.float32)
    if of.head:
        head = heads.load(of.head.path(settings)).shortened(linear.weight, bias)
        base, base_version = of.head.base, of.head.base_version
    else:
        head = heads.projection(linear.weight, bias)
        base, base_version = encoded.encoder, encoded.encoder_version
    key = hashlib.sha256(json.dumps([base_version, head.fingerprint()]).encode()).hexdigest()[:16]
    folder = settings.home / "models" / "codec" / key
    folder.mkdir(parents=True, exist_ok=True)
    heads.save(head, folder)
    about = facts.encoder_row(settings, encoded.encoder_version)
    made = Tuned(
        name=by_name.check_free(settings, name or default_name(encoded.encoder, linear.dim), encoded.encoder),
        strategy="codec",
        base=base,
        base_version=base_version,
        encoder_version=heads.version(base_version, head),
        source_dataset=encoded.dataset,
        label="",
        training_set="",
        seed=0,
        folder=str(folder.relative_to(settings.home)),
        dim=linear.dim,
        backbone=about["backbone"],
        family=about["family"],
        licence=about["licence"],
        cost={},
    )
    return replace(made, shortens=encoded.encoder, shortens_version=encoded.encoder_version) if of.head else made


def default_name(encoder: str, dim: int) -> str:
    """``<encoder>__pca<dim>``; what would be too long for a name is cut, with six digits of a digest of the whole."""
    whole = f"{encoder}__pca{dim}"
    if len(whole) <= NAME_LENGTH:
        return whole
    end = f"_{hashlib.sha256(whole.encode()).hexdigest()[:6]}__pca{dim}"
    return encoder[: NAME_LENGTH - len(end)].rstrip("_") + end
