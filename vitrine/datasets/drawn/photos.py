"""Product photos that the project draws itself: a catalog of any size, the same bytes for the same arguments.

Every function is pure: what it returns follows from its arguments alone, so executors draw
photos in any order.
"""

import colorsys
import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from vitrine.datasets.drawn.kinds import DRAWERS, draw_product
from vitrine.datasets.drawn.paint import EMBLEMS, INK, PATTERNS, WHITE, Colour, Field, Product, mix

T = TypeVar("T")

PRODUCT_KINDS = tuple(DRAWERS)
"""In the order in which they are dealt out to the numbers of a catalog."""

LOOKS = ("photo", "sketch")
"""How a catalog is pictured: photos, or pencil drawings of the same scenes."""

_BEND = 0.6
"""Exponent from difficulty to the share of the variation: the default 0.5 then tests a pretrained network."""

_ASPECTS = ((1, 1), (4, 3), (3, 4), (3, 2), (4, 5))
# Not evenly around the wheel, where a third of all products would be green.
_HUES = (0.0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.23, 0.34, 0.42, 0.48, 0.54, 0.58, 0.61, 0.65, 0.75, 0.85, 0.93, 0.97)
_SYLLABLES = ("no", "ra", "lu", "ki", "ve", "mo", "ta", "ri", "so", "pe", "al", "or", "en", "um", "is", "da")


def product(number: int, seed: int = 0) -> Product:
    """The catalog's product ``number`` (from 0) under ``seed``; kinds are dealt out round robin.

    Raises:
        ValueError: ``number`` is negative.
    """
    if number < 0:
        raise ValueError(f"number is {number}: a product's number must be 0 or more")
    rng = _dice("product", number, seed)
    kind = PRODUCT_KINDS[number % len(PRODUCT_KINDS)]
    body, accent, trim = _palette(rng)
    syllables = [_pick(rng, _SYLLABLES) for _ in range(_pick(rng, (2, 2, 3)))]
    return Product(
        number=number,
        kind=kind,
        slug=f"{kind}-{number:04d}",
        body=body,
        accent=accent,
        trim=trim,
        pattern=_pick(rng, PATTERNS),
        period=float(rng.uniform(5.0, 11.0)),
        stretch=float(rng.uniform(-1, 1)),
        taper=float(rng.uniform(-1, 1)),
        variant=int(rng.integers(3)),
        emblem=_pick(rng, EMBLEMS),
        label="".join(syllables).upper(),
    )


def draw_photo(
    item: Product, photo: int, seed: int = 0, difficulty: float = 0.5, size: int = 320, look: str = LOOKS[0]
) -> bytes:
    """Photo number ``photo`` of ``item`` as JPEG bytes, its longest side ``size`` pixels, in one of ``LOOKS``.

    ``difficulty`` runs from 0 (near-studio photos) to 1 (heavy changes of view, light and background). The
    same arguments give the same bytes in any process under one version of Pillow.

    Raises:
        ValueError: ``difficulty`` is outside [0, 1], ``photo`` is negative, ``size`` is below 32 or ``look`` is none.
    """
    if look not in LOOKS:
        raise ValueError(f"look is {look!r}: it must be one of {', '.join(LOOKS)}")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty is {difficulty}: it must lie between 0 and 1")
    if photo < 0:
        raise ValueError(f"photo is {photo}: a photo's number must be 0 or more")
    if size < 32:
        raise ValueError(f"size is {size}: the longest side must be 32 pixels or more")
    rng = _dice("photo", item.number, seed, photo)
    scene = _Scene(rng, difficulty**_BEND, *_frame(rng, size))
    backdrop = _backdrop(scene)
    cut, placed = _place(draw_product(item, max(24, round(0.8 * size))), scene)
    picture = _shadowed(backdrop, placed, scene)
    picture.paste(cut, (0, 0), placed)
    _cover(picture, placed, scene)
    lit = _lit(picture, scene)
    return _encode(_sketched(lit) if look == "sketch" else lit, scene)


