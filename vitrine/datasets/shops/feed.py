"""What the exports of shops have in common: rows of items, each of a product, with links to its photos.

A module has the ``FORMAT`` of each. Several items may be of one product, as the sizes of a shoe are, and have
photos in common: a photo is known by its product and its link, and listed wherever an item has it. Who takes the list
makes one photo of those (``spark_jobs/repeated_photos.py``). Whatever would be half read refuses the source, as with
tables; an item without product, or a link that is none, is one row of quarantine.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vitrine import links, photo_store
from vitrine.datasets import attributes
from vitrine.datasets.columns import Columns, TableFault
from vitrine.datasets.photo import BLANK, Photo
from vitrine.datasets.table import LOGIN_DATA, NO_PRODUCT, Reader, file_units, read_unit, refused
from vitrine.datasets.table_files import read_rows
from vitrine.errors import UserError, VitrineError
from vitrine.images import ImageError
from vitrine.links import is_link, login_data
from vitrine.settings import Settings

NO_PHOTO = "no_photo"
"""The code of an item without a link to a photo; of a product that has photos, it says nothing."""
OURS = ("category", "split")
"""What a caller may name a column of, beside the format's own."""
MOST_BYTES, MOST_SECONDS = 1 << 30, 600.0
"""Of a feed that is fetched."""
_BETWEEN = re.compile(r",\s*(?=https?://)", re.IGNORECASE)
_MOST_LETTERS = 4_096
"""Of a link."""


class Item(NamedTuple):
    """What a row says."""

    product_id: str
    category: str | None
    links: list[str]


@dataclass(frozen=True)
class Format:
    """How one shop's software writes its products."""

    about: str
    """The format in one line."""
    columns: tuple[str, ...]
    """Those that are read, by the format's own names."""
    needed: tuple[str, ...]
    item: Callable[[Mapping[str, str]], Item]
    """The item of a row, whose values are text without outer blanks; those without a value are left out."""
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What some columns are called too."""
    read: Reader = read_rows
    """What reads its files."""


class Feed:
    """The layout of a shop's format, with the character set of its text files, and with what some columns are called:
    the format's own, ``OURS`` or attributes."""

    def __init__(self, shop: Format, encoding: str | None = None, columns: Mapping[str, str] | None = None) -> None:
        self.ABOUT, self._shop, self.encoding = shop.about, shop, encoding
        names = tuple(dict.fromkeys((*shop.columns, *(columns or {}))))
        self.columns = Columns(names, shop.needed, f"it should be {shop.about}", columns or {}, also=shop.also)

    def units(self, settings: Settings, source: str) -> list[str]:
        """A unit a file; of a feed behind a link, the file that it is kept as.

        Raises:
            UserError: there is no such file, or no such character set; the link leads to no feed.
            VitrineError: the link's server is away.
        """
        if is_link(source):
            return file_units(fetched(settings, source), self.encoding, called=without_query(source))
        units = file_units(source, self.encoding)
        if not units:
            raise UserError(f"{source!r} is a Delta table, and this layout is {self.ABOUT}: --layout table reads it")
        return units

    def photos(self, unit: str) -> Iterator[Photo]:
        blank = 0
        try:
            for number, row in read_unit(unit, self.columns, self._shop.read):
                values = {name: value.strip() for name, value in row.items() if value and value.strip()}
                if not values:
                    blank += 1
                    continue
                if zero := next((name for name, value in values.items() if "\0" in value), None):
                    raise TableFault(f"row {number} has a zero byte in {zero}, which is no text")
                yield from self._of(number, values)
        except TableFault as fault:
            yield refused(str(fault))
        if blank:
            yield Photo("", "", "", refusal=(BLANK, str(blank)))

    def _of(self, number: int, values: dict[str, str]) -> Iterator[Photo]:
        """The photos of an item; of one without any, a refusal."""
        product_id, category, links = self._shop.item(values)
        said: dict[str, Any] = {"category": values.get("category", category), "split": values.get("split")}
        said["attributes"] = attributes.of(values)
        if not product_id:
            first = links[0] if links and not login_data(links[0]) else ""
            yield Photo(f"row {number}", "", first[:_MOST_LETTERS], **said, refusal=NO_PRODUCT)
        elif not links:
            reason = "no line of the product has a link to a photo"
            yield Photo(product_id, product_id, "", **said, refusal=(NO_PHOTO, reason))
        else:
            for link in dict.fromkeys(links):
                uri, refusal = _checked(link)
                yield Photo(f"{product_id}/{uri}", product_id, uri, **said, refusal=refusal)


def fetched(settings: Settings, link: str) -> str:
    """Where the feed at ``link`` is, fetched now: in the photo store, which executors read, and from which
    ``vitrine maintain`` removes what no catalog has.

    Raises:
        UserError: it cannot be had.
        VitrineError: its server is away: another time it may be had.
    """
    sources = settings.sources.model_copy(
        update={"max_bytes": MOST_BYTES, "total_seconds": max(settings.sources.total_seconds, MOST_SECONDS)}
    )
    try:
        data = links.read(link, sources)
    except ImageError as error:
        kind = VitrineError if links.says_away(error.code) else UserError
        raise kind(f"cannot fetch {without_query(link)} ({error.code}): {error}") from None
    content = hashlib.sha256(data).hexdigest()
    photo_store.put(settings.photos, content, data)
    return photo_store.place(settings.photos, content)


def without_query(link: str) -> str:
    """A link as messages may have it: what comes after ``?`` may be nobody else's."""
    return (login_data(link) or link).partition("?")[0]


def _checked(link: str) -> tuple[str, tuple[str, str] | None]:
    """A link as tables may have it and, where it is none that is asked for, code and reason."""
    if not is_link(link) or len(link) > _MOST_LETTERS:
        rule = f"a link begins with http:// or https:// and has up to {_MOST_LETTERS} letters"
        return link[:200], ("bad_uri", rule)
    without = login_data(link)
    return (link, None) if without is None else (without, LOGIN_DATA)


def links_in(*values: str | None) -> list[str]:
    """The links in ``values``; each may have several, with commas between. A comma within a link is part of it."""
    return [link for value in values if value for link in _BETWEEN.split(value)]
