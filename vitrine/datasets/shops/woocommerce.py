"""Products as WooCommerce exports them: CSV, a line a product or variation, links with commas between.

The product is called as WooCommerce itself does where a variation names its ``Parent``: by its SKU, or without one
``id:`` and its ID. A variation's photos are photos of its parent. ``category`` is the first of ``Categories``, a path
as in ``Clothing > Hoodies``. WooCommerce translates the header: ``--column SKU=Artikelnummer`` and the like.
"""

import re
from collections.abc import Mapping

from vitrine.datasets.shops.feed import Format, Item, links_in

_BETWEEN = re.compile(r"(?<!\\),")


def _item(row: Mapping[str, str]) -> Item:
    product_id = row.get("Parent") or row.get("SKU") or (f"id:{row['ID']}" if "ID" in row else "")
    category = _unescaped(_BETWEEN.split(row.get("Categories", ""))[0])
    return Item(product_id, category or None, [_unescaped(link) for link in links_in(row.get("Images"))])


def _unescaped(value: str) -> str:
    """WooCommerce writes a comma within a value as ``\\,``."""
    return value.replace("\\,", ",").strip()


FORMAT = Format(
    about="WooCommerce's product export (CSV): ID, SKU, Images; where there are, Parent, Categories",
    columns=("ID", "SKU", "Images", "Parent", "Categories"),
    needed=("ID", "SKU", "Images"),
    item=_item,
)
