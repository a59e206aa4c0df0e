"""Encoders by name: a network (a backbone as it is, or tuned as a whole), or a head on one; and its version of now."""

from vitrine.encoders import backbones, networks, tuned
from vitrine.encoders.tuned import Tuned
from vitrine.errors import UserError, unknown
from vitrine.settings import Settings


def names(settings: Settings) -> list[str]:
    """Every encoder that can be named."""
    return sorted({*backbones.names(settings), *tuned.names(settings)})


def find_head(settings: Settings, name: str) -> Tuned | None:
    """The head that ``name`` means; None where it means a network.

    Raises:
        UserError: no such encoder, or the head's base gives other vectors by now than it was tuned on.
    """
    if name in settings.encoders or name in backbones.REGISTRY:
        return None
    found = tuned.find(settings, name)
    if found is None:
        raise unknown("encoder", name, names(settings))
    if found.strategy != "top":
        return None
    now = version(settings, found.base)
    if now != found.base_version:
        raise UserError(
            f"encoder {name!r} was tuned on version {found.base_version} of {found.base!r}, which is {now} by now: "
            "tune it again, or bring the old weights back"
        )
    return found


def version(settings: Settings, name: str) -> str:
    """The encoder version that ``name`` means now."""
    head = find_head(settings, name)
    return (
        head.encoder_version if head else networks.identify(settings, backbones.resolve(settings, name)).encoder_version
    )
