"""A photo as a small JPEG: what the report and the browsing page show."""

from io import BytesIO

from vitrine import images


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
