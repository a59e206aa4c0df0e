"""What every adapter yields, and the registry of layouts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vitrine.errors import UserError, unknown
from vitrine.settings import Settings

if TYPE_CHECKING:
    from vitrine.datasets.published.adapter import Adapter


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
    """A source is cut into units on the driver; executors list the photos of each."""

    ABOUT: str

    def units(self, settings: Settings, source: str) -> list[str]:
        """The parts of ``source``: few and short. Raises UserError where ``source`` is not of this layout."""

    def photos(self, unit: str) -> Iterator[Photo]:
        """The photos of one unit, in an executor."""


TABLE = "table"
_ABOUT_TABLE = "CSV, Parquet or Delta with uri and product_id; where there are, image_id, category, split"


def registry() -> dict[str, Layout | None]:
    """Layouts by name; ``table`` has no adapter: Spark itself reads it."""
    from vitrine.datasets import folder, generated
    from vitrine.datasets.published.adapter import Published

    published = {name: Published(adapter) for name, adapter in adapters().items()}
    return {"folder": folder, TABLE: None, "generated": generated, **published}


def adapters() -> "dict[str, Adapter]":
    """The published data sets by the name of their layout."""
    from vitrine.datasets.published import (
        cars196,
        deepfashion_inshop,
        food2k,
        grocery_store,
        products_10k,
        rp2k,
        stanford_online_products,
    )

    return {
        "cars196": cars196,
        "deepfashion_inshop": deepfashion_inshop,
        "food2k": food2k,
        "grocery_store": grocery_store,
        "products_10k": products_10k,
        "rp2k": rp2k,
        "stanford_online_products": stanford_online_products,
    }


def find(name: str, allow_partial: bool = False) -> Layout | None:
    """The layout of a name; ``allow_partial`` takes a published data set whatever its counts.

    Raises:
        UserError: there is no such layout, or it has no counts to lift.
    """
    from vitrine.datasets.published.adapter import Published

    if name not in registry():
        raise unknown("layout", name, registry())
    if not allow_partial:
        return registry()[name]
    if name not in adapters():
        raise UserError(
            f"--allow-partial with layout {name!r}, which has no published counts: leave it out, "
            f"or choose one of {', '.join(adapters())}"
        )
    return Published(adapters()[name], allow_partial=True)


def protocol(name: str | None) -> tuple[str, str] | None:
    """The splits that ask and that are searched where a published data set is measured; None for any other layout."""
    return adapters()[name].PROTOCOL if name in adapters() else None


def describe() -> str:
    """Every layout and what it reads, a paragraph each; of published data sets where they are and their licence."""
    about = {name: layout.ABOUT if layout else _ABOUT_TABLE for name, layout in registry().items()}
    about |= {name: f"{about[name]}. To be had: {adapter.OBTAIN}" for name, adapter in adapters().items()}
    return "\n\n".join(f"{name}: {text}." for name, text in about.items())
