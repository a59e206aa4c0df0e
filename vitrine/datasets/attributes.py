"""Attributes of photos: columns beyond the known ones that the caller names, as ``colour``, or as ``brand=Marke``.

Among the names of a table's columns, an attribute's has ``columns.ATTRIBUTE`` before it.
"""

from collections.abc import Iterable, Mapping

from vitrine.datasets.columns import ATTRIBUTE
from vitrine.errors import UserError
from vitrine.names import check_name
from vitrine.tables import EMBEDDINGS, LABELS

Attributes = tuple[tuple[str, str], ...]
"""Names and values of one photo, by name."""
_TAKEN = {"uri", *LABELS.schema.names, *EMBEDDINGS.schema.names}
"""What labels and features are called beside attributes."""


def parse(pairs: Iterable[str]) -> dict[str, str]:
    """``colour``, ``brand=Marke`` and the like -> the column of each attribute.

    Raises:
        UserError: one is no name, a name that has another meaning, or comes twice.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        name = name.strip()
        if equals and not column.strip():
            raise UserError(f"bad --attribute {pair!r}: it must be NAME or NAME=COLUMN, as colour or brand=Marke")
        if name in given:
            raise UserError(f"--attribute names {name} twice: {given[name]!r} and {column or name!r}")
        given[name] = column if equals else name
    check(given)
    return given


def check(names: Iterable[str]) -> None:
    """Raises UserError where one is no name of an attribute."""
    for name in names:
        check_name(name, "attribute")
        if name in _TAKEN:
            raise UserError(
                f"bad attribute {name!r}: it is a column of the tables: give it another name, as its_{name}"
            )


def columns(attributes: Mapping[str, str]) -> dict[str, str]:
    """What their columns are called, by the names that ``columns.Columns`` has for them."""
    return {f"{ATTRIBUTE}{name}": column for name, column in attributes.items()}


def of(row: Mapping[str, str | None]) -> Attributes:
    """The attributes that a row has a value of."""
    values = {name.removeprefix(ATTRIBUTE): value for name, value in row.items() if name.startswith(ATTRIBUTE)}
    return tuple(sorted((name, value) for name, value in values.items() if value and value.strip()))
