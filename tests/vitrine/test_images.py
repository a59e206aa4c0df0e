"""vitrine.images: every kind of picture comes out right, and damage is refused with a reason."""

import pickle
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  to write them
import pytest
from PIL import Image, ImageFile, ImageOps, features

from tests.support.profiles import DISPLAY_P3, SRGB, in_srgb, profile
from vitrine import images
from vitrine.images import ImageError

# Pillow's own remarks on the damaged files below.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

pillow_heif.register_heif_opener()  # to write them
RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def encode(image, kind, **options):
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def photo(width=320, height=240):
    """Gradients with some grain, so that it compresses like a photo."""
    y, x = np.mgrid[:height, :width]
    clean = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1)
    grain = np.random.default_rng(0).integers(-12, 13, clean.shape)
    return Image.fromarray((clean + grain).clip(0, 255).astype(np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, *extra):
    """A PNG put together by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refused(data, **options):
    with pytest.raises(ImageError) as caught:
        images.decode(data, **options)
    reason = str(caught.value)
    assert reason and len(reason) <= 200 and "\n" not in reason
    return caught.value


def near(pixel, expected, within=3):
    return all(abs(a - b) <= within for a, b in zip(pixel, expected, strict=True))


# --- modes


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (4, 4), RED), RED),
        (Image.new("L", (4, 4), 100), (100, 100, 100)),
        (Image.new("1", (4, 4), 1), WHITE),
        (Image.new("1", (4, 4), 0), BLACK),
        (Image.new("RGB", (4, 4), RED).quantize(4), RED),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), RED),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 128)), (255, 127, 127)),
        (Image.new("LA", (4, 4), (0, 0)), WHITE),
        (Image.new("LA", (4, 4), (100, 255)), (100, 100, 100)),
        (Image.new("I;16", (4, 4), 25700), (100, 100, 100)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "-".join(map(str, value)),
)
def test_png_modes(image, expected):
    decoded = images.decode(encode(image, "PNG"))
    assert decoded.mode == "RGB" and decoded.size == (4, 4) and type(decoded) is Image.Image
    assert decoded.getpixel((1, 1)) == expected


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"], ids=["one index", "alpha for each index"])
def test_palette_transparency_becomes_white(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putdata([0, 1])
    decoded = images.decode(encode(image, "PNG", transparency=transparency))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED]


def test_palette_with_alpha_mode():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert("PA")
    assert images._rgb(image).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("depth, value, row", [(1, 1, b"\x80"), (2, 3, b"\xc0"), (4, 15, b"\xf0"), (8, 9, b"\x09\x00")])
def test_transparent_gray_of_every_depth(depth, value, row):
    data = png(2, 1, depth, 0, b"\0" + row, chunk(b"tRNS", struct.pack(">H", value)))
    decoded = images.decode(data)
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [WHITE, BLACK]


def test_transparent_colour():
    data = png(2, 1, 8, 2, b"\0" + bytes(BLACK) + bytes(RED), chunk(b"tRNS", struct.pack(">3H", 0, 0, 0)))
    decoded = images.decode(data)
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [WHITE, RED]


def test_transparent_16_bit_gray():
    rows = b"\0" + struct.pack(">2H", 1000, 1001)
    decoded = images.decode(png(2, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 1000))))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (4, 4, 4)]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_over_its_full_range(kind):
    ramp = np.arange(0, 65536, 64, dtype=np.uint16).reshape(16, 64)
    data = encode(Image.fromarray(ramp), kind)
    decoded = np.asarray(images.decode(data))
    assert (decoded == np.rint(ramp / 257)[..., None]).all()
    assert decoded.min() == 0 and decoded.max() == 255
    naive = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    assert (naive == 255).mean() > 0.9, "Pillow no longer clips: its own conversion may do"


def test_big_endian_16_bit_gray():
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 65535, 25700))
    assert images.decode(encode(image, "TIFF")).tobytes() == bytes([255] * 3 + [100] * 3)


def test_32_bit_gray_within_16_bits_and_beyond():
    inside = Image.fromarray(np.array([[0, 25700, 65535]], np.int32))
    assert images.decode(encode(inside, "TIFF")).tobytes() == bytes([0] * 3 + [100] * 3 + [255] * 3)
    for value in (-1, 65536):
        outside = Image.fromarray(np.array([[0, value]], np.int32))
        assert refused(encode(outside, "TIFF")).code == "unsupported"


def test_floating_point_is_refused():
    assert refused(encode(Image.new("F", (4, 4), 0.5), "TIFF")).code == "unsupported"


def test_16_bit_colour():
    rows = b"\0" + struct.pack(">3H", 65535, 0, 25700)
    assert images.decode(png(1, 1, 16, 2, rows)).getpixel((0, 0)) == (255, 0, 100)


@pytest.mark.parametrize("ink, expected", [((0, 255, 255, 0), RED), ((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), BLACK)])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(ink, expected, kind):
    data = encode(Image.new("CMYK", (16, 16), ink), kind)
    assert near(images.decode(data).getpixel((8, 8)), expected)
    assert near(images.decode(data, min_side=4).getpixel((2, 2)), expected)


def test_ycck_jpeg():
    # The samples of an Adobe (inverted) YCCK file for pure red; Pillow writes 255 minus what it is given, and
    # the last byte of the Adobe marker says how the samples are to be read.
    samples = Image.new("CMYK", (16, 16), (255 - 179, 255 - 171, 255 - 1, 255 - 255))
    data = bytearray(encode(samples, "JPEG", quality=100))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    assert near(images.decode(bytes(data)).getpixel((8, 8)), RED)


def test_gray_jpeg():
    assert images.decode(encode(Image.new("L", (8, 8), 77), "JPEG")).getpixel((3, 3)) == (77, 77, 77)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WEBP", "PNG"])
def test_lossless_formats(kind):
    source = Image.linear_gradient("L").convert("RGB").resize((40, 30))
    assert images.decode(encode(source, kind, lossless=True)).tobytes() == source.tobytes()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif():
    assert near(images.decode(encode(Image.new("RGB", (16, 16), RED), "AVIF")).getpixel((5, 5)), RED, within=5)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_first_picture_of_several(kind):
    rest = [Image.new("RGB", (16, 16), colour) for colour in ("blue", "green")]
    data = encode(Image.new("RGB", (16, 16), RED), kind, save_all=True, append_images=rest)
    with Image.open(BytesIO(data)) as image:
        assert image.n_frames == 3
    assert near(images.decode(data).getpixel((8, 8)), RED)


def test_junk_colour_profile_does_not_matter():
    image = Image.new("RGB", (8, 8), RED)
    assert images.decode(encode(image, "PNG", icc_profile=b"junk")).getpixel((0, 0)) == RED
    assert near(images.decode(encode(image, "JPEG", icc_profile=b"junk")).getpixel((0, 0)), RED)


# --- EXIF

STORED = {  # how an upright picture is stored under each orientation, from the EXIF specification
    1: lambda up: up,
    2: lambda up: up[:, ::-1],
    3: lambda up: up[::-1, ::-1],
    4: lambda up: up[::-1],
    5: lambda up: up.swapaxes(0, 1),
    6: lambda up: up[:, ::-1].swapaxes(0, 1),
    7: lambda up: up[::-1, ::-1].swapaxes(0, 1),
    8: lambda up: up[::-1].swapaxes(0, 1),
}


def turned(orientation, kind, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(photo(32, 16)))))
    return encode(stored, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_gives_one_picture(orientation, kind):
    data = turned(orientation, kind, lossless=True)
    decoded = images.decode(data)
    assert decoded.tobytes() == photo(32, 16).tobytes()
    assert not decoded.getexif() and not decoded.info, "a caller could turn it again"
    assert images.checked_size(data) == (32, 16)


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_of_a_jpeg(orientation):
    data = turned(orientation, "JPEG", quality=100, subsampling=0)
    decoded = np.asarray(images.decode(data)).astype(int)
    assert np.abs(decoded - np.asarray(photo(32, 16))).max() <= 6
    assert images.decode(data, min_side=8).size == (16, 8)
    assert images.checked_size(data) == (32, 16)


def exif_block(entries):
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0junk",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x20\0\x12\x01",
        exif_block([(0x0112, 3, 1, b"\x63\0\0\0")]),
        exif_block([(0x0112, 2, 4, b"abc\0")]),
    ],
    ids=["no header", "far offset", "cut", "99", "text"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_leaves_the_picture_as_stored(exif, kind):
    assert images.decode(encode(photo(32, 16), kind, exif=exif)).size == (32, 16)


def test_orientation_is_used_although_other_tags_cannot_be_written_back():
    resolution_as_text = exif_block([(0x0112, 3, 1, b"\x06\0\0\0"), (0x011A, 2, 4, b"abc\0")])
    data = encode(photo(32, 16), "JPEG", exif=resolution_as_text)
    with pytest.raises(Exception):  # noqa: B017 - whichever: it shows why ImageOps is not used
        ImageOps.exif_transpose(Image.open(BytesIO(data)))
    assert images.decode(data).size == (16, 32)


# --- damage


def sweep():
    picture = photo()
    yield "jpeg", encode(picture, "JPEG", quality=90)
    yield "jpeg progressive", encode(picture, "JPEG", quality=90, progressive=True)
    yield "jpeg restart markers", encode(picture, "JPEG", restart_marker_rows=1)
    yield "jpeg cmyk", encode(picture.convert("CMYK"), "JPEG")
    yield "png", encode(picture, "PNG")
    yield "png palette", encode(picture.quantize(64), "PNG")
    yield "png 16 bits", encode(Image.fromarray(np.asarray(picture)[..., 0] * np.uint16(257)), "PNG")
    yield "webp", encode(picture, "WEBP")
    yield "webp lossless", encode(picture, "WEBP", lossless=True)
    yield "webp alpha", encode(picture.convert("RGBA"), "WEBP", exif=b"Exif\0\0")
    yield "gif", encode(picture, "GIF")
    yield "gif interlaced", encode(picture, "GIF", interlace=True)
    yield "bmp", encode(picture, "BMP")
    yield "tiff", encode(picture, "TIFF")
    yield "tiff lzw", encode(picture, "TIFF", compression="tiff_lzw")
    yield "heic", encode(picture, "HEIF")
    yield "jpeg xl", encode(picture, "JXL")
    yield "jpeg xl in boxes", encode(picture, "JXL", use_container=True)
    if features.check("avif"):
        yield "avif", encode(picture, "AVIF")


@pytest.mark.parametrize("min_side", [None, 30])
@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in sweep()])
def test_a_file_cut_anywhere_is_refused(data, min_side):
    whole = images.decode(data, min_side=min_side).tobytes()
    for length in sorted({len(data) * step // 50 for step in range(50)} | set(range(40))):
        assert refused(data[:length], min_side=min_side).code in (
            "empty",
            "not_an_image",
            "truncated",
            "corrupt",
        )
    for missing in range(1, 41):  # here a file may have lost no more than its trailer
        try:
            cut = images.decode(data[:-missing], min_side=min_side)
        except ImageError as error:
            assert error.code in ("truncated", "corrupt")
        else:
            assert cut.tobytes() == whole


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_cut_in_half_is_called_truncated(kind):
    data = encode(photo(), kind)
    assert refused(data[: len(data) // 2]).code == "truncated"
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "JXL"])
def test_random_damage_raises_nothing_else(kind):
    data = encode(photo(48, 32), kind)
    chance = random.Random(1)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(chance.choice((1, 5, 30))):
            broken[chance.randrange(min(len(broken), chance.choice((64, 400, 10_000))))] = chance.randrange(256)
        try:
            assert images.decode(bytes(broken)).mode == "RGB"
        except ImageError as error:
            assert "\n" not in str(error) and 0 < len(str(error)) <= 200


def test_a_phones_photo_is_upright_and_in_srgb():
    """HEIC as phones write it: turned by its container, whose EXIF says so too, in Display P3."""
    picture = Image.new("RGB", (80, 60), (210, 60, 40))
    picture.paste((30, 160, 70), (0, 0, 20, 60))
    turned = Image.Exif()
    turned[0x0112] = 6
    lossless = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    wide = encode(picture, "HEIF", exif=turned.tobytes(), icc_profile=profile(DISPLAY_P3), **lossless)
    decoded = images.decode(wide)
    assert decoded.size == images.checked_size(wide) == (60, 80) and not decoded.info
    for place, colour in (((5, 70), (210, 60, 40)), ((5, 5), (30, 160, 70))):
        converted = in_srgb(colour, DISPLAY_P3)
        assert near(decoded.getpixel(place), converted, within=2) and not near(converted, colour, within=10)
    for same in (profile(SRGB), b"no profile", profile(DISPLAY_P3)[:200], None):
        data = encode(picture, "HEIF", **lossless, **({"icc_profile": same} if same else {}))
        assert near(images.decode(data).getpixel((70, 5)), (210, 60, 40), within=2), same
    alpha = picture.convert("RGBA")
    alpha.putalpha(0)
    assert near(images.decode(encode(alpha, "HEIF", icc_profile=profile(DISPLAY_P3))).getpixel((5, 5)), WHITE, within=3)
    gray = encode(picture.convert("L"), "HEIF", icc_profile=profile(DISPLAY_P3))
    assert images.decode(gray).mode == "RGB"
    assert refused(wide, max_pixels=80 * 60 - 1).code == "too_large"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profiles_of_formats_read_before_count_where_they_are_asked_for(kind):
    colour = (210, 60, 40)
    picture = Image.new("RGB", (16, 16), colour)
    data = encode(picture, kind, icc_profile=profile(DISPLAY_P3))
    assert near(images.decode(data).getpixel((5, 5)), colour, within=5)
    assert near(images.decode(data, managed=True).getpixel((5, 5)), in_srgb(colour, DISPLAY_P3), within=6)
    for other in (profile(SRGB), b"junk", profile(DISPLAY_P3)[:300]):
        data = encode(picture, kind, icc_profile=other)
        assert near(images.decode(data, managed=True).getpixel((5, 5)), colour, within=5)
    plain = encode(picture, kind)
    assert images.decode(plain, managed=True).tobytes() == images.decode(plain).tobytes()


def test_a_profile_of_another_kind_of_colours_is_ignored_and_transparency_stays():
    p3 = profile(DISPLAY_P3)
    for mode in ("L", "CMYK"):
        data = encode(Image.new(mode, (16, 16)), "JPEG", icc_profile=p3)
        assert images.decode(data, managed=True).tobytes() == images.decode(data).tobytes()
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 210, 60, 40])
    opaque, clear = (encode(palette, "PNG", icc_profile=p3, **more) for more in ({}, {"transparency": 1}))
    assert near(images.decode(opaque, managed=True).getpixel((5, 5)), in_srgb((210, 60, 40), DISPLAY_P3), within=2)
    assert images.decode(clear, managed=True).getpixel((5, 5)) == WHITE


def test_empty():
    assert refused(b"").code == "empty"


@pytest.mark.parametrize(
    "data",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.7\n", b"<svg/>", b"P6 1 1 255\n\0\0\0"],
    ids=["eps", "pdf", "svg", "ppm"],
)
def test_other_formats_are_not_tried(data):
    assert refused(data).code == "not_an_image"


@pytest.mark.parametrize(
    "side, named", [(50_000, "2500000000 pixels"), (16_000, "16000 x 16000")], ids=["Pillow's", "ours"]
)
def test_pixels_are_counted_before_decoding(side, named):
    error = refused(png(side, side, 8, 2, b""))
    assert error.code == "too_large"
    assert named in str(error) and str(images.DEFAULT_MAX_PIXELS) in str(error)


def test_webp_canvas_is_counted_before_opening(monkeypatch):
    monkeypatch.setattr(Image, "open", None)
    canvas = struct.pack("<I", 0) + (16_000 - 1).to_bytes(3, "little") * 2
    data = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    error = refused(data)
    assert error.code == "too_large" and "16000 x 16000" in str(error)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}])
def test_webp_canvas_is_read_right(options):
    assert images._webp_canvas(encode(photo(321, 243), "WEBP", **options)) == (321, 243)


def test_limit_is_inclusive():
    data = encode(photo(64, 48), "PNG")
    assert images.decode(data, max_pixels=64 * 48).size == (64, 48)
    assert refused(data, max_pixels=64 * 48 - 1).code == "too_large"


def test_pillow_does_not_warn_below_our_limit():
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(png(9_500, 10_000, 1, 0, b"")).code == "truncated"
    assert Image.MAX_IMAGE_PIXELS == limit == images.MOST_PIXELS


def test_text_bomb_in_a_png():
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000)))
    assert refused(png(1, 1, 8, 0, b"\0\0", bomb)).code == "corrupt"


def test_texts_and_profiles_as_photo_editors_write_them_are_no_damage():
    rows = b"\0\x80"
    for large in (
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(15_000_000))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b" " * 12_000_000),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(8_000_000))),
        chunk(b"tEXt", b"Comment\0" + b"x" * 1_500_000) * 60,
    ):
        assert images.decode(png(1, 1, 8, 0, rows, large)).getpixel((0, 0)) == (128, 128, 128)


def tiff_directory(order: str, *tags: tuple[int, int, int]) -> bytes:
    """A TIFF's header and first directory: tags of kind 3 (16 bits) or 4 (32 bits), one value each."""
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(f"{order}{'H2x' if kind == 3 else 'I'}", value)
        for tag, kind, value in sorted(tags)
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "tags", [((254, 4, 1),), ((50706, 4, 0x01040000),), ((262, 3, 32803),), ((262, 3, 34892), (254, 4, 0))]
)
def test_a_cameras_raw_file_is_not_its_thumbnail(order: str, tags: tuple[tuple[int, int, int], ...]):
    error = refused(tiff_directory(order, (256, 3, 160), (257, 3, 120), *tags))
    assert error.code == "unsupported" and "raw file" in str(error)


