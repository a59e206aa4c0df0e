"""Bad files by the hundred: what shops' exports hold, and what somebody might put there on purpose.

``write(root)`` makes them, by kind, each with the ways that it may end: ``read``, or a code of the quarantine. A kind
whose bytes may or may not decode by chance (flipped bits) may end either way; none may stop a night.
"""

import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

READ = "read"
CUT = {"truncated", "corrupt", "not_an_image", "empty"}
CHANCE = {READ, "truncated", "corrupt", "not_an_image", "too_large", "unsupported", "empty"}
MAX_PIXELS = 4_000_000
"""The limit that the bombs are over."""

Made = tuple[str, bytes]
"""A name's tail and the file's bytes."""


@dataclass(frozen=True)
class Bad:
    """A file, or what stands in its place, and the outcomes that are right."""

    kind: str
    name: bytes
    """Below the root, as the file system has it."""
    right: frozenset[str]


def picture(seed: int, size: tuple[int, int] = (48, 36), mode: str = "RGB") -> Image.Image:
    """Coarse noise, so that a file has many blocks and no two are alike."""
    depth = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, depth), np.uint8)
    return Image.frombytes(mode, (size[0] // 4, size[1] // 4), values.tobytes()).resize(size)


def encoded(image: Image.Image, form: str, **how: object) -> bytes:
    out = BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def sound(seed: int) -> dict[str, bytes]:
    """One sound file a format."""
    image = picture(seed)
    return {
        "jpg": encoded(image, "JPEG", quality=90),
        "progressive.jpg": encoded(image, "JPEG", quality=90, progressive=True),
        "restart.jpg": encoded(image, "JPEG", restart_marker_blocks=4),
        "png": encoded(image, "PNG"),
        "palette.png": encoded(image.quantize(16), "PNG"),
        "lossy.webp": encoded(image, "WEBP"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "tif": encoded(image, "TIFF"),
        "deflate.tif": encoded(image, "TIFF", compression="tiff_deflate"),
        "avif": encoded(image, "AVIF"),
    }


def markers(name: str, data: bytes) -> list[int]:
    """Where a format's parts begin: JPEG's markers, PNG's chunks, RIFF's, or evenly spaced places."""
    if name.endswith("jpg"):
        return [at for at in range(2, len(data) - 2) if data[at] == 0xFF and data[at + 1] not in (0x00, 0xFF)]
    if name.endswith("png"):
        found, at = [], 8
        while at < len(data) - 12:
            found.append(at)
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        return found
    return [8, 12, 20, *range(24, len(data) - 24, max(1, len(data) // 8))]


def truncated(seed: int) -> Iterator[Made]:
    """At every marker, and one byte after it."""
    for name, data in sound(seed).items():
        places = markers(name, data)
        # What follows the last pixel may be missing: an end marker, the tail of a directory.
        end = places[-1] if name.endswith(("jpg", "png")) else len(data) * 0.6
        for at in [0, 1, *places, *(place + 1 for place in places)]:
            if at < end:
                yield f"{at}.{name}", data[:at]


def flipped(seed: int) -> Iterator[Made]:
    """One to eight bits anywhere, headers above all."""
    chance = random.Random(seed)
    for name, data in sound(seed).items():
        for number in range(10):
            damaged = bytearray(data)
            within = 64 if number % 2 else len(data)
            for _ in range(chance.randint(1, 8)):
                damaged[chance.randrange(within)] ^= 1 << chance.randrange(8)
            yield f"{number}.{name}", bytes(damaged)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(size: tuple[int, int], body: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def claims(seed: int) -> Iterator[Made]:
    """Small files that claim to be huge."""
    files = sound(seed)
    for side in (2_001 + seed, 20_000, 60_000):
        yield f"{side}.png", png((side, side), zlib.compress(b"\0" * 1000))
        jpeg = bytearray(files["jpg"])
        at = jpeg.index(b"\xff\xc0") + 5
        jpeg[at : at + 4] = struct.pack(">HH", side, side)
        yield f"{side}.jpg", bytes(jpeg)
        gif = bytearray(files["gif"])
        gif[6:10] = struct.pack("<HH", side, side)
        yield f"{side}.gif", bytes(gif)
        bmp = bytearray(files["bmp"])
        bmp[18:26] = struct.pack("<ii", side, side)
        yield f"{side}.bmp", bytes(bmp)
        vp8x = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + 2 * (side - 1).to_bytes(3, "little")
        body = b"WEBP" + vp8x + files["lossy.webp"][12:]
        yield f"{side}.webp", b"RIFF" + struct.pack("<I", len(body)) + body


def squeezed(seed: int) -> Iterator[Made]:
    """A thousandth of their size on disk."""
    side = 3_000 + 10 * seed
    yield "zeros.png", png((side, side), zlib.compress(b"\0" * (side * (3 * side + 1)), 9))
    yield "zeros.tif", encoded(Image.new("RGB", (side, side)), "TIFF", compression="tiff_deflate")
    yield "zeros.webp", encoded(Image.new("RGB", (side, side)), "WEBP", lossless=True)
    yield "zeros.gif", encoded(Image.new("P", (side, side)), "GIF")


def stuffed(seed: int) -> Iterator[Made]:
    """Small pictures whose metadata unpacks to 100 MB and more."""
    zeros = zlib.compress(b"\0" * 100_000_000, 9)
    rows = zlib.compress(b"".join(b"\0" + bytes(3 * 16) for _ in range(16)))
    yield "text.png", png((16, 16), rows, chunk(b"zTXt", b"a\0\0" + zeros))
    yield "many.png", png((16, 16), rows, *(chunk(b"zTXt", b"%d\0\0" % at + zeros) for at in range(4)))
    yield "profile.png", png((16, 16), rows, chunk(b"iCCP", b"a\0\0" + zeros))
    yield "pixels.png", png((16, 16), zlib.compress(b"\0" * 100_000_000, 9))


def renamed(seed: int) -> Iterator[Made]:
    """Sound, under another format's name, or none."""
    files = list(sound(seed).items())
    for (name, data), (other, _) in zip(files, [*files[1:], files[0]], strict=True):
        yield f"{name}.{other.rsplit('.', 1)[-1]}", data
        yield f"{name}.JPG.exe", data


def words(seed: int) -> Iterator[Made]:
    """No pictures at all."""
    junk = random.Random(seed).randbytes(2_000)
    yield "page.jpg", b"<html><script>alert(1)</script></html>"
    yield "office.png", b"PK\x03\x04" + junk
    yield "print.jpg", b"%PDF-1.7\n" + junk
    yield "script.gif", b"#!/bin/sh\nrm -rf /\n"
    yield "junk.webp", b"\0" + junk
    yield "drawing.jpg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    yield "print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


def polyglots(seed: int) -> Iterator[Made]:
    """Pictures that are something else too."""
    archive = b"PK\x05\x06" + b"\0" * 18
    for name, data in sound(seed).items():
        if not name.endswith("webp"):
            yield f"archive.{name}", data + archive
            yield f"script.{name}", data + b"<script>alert(1)</script>"


def animated(seed: int) -> Iterator[Made]:
    frames = [picture(seed + at) for at in range(6)]
    for name in ("gif", "webp", "png", "avif"):
        form = {"gif": "GIF", "webp": "WEBP", "png": "PNG", "avif": "AVIF"}[name]
        yield f"moving.{name}", encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=50)
    yield "pages.tif", encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])


def colours(seed: int) -> Iterator[Made]:
    """CMYK, gray, palettes, transparency, 16 bits."""
    yield "cmyk.jpg", encoded(picture(seed, mode="CMYK"), "JPEG")
    yield "cmyk.tif", encoded(picture(seed, mode="CMYK"), "TIFF")
    yield "gray.jpg", encoded(picture(seed, mode="L"), "JPEG")
    yield "clear.png", encoded(picture(seed, mode="RGBA"), "PNG")
    yield "clear.webp", encoded(picture(seed, mode="RGBA"), "WEBP")
    yield "bits.png", encoded(picture(seed, mode="L").convert("1"), "PNG")
    deep = np.random.default_rng(seed).integers(0, 65_536, (36, 48), np.uint16)
    yield "deep.png", encoded(Image.fromarray(deep), "PNG")
    yield "deep.tif", encoded(Image.fromarray(deep), "TIFF")
    rows = b"".join(b"\0" + row.tobytes() for row in np.repeat(deep, 3, 1).byteswap())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 36, 16, 2, 0, 0, 0))
    end = chunk(b"IEND", b"")
    yield "deeprgb.png", b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + end


def floats(seed: int) -> Iterator[Made]:
    values = np.random.default_rng(seed).normal(size=(36, 48)).astype(np.float32)
    yield "float.tif", encoded(Image.fromarray(values), "TIFF")


def metadata(seed: int) -> Iterator[Made]:
    """Junk where profiles and EXIF should be: the pixels are good."""
    junk = random.Random(seed).randbytes(500)
    image = picture(seed)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, form in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")):
        yield f"icc.{name}", encoded(image, form, icc_profile=junk)
        yield f"halficc.{name}", encoded(image, form, icc_profile=srgb[: len(srgb) // 2])
    for name, form in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
        yield f"exif.{name}", encoded(image, form, exif=b"Exif\0\0" + junk)
    info = PngImagePlugin.PngInfo()
    info.add_text("x", "y" * 10_000)
    yield "text.png", encoded(image, "PNG", pnginfo=info)


def empty(seed: int) -> Iterator[Made]:
    for name in ("jpg", "png", "webp", "gif", "tif", "bmp", "avif"):
        yield f"{seed}.{name}", b""


MADE: dict[str, tuple[Callable[[int], Iterator[Made]], int, set[str]]] = {
    "truncated": (truncated, 3, CUT),
    "bits flipped": (flipped, 3, CHANCE),
    "bomb by dimension": (claims, 3, {"too_large", "corrupt"}),
    "bomb by compression": (squeezed, 2, {"too_large"}),
    "bomb in the metadata": (stuffed, 1, {READ, "corrupt", "too_large"}),
    "wrong extension": (renamed, 2, {READ}),
    "no picture": (words, 3, {"not_an_image", "corrupt"}),
    "polyglot": (polyglots, 2, {READ}),
    "animated": (animated, 2, {READ}),
    "CMYK, gray, alpha, 16 bits": (colours, 3, {READ}),
    "floating point": (floats, 2, {"unsupported"}),
    "junk profile or EXIF": (metadata, 3, {READ}),
    "zero length": (empty, 2, {"empty"}),
}
HOSTILE = (
    *('it\'s "q".jpg', "line\nbreak.jpg", "tab\tbell\a.jpg", "ünï 💡.jpg", "a..b%20.jpg", "-rf; DROP TABLE.jpg"),
    *("{a}[b]*?#.jpg", "<script>alert(1)<script>.jpg", "$(reboot).jpg", "`id`.jpg", "\x1b[31mred.jpg", "\u202egpj.exe"),
    *(" .jpg", "con.jpg", "\\udcff.jpg", "a" * 240 + ".jpg", "--help.jpg", "\x7f.jpg", "s3:.jpg", "%2e%2e.jpg"),
)


def write(root: Path, keep: Callable[[str, int], bool] = lambda kind, number: True) -> list[Bad]:
    """The files in folders by kind, those that ``keep(kind, number)`` asks for."""
    made = []
    for kind, (make, seeds, right) in MADE.items():
        files = ((seed, tail, data) for seed in range(seeds) for tail, data in make(seed))
        for number, (seed, tail, data) in enumerate(files):
            if keep(kind, number):
                path = root / kind.replace(" ", "_").replace(",", "") / f"{seed}.{tail}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                made.append(Bad(kind, os.fsencode(path.relative_to(root)), frozenset(right)))
    return made + list(_names(root)) + list(_places(root))


def _names(root: Path) -> Iterator[Bad]:
    folder = root / "names"
    folder.mkdir(parents=True)
    for number, name in enumerate(HOSTILE):
        (folder / name).write_bytes(encoded(picture(number), "PNG"))
        yield Bad("hostile name", os.fsencode(f"names/{name}"), frozenset({READ}))
    for number, raw in enumerate((b"\xff.jpg", b"\xc3\x28.png", b"a\xed\xa0\x80.gif", b"\xfe\xfe/1.jpg")):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + raw))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(picture(number), "PNG"))
        yield Bad("name that is not UTF-8", b"names/" + raw, frozenset({"bad_name"}))


def _places(root: Path) -> Iterator[Bad]:
    """Links, pipes and closed doors. (Root opens every door: who tests as root has to give that up.)"""
    folder = root / "places"
    folder.mkdir(parents=True)
    (folder / "round").symlink_to("round")
    (folder / "up").symlink_to("..")
    (folder / "lost.jpg").symlink_to("nowhere")
    (folder / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    for name, code in (("round", "unreadable"), ("up", "unreadable"), ("lost.jpg", "missing")):
        yield Bad("link in a circle, upwards or to nothing", f"places/{name}".encode(), frozenset({code}))
    for name in ("device.jpg", "pipe.jpg"):
        yield Bad("device or pipe", f"places/{name}".encode(), frozenset({"unreadable"}))
    (folder / "closed.jpg").write_bytes(encoded(picture(1), "JPEG"))
    (folder / "closed.jpg").chmod(0)
    yield Bad("no permission", b"places/closed.jpg", frozenset({"unreadable", READ} if _is_root() else {"unreadable"}))
    (folder / "shut").mkdir()
    (folder / "shut").chmod(0)
    if not _is_root():
        yield Bad("no permission", b"places/shut", frozenset({"unreadable"}))


def _is_root() -> bool:
    return os.geteuid() == 0 and os.access("/proc/1/environ", os.R_OK)
