"""What is asked of a catalog: whole products, each sample in the next; and catalogs that can tell nothing."""

from collections import Counter
from collections.abc import Iterable

import pytest

from evaluation.advice import sample
from vitrine import lake
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG


def fill(settings: Settings, rows: Iterable[tuple[str, str | None, str | None]]) -> None:
    """Photos of (product, category, split)."""
    lake.create_tables(settings)
    same = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), lake.now())
    photos = [
        {
            **{"image_id": f"shop/{number:05d}", "dataset": "shop", "product_id": f"shop/{product}"},
            **{"category": category, "split": split, "uri": "file:///x", "size": 1, "content_sha256": f"{number}"},
            **{"width": 8, "height": 8},
            **same,
        }
        for number, (product, category, split) in enumerate(rows)
    ]
    lake.append(settings, CATALOG, photos)


def test_samples_are_whole_products_and_each_lies_in_the_next(settings: Settings):
    fill(
        settings,
        [(f"p{number % 40}", None, None) for number in range(120)] + [(f"single{n}", None, None) for n in range(40)],
    )
    catalog = sample.catalog(settings, "shop", sample.SEARCH)
    assert (catalog.photos, catalog.products, catalog.asked, catalog.label) == (160, 80, 40, "product_id")
    assert (catalog.known_share, catalog.learnable) == (0.5, False)
    small, large, whole = (sample.draw(settings, catalog, size, 1000) for size in (10, 20, None))
    assert set(small.ids) < set(large.ids) < set(whole.ids) and len(whole.ids) == 160
    assert (small.whole, large.whole, whole.whole) == (False, False, True)
    photos = Counter(small.products.tolist())
    assert set(photos.values()) == {1, 3} and list(photos.values()).count(3) == 10
    assert small.product_count == len(photos) and small.products.max() == len(photos) - 1
    assert sample.draw(settings, catalog, 10, 1000).ids == small.ids
    few = sample.draw(settings, catalog, None, 50)
    assert 40 < len(few.ids) <= 50 and not few.whole
    fewest = sample.draw(settings, catalog, None, 5)  # no fewer products than can be told apart
    assert list(Counter(fewest.products.tolist()).values()).count(3) == sample.FEWEST
    assert (small.labels[small.products == 0] == small.labels[small.products == 0][0]).all()


def test_the_shops_own_splits_say_how_much_will_be_known(settings: Settings):
    known = [(f"p{number % 12}", None, "train" if number < 24 else "test") for number in range(36)]
    fill(settings, [*known, *((f"new{number % 2}", None, "test") for number in range(12))])
    catalog = sample.catalog(settings, "shop", sample.SEARCH)
    assert (catalog.known_share, catalog.learnable) == (0.5, True)
    assert sample.catalog(settings, "shop", sample.TAGGING).label == "product_id"  # there is no category


def test_tags_are_categories_where_there_are_some(settings: Settings):
    fill(settings, [(f"p{number % 12}", f"c{number % 3}" if number % 12 else None, None) for number in range(48)])
    catalog = sample.catalog(settings, "shop", sample.TAGGING)
    assert (catalog.label, catalog.known_share) == ("category", 0.0)
    labels = sample.draw(settings, catalog, None, 1000).labels
    assert sorted(set(labels.tolist())) == [-1, 0, 1, 2] and (labels == -1).sum() == 4


@pytest.mark.parametrize(
    ("rows", "use", "says"),
    [
        (
            [(f"p{number % 5}", None, None) for number in range(10)],
            "search",
            "10 photos, of 5 products with two or more: too few",
        ),
        ([("p", "c", None)] * 40, "search", "all 40 photos of 'shop' are of one product"),
        (
            [(f"p{number}", None, None) for number in range(40)],
            "search",
            "each of the 40 products of 'shop' has one photo",
        ),
        ([("", None, None)] * 40, "search", "no photo of 'shop' has a product_id"),
        (
            [(f"p{number % 12}", "c", None) for number in range(48)],
            "tagging",
            "have one, 'c': whatever is told is right",
        ),
    ],
)
def test_a_catalog_that_tells_nothing_is_refused_in_a_sentence(
    settings: Settings, rows: list[tuple[str, str | None, str | None]], use: str, says: str
):
    fill(settings, rows)
    with pytest.raises(UserError, match=says):
        sample.catalog(settings, "shop", use)


def test_an_empty_data_set_is_refused(settings: Settings):
    lake.create_tables(settings)
    with pytest.raises(UserError, match="holds no photo"):
        sample.catalog(settings, "shop", "search")