def test_a_tiff_that_starts_with_a_preview_is_refused_and_others_are_read():
    for kind, right in ((0, True), (2, True), (1, False)):
        out = BytesIO()
        photo(40, 30).save(out, "TIFF", tiffinfo={254: kind})
        if right:
            assert images.decode(out.getvalue()).size == (40, 30)
        else:
            assert refused(out.getvalue()).code == "unsupported"
    canon = bytearray(encode(photo(40, 30), "TIFF"))
    canon[8:10] = b"CR"
    assert refused(bytes(canon)).code == "unsupported"


def test_no_pixels():
    assert refused(png(0, 10, 8, 0, b"")).code == "corrupt"


def test_out_of_memory_is_a_refusal(monkeypatch):
    def fail(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert refused(encode(photo(), "JPEG")).code == "too_large"


# --- reduced decoding


@pytest.mark.parametrize("size", [(640, 480), (480, 641), (1001, 333)])
@pytest.mark.parametrize("min_side", [1, 41, 60, 120, 121, 240, 332, 333, 334, 480, 481, 2000])
def test_reduced_never_below_min_side(size, min_side):
    data = encode(Image.new("L", size), "JPEG")
    reduced = images.decode(data, min_side=min_side).size
    assert min(reduced) >= min(min_side, min(size))
    scale = next(s for s in (8, 4, 2, 1) if s == 1 or min(size) // s >= min_side)
    assert reduced == (-(-size[0] // scale), -(-size[1] // scale))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_reduced_is_close_to_whole_and_resized(mode, options):
    data = encode(photo(640, 480).convert(mode), "JPEG", quality=90, **options)
    reduced = images.decode(data, min_side=200)
    assert reduced.size == (320, 240)
    resized = images.decode(data).resize((320, 240), Image.Resampling.BOX)
    difference = np.abs(np.asarray(reduced).astype(int) - np.asarray(resized))
    assert difference.mean() < 2 and difference.max() < 24


def test_other_formats_come_back_whole():
    assert images.decode(encode(photo(), "PNG"), min_side=10).size == (320, 240)


def test_eight_threads_decode_as_one():
    everything = [data for _, data in sweep()] * 4
    serial = [images.decode(data, min_side=60).tobytes() for data in everything]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda data: images.decode(data, min_side=60).tobytes(), everything)) == serial


# --- the module


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ImageError("corrupt", "two\nlines " + "x" * 500)))
    assert error.code == "corrupt" and str(error).startswith("two lines x") and len(str(error)) == 200


