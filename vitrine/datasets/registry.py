"""The layouts by name: a folder, a table, tar shards, shops' formats, generated photos, and the published data sets."""

from collections.abc import Mapping

from vitrine.datasets import folder, generated, shards
from vitrine.datasets.attributes import check as check_attributes
from vitrine.datasets.attributes import columns as attribute_columns
from vitrine.datasets.columns import check
from vitrine.datasets.folder import Folder
from vitrine.datasets.photo import Layout
from vitrine.datasets.published import (
    cars196,
    deepfashion_inshop,
    food2k,
    grocery_store,
    products_10k,
    rp2k,
    stanford_online_products,
    uned,
)
from vitrine.datasets.published.adapter import Adapter, Published
from vitrine.datasets.shards import Shards
from vitrine.datasets.shops import google_feed, shopify, woocommerce
from vitrine.datasets.shops.feed import OURS, Feed, Format
from vitrine.datasets.table import COLUMNS, Table
from vitrine.errors import UserError, unknown

FOLDER, TABLE, SHARDS = "folder", "table", "shards"

SHOPS: dict[str, Format] = {
    "google_feed": google_feed.FORMAT,
    "shopify": shopify.FORMAT,
    "woocommerce": woocommerce.FORMAT,
}
"""Shops' formats by the name of their layout."""

ADAPTERS: dict[str, Adapter] = {
    "cars196": cars196,
    "cars196_devkit": cars196.DEVKIT,
    "deepfashion_inshop": deepfashion_inshop,
    "food2k": food2k,
    "grocery_store": grocery_store,
    "products_10k": products_10k,
    "rp2k": rp2k,
    "stanford_online_products": stanford_online_products,
    "uned_cars": uned.CARS,
    "uned_food2k": uned.FOOD2K,
    "uned_inshop": uned.INSHOP,
    "uned_rp2k": uned.RP2K,
    "uned_sop": uned.SOP,
}
"""The published data sets by the name of their layout."""

LAYOUTS: dict[str, Layout] = {
    FOLDER: folder,
    TABLE: Table(),
    SHARDS: Shards(),
    **{name: Feed(shop) for name, shop in SHOPS.items()},
    "generated": generated,
    **{name: Published(adapter) for name, adapter in ADAPTERS.items()},
}
"""Layouts by name, as they are where nothing else is said."""


def find(
    name: str,
    allow_partial: bool = False,
    splits: bool | None = None,
    categories: bool = False,
    encoding: str | None = None,
    columns: Mapping[str, str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Layout:
    """The layout of a name; with ``allow_partial``, a published data set is taken whatever its counts. ``splits`` says
    of a folder whether its first level is one of splits, ``categories`` that the next one is of categories,
    ``encoding`` how a table's or shop's text files are written, ``columns`` what columns are called,
    ``attributes`` which others become attributes.

    Raises:
        UserError: there is no such layout, or it has no published counts, no splits to tell or no text files.
    """
    if name not in LAYOUTS:
        raise unknown("layout", name, LAYOUTS)
    if name != FOLDER and (splits is not None or categories):
        option = "--categories" if categories else "--splits or --no-splits"
        raise UserError(f"{option} with layout {name!r}: it is for layout {FOLDER!r} alone")
    of_text = (TABLE, *SHOPS)
    for option, is_given, able in (
        ("--encoding", encoding is not None, of_text),
        ("--column", bool(columns), (*of_text, SHARDS)),
        ("--attribute", bool(attributes), (*of_text, SHARDS)),
    ):
        if is_given and name not in able:
            raise UserError(f"{option} with layout {name!r}: it is for {', '.join(able)}")
    check(columns or {}, columns_of(name))
    check_attributes(attributes or {})
    columns = {**(columns or {}), **attribute_columns(attributes or {})}
    if allow_partial and name not in ADAPTERS:
        raise UserError(
            f"--allow-partial with layout {name!r}, which has no published counts: leave it out, "
            f"or choose one of {', '.join(ADAPTERS)}"
        )
    if splits is not None or categories:
        return Folder(splits, categories)
    if name in SHOPS:
        return Feed(SHOPS[name], encoding, columns)
    if name == SHARDS:
        return Shards(columns)
    if encoding is not None or columns:
        return Table(encoding, columns)
    return Published(ADAPTERS[name], allow_partial=True) if allow_partial else LAYOUTS[name]


def columns_of(name: str) -> tuple[str, ...]:
    """The columns of a layout that may be called otherwise in a source."""
    if name in SHOPS:
        return tuple(dict.fromkeys((*SHOPS[name].columns, *OURS)))
    return {TABLE: COLUMNS, SHARDS: shards.COLUMNS}.get(name, ())


def protocol(name: str | None) -> tuple[str, str] | None:
    """The splits of the queries and of the index by which a published data set is measured; None for other layouts."""
    return ADAPTERS[name].PROTOCOL if name in ADAPTERS else None


def describe() -> str:
    """Every layout and what it reads, a paragraph each; of published data sets where they are and their licence."""
    about = {name: layout.ABOUT for name, layout in LAYOUTS.items()}
    about |= {name: f"{about[name]}. To be had: {adapter.OBTAIN}" for name, adapter in ADAPTERS.items()}
    return "\n\n".join(f"{name}: {text}." for name, text in about.items())
