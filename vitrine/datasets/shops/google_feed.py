"""Product feeds as Google Merchant Center takes them: RSS 2.0 or Atom with ``g:`` names, or text with tabs.

An item is a variant. Its product is ``item_group_id``, which its variants share, else ``id``; its photos are those of
``image_link`` and of every ``additional_image_link``. ``category`` is ``product_type``, which the shop chose (the
first, where there are several), else ``google_product_category``, of Google's own list.
"""

from collections.abc import Collection, Iterator, Mapping

from vitrine.datasets.columns import Columns, TableFault
from vitrine.datasets.packed import unpacked
from vitrine.datasets.shops import feed_xml
from vitrine.datasets.shops.feed import Format, Item, links_in
from vitrine.datasets.table_files import Row, read_rows
from vitrine.locations import Location

_COLUMNS = ("id", "image_link", "additional_image_link", "item_group_id", "product_type", "google_product_category")
_SEVERAL = ("additional_image_link",)
_MARKS_AND_BLANKS = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"


def _item(row: Mapping[str, str]) -> Item:
    category = row.get("product_type") or row.get("google_product_category")
    links = links_in(row.get("image_link"), row.get("additional_image_link"))
    return Item(row.get("item_group_id") or row.get("id", ""), category, links)


def _read(location: Location, columns: Columns, encoding: str | None, elsewhere: Collection[str]) -> Iterator[Row]:
    """As ``table_files.read_rows``, of XML too."""
    if not _is_xml(location):
        yield from read_rows(location, columns, encoding, elsewhere)
        return
    try:
        system, path = location.open()
        with system.open_input_file(path) as file:
            yield from feed_xml.rows(unpacked(file), columns, encoding, elsewhere, _SEVERAL)
    except (OSError, EOFError, ValueError) as error:
        raise TableFault(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _is_xml(location: Location) -> bool:
    try:
        system, path = location.open()
        with system.open_input_file(path) as file:
            head: bytes = unpacked(file).read(1024)
    except (OSError, EOFError, ValueError):
        return False  # who reads it says why
    return head.lstrip(_MARKS_AND_BLANKS).startswith(b"<")


FORMAT = Format(
    about=(
        "Google Merchant Center's product feed (RSS, Atom, or text with tabs): id, image_link; where there are, "
        "additional_image_link, item_group_id, product_type, google_product_category"
    ),
    columns=_COLUMNS,
    needed=_COLUMNS[:2],
    also={name: (name.replace("_", " "),) for name in _COLUMNS if "_" in name},  # as Google's own template has them
    item=_item,
    read=_read,
)