def test_import_is_light():
    code = "import sys, vitrine.photo_files; print({'pyarrow', 'torch', 'fsspec', 'pyspark'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- JPEG XL ----

ANIMATION = bytes.fromhex(
    "ff0a41044d0020286e090804010040004b188b1542a9d04900000000000000000804050044004b188b15c249414e480000000000000000"
)
"""Two frames of 8 x 8, by libjxl."""


def from_jpeg(path, picture, **options):
    """JPEG XL that a JPEG can be made from again, bit by bit: what shops turn their old photos into."""
    picture.save(path, "JPEG", quality=95, **options)
    with Image.open(path) as image:
        return encode(image, "JXL", lossless_jpeg=True)


def test_jpeg_xl():
    picture = photo(97, 33)
    for options in ({}, {"use_container": True}):
        data = encode(picture, "JXL", lossless=True, **options)
        assert images.decode(data).tobytes() == picture.tobytes() and images.checked_size(data) == (97, 33)
    deep = np.full((4, 4), 40 * 257, np.uint16)  # the plugin says of 16 bits that they are linear
    assert near(images.decode(encode(Image.fromarray(deep), "JXL", lossless=True)).getpixel((1, 1)), (110, 110, 110))
    alpha = picture.convert("RGBA")
    alpha.putalpha(0)
    assert near(images.decode(encode(alpha, "JXL", lossless=True)).getpixel((5, 5)), WHITE)


