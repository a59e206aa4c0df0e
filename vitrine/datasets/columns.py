"""Which column of a table is which of ours: by name, without regard to case and outer blanks, or as the caller says."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from vitrine.errors import UserError

_ALSO_CALLED = {
    "uri": ("url", "image_url", "image_link", "image", "photo", "picture", "link", "path", "file", "filename", "src"),
    "product_id": ("product", "sku", "item", "item_id", "item_group_id", "article", "handle", "code", "id"),
}
"""What others call the columns that are needed: proposed, never taken by themselves."""
ATTRIBUTE = "attribute "
"""What the names of attributes begin with among those of a table's columns."""


def may_be_any_number(name: str) -> bool:
    """Is the column no id, so that any number will do?"""
    return name == "weight" or name.startswith(ATTRIBUTE)


class TableFault(Exception):
    """Why a table, or a file of one, cannot be read to its end, in words."""


@dataclass(frozen=True)
class Columns:
    """The columns that are asked for."""

    names: tuple[str, ...]
    """Ours."""
    needed: tuple[str, ...]
    """Those of ``names`` without which a table is refused."""
    about: str = ""
    """What a table has to have, for the error; left out: the needed names."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What the caller said that some of ``names`` are called in the table."""
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other names by which some of ``names`` are taken."""
    can_be_given: bool = True
    """Has the caller's verb the option ``--column``?"""

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of those that are attributes, sorted."""
        return tuple(sorted(name.removeprefix(ATTRIBUTE) for name in self.names if name.startswith(ATTRIBUTE)))

    def places(self, header: Sequence[str], elsewhere: Collection[str] = ()) -> dict[str, int]:
        """The place in ``header`` of each of ``names`` that is there; those ``elsewhere`` are not looked for.

        Raises:
            TableFault: one that is needed or given is missing, or two columns are meant.
        """
        places = self.found(header, elsewhere)
        wanted = {*self.needed, *self.given} - {*elsewhere}
        if missing := [name for name in self.names if name in wanted and name not in places]:
            raise TableFault(self._lack(missing, header))
        return places

    def found(self, header: Sequence[str], elsewhere: Collection[str] = ()) -> dict[str, int]:
        """As ``places``, whatever is missing."""
        places = {name: self._place(name, header) for name in self.names if name not in elsewhere}
        return {name: place for name, place in places.items() if place is not None}

    def known(self, header: Iterable[str]) -> int:
        """How many of ``names`` the header has."""
        wanted = {_plain(called) for name in self.names for called in self._called(name)}
        return len({_plain(name) for name in header} & wanted)

    def _called(self, name: str) -> tuple[str, ...]:
        """What one of ``names`` may be called in a table, the likeliest first."""
        return (self.given[name],) if name in self.given else (name, *self.also.get(name, ()))

    def _place(self, name: str, header: Sequence[str]) -> int | None:
        """Of the column that is called so to the letter, else of the one that differs in case or blanks alone."""
        for wanted in self._called(name):
            for places in (
                [place for place, column in enumerate(header) if column == wanted],
                [place for place, column in enumerate(header) if _plain(column) == _plain(wanted)],
            ):
                if len(places) > 1:
                    twice = " and ".join(dict.fromkeys(repr(header[place]) for place in places))
                    raise TableFault(f"its header names {twice} twice: leave one out")
                if places:
                    return places[0]
        return None

    def _lack(self, missing: list[str], header: Sequence[str]) -> str:
        wanted = [self.given.get(name, name) for name in missing]
        needs = self.about or f"it needs {' and '.join(self.needed)}"
        has = ", ".join(filter(None, header))[:150] or "none"
        nearest = {name: column for name in missing if (column := self._nearest(name, header))}
        if not self.can_be_given:
            return f"no column {', '.join(wanted)} in it: {needs}; it has {has}"
        proposal = " ".join(_option(name, column) for name, column in nearest.items())
        advice = f": is it {proposal}?" if proposal else f": name yours by {_option(missing[0], 'COLUMN')}"
        return f"no column {', '.join(wanted)} in it: {needs}; it has {has}{advice}"

    def _nearest(self, name: str, header: Sequence[str]) -> str | None:
        taken = {place for other in self.names if (place := self._place(other, header)) is not None}
        columns = {_plain(column): column for place, column in enumerate(header) if column and place not in taken}
        called = (self.given[name],) if name in self.given else (name, *_ALSO_CALLED.get(name, ()))
        for each in map(_plain, called):
            if each in columns:
                return columns[each]
        close = next((near[0] for each in called if (near := get_close_matches(_plain(each), columns, 1, 0.7))), None)
        within = next((column for each in called for column in columns if _plain(each) in column), None)
        nearest = close or within
        return columns[nearest] if nearest else None


def _plain(name: str) -> str:
    return name.strip().casefold()


def _option(name: str, column: str) -> str:
    """How the caller says what a column is called."""
    is_attribute = name.startswith(ATTRIBUTE)
    return f"--{'attribute' if is_attribute else 'column'} {_quoted(f'{name.removeprefix(ATTRIBUTE)}={column}')}"


def _quoted(text: str) -> str:
    return f'"{text}"' if any(not (letter.isalnum() or letter in "=_-.") for letter in text) else text


def parse(pairs: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """``uri=image_url`` and the like -> what each of ``names`` is called.

    Raises:
        UserError: one is no such pair, of another name, or comes twice.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not column.strip():
            raise UserError(f"bad --column {pair!r}: it must be NAME=COLUMN, as in uri=image_url")
        if name.strip() in given:
            raise UserError(f"--column names {name.strip()} twice: {given[name.strip()]!r} and {column!r}")
        given[name.strip()] = column
    check(given, names)
    return given


def check(given: Mapping[str, str], names: Sequence[str]) -> None:
    """Raises UserError where ``given`` names a column that is none of ``names``."""
    if unknown := [name for name in given if name not in names]:
        raise UserError(f"unknown column {unknown[0]!r} of --column: choose one of {', '.join(names)}")