@dataclass(frozen=True)
class _Scene:
    """One photo being taken: its dice, how much may vary (0..1), and the frame in pixels."""

    rng: np.random.Generator
    level: float
    width: int
    height: int

    @property
    def short(self) -> int:
        return min(self.width, self.height)

    def swing(self, least: float, most: float) -> float:
        """A number from -x to x, where x goes from ``least`` to ``most`` with the difficulty."""
        return float(self.rng.uniform(-1, 1)) * (least + (most - least) * self.level)

    def chance(self, least: float, most: float) -> bool:
        """True with a probability that goes from ``least`` to ``most`` with the difficulty."""
        return float(self.rng.random()) < least + (most - least) * self.level

    def tone(self, dull: float = 0.05, strong: float = 0.5, low: float = 0.35, high: float = 0.95) -> Colour:
        """A random colour with saturation and value in the ranges given (0..1)."""
        hue, saturation, value = self.rng.random(3)
        return _rgb(hue, dull + (strong - dull) * saturation, low + (high - low) * value)

    def grid(self) -> tuple[Field, Field]:
        """Columns (1 x w) and rows (h x 1) in units of the short side."""
        x = np.arange(self.width, dtype=np.float32)[None, :] / self.short
        return x, np.arange(self.height, dtype=np.float32)[:, None] / self.short

    def cloud(self, columns: int, rows: int) -> Field:
        """Smooth noise in [0, 1] over the frame, from ``columns`` x ``rows`` random knots."""
        knots = self.rng.integers(0, 256, (rows, columns), dtype=np.uint8)
        wide = Image.fromarray(knots).resize((self.width, self.height), Image.Resampling.BICUBIC)
        return np.asarray(wide, dtype=np.float32) / 255


def _dice(*parts: str | int) -> np.random.Generator:
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


def _palette(rng: np.random.Generator) -> tuple[Colour, Colour, Colour]:
    """Body, accent and trim colours that go together."""
    hue, apart = _pick(rng, _HUES) + float(rng.uniform(-0.02, 0.02)), _pick(rng, (0.08, -0.08, 0.42, 0.5, 0.58))
    body = _rgb(hue, rng.uniform(0.4, 0.74), rng.uniform(0.48, 0.88))
    if rng.random() < 0.22:
        body = mix(_pick(rng, (WHITE, INK, (150, 150, 156), (206, 184, 152))), body, 0.12)
    accent = _rgb(hue + apart, rng.uniform(0.25, 0.65), rng.uniform(0.62, 0.95))
    if rng.random() < 0.35:
        accent = mix(WHITE, accent, 0.15)
    trim = _rgb(hue + apart + rng.uniform(-0.06, 0.06), rng.uniform(0.45, 0.78), rng.uniform(0.25, 0.58))
    return body, accent, _pick(rng, (trim, trim, mix(INK, trim, 0.15), mix(WHITE, trim, 0.1)))


def _frame(rng: np.random.Generator, size: int) -> tuple[int, int]:
    wide, high = _pick(rng, _ASPECTS)
    longest = max(wide, high)
    return round(size * wide / longest), round(size * high / longest)


# ---- backdrops ----


def _blend(first: Colour, second: Colour, share: Field) -> Image.Image:
    """The picture that goes from ``first`` (share 0) to ``second`` (share 1), by a field over the frame."""
    low, high = (np.asarray(colour, dtype=np.float32) for colour in (first, second))
    return Image.fromarray(np.clip(low + share[..., None] * (high - low), 0, 255).astype(np.uint8))


def _backdrop(scene: _Scene) -> Image.Image:
    """Plain ones are the likelier, the easier the photos."""
    first, stop = (0, 2) if scene.chance(0.97, -0.2) else (1, len(_BACKDROPS))
    return _BACKDROPS[int(scene.rng.integers(first, stop))](scene)