def test_jpeg_xl_of_a_jpeg_is_upright_and_in_srgb(tmp_path):
    picture = Image.new("RGB", (80, 64), (210, 60, 40))
    picture.paste((30, 160, 70), (0, 0, 16, 64))
    turned = Image.Exif()
    turned[0x0112] = 6
    data = from_jpeg(tmp_path / "a.jpg", picture, exif=turned.tobytes(), icc_profile=profile(DISPLAY_P3))
    decoded = images.decode(data)
    assert decoded.size == images.checked_size(data) == (64, 80)
    for place, colour in (((5, 70), (210, 60, 40)), ((5, 5), (30, 160, 70))):
        assert near(decoded.getpixel(place), in_srgb(colour, DISPLAY_P3), within=6)


def test_exif_alone_does_not_turn_jpeg_xl():
    turned = Image.Exif()
    turned[0x0112] = 6
    assert images.decode(encode(photo(80, 60), "JXL", exif=turned.tobytes(), use_container=True)).size == (80, 60)


@pytest.mark.parametrize(
    "size", [(1, 1), (512, 9), (513, 8192), (4, 8193), (400, 300), (256, 256), (64, 40), (300, 200)]
)
def test_jpeg_xl_too_large_is_refused_before_it_is_decoded(size, monkeypatch):
    for boxes in (False, True):
        data = encode(Image.new("L", size), "JXL", effort=1, use_container=boxes)
        assert images.checked_size(data) == size
        with monkeypatch.context() as patch:
            patch.setattr(Image, "open", None)  # the plugin decodes there
            error = refused(data, max_pixels=size[0] * size[1] - 1)
        assert (error.code, str(error)) == (
            "too_large",
            f"{size[0]} x {size[1]} pixels, more than the limit of {size[0] * size[1] - 1}",
        )


def test_what_of_jpeg_xl_is_not_read():
    error = refused(ANIMATION)
    assert error.code == "unsupported" and "an animation in JPEG XL" in str(error)
    for begins in (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"):
        assert refused(begins + bytes(100)).code in ("corrupt", "truncated")
    assert str(refused(b"\xff\x0a" + bytes(100))) == "damaged picture: its JPEG XL data is cut off or broken"
