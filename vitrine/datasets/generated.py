"""``PRODUCTSxPHOTOS[:SEED[:LOOK]]``: product photos that the project draws itself, for demos, tests and load.

Executors draw the photos when they list them, and keep them under ``generated/`` of the home: the same source
gives the same files on any machine. ``difficulty`` in the settings says how hard they are to tell apart.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from vitrine import files
from vitrine.datasets.drawn.photos import LOOKS, draw_photo, product
from vitrine.datasets.photo import Photo
from vitrine.errors import UserError
from vitrine.settings import Settings

ABOUT = f"PRODUCTSxPHOTOS[:SEED[:LOOK]], as in 40x12, 40x12:7 or 40x12:7:sketch; looks: {', '.join(LOOKS)}"
_PHOTOS_A_UNIT = 120


def units(settings: Settings, source: str) -> list[str]:
    """Runs of products that together have about ``_PHOTOS_A_UNIT`` photos.

    Raises:
        UserError: ``source`` is not ``PRODUCTSxPHOTOS[:SEED[:LOOK]]``.
    """
    match = re.fullmatch(rf"(\d{{1,8}})x(\d{{1,5}})(?::(\d{{1,9}})(?::({'|'.join(LOOKS)}))?)?", source)
    if not match or not int(match[1]) or not int(match[2]):
        raise UserError(f"bad source {source!r}: layout generated is {ABOUT}; both numbers at least 1")
    products, photos_each, seed, look = int(match[1]), int(match[2]), int(match[3] or 0), match[4] or LOOKS[0]
    suffix = "" if look == LOOKS[0] else f"-{look}"
    folder = settings.home / "generated" / f"seed{seed}-difficulty{settings.difficulty:g}{suffix}"
    step = max(1, _PHOTOS_A_UNIT // photos_each)
    return [
        json.dumps([str(folder), seed, settings.difficulty, look, first, min(first + step, products), photos_each])
        for first in range(0, products, step)
    ]


def photos(unit: str) -> Iterator[Photo]:
    folder, seed, difficulty, look, first, last, photos_each = json.loads(unit)
    for number in range(first, last):
        item = product(number, seed)
        for photo in range(photos_each):
            path = Path(folder) / item.slug / f"{photo:04d}.jpg"
            if not path.exists():
                with files.whole(path) as fresh:
                    fresh.write_bytes(draw_photo(item, photo, seed, difficulty, look=look))
            yield Photo(image_id=f"{item.slug}/{path.name}", product_id=item.slug, uri=str(path), category=item.kind)
