"""What every adapter yields, and the registry of layouts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from vitrine.settings import Settings


@dataclass(frozen=True)
class Photo:
    """One photo of a source. Ids are the shop's own: the data set's name goes before them later."""

    image_id: str
    product_id: str
    uri: str
    category: str | None = None
    split: str | None = None
    refusal: tuple[str, str] | None = None
    """(code, reason) when the listing itself shows that it cannot be read."""


class Layout(Protocol):
    """An adapter module. A source is cut into units on the driver; executors list the photos of each."""

    ABOUT: str
    __name__: str

    def units(self, settings: Settings, source: str) -> list[str]:
        """The parts of ``source``: few and short. Raises UserError where ``source`` is not of this layout."""

    def photos(self, unit: str) -> Iterator[Photo]:
        """The photos of one unit, in an executor."""


TABLE = "table"


def registry() -> dict[str, Layout | None]:
    """Layouts by name; ``table`` has no adapter: Spark itself reads it."""
    from vitrine.datasets import folder, generated, grocery_store

    return {
        "folder": folder,
        TABLE: None,
        "generated": generated,
        "grocery_store": grocery_store,
    }
