"""Decode the bytes of one picture, or say why not; ``photo_files`` reads them.

Choices that make up DECODE_POLICY:

* Formats: JPEG, MPO, PNG, WebP, GIF, BMP, TIFF, AVIF where Pillow has it, HEIC and HEIF by pillow-heif, and JPEG XL by
  pillow-jxl-plugin, told by content and never by name. Of an animation or a multi-picture file, the first picture; an
  animation in JPEG XL, of which the plugin gives the last one, is refused as ``unsupported``.
* Pixels: 8-bit RGB, turned upright by EXIF (an unreadable EXIF block leaves the picture as stored; HEIC, HEIF and
  JPEG XL are turned by what the picture itself says, whatever their EXIF does).
  Transparency is laid on white. 16-bit gray is divided by 257; pixels whose range is not known (floating
  point, integers outside 0..65535) are refused as ``unsupported``.
* Colour: of HEIC and HEIF, which phones write in Display P3, and of JPEG XL, an ICC profile is converted to sRGB by
  LittleCMS (relative colorimetric); a broken one is ignored. Of other formats, profiles are ignored and sRGB is
  assumed, since homes hold vectors of their pixels so; ``managed`` converts those too, which is MANAGED_POLICY.
  Without a profile, CMYK and YCCK become RGB by the plain formula.
* Not a camera's raw file (DNG, NEF, CR2, ARW), nor another TIFF whose first picture is a preview: those are refused as
  ``unsupported``, since a thumbnail would be taken for the photo.
* Damage: a file that ends early is refused, never filled with gray. Two things pass: a file that lost only
  what follows its last pixel, and a JPEG whose data was cut but then closed with an end marker, which libjpeg
  fills in with no more than a warning that Pillow does not hand on. Flipped bits may decode too.

Importing this module raises Pillow's process-wide ``Image.MAX_IMAGE_PIXELS`` to MOST_PIXELS, once, so that
its warning and its error do not come before the ``max_pixels`` given here; it is not touched again. It also raises
what a PNG's texts and colour profile may unpack to (Pillow: 1 MiB each, 64 MiB in all), which photo editors fill.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, PngImagePlugin, UnidentifiedImageError

DECODE_POLICY = "1"  # part of the encoder's fingerprint: raise it when decode()'s pixels change
MANAGED_POLICY = "2"  # the same, of encoders for which the profiles of all formats count
DEFAULT_MAX_PIXELS = 100_000_000
MOST_PIXELS = 2**28  # a larger max_pixels counts as this
MOST_TEXT, MOST_TEXTS = 16 << 20, 128 << 20  # bytes of one text or profile in a PNG, and of all; more is corrupt

Image.init()
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, MOST_TEXT)
PngImagePlugin.MAX_TEXT_MEMORY = max(PngImagePlugin.MAX_TEXT_MEMORY, MOST_TEXTS)
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MOST_PIXELS)

# Named, so that Pillow tries no other (EPS would start Ghostscript). MPO is opened through JPEG.
_FORMATS = tuple(f for f in ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if f in Image.OPEN)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}

_HEIF = "HEIF"
_HEIF_BRANDS = tuple(f"ftyp{brand}".encode() for brand in ("heic", "heix", "heim", "heis", "hevc", "mif1", "msf1"))
"""Of ISO/IEC 23008-12; the last two may also begin an AVIF file."""
_JXL = "JXL"
_JXL_STREAM = b"\xff\x0a"
_JXL_BEGINS = (_JXL_STREAM, b"\0\0\0\x0cJXL \r\n\x87\n")
"""How a codestream and a container of ISO/IEC 18181 begin."""
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height, by the number that a header has, from 1."""
_SUBFILE, _PHOTOMETRIC, _DNG_VERSION = 254, 262, 50706
_SENSOR = (32803, 34892)  # what a camera's sensor saw: its colour filters, or one linear


class ImageError(Exception):
    """Why a picture cannot be used.

    ``str()`` is the reason that goes to quarantine: one line of at most 200 characters, without the path.
    ``code`` is a short slug: ``missing``, ``unreadable`` (not a regular file, no permission, storage failed),
    ``empty``, ``not_an_image`` (none of the formats read here), ``truncated``, ``too_large`` (in pixels,
    bytes or memory), ``corrupt``, or ``unsupported`` (its pixels have no defined 8-bit meaning).
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)  # both, so that it can be pickled
        self.code = code
        self.reason = _one_line(reason)

    def __str__(self) -> str:
        return self.reason


def decode(
    data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS, min_side: int | None = None, managed: bool = False
) -> Image.Image:
    """The picture as a plain upright RGB image (8 bits a channel, no metadata).

    With ``min_side``, a JPEG may come back at 1/2, 1/4 or 1/8 of its size, which is faster, as long as its
    short side keeps at least ``min_side`` pixels; other formats come back whole. ``managed``: the colour profiles of
    all formats count. Safe to call from threads.

    Raises ImageError: empty, not_an_image, truncated, too_large, corrupt, unsupported.
    """
    return _decode(data, max_pixels, min_side, managed)[0]


def checked_size(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Width and height, as seen upright, of a picture that has gone through all of decode().

    JPEGs are decoded at an eighth of their size, which reads all of their data in a fraction of the memory.

    Raises ImageError: as decode().
    """
    return _decode(data, max_pixels, min_side=1, managed=False)[1]


