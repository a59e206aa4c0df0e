"""Photos that several items of a shop list, as the sizes of a shoe do: one row each, with what all of them say."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs.checked_photos import LISTED
from vitrine.datasets.shops.feed import NO_PHOTO

_SAID = ("category", "split")
_OTHERS = [name for name in LISTED.names if name not in ("image_id", *_SAID)]


def one_photo_each(listed: DataFrame) -> DataFrame:
    """Rows of ``LISTED`` -> one for each ``image_id``.

    What the items of a photo say of it differently is left out: a photo that shoes of every size have is of no size.
    What none of them says is what all items of the product say that say it: shops write the category on one line of
    many. A product's items without a photo say nothing where the product has one, else they are one row of refusal.
    """
    of_product = Window.partitionBy("product_id")
    is_photo = F.coalesce(F.col("code") != NO_PHOTO, F.lit(True))
    said_of_product = {f"product_{name}": _agreed(name, of_product) for name in _SAID}
    both = listed.withColumns(said_of_product | {"has_photo": F.max(is_photo).over(of_product)})
    both = both.filter(is_photo | ~F.col("has_photo"))
    # Rows that are no photos have no id: each stays by itself.
    both = both.withColumn("note", F.when(F.col("image_id") == "", F.monotonically_increasing_id()))
    merged = both.groupBy("image_id", "note").agg(
        *(F.min(name).alias(name) for name in _OTHERS),
        *(F.coalesce(_agreed(name), F.min(f"product_{name}")).alias(name) for name in _SAID),
    )
    return merged.select(LISTED.names)


def _agreed(name: str, window: Window | None = None) -> Column:
    """The value of those that have one, where it is the same."""
    low, high = F.min(name), F.max(name)
    if window is not None:
        low, high = low.over(window), high.over(window)
    return F.when(low == high, low)
