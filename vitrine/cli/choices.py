"""What the caller named, checked against what there is."""

from vitrine import facts
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name
from vitrine.errors import UserError, unknown
from vitrine.names import check_name
from vitrine.settings import Settings


def chosen_datasets(settings: Settings, names: list[str] | None) -> list[str]:
    """The data sets asked for, or all that hold photos."""
    known = facts.ingested(settings)
    for name in names or []:
        if check_name(name, "data set") not in known:
            raise unknown("data set", name, known)
    if not known:
        raise UserError("there is no data set yet: vitrine ingest SOURCE --dataset NAME makes one")
    return list(dict.fromkeys(names)) if names else facts.datasets(settings)


def encoder_and_version(settings: Settings, encoder: str) -> tuple[str, str]:
    """(name, version) of an encoder's name, as it is configured now, or of a version itself."""
    registered = facts.find_encoder(settings, encoder)
    if registered:
        return str(registered["encoder"]), encoder
    return encoder, by_name.version(settings, encoder)


def encoded_set(settings: Settings, encoder: str, dataset: str) -> EncodedSet:
    """``dataset`` by what ``encoder``, a name or a version, means now."""
    return EncodedSet(dataset, *encoder_and_version(settings, encoder))
