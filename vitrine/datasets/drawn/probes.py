"""Twenty drawn photos by which one can tell whether an encoder gives its vectors somewhere else too.

Together they take every way through the decoder: sizes that JPEGs are reduced from and not, orientations, transparency,
gray, palettes, CMYK, 16 bits, and other formats than JPEG.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image

from vitrine.datasets.drawn.photos import draw_photo, product

PROBES = 20
_SIZES = (96, 160, 240, 320, 480, 640, 960, 1400)


def probe_photos() -> dict[str, bytes]:
    """Each photo's file by its name; the same under one version of Pillow."""
    drawn = [draw_photo(product(number), 0, size=_SIZES[number % len(_SIZES)]) for number in range(PROBES)]
    plain = {f"{number:02d}.jpg": data for number, data in enumerate(drawn[: PROBES - len(_UNUSUAL)])}
    return plain | {
        f"{number:02d}_{name}": made(Image.open(io.BytesIO(drawn[number])))
        for number, (name, made) in enumerate(_UNUSUAL.items(), len(plain))
    }


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned(orientation: int) -> Callable[[Image.Image], bytes]:
    def make(picture: Image.Image) -> bytes:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        return _saved(picture, "JPEG", exif=exif, quality=90)

    return make


def _transparent(picture: Image.Image) -> bytes:
    ramp = Image.linear_gradient("L").resize(picture.size)
    cut_out = picture.copy()
    cut_out.putalpha(ramp)
    return _saved(cut_out, "PNG")


def _deep(picture: Image.Image) -> bytes:
    gray = np.asarray(picture.convert("L"), np.uint16) * 257
    return _saved(Image.fromarray(gray), "PNG")


_UNUSUAL: dict[str, Callable[[Image.Image], bytes]] = {
    "on_its_side.jpg": _turned(6),
    "upside_down.jpg": _turned(3),
    "gray.jpg": lambda picture: _saved(picture.convert("L"), "JPEG"),
    "cmyk.jpg": lambda picture: _saved(picture.convert("CMYK"), "JPEG"),
    "transparent.png": _transparent,
    "16_bits.png": _deep,
    "palette.gif": lambda picture: _saved(picture.convert("P"), "GIF"),
    "lossless.webp": lambda picture: _saved(picture, "WEBP", lossless=True),
}
