"""Pictures of queries that two options answer differently."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.advice.measure import Questions
from evaluation.pages import differing
from evaluation.pages.differing import Photos, Side
from tests.evaluation.advice.test_measure import catalog, sample
from vitrine.plain_page import Strip


def test_each_side_shows_what_it_alone_finds_of_each_product_once(tmp_path: Path) -> None:
    """Twelve products of two photos: the first option finds the other photo of all but one, the second of that one."""
    codes = np.repeat(np.arange(12), 2)
    asked = sample(codes)
    questions = Questions(catalog(), asked)
    good = np.eye(12, dtype=np.float32)[codes]
    bad = np.roll(good, 2, axis=0)  # each photo has the vector of the product before it
    bad[1::2] = good[1::2]
    bad[0], bad[22:], good[23] = 0, good[22:], good[0]
    uris = {name: str(tmp_path / f"{at}.png") for at, name in enumerate(asked.ids)}
    for at, uri in enumerate(uris.values()):
        Image.new("RGB", (40, 40), (10 * at, 0, 90)).save(uri)
    broken = next(iter(uris))
    Path(uris[broken]).write_bytes(b"no photo")
    everyone = np.arange(24)
    ours, theirs = (
        Side(name, questions.as_it_is(rows).values, partial(questions.nearest, [(rows, everyone)], count=7))
        for name, rows in (("a", good), ("b", bad))
    )
    photos = Photos(asked.ids.__getitem__, asked.products, lambda _: uris, 10_000)
    first, second = differing.galleries(photos, ours, theirs)
    assert (first.title, second.title) == ("a answers better than b", "b answers better than a")
    assert len(first.strips) == 3 * differing.MOST
    asks = [strip.pictures[0] for strip in first.strips[::3]]
    products = {codes[asked.ids.index(each.caption.split(":")[0])] for each in asks}
    assert len(products) == differing.MOST and 11 not in products
    assert first.strips[2] == Strip("b finds (0.00):", []), "a photo without a vector finds nothing"
    finds, misses = first.strips[4], first.strips[5]
    assert (finds.title, misses.title) == ("a finds (1.00):", "b finds (0.00):")
    assert len(finds.pictures) == differing.NEAREST
    assert [each.right for each in finds.pictures] == [True, *[False] * 4] and not misses.pictures[0].right
    assert second.strips[0].title in {f"{name} is asked." for name in asked.ids[22:]}
    pictures = [each for strip in first.strips for each in strip.pictures]
    assert {each.data is None for each in pictures if each.caption.startswith(broken)} == {True}
    assert all(each.data and each.data.startswith("data:image/jpeg;base64,") for each in asks[1:])


def test_alike_there_is_nothing_to_show() -> None:
    codes = np.repeat(np.arange(12), 2)
    asked = sample(codes)
    questions = Questions(catalog(), asked)
    rows = np.eye(12, dtype=np.float32)[codes]
    side = Side("a", questions.as_it_is(rows).values, lambda at: [])
    assert differing.galleries(Photos(asked.ids.__getitem__, asked.products, lambda ids: {}, 10_000), side, side) == []
