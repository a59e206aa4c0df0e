"""Names that people choose for data sets, encoders, splits and the like."""

import re
from typing import Annotated

from pydantic import AfterValidator

from vitrine.errors import UserError

NAME_LENGTH = 48
NAME_RULE = (
    f"lower-case letters, digits and single underscores, starting with a letter, at most {NAME_LENGTH} characters"
)
NAME_PATTERN = "[a-z](?:_?[a-z0-9])*(?:__[a-z](?:_?[a-z0-9])*)*"
"""A name as a regular expression, in Python's words and Java's alike."""
ALL_SPLITS = "all"
"""As a split: every photo, whatever its split. No split is called so."""

LEARNED_SPLIT = "train"
"""The split that tuning learns from."""

JOIN = "+"
"""Between the names, and the versions, of encoders whose vectors are joined: what a head may be tuned on."""


def split_joined(joined: str) -> list[str]:
    """The names, or the versions, that ``joined`` has: one, or several with ``JOIN`` between them."""
    return joined.split(JOIN)


def check_name(value: str, what: str = "name") -> str:
    """``value`` when it may be part of a table key, a path, SQL, a Feast or a Milvus name.

    Raises:
        UserError: it breaks ``NAME_RULE``.
    """
    if len(value) > NAME_LENGTH or not re.fullmatch(NAME_PATTERN, value):
        raise UserError(f"bad {what} {value!r}: it must be {NAME_RULE}")
    return value


def _name(value: str) -> str:
    try:
        return check_name(value)
    except UserError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, AfterValidator(_name)]
"""The type of a name in settings."""
