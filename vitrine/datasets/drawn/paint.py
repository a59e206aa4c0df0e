"""Painting generated products: outlines, patterns and shading on a square canvas whose side is 100 units."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Field = NDArray[np.floating]
Outline = NDArray[np.float64]

WHITE: Colour = (244, 242, 238)
INK: Colour = (38, 38, 44)
STEEL: Colour = (186, 190, 197)
WOODS: tuple[Colour, ...] = ((176, 124, 76), (122, 78, 46), (214, 176, 128))
PATTERNS = (
    "plain", "stripes", "pinstripes", "columns", "diagonal", "dots",
    "checks", "gingham", "gradient", "chevron", "band", "block",
)  # fmt: skip
EMBLEMS = ("star", "heart", "sun", "peaks", "bolt", "moon", "rings", "none")


@dataclass(frozen=True)
class Product:
    """One product of the generated catalog and everything that decides its looks.

    ``number`` counts from 0; ``slug`` is the product's id, safe in paths and SQL. ``body``, ``accent`` and
    ``trim`` are RGB colours in 0..255; ``period`` is the pattern's period in canvas units (the canvas is 100
    wide); ``stretch`` and ``taper`` in [-1, 1] change the proportions; ``variant`` (0..2) picks between forms
    of a part.
    """

    number: int
    kind: str
    slug: str
    body: Colour
    accent: Colour
    trim: Colour
    pattern: str
    period: float
    stretch: float
    taper: float
    variant: int
    emblem: str
    label: str


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour ``share`` (0..1) of the way from ``first`` to ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def dark(colour: Colour, share: float = 0.35) -> Colour:
    """``colour`` moved towards near-black."""
    return mix(colour, (18, 18, 24), share)


def pale(colour: Colour, share: float = 0.4) -> Colour:
    """``colour`` moved towards white."""
    return mix(colour, (255, 255, 255), share)


def readable_on(colour: Colour) -> Colour:
    """Near-white or near-black, whichever is read more easily on ``colour``."""
    return INK if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 140 else WHITE


def seen_on(ground: Colour, wanted: Colour) -> Colour:
    """``wanted`` where it stands out from ``ground``, else what is read most easily on it."""
    apart = sum(abs(a - b) for a, b in zip(ground, wanted, strict=True))
    return wanted if apart > 190 else readable_on(ground)


# ---- outlines: arrays of n x 2 points in canvas units ----


def poly(*points: tuple[float, float]) -> Outline:
    """The polygon through ``points``."""
    return np.asarray(points, dtype=np.float64)


def arc(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Outline:
    """Points of an ellipse's arc; angles in degrees, clockwise from three o'clock."""
    angles = np.radians(np.linspace(start, stop, 49))
    return np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 2.0) -> Outline:
    """A rectangle with rounded corners."""
    r = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    corners = ((x1 - r, y1 - r, 0), (x0 + r, y1 - r, 90), (x0 + r, y0 + r, 180), (x1 - r, y0 + r, 270))
    return np.concatenate([arc(x, y, r, r, turn, turn + 90)[::6] for x, y, turn in corners])


def smooth(*points: tuple[float, float], closed: bool = True) -> Outline:
    """A Catmull-Rom curve through ``points``."""
    knots = np.asarray(points, dtype=np.float64)
    ends = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([ends[0], knots, ends[1]])
    p0, p1, p2, p3 = (padded[k : len(padded) - 3 + k, None, :] for k in range(4))
    t = np.linspace(0, 1, 10, endpoint=False)[None, :, None]
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    flat = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, knots[-1:]])


def barrel(cx: float, top: float, bottom: float, wide_top: float, wide_bottom: float, dip: float) -> Outline:
    """A cylinder or cone from a little above: half widths at its ends, ``dip`` half an ellipse's height."""
    lower = arc(cx, bottom - dip, wide_bottom, dip, 0, 180)
    return np.concatenate([lower, poly((cx - wide_top, top), (cx + wide_top, top))])


def both_sides(*right: tuple[float, float]) -> list[tuple[float, float]]:
    """Knots of a figure symmetric about x = 50, from those of its right half listed top to bottom."""
    return [*right, *((100 - x, y) for x, y in reversed(right))]


# ---- painting ----


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


