"""A photo as a small JPEG: what pages show."""

import base64
from io import BytesIO

from vitrine import images, links, photo_files


def draw(data: bytes, side: int, max_pixels: int) -> bytes:
    """The picture in ``data`` as a JPEG whose longest side has at most ``side`` pixels.

    Raises:
        ImageError: as ``images.decode``.
    """
    picture = images.decode(data, max_pixels=max_pixels, min_side=side)
    picture.thumbnail((side, side))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=75, optimize=True)
    return buffer.getvalue()


def inline(uri: str, side: int, max_pixels: int) -> tuple[str | None, str | None]:
    """A data: URI of the photo as a small JPEG, or why there is none."""
    if links.is_link(uri):
        return None, "behind a link, which ingest alone asks for"
    try:
        small = draw(photo_files.read(uri), side, max_pixels)
    except images.ImageError as error:
        return None, f"{error.code}: {error}"
    return "data:image/jpeg;base64," + base64.b64encode(small).decode(), None
