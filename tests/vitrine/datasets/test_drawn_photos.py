import hashlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.project import PROJECT
from vitrine.datasets.drawn.kinds import draw_product
from vitrine.datasets.drawn.photos import PRODUCT_KINDS, draw_photo, product


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_kinds_are_dealt_out_round_robin() -> None:
    assert len(set(PRODUCT_KINDS)) == len(PRODUCT_KINDS) >= 12
    assert tuple(product(number).kind for number in range(2 * len(PRODUCT_KINDS))) == 2 * PRODUCT_KINDS


def test_slugs_are_unique_and_safe_in_paths_and_sql() -> None:
    slugs = {product(number).slug for number in range(500)}
    assert len(slugs) == 500
    assert all(re.fullmatch(r"[a-z][a-z-]*-[0-9]{4,}", slug) for slug in slugs)


def test_products_follow_from_number_and_seed() -> None:
    assert product(12) == product(12)
    assert product(12) != product(12, seed=1)
    assert product(0).slug == f"{PRODUCT_KINDS[0]}-0000"


def test_products_of_a_kind_look_different() -> None:
    looks = {
        (item.body, item.accent, item.label)
        for item in map(product, range(0, 50 * len(PRODUCT_KINDS), len(PRODUCT_KINDS)))
    }
    assert len(looks) == 50


@pytest.mark.parametrize("number", range(len(PRODUCT_KINDS)), ids=PRODUCT_KINDS)
def test_every_kind_gives_a_jpeg_of_the_size_asked_for(number: int) -> None:
    image = opened(draw_photo(product(number), 0, size=200))
    assert image.format == "JPEG"
    assert image.mode == "RGB"
    assert max(image.size) == 200


@pytest.mark.parametrize("size", [32, 33, 97, 320, 641])
def test_the_longest_side_is_the_size(size: int) -> None:
    assert max(opened(draw_photo(product(3), 2, size=size)).size) == size


@pytest.mark.parametrize("number", range(len(PRODUCT_KINDS)), ids=PRODUCT_KINDS)
def test_every_form_of_a_kind_is_drawn_inside_the_canvas(number: int) -> None:
    for turn in range(12):
        alpha = np.asarray(draw_product(product(number + turn * len(PRODUCT_KINDS)), 100).getchannel("A"))
        assert 0.05 < (alpha > 0).mean() < 0.9
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert (border > 128).mean() < 0.03


def test_same_arguments_same_bytes_whatever_was_drawn_before() -> None:
    first = draw_photo(product(5), 3, seed=7)
    for number in range(12):
        draw_photo(product(number), 0, size=64)
    assert draw_photo(product(5), 3, seed=7) == first


def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from vitrine.datasets.drawn.photos import draw_photo, product;"
        "print(hashlib.sha256(b''.join(draw_photo(product(n, 4), n, 4) for n in range(16))).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    here = {n: draw_photo(product(n, 4), n, 4) for n in reversed(range(16))}
    assert done.stdout.strip() == hashlib.sha256(b"".join(here[n] for n in range(16))).hexdigest()


def test_other_seeds_give_other_photos() -> None:
    item = product(8)
    assert len({draw_photo(item, 0, seed=seed, size=96) for seed in range(8)}) == 8
    assert draw_photo(product(8, 1), 0, size=96) != draw_photo(item, 0, size=96)


def test_photos_of_one_product_differ_in_content_and_aspect() -> None:
    item = product(1)
    photos = [draw_photo(item, photo, size=96) for photo in range(24)]
    assert len(set(photos)) == 24
    sizes = [opened(photo).size for photo in photos]
    assert any(wide > high for wide, high in sizes)
    assert any(wide < high for wide, high in sizes)
    assert any(wide == high for wide, high in sizes)


def test_more_difficulty_makes_photos_of_a_product_less_alike() -> None:
    def likeness(difficulty: float) -> float:
        rows = []
        for number in range(4):
            for photo in range(12):
                image = opened(draw_photo(product(number), photo, difficulty=difficulty, size=96))
                rows.append(np.asarray(image.resize((16, 16)), dtype=float).ravel())
        blocks = np.corrcoef(rows).reshape(4, 12, 4, 12)
        return float(np.mean([blocks[k, :, k] for k in range(4)]))

    assert likeness(0.0) > likeness(0.5) > likeness(1.0)


@pytest.mark.parametrize("difficulty", [-0.01, 1.01, 7, float("nan")])
def test_difficulty_out_of_range_is_named(difficulty: float) -> None:
    with pytest.raises(ValueError, match=rf"difficulty is {re.escape(str(difficulty))}: .*between 0 and 1"):
        draw_photo(product(0), 0, difficulty=difficulty)


@pytest.mark.parametrize("difficulty", [0, 0.0, 1, 1.0])
def test_the_bounds_of_difficulty_are_allowed(difficulty: float) -> None:
    opened(draw_photo(product(0), 0, difficulty=difficulty))


def test_a_sketch_is_grey_lines_on_paper() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(draw_photo(product(3), 0, look="sketch"))).convert("RGB"), np.int16)
    assert np.ptp(pixels, axis=2).max() < 12 and np.median(pixels) > 230 and pixels.min() < 120
    with pytest.raises(ValueError, match="look is 'oil': it must be one of photo, sketch"):
        draw_photo(product(3), 0, look="oil")


def test_negative_numbers_and_tiny_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="number is -1"):
        product(-1)
    with pytest.raises(ValueError, match="photo is -2"):
        draw_photo(product(0), -2)
    with pytest.raises(ValueError, match="size is 31"):
        draw_photo(product(0), 0, size=31)


def test_any_number_can_be_drawn() -> None:
    far = product(10_007)
    assert far.kind == PRODUCT_KINDS[10_007 % len(PRODUCT_KINDS)]
    assert far.slug.endswith("-10007")
    assert max(opened(draw_photo(far, 999)).size) == 320


def test_hundreds_of_heavy_scenes_are_drawn() -> None:
    for number in range(300):
        draw_photo(product(number % 40), number, difficulty=1.0, size=64)