def _studio(scene: _Scene) -> Image.Image:
    """A sweep of paper: lighter wall, soft bend, lighter floor."""
    x, y = scene.grid()
    tint = scene.tone(0, 0.04 + 0.3 * scene.level, 0.93 - 0.2 * scene.level, 0.99)
    bend = np.exp(-(((y - 0.72) / 0.16) ** 2)) * 0.5 + 0.2 * (x - 0.5) ** 2
    return _blend(mix(tint, (255, 255, 255), 0.6), mix(tint, INK, 0.22), bend)


def _gradient(scene: _Scene) -> Image.Image:
    x, y = scene.grid()
    turn = float(scene.rng.uniform(0, math.tau))
    share = np.clip(0.5 + 0.6 * ((x - 0.5) * math.cos(turn) + (y - 0.5) * math.sin(turn)), 0, 1)
    first = mix((240, 240, 240), scene.tone(0.1, 0.6), 0.25 + 0.75 * scene.level)
    return _blend(first, mix(first, scene.tone(0.1, 0.6, 0.3), 0.2 + 0.7 * scene.level), share)


def _wood(scene: _Scene) -> Image.Image:
    x, y = scene.grid()
    planks = int(scene.rng.integers(3, 7))
    if scene.rng.random() < 0.5:
        grain, across = scene.cloud(5, 90), y
    else:
        grain, across = scene.cloud(90, 5), x
    board = np.floor(across * planks).astype(int)
    offsets = scene.rng.random(2 * planks + 4).astype(np.float32)[np.minimum(board, 2 * planks + 3)]
    seam = (across * planks % 1 < 0.025) * 0.5
    light = _rgb(*scene.rng.uniform((0.05, 0.25, 0.5), (0.1, 0.5, 0.9)).tolist())
    return _blend(light, mix(light, (48, 26, 12), 0.7), grain * 0.5 + offsets * 0.35 + seam)


def _tiles(scene: _Scene) -> Image.Image:
    x, y = scene.grid()
    count, half = int(scene.rng.integers(3, 8)), int(scene.rng.integers(2))
    row = np.floor(y * count)
    shifted = x * count + 0.5 * half * (row % 2)
    grout = np.maximum((shifted % 1 < 0.05), (y * count % 1 < 0.05)).astype(np.float32)
    tones = scene.rng.random((64, 64)).astype(np.float32)
    tone = tones[row.astype(int) % 64, np.floor(shifted).astype(int) % 64]
    base = scene.tone(0.05, 0.55)
    joint = mix(base, INK if scene.rng.random() < 0.5 else WHITE, 0.75)
    return _blend(base, joint, grout + (1 - grout) * 0.3 * tone)