def pattern_share(item: Product, x: Field, y: Field) -> Field:
    """Share of the accent colour (0..1) at columns ``x`` (1 x w) and rows ``y`` (h x 1), in canvas units."""
    p = item.period
    column, row = np.floor(x / p) % 2, np.floor(y / p) % 2
    cell = np.floor(y / p) % 2 * (p / 2)
    shares: dict[str, Callable[[], Field]] = {
        "plain": lambda: x * 0 + y * 0,
        "stripes": lambda: x * 0 + row,
        "pinstripes": lambda: (x % (p * 0.7) < p * 0.16) + y * 0,
        "columns": lambda: column + y * 0,
        "diagonal": lambda: np.floor((x + y) / p) % 2,
        "dots": lambda: (((x + cell) % p - p / 2) ** 2 + (y % p - p / 2) ** 2 < (0.3 * p) ** 2) + 0.0,
        "checks": lambda: (column + row) % 2,
        "gingham": lambda: 0.5 * column + 0.5 * row,
        "gradient": lambda: np.clip((y - 20) / 62, 0, 1) + x * 0,
        "chevron": lambda: np.floor((y + np.abs(x % (2 * p) - p)) / p) % 2,
        "band": lambda: (np.abs(y - 58) < p) + x * 0,
        "block": lambda: (y > 56) + x * 0,
    }
    return shares[item.pattern]().astype(np.float32)


