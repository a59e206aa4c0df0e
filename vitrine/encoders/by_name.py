"""Encoders by name: a network (a backbone as it is, or tuned as a whole) or a head on one, and its current version."""

from vitrine.encoders import backbones, tuned
from vitrine.encoders.identity import identify
from vitrine.encoders.tuned import Tuned
from vitrine.errors import UserError, unknown
from vitrine.names import JOIN, check_name, split_joined
from vitrine.settings import Settings


def names(settings: Settings) -> list[str]:
    """Every encoder that can be named."""
    return sorted({*backbones.names(settings), *tuned.names(settings)})


def check_free(settings: Settings, name: str, of: str) -> str:
    """``name``, which an encoder that is to be made of ``of``, one or several with ``JOIN`` between them, may have.

    Raises:
        UserError: ``name`` breaks the rule for names, is an encoder's of vitrine.toml or the registry, which would go
            before it, or is an encoder's that it is made of, which would be lost.
    """
    if check_name(name, "encoder name") in settings.encoders or name in backbones.REGISTRY:
        raise UserError(f"encoder {name!r} is there already, and was not made by a command: choose another --name")
    made = (tuned.find(settings, each) for each in split_joined(of))
    bases = {base for each in made if each for base in split_joined(each.base)}
    if name in {*split_joined(of), *bases}:
        raise UserError(f"encoder {name!r} is what the new one is made of: choose another --name")
    return name


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