def _decode(data: bytes, max_pixels: int, min_side: int | None, managed: bool) -> tuple[Image.Image, tuple[int, int]]:
    """The picture and its full upright size, which a reduced JPEG no longer has."""
    if not data:
        raise ImageError("empty", "the file is empty")
    limit = min(max_pixels, MOST_PIXELS)
    try:
        return _pixels(data, limit, min_side, managed)
    except ImageError:
        raise
    except Exception as error:
        raise _refusal(error, data, limit) from error


def _pixels(data: bytes, limit: int, min_side: int | None, managed: bool) -> tuple[Image.Image, tuple[int, int]]:
    if _is_preview(data):
        raise ImageError("unsupported", "a camera's raw file, or a TIFF that starts with a preview: export the photo")
    _check_size(_webp_canvas(data), limit)
    if data.startswith(_JXL_BEGINS):
        data = _jxl_stream(data)
        _check_size(_jxl_size(data), limit)
    image = Image.open(BytesIO(data), formats=(*_FORMATS, *_plugged_in(data)))
    size = image.size
    _check_size(size, limit)
    if 0 in size:
        raise ImageError("corrupt", "the picture has no pixels")
    # No mode: asking for RGB would break CMYK.
    reduced = None if min_side is None else image.draft(None, (max(1, min_side), max(1, min_side)))
    _scale_transparent_gray(image)
    image.load()
    if reduced is None:
        size = image.size  # Pillow turns TIFFs upright while it loads them
    upright = None if image.format == _JXL else _upright(image)
    rgb = _rgb(_in_srgb(image) if managed or image.format in (_HEIF, _JXL) else image)
    if upright is not None:
        rgb = rgb.transpose(upright)
    elif isinstance(rgb, ImageFile.ImageFile):
        rgb = rgb.copy()  # a plain image, which does not keep the file and its decoder in memory
    rgb.info = {}  # above all no orientation, which would be applied twice
    return rgb, size[::-1] if upright in _SIDEWAYS else size


def _check_size(size: tuple[int, int], limit: int) -> None:
    width, height = size
    if width * height > limit:
        raise ImageError("too_large", f"{width} x {height} pixels, more than the limit of {limit}")


def _plugged_in(data: bytes) -> tuple[str, ...]:
    """The format's name, which Pillow knows from then on, where the file may be of one that a package of its own reads:
    imported here, since few catalogs have one, and not there where an exported encoder does without."""
    try:
        if data[4:12] in _HEIF_BRANDS:
            import pillow_heif

            pillow_heif.options.DECODE_THREADS = 1  # a worker has its share of the cores already
            pillow_heif.register_heif_opener(thumbnails=False)
            return (_HEIF,)
        if data.startswith(_JXL_STREAM):
            from pillow_jxl import JpegXLImagePlugin

            JpegXLImagePlugin.DECODE_THREADS = 0  # in this thread
            return (_JXL,)
    except ImportError:
        pass
    return ()


def _jxl_stream(data: bytes) -> bytes:
    """The codestream of a JPEG XL file, without its boxes (ISO/IEC 18181-2): they hold compressed texts of any
    size, and what a JPEG is made again by, which would be turned by its EXIF."""
    if data.startswith(_JXL_STREAM):
        return data
    parts, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= len(data):
            (size,), start = struct.unpack_from(">Q", data, start), at + 16
        end = at + size if size else len(data)
        if end < start:
            break
        if kind in (b"jxlc", b"jxlp"):
            parts.append(data[start + 4 * (kind == b"jxlp") : end])
        at = end
    return b"".join(parts)


