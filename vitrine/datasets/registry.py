"""The layouts by name: a folder, a table, generated photos, and the published data sets."""

from vitrine.datasets import folder, generated
from vitrine.datasets.photo import Layout
from vitrine.datasets.published import (
    cars196,
    deepfashion_inshop,
    food2k,
    grocery_store,
    products_10k,
    rp2k,
    stanford_online_products,
)
from vitrine.datasets.published.adapter import Adapter, Published
from vitrine.errors import UserError, unknown

TABLE = "table"
_ABOUT_TABLE = "CSV, Parquet or Delta with uri and product_id; where there are, image_id, category, split"

ADAPTERS: dict[str, Adapter] = {
    "cars196": cars196,
    "deepfashion_inshop": deepfashion_inshop,
    "food2k": food2k,
    "grocery_store": grocery_store,
    "products_10k": products_10k,
    "rp2k": rp2k,
    "stanford_online_products": stanford_online_products,
}
"""The published data sets by the name of their layout."""

LAYOUTS: dict[str, Layout | None] = {
    "folder": folder,
    TABLE: None,
    "generated": generated,
    **{name: Published(adapter) for name, adapter in ADAPTERS.items()},
}
"""Layouts by name; ``table`` is None: Spark itself reads it."""


def find(name: str, allow_partial: bool = False) -> Layout | None:
    """The layout of a name; with ``allow_partial``, a published data set is taken whatever its counts.

    Raises:
        UserError: there is no such layout, or it has no published counts.
    """
    if name not in LAYOUTS:
        raise unknown("layout", name, LAYOUTS)
    if not allow_partial:
        return LAYOUTS[name]
    if name not in ADAPTERS:
        raise UserError(
            f"--allow-partial with layout {name!r}, which has no published counts: leave it out, "
            f"or choose one of {', '.join(ADAPTERS)}"
        )
    return Published(ADAPTERS[name], allow_partial=True)


def protocol(name: str | None) -> tuple[str, str] | None:
    """The splits of the queries and of the index by which a published data set is measured; None for other layouts."""
    return ADAPTERS[name].PROTOCOL if name in ADAPTERS else None


def describe() -> str:
    """Every layout and what it reads, a paragraph each; of published data sets where they are and their licence."""
    about = {name: layout.ABOUT if layout else _ABOUT_TABLE for name, layout in LAYOUTS.items()}
    about |= {name: f"{about[name]}. To be had: {adapter.OBTAIN}" for name, adapter in ADAPTERS.items()}
    return "\n\n".join(f"{name}: {text}." for name, text in about.items())
