"""Products as Shopify exports them: CSV, several lines a product, under the column names of before 2025 or of since.

The product is the handle. Its photos are those of ``Image Src`` and ``Variant Image`` on all its lines. ``category`` is
``Type``, which the shop chose, else ``Product Category``, of Shopify's own list; both stand on the first line alone.
"""

from collections.abc import Mapping

from vitrine.datasets.shops.feed import Format, Item, links_in


def _item(row: Mapping[str, str]) -> Item:
    category = row.get("Type") or row.get("Product Category")
    return Item(row.get("Handle", ""), category, links_in(row.get("Image Src"), row.get("Variant Image")))


FORMAT = Format(
    about="Shopify's product export (CSV): Handle, Image Src; where there are, Variant Image, Type, Product Category",
    columns=("Handle", "Image Src", "Variant Image", "Type", "Product Category"),
    needed=("Handle", "Image Src"),
    also={
        "Handle": ("URL handle",),
        "Image Src": ("Product image URL",),
        "Variant Image": ("Variant image URL",),
    },
    item=_item,
)