def _jxl_size(stream: bytes) -> tuple[int, int]:
    """Width and height in a codestream's header, before it is turned: the plugin decodes a file where it opens it.

    ISO/IEC 18181-1, annex D: SizeHeader and the begin of ImageMetadata, whose bits come lowest first.

    Raises ImageError: truncated, unsupported (an animation, or a preview before the picture).
    """
    header, at = int.from_bytes(stream[2:40], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return header >> (at - count) & ((1 << count) - 1)

    if not stream.startswith(_JXL_STREAM):
        raise ImageError("truncated", "the file ends before its picture does")
    size = _jxl_sides(take)
    if not take(1) and take(1):  # not all as usual, and more fields
        take(3)  # orientation
        if take(1):  # the size that it should be shown in
            _jxl_sides(take)
        if take(1) or take(1):
            raise ImageError("unsupported", "an animation in JPEG XL, or one with a preview, is not read")
    return size


def _jxl_sides(take: Callable[[int], int]) -> tuple[int, int]:
    eights = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if eights else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    if not (ratio := take(3)):
        return side(), height
    wide, high = _JXL_RATIOS[ratio - 1]
    return height * wide // high, height


def _in_srgb(image: Image.Image) -> Image.Image:
    """``image`` in sRGB, where it has a profile that can be read and is of its kind of colours."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    try:
        source, srgb = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, source, srgb, intent, outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image


def _is_preview(data: bytes) -> bool:
    """Is it a TIFF whose first directory is a raw file's (TIFF 6.0, section 2 and tag 254; DNG 1.7, chapter 4)?"""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 10:
        return False
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    count = struct.unpack_from(f"{order}H", data, start)[0] if start + 2 <= len(data) else 0
    tags: dict[int, int] = {}
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", data, at)
        tags[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, at + 8)[0]
    is_raw = _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR or data[8:10] == b"CR"
    return is_raw or bool(tags.get(_SUBFILE, 0) & 1)


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height in a WebP header, else (0, 0): Pillow allocates this canvas on opening the file."""
    if not (data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 30):
        return 0, 0
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _upright(image: Image.Image) -> Image.Transpose | None:
    # Not ImageOps.exif_transpose: it writes the other tags back, and fails where one of them is malformed.
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever is wrong in there, the pixels are good
        return None


def _scale_transparent_gray(image: ImageFile.ImageFile) -> None:
    # Pillow scales the pixels of 2- and 4-bit gray PNGs to 0..255, but not the gray that means transparent.
    step = {"L;2": 85, "L;4": 17}.get(str(image.tile[0][3])) if image.format == "PNG" and image.tile else None
    if step and image.info.get("transparency", 256) <= 255 // step:
        image.info["transparency"] *= step


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError("unsupported", "floating-point pixels have no defined white")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of up to 16 bits (I;16 in any byte order, or I within 0..65535) as L; convert() would clip it."""
    deep = np.asarray(image)
    if image.mode == "I" and (deep.min() < 0 or deep.max() > 65535):
        raise ImageError("unsupported", "integer pixels outside 0 to 65535 have no defined white")
    wide = deep.astype(np.uint32)
    wide += 128
    wide //= 257
    gray = wide.astype(np.uint8)
    if "transparency" in image.info:
        gray[deep == image.info["transparency"]] = 255
    return Image.fromarray(gray)


def _refusal(error: Exception, data: bytes, limit: int) -> ImageError:
    """What Pillow's exception means; it raises nearly every built-in one on damaged files."""
    text = str(error)
    if isinstance(error, MemoryError):
        return ImageError("too_large", "not enough memory to decode the picture")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        claimed = re.search(r"\d+", text)
        pixels = claimed[0] if claimed else "too many"
        return ImageError("too_large", f"{pixels} pixels, more than the limit of {limit}")
    if _ends_early(error, data):
        return ImageError("truncated", "the file ends before its picture does")
    is_jxl = data.startswith(_JXL_BEGINS)
    if is_jxl and isinstance(error, RuntimeError):  # the plugin says no more of any damage
        return ImageError("corrupt", "damaged picture: its JPEG XL data is cut off or broken")
    if not isinstance(error, UnidentifiedImageError):
        return ImageError("corrupt", f"damaged picture: {type(error).__name__}: {without_paths(text)}")
    if data[4:12] in _HEIF_BRANDS and _HEIF not in Image.OPEN:
        return ImageError("unsupported", "HEIC and HEIF are read where the package pillow-heif is installed")
    if is_jxl and _JXL not in Image.OPEN:
        return ImageError("unsupported", "JPEG XL is read where the package pillow-jxl-plugin is installed")
    if data[4:12] in _HEIF_BRANDS or any(
        accept is None or accept(data[:16]) for _, accept in (Image.OPEN[f] for f in _FORMATS)
    ):
        return ImageError("corrupt", "damaged picture: its header cannot be read")
    return ImageError("not_an_image", f"not a picture in a format read here ({', '.join((*_FORMATS, _HEIF, _JXL))})")


def _ends_early(error: Exception, data: bytes) -> bool:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return isinstance(error, EOFError) or "truncated" in str(error).lower()


def without_paths(text: str) -> str:
    """``text`` with its quoted parts and paths left out: they may hold names, keys and tokens."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*", "...", text)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200].strip()
