"""What a layout lists: the photos of a source, in units that executors read side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from vitrine.settings import Settings

REFUSED = "table_refused"
"""The code of a row that is no photo: its reason says why the whole source is refused."""
BLANK = "blank_rows"
"""The code of a row that is no photo: its reason is the number of rows that were left out, having no value."""


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
