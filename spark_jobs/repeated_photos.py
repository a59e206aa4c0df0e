"""Photos that several items of a shop list, as the sizes of a shoe do: one row each, with what all of them say."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs.checked_photos import LISTED
from vitrine.datasets.columns import ATTRIBUTE
from vitrine.datasets.shops.feed import NO_PHOTO

_LABELS = ("category", "split")
_OTHERS = [name for name in LISTED.names if name not in ("image_id", *_LABELS, "attributes")]


def one_photo_each(listed: DataFrame, attributes: Sequence[str] = ()) -> DataFrame:
    """Rows of ``LISTED`` -> one for each ``image_id``; ``attributes`` are the names of those that there may be, sorted.

    What the items of a photo say of it differently is left out: a photo that shoes of every size have is of no size.
    What none of them says is what all items of the product say that say it: shops write the category on one line of
    many. A product's items without a photo say nothing where the product has one, else they are one row of refusal.
    """
    said = (*_LABELS, *(f"{ATTRIBUTE}{name}" for name in attributes))
    listed = listed.withColumns({f"{ATTRIBUTE}{name}": F.col("attributes")[name] for name in attributes})
    of_product = Window.partitionBy("product_id")
    is_photo = F.coalesce(F.col("code") != NO_PHOTO, F.lit(True))
    said_of_product = {f"product {name}": _agreed(name, of_product) for name in said}
    both = listed.withColumns(said_of_product | {"has_photo": F.max(is_photo).over(of_product)})
    both = both.filter(is_photo | ~F.col("has_photo"))
    # Rows that are no photos have no id: each stays by itself.
    both = both.withColumn("note", F.when(F.col("image_id") == "", F.monotonically_increasing_id()))
    merged = both.groupBy("image_id", "note").agg(
        *(F.min(name).alias(name) for name in _OTHERS),
        *(F.coalesce(_agreed(name), F.min(f"product {name}")).alias(name) for name in said),
    )
    return merged.withColumn("attributes", _map_of(attributes)).select(LISTED.names)


def _agreed(name: str, window: Window | None = None) -> Column:
    """The value of those that have one, where it is the same."""
    low, high = F.min(name), F.max(name)
    if window is not None:
        low, high = low.over(window), high.over(window)
    return F.when(low == high, low)


def _map_of(attributes: Sequence[str]) -> Column:
    """Those that have a value, in their order; null where none has."""
    pairs = [part for name in attributes for part in (F.lit(name), F.col(f"{ATTRIBUTE}{name}"))]
    if not pairs:
        return F.lit(None).cast("map<string,string>")
    valued = F.map_filter(F.create_map(*pairs), lambda _, value: value.isNotNull())
    return F.when(F.size(valued) > 0, valued)