class Canvas:
    """A transparent square image painted in units: (0, 0) is the top left corner, (100, 100) the other."""

    def __init__(self, side: int, item: Product) -> None:
        """A canvas of ``side`` x ``side`` pixels for the parts of ``item``."""
        self.image = Image.new("RGBA", (side, side))
        self.item = item
        self._unit = side / 100
        self._pen = ImageDraw.Draw(self.image)

    def flat(self, outline: Outline, colour: Colour) -> None:
        """Fill ``outline`` with one colour, without shading."""
        self._pen.polygon([(x, y) for x, y in (outline * self._unit).tolist()], fill=colour)

    def fill(
        self,
        outline: Outline,
        colour: Colour | None = None,
        shade: str = "soft",
        gloss: float = 0.0,
        alpha: float = 1.0,
    ) -> None:
        """Fill ``outline`` with ``colour`` (None: the product's own pattern), lit from the upper left.

        ``shade`` is the form the light falls on: "soft" (padded edges), "tube" (upright cylinder), "ball".
        ``gloss`` (0..1) adds a highlight; ``alpha`` below 1 lets the parts below show.
        """
        points = outline * self._unit
        pad = 0 if shade != "soft" else round(2 * self._unit)
        low = np.floor(points.min(axis=0)).astype(int) - pad
        left, top = low.tolist()
        wide, high = (np.ceil(points.max(axis=0)).astype(int) + pad + 1 - low).tolist()
        mask = Image.new("L", (wide, high))
        ImageDraw.Draw(mask).polygon([(x, y) for x, y in (points - low).tolist()], fill=round(255 * alpha))
        x = np.arange(wide, dtype=np.float32)[None, :]
        y = np.arange(high, dtype=np.float32)[:, None]
        light, shine = self._light(shade, mask, (x - pad) / (wide - 2 * pad), (y - pad) / (high - 2 * pad))
        if colour is None:
            share = pattern_share(self.item, (x + left) / self._unit, (y + top) / self._unit)
            body, accent = (np.asarray(part, dtype=np.float32) for part in (self.item.body, self.item.accent))
            paint = (body + share[..., None] * (accent - body)) * light[..., None]
        else:
            paint = np.asarray(colour, dtype=np.float32) * light[..., None]
        if gloss:
            paint += (255 * gloss) * shine[..., None]
        tile = Image.fromarray(np.clip(paint, 0, 255).astype(np.uint8))
        self.image.paste(tile, (left, top), mask)

    def _light(self, shade: str, mask: Image.Image, u: Field, v: Field) -> tuple[Field, Field]:
        """Brightness and highlight of a part's box at places u, v (0..1)."""
        if shade == "tube":
            n = np.clip(2 * u - 1, -1, 1)
            light = 0.42 + 0.66 * np.sqrt(1 - 0.92 * n * n) - 0.16 * n + 0.05 * (0.5 - v)
            shine = np.exp(-(((u - 0.24) / 0.05) ** 2)) + 0.35 * np.exp(-(((u - 0.9) / 0.03) ** 2))
            return light, shine + v * 0
        if shade == "ball":
            reach = np.clip(1 - ((u - 0.36) / 0.78) ** 2 - ((v - 0.3) / 0.84) ** 2, 0, 1)
            return 0.5 + 0.62 * np.sqrt(reach), np.exp(-(((u - 0.3) / 0.09) ** 2 + ((v - 0.24) / 0.08) ** 2))
        halved = mask.reduce(2).filter(ImageFilter.GaussianBlur(0.75 * self._unit))
        blurred = halved.resize(mask.size, Image.Resampling.BILINEAR)
        edge = np.asarray(blurred, dtype=np.float32) / max(mask.getextrema()[1], 1)
        step = max(1, round(self._unit))
        slope = edge - np.roll(edge, (step, step), axis=(0, 1))
        return 0.62 + 0.42 * edge + 0.5 * slope + 0.1 * (0.5 - v), np.clip(slope, 0, 1) * 1.2

    def stroke(self, path: Outline, width: float, colour: Colour, round_: bool = True) -> None:
        """A line of ``width`` units along ``path``; ``round_`` lines are lit like a tube with round ends."""
        layers = ((1.0, 0.0, dark(colour, 0.42)), (0.78, 0.05, colour), (0.22, 0.2, pale(colour, 0.45)))
        for share, lift, tone in layers if round_ else ((1.0, 0.0, colour),):
            points = [(x, y) for x, y in ((path - lift * width) * self._unit).tolist()]
            thick = max(1, round(width * share * self._unit))
            self._pen.line(points, fill=tone, width=thick, joint="curve")
            if round_:
                for x, y in (points[0], points[-1]):
                    self._pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=tone)

    def text(self, x: float, y: float, words: str, height: float, colour: Colour, widest: float = 40.0) -> None:
        """``words`` centred on (x, y), ``height`` units high or less, so as to be at most ``widest`` wide."""
        pixels = max(6, round(min(height, widest / (0.66 * max(len(words), 1))) * self._unit))
        stroke = pixels // 16
        self._pen.text((x * self._unit, y * self._unit), words, colour, _font(pixels), "mm", stroke_width=stroke)

    def sign(self, x: float, y: float, r: float, ground: Colour) -> None:
        """The product's emblem and brand, on a patch of ``ground`` that keeps both readable over any pattern."""
        ink = readable_on(ground)
        if self.item.pattern not in ("plain", "gradient"):
            self.fill(arc(x, y, r * 1.45, r * 1.45), ground, alpha=0.94)
        self.emblem(x, y - 0.25 * r, r * 0.72, seen_on(ground, self.item.trim))
        self.text(x, y + 0.85 * r, self.item.label, r * 0.55, ink, r * 2.3)

    def emblem(self, x: float, y: float, r: float, colour: Colour) -> None:
        """The product's printed sign, within ``r`` units of (x, y): its initial where it has no other."""
        if self.item.emblem == "none":
            self.text(x, y, self.item.label[:1], r * 1.9, colour)
        for part in _emblem(self.item.emblem):
            self.flat(part * r + (x, y), colour)
        if self.item.emblem == "rings":
            for shift in (-0.38, 0.38):
                self.stroke(arc(x + shift * r, y, 0.55 * r, 0.55 * r), r * 0.2, colour, round_=False)


def _emblem(name: str) -> list[Outline]:
    """The outlines of a sign of radius 1 about the origin."""
    if name == "star":
        angles = np.radians(np.arange(10) * 36 - 90)
        radii = np.where(np.arange(10) % 2, 0.42, 1.0)
        return [np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)]
    if name == "heart":
        half = ((0.55, -0.85), (0.95, -0.35), (0.5, 0.4))
        return [smooth((0, -0.5), *half, (0, 0.9), *((-x, y) for x, y in reversed(half)))]
    if name == "sun":
        angles = np.radians(np.arange(32) * 11.25)
        radii = np.where(np.arange(32) // 2 % 2, 0.62, 1.0)
        return [np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)]
    if name == "peaks":
        return [poly((-1, 0.7), (-0.3, -0.7), (0.05, 0), (0.35, -0.35), (1, 0.7))]
    if name == "bolt":
        return [poly((0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.6, -0.2), (0.05, -0.2))]
    if name == "moon":
        return [np.concatenate([arc(0, 0, 0.9, 0.9, 60, 300), arc(0.45, 0, 0.78, 0.78, 270, 90)])]
    return []