def _cloth(scene: _Scene) -> Image.Image:
    """Fabric, stone or plaster: noise of three scales."""
    fine = scene.cloud(max(8, scene.width // 2), max(8, scene.height // 2))
    share = 0.3 * fine + 0.4 * scene.cloud(24, 24) + 0.3 * scene.cloud(5, 5)
    base = scene.tone(0.03, 0.55)
    return _blend(base, mix(base, INK if scene.rng.random() < 0.6 else WHITE, 0.65), share)


def _room(scene: _Scene) -> Image.Image:
    """A wall and a table's edge, with a soft window of light."""
    x, y = scene.grid()
    edge = float(scene.rng.uniform(0.6, 0.85))
    wall, table = scene.tone(0.05, 0.45), scene.tone(0.1, 0.5, 0.25, 0.8)
    light = 0.25 * scene.cloud(4, 3) + 0.1 * (x - 0.5)
    front = np.asarray(_blend(table, mix(table, INK, 0.5), light + 0.3 * scene.cloud(4, 50)))
    back = np.asarray(_blend(wall, mix(wall, WHITE, 0.8), light))
    return Image.fromarray(np.where((y > edge)[..., None], front, back))


def _clutter(scene: _Scene) -> Image.Image:
    """Things out of focus behind the product."""
    picture = _gradient(scene)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(scene.rng.integers(6, 16))):
        x, y = scene.rng.uniform(-0.1, 1.1, 2) * (scene.width, scene.height)
        w, h = scene.rng.uniform(0.05, 0.3, 2) * scene.short
        tone, form = scene.tone(0.1, 0.8, 0.2), int(scene.rng.integers(3))
        if form == 0:
            pen.ellipse((x - w, y - w, x + w, y + w), tone)
        elif form == 1:
            pen.rectangle((x - w, y - h, x + w, y + h), tone)
        else:
            pen.polygon([(x, y - h), (x + w, y + h), (x - w, y + h / 2)], tone)
    return picture.filter(ImageFilter.GaussianBlur(scene.short * float(scene.rng.uniform(0.004, 0.03))))


_BACKDROPS: tuple[Callable[[_Scene], Image.Image], ...] = (
    *(_studio, _gradient, _wood, _tiles, _cloth, _room, _clutter),
)


# ---- camera ----


def _place(sprite: Image.Image, scene: _Scene) -> tuple[Image.Image, Image.Image]:
    """The product as the camera sees it, over the whole frame, and its mask."""
    yaw, pitch, roll = (math.radians(scene.swing(*reach)) for reach in ((6, 60), (4, 46), (2, 56)))
    grow = 0.87 - 0.1 * scene.level + scene.swing(0.03, 0.44)
    x = scene.width / 2 + scene.swing(0.02, 0.3) * scene.short
    y = scene.height / 2 + scene.swing(0.02, 0.26) * scene.short
    view = _homography(yaw, pitch, roll)
    side = sprite.width
    to_plane = np.array([[1 / side, 0, -0.5], [0, 1 / side, -0.5], [0, 0, 1]])
    to_frame = np.array([[grow * scene.short, 0, x], [0, grow * scene.short, y], [0, 0, 1]])
    seen = Image.new("RGBA", (scene.width, scene.height))
    _warp(sprite, to_frame @ view @ to_plane, seen)
    return seen.convert("RGB"), seen.getchannel("A")


def _warp(sprite: Image.Image, view: NDArray[np.float64], frame: Image.Image) -> None:
    """Put ``sprite``, seen by the homography ``view`` (sprite to frame), into the empty ``frame``."""
    left, top, right, low = sprite.getbbox() or (0, 0, *sprite.size)
    corners = view @ np.array([[left, right, right, left], [top, top, low, low], [1, 1, 1, 1]])
    places = corners[:2] / corners[2]
    # Only the product's own box is resampled: half of the frame, often less.
    start = np.clip(np.floor(places.min(axis=1)).astype(int) - 2, 0, frame.size)
    stop = np.clip(np.ceil(places.max(axis=1)).astype(int) + 2, 0, frame.size)
    wide, high = (stop - start).tolist()
    back = np.linalg.inv(view) @ np.array([[1, 0, start[0]], [0, 1, start[1]], [0, 0, 1]])
    data = (back / back[2, 2]).ravel()[:8].tolist()
    part = sprite.transform((wide, high), Image.Transform.PERSPECTIVE, data, Image.Resampling.BICUBIC)
    frame.paste(part, (int(start[0]), int(start[1])))


def _homography(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Plane to picture for a camera 2.4 sides away from a unit square turned by three angles in radians."""
    far = 2.4
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turn: NDArray[np.float64] = about_z @ about_x @ about_y
    turn[:, 2] = (0, 0, far)
    turn[:2] *= far
    return turn


def _shadowed(backdrop: Image.Image, mask: Image.Image, scene: _Scene) -> Image.Image:
    """The backdrop under the product's soft shadow and the darker one where it stands."""
    dx = round(scene.swing(0.03, 0.06) * scene.short)
    dy = round(float(scene.rng.uniform(0.015, 0.05)) * scene.short)
    deep = float(scene.rng.uniform(0.25, 0.55))
    shade = Image.new("L", mask.size)
    shade.paste(mask, (dx, dy))
    left, _, right, low = mask.getbbox() or (0, 0, 1, 1)
    if low < scene.height:
        flat = (right - left) * 0.05
        ImageDraw.Draw(shade).ellipse((left + flat, low - flat, right - flat, low + 0.8 * flat), 255)
    halved = shade.reduce(2).filter(ImageFilter.GaussianBlur(scene.short * 0.011))
    halved = halved.point(lambda level: level * deep)
    backdrop.paste((22, 20, 30), (0, 0), halved.resize(shade.size, Image.Resampling.BILINEAR))
    return backdrop


def _cover(picture: Image.Image, mask: Image.Image, scene: _Scene) -> None:
    """Now and then something in front of the product: something out of focus, or the shop's price badge."""
    if not scene.chance(0.0, 0.5):
        return
    left, top, right, low = mask.getbbox() or (0, 0, *picture.size)
    along, across, share, turn = scene.rng.random(4).tolist()
    x, y = left + along * (right - left), top + across * (low - top)
    r = min(right - left, low - top) * (0.14 + 0.2 * scene.level * share)
    if scene.rng.random() < 0.4:
        pen, off = ImageDraw.Draw(picture), f"-{10 * int(scene.rng.integers(1, 8))}%"
        pen.ellipse((x - r, y - r, x + r, y + r), (206, 44, 56))
        pen.text((x, y), off, WHITE, ImageFont.load_default(max(8, round(0.7 * r))), "mm")
        return
    angles = np.linspace(0, math.tau, 60)
    reach = 1.6 * r * (0.7 + 0.5 * np.cos(int(scene.rng.integers(1, 4)) * angles + math.tau * turn))
    points = zip((x + reach * np.cos(angles)).tolist(), (y + reach * np.sin(angles)).tolist(), strict=True)
    leaf = Image.new("L", picture.size)
    ImageDraw.Draw(leaf).polygon(list(points), 235)
    picture.paste(scene.tone(0.2, 0.6, 0.2, 0.8), (0, 0), leaf.filter(ImageFilter.GaussianBlur(0.18 * r)))


def _lit(picture: Image.Image, scene: _Scene) -> Image.Image:
    """The picture under the scene's light: exposure, temperature, contrast, fall-off, then noise and blur."""
    x, y = scene.grid()
    warm, tint = scene.swing(0.01, 0.27), scene.swing(0.005, 0.12)
    gain = (1 + scene.swing(0.02, 0.34)) * np.array([1 + warm, 1 + tint, 1 - warm], dtype=np.float32)
    fall = 1 + scene.swing(0.04, 0.6) * (x - 0.5) + scene.swing(0.04, 0.6) * (y - 0.5)
    fall = fall * (1 + (0.03 + 0.9 * scene.level * float(scene.rng.random())) * (scene.cloud(4, 4) - 0.5))
    contrast = 1 + scene.swing(0.02, 0.36)
    pixels = np.asarray(picture, dtype=np.float32) * fall[..., None]
    pixels = (pixels * gain - 128) * contrast + 128
    noise = scene.rng.standard_normal((scene.height, scene.width), dtype=np.float32)
    pixels += (noise * (0.8 + 14 * scene.level * float(scene.rng.random()) ** 2))[..., None]
    result = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    blur = scene.short * 0.008 * scene.level * float(scene.rng.random()) ** 2
    return result.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.3 else result


def _sketched(picture: Image.Image) -> Image.Image:
    """Pencil on paper: the grey picture divided by its blurred negative (colour dodge), so that edges alone stay."""
    grey = np.asarray(picture.convert("L"), dtype=np.float32)
    soft = picture.convert("L").filter(ImageFilter.GaussianBlur(max(picture.size) * 0.012))
    lines = 255 * grey / np.maximum(np.asarray(soft, dtype=np.float32), 1)
    return Image.fromarray(np.clip(lines, 0, 255).astype(np.uint8)).convert("RGB")


def _encode(picture: Image.Image, scene: _Scene) -> bytes:
    lowest = 92 - 32 * scene.level
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=round(float(scene.rng.uniform(lowest, 95))))
    return buffer.getvalue()
