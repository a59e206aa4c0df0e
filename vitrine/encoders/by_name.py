"""Encoders by name: a network (a backbone as it is, or tuned as a whole) or a head on one, and its current version."""

from vitrine.encoders import backbones, tuned
from vitrine.encoders.identity import identify
from vitrine.encoders.tuned import Tuned
from vitrine.errors import UserError, unknown
from vitrine.names import JOIN, split_joined
from vitrine.settings import Settings


def names(settings: Settings) -> list[str]:
    """Every encoder that can be named."""
    return sorted({*backbones.names(settings), *tuned.names(settings)})


def find_head(settings: Settings, name: str) -> Tuned | None:
    """The head that ``name`` means; None where it means a network.

    Raises:
        UserError: there is no such encoder, or the head's base has another version now than the head was tuned on.
    """
    if name in settings.encoders or name in backbones.REGISTRY:
        return None
    encoder = tuned.find(settings, name)
    if encoder is None:
        raise unknown("encoder", name, names(settings))
    if encoder.strategy not in tuned.HEADS:
        return None
    current = joined_version(settings, encoder.base)
    if current != encoder.base_version:
        raise UserError(
            f"encoder {name!r} was tuned on version {encoder.base_version} of {encoder.base!r}, which is {current} by "
            "now: tune it again, or bring the old weights back"
        )
    return encoder


def version(settings: Settings, name: str) -> str:
    """The encoder version that ``name`` means now.

    Raises:
        UserError: as ``find_head``, or the network cannot be built.
    """
    head = find_head(settings, name)
    if head:
        return head.encoder_version
    return identify(settings, backbones.resolve(settings, name)).encoder_version


def joined_version(settings: Settings, names: str) -> str:
    """The versions that ``names``, one or several with ``JOIN`` between them, mean now, joined alike.

    Raises:
        UserError: as ``version``.
    """
    return JOIN.join(version(settings, name) for name in split_joined(names))
