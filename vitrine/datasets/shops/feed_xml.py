"""Items of a feed in XML, one after the other, by expat: the tree is never whole in memory.

A feed is somebody else's text. One with a document type is refused, so that there are no entities to expand and no
outside ones to load; what an item may hold is bounded.
"""

from collections.abc import Collection, Iterator
from typing import IO, Any
from xml.parsers import expat

from vitrine.datasets.columns import Columns, TableFault
from vitrine.datasets.table_files import MOST_CHARACTERS, Row

_GOOGLE = "http://base.google.com/"
"""What the namespaces of ``g:`` (attributes) and ``c:`` (own ones) begin with."""
_ITEMS = ("item", "entry")
_CHUNK = 1 << 16
_MOST_OPEN = 100
_MOST_NAMES = 1_000
"""Of the elements that are remembered, for the sentence on one that is missing."""


def rows(
    file: IO[bytes], columns: Columns, encoding: str | None, elsewhere: Collection[str], several: tuple[str, ...]
) -> Iterator[Row]:
    """The number of each ``item`` or ``entry`` and the text of its direct elements by our names; of those of
    ``several``, all texts with commas between, of others the first. An element of Google's namespaces goes before one
    of the same name in another.

    Raises:
        TableFault: it is no XML, has a document type or no item, lacks an element that is needed or given.
    """
    parser = expat.ParserCreate(encoding, namespace_separator=" ")
    items = _Items(several)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = items.start
    parser.EndElementHandler = items.end
    parser.CharacterDataHandler = items.text
    by_keys: dict[tuple[str, ...], dict[str, str]] = {}
    fed = 0
    while True:
        chunk = file.read(_CHUNK)
        fed += len(chunk)
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            why = expat.ErrorString(error.code)
            raise TableFault(f"line {error.lineno} is no XML that can be read ({why}): export the feed again") from None
        except (LookupError, ValueError) as error:
            raise TableFault(f"its character set cannot be read ({error}): write it in UTF-8") from None
        if fed - parser.CurrentByteIndex > MOST_CHARACTERS:
            raise TableFault(f"line {parser.CurrentLineNumber} has a tag of over {MOST_CHARACTERS} characters")
        for number, elements in items.taken():
            keys = tuple(elements)
            if keys not in by_keys:
                by_keys[keys] = {name: keys[place] for name, place in columns.found(keys, elsewhere).items()}
            yield number, {name: elements[key] for name, key in by_keys[keys].items()}
        if not chunk:
            break
    if not items.count:
        raise TableFault("it has no item or entry: it is no product feed in RSS or Atom")
    columns.places(list(items.names), elsewhere)


def _refuse(*_: Any) -> None:
    raise TableFault("it has a document type (<!DOCTYPE ...>), which a product feed needs not: leave it out")


class _Items:
    """Takes a parser's events, and makes items of them."""

    def __init__(self, several: tuple[str, ...]) -> None:
        self._several = several
        self._depth = 0
        """Of the open elements, from the open item on; 0 outside of items."""
        self._all_open = 0
        self._name = ""
        self._text: list[str] = []
        self._letters = 0
        self._google: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._done: list[Row] = []
        self.count = 0
        self.names: dict[str, None] = {}
        """The elements that items had, as a set in their order."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._all_open += 1
        if self._all_open > _MOST_OPEN:
            raise TableFault(
                f"item {self.count + 1} has elements {_MOST_OPEN} deep in each other: it is no product feed"
            )
        if self._depth:
            self._depth += 1
        elif name.rpartition(" ")[2] in _ITEMS:
            self._depth, self._letters, self._google, self._others = 1, 0, {}, {}
        if self._depth == 2:
            self._name, self._text = name, []

    def text(self, text: str) -> None:
        if self._depth == 2:
            self._letters += len(text)
            if self._letters > MOST_CHARACTERS:
                raise TableFault(f"item {self.count + 1} has over {MOST_CHARACTERS} characters")
            self._text.append(text)

    def end(self, name: str) -> None:
        if self._depth == 2:
            self._take("".join(self._text).strip())
        elif self._depth == 1:
            self.count += 1
            self._done.append((self.count, {**self._others, **self._google}))
        self._depth = max(0, self._depth - 1)
        self._all_open -= 1

    def _take(self, text: str) -> None:
        space, _, name = self._name.rpartition(" ")
        elements = self._google if space.startswith(_GOOGLE) else self._others
        if len(self.names) < _MOST_NAMES:
            self.names[name] = None
        if text and name in self._several and name in elements:
            elements[name] += f",{text}"
        elif text:
            elements.setdefault(name, text)

    def taken(self) -> list[Row]:
        """The items that are whole since it was asked last."""
        done, self._done = self._done, []
        return done
