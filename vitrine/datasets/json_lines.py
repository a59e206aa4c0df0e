"""JSON Lines: an object a line, its values text or whole numbers as they are written."""

import json
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from vitrine.datasets.columns import Columns, TableFault, may_be_any_number

_HEADER_ROWS = 1_000
"""Rows by which a table's columns are told: writers leave keys without a value out."""


class _Fraction(str):
    """A number with a point or an exponent, as it is written."""


def rows(lines: Iterable[str], columns: Columns, elsewhere: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line's number and its values by our names, of each line that is not blank.

    Raises:
        TableFault: a line is no object, a value no text or whole number, or a column is missing.
    """
    objects = ((number, parsed(line.lstrip("\ufeff"), number)) for number, line in enumerate(lines, 1) if line.strip())
    first = list(islice(objects, _HEADER_ROWS))
    columns.places(list(dict.fromkeys(key for _, keys in first for key in keys)), elsewhere)
    by_keys: dict[tuple[str, ...], dict[str, str]] = {}
    for number, values in chain(first, objects):
        keys = tuple(values)
        if keys not in by_keys:
            by_keys[keys] = {name: keys[place] for name, place in columns.found(keys, elsewhere).items()}
        yield number, {name: as_text(values[key], name, number) for name, key in by_keys[keys].items()}


def parsed(line: str, number: int) -> dict[str, Any]:
    """The object that ``line`` is, its numbers as they are written.

    Raises:
        TableFault: it is none.
    """
    try:
        value = json.loads(line, parse_int=str, parse_float=_Fraction, object_pairs_hook=_pairs)
    except (json.JSONDecodeError, RecursionError) as error:
        why = getattr(error, "msg", "nested too deeply")
        raise TableFault(f"row {number} is no JSON ({why}): {line[:80].strip()!r}: write one object a line") from None
    except KeyError as error:
        raise TableFault(f"row {number} has {error} twice: {line[:80].strip()!r}: leave one out") from None
    if not isinstance(value, dict):
        raise TableFault(f"row {number} is no JSON object: {line[:80].strip()!r}: write one object a line")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        names = [name for name, _ in pairs]
        raise KeyError(next(name for name in names if names.count(name) > 1))
    return keys


def as_text(value: Any, column: str, number: int) -> str | None:
    """Text, or a whole number's digits, which are text by now; a weight may be any number.

    Raises:
        TableFault: it is neither.
    """
    if value is None or (isinstance(value, str) and (not isinstance(value, _Fraction) or may_be_any_number(column))):
        if value and any("\ud800" <= letter < "\udc80" for letter in value):
            raise TableFault(f"row {number} has half a character in {column}: {ascii(value)[:80]}")
        return value
    kind = {bool: "true or false", list: "a list", dict: "an object"}.get(type(value), "a number with a fraction")
    raise TableFault(f"row {number} has {kind} in {column}: it must be text or a whole number")
