"""What a layout lists: the photos of a source, in units that executors read side by side."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from vitrine.settings import Settings

REFUSED = "table_refused"
"""The code of a row that is no photo: its reason says why the whole source is refused."""
BLANK = "blank_rows"
"""The code of a row that is no photo: its reason is the number of rows that were left out, having no value."""
MOST_TEXT = 65_000
"""Bytes in UTF-8 of an id or a label, and of the attributes together as JSON: Milvus holds 65,535."""


@dataclass(frozen=True)
class Photo:
    """One photo that a source lists. Ids are the shop's own: the ingest puts the data set's name before them."""

    image_id: str
    product_id: str
    uri: str
    category: str | None = None
    split: str | None = None
    refusal: tuple[str, str] | None = None
    """Code and reason, where the listing itself shows that the photo cannot be read."""
    kept_sha256: str | None = None
    """Where the listing has put it into the photo store: its content."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Names and values, by name."""

    def checked(self) -> "Photo":
        """Refused where a text about it is longer than ``MOST_TEXT``; the longest is left out, so that it is told."""
        texts = {name: getattr(self, name) or "" for name in ("image_id", "product_id", "category", "split")}
        if 8 * (sum(map(len, texts.values())) + sum(len(value) for _, value in self.attributes)) < MOST_TEXT:
            return self  # at most four bytes a letter, and as many to escape it
        sizes = {name: len(text.encode(errors="replace")) for name, text in texts.items()}
        sizes |= {
            name: len(json.dumps(value, ensure_ascii=False).encode(errors="replace")) for name, value in self.attributes
        }
        together = sum(sizes[name] for name, _ in self.attributes)
        name = max(sizes, key=lambda each: sizes[each])
        if max(sizes[name], together) <= MOST_TEXT:
            return self
        what = (
            f"its {name} has {sizes[name]:,} bytes"
            if sizes[name] > MOST_TEXT
            else f"its attributes have {together:,} bytes"
        )
        short: dict[str, Any] = {each: _beginning(getattr(self, each)) for each in texts}
        reason = f"{what}; {MOST_TEXT:,} is the most"
        return replace(self, **short, attributes=(), refusal=self.refusal or ("text_too_long", reason))


def _beginning(text: str | None) -> str | None:
    """The first letters of a long text, with a digest of it all: ids stay apart."""
    if text is None or len(text) <= 200:
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    return f"{text[:200]}\N{HORIZONTAL ELLIPSIS} {digest[:16]}"


class Layout(Protocol):
    """How the photos of a source lie. The driver cuts a source into units; executors list the photos of each."""

    ABOUT: str
    """The layout in one line."""

    def units(self, settings: Settings, source: str) -> list[str]:
        """The parts of ``source``: few, and short enough to send to executors.

        Raises:
            UserError: ``source`` is not of this layout.
        """

    def photos(self, unit: str) -> Iterator[Photo]:
        """The photos of one unit, in an executor."""
