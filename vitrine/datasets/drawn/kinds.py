"""How each kind of generated product looks: its parts, painted back to front."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image

from vitrine.datasets.drawn.paint import (
    INK,
    STEEL,
    WHITE,
    WOODS,
    Canvas,
    Colour,
    Product,
    arc,
    barrel,
    both_sides,
    box,
    dark,
    mix,
    pale,
    poly,
    readable_on,
    seen_on,
    smooth,
)


# Lists of points are wrapped by hand: one number a line would hide the shapes.
# fmt: off
def _mug(c: Canvas, item: Product) -> None:
    half, low, lean = 23 + 3 * item.stretch, 84 - 5 * item.stretch, 3 * item.taper
    cx, top = 43.0, 27 + 4 * item.stretch
    middle = (top + low) / 2
    grip = item.trim if item.variant == 1 else item.body
    reach = cx + half - 3
    if item.variant == 2:
        path = smooth((reach, middle - 16), (reach + 17, middle - 15), (reach + 17, middle + 8),
            (reach - 1, middle + 16), closed=False)
    else:
        path = arc(reach, middle, 17, 16, -95, 95)
    c.stroke(path, 6.5, grip)
    c.fill(barrel(cx, top, low, half, half - 3 + lean, 6), None, "tube", 0.32)
    c.fill(arc(cx, top, half, 6), pale(item.body, 0.35))
    c.fill(arc(cx, top + 0.4, half - 2, 4.6), dark(item.trim, 0.55), "tube")
    if item.variant != 1:
        c.fill(arc(cx, top + 1.6, half - 4, 3.2), (92, 56, 34), "tube")
    _print(c, item, cx - 1, middle + 4, 9, item.body)


def _print(c: Canvas, item: Product, x: float, y: float, r: float, ground: Colour) -> None:
    """The product's sign and brand on a patch that keeps both readable over any pattern."""
    ink = readable_on(ground)
    if item.pattern not in ("plain", "gradient"):
        c.fill(arc(x, y, r * 1.45, r * 1.45), ground, alpha=0.94)
    c.emblem(x, y - 0.25 * r, r * 0.72, seen_on(ground, item.trim))
    c.text(x, y + 0.85 * r, item.label, r * 0.55, ink, r * 2.3)


def _bottle(c: Canvas, item: Product) -> None:
    half, neck = 14 + 2.5 * item.stretch, (6.0, 8.5, 5.0)[item.variant]
    shoulder = (34, 28, 42)[item.variant]
    knots = ((neck, 17), (neck, shoulder - 9), (half - 0.6, shoulder), (half, shoulder + 10))
    side = smooth(*knots, closed=False) + (50, 0)
    foot = arc(50, 88, half, 5, 0, 180)
    c.fill(np.concatenate([side, foot, (side * (-1, 1) + (100, 0))[::-1]]), None, "tube", 0.4)
    cap = neck + 2.2
    c.fill(barrel(50, 8 if item.variant < 2 else 5, 19, cap, cap, 1.6), item.trim, "tube", 0.3)
    c.fill(arc(50, 8 if item.variant < 2 else 5, cap, 1.6), pale(item.trim, 0.3))
    if item.variant == 1:
        c.stroke(arc(50, 8, 6, 6, 180, 360), 2.4, dark(item.trim, 0.2))
    paper = WHITE if item.taper < 0.3 else pale(item.accent, 0.75)
    tall = 13 + 3 * item.taper
    c.fill(barrel(50, 62 - tall, 63 + tall, half, half, 1.5), paper, "tube", 0.1)
    c.fill(barrel(50, 62 - tall, 65 - tall, half, half, 1), item.trim, "tube")
    c.emblem(50, 58, 6.5, seen_on(paper, item.accent))
    c.text(50, 69, item.label, 7, INK, 2 * half - 3)


def _tshirt(c: Canvas, item: Product) -> None:
    w, hem = 21 + 2.5 * item.stretch, 88 + 3 * item.taper
    cuff = 46 if item.variant < 2 else 62
    left = smooth((50 - w + 3, 19), (22, 24), (12, cuff - 10), (8, cuff - 3), (17, cuff + 4),
        (50 - w + 1, cuff - 8), (50 - w + 4, 34))
    for sleeve in (left, left * (-1, 1) + (100, 0)):
        c.fill(sleeve, item.trim if item.variant == 1 else None)
    knots = both_sides((58, 14), (50 + w - 3, 18), (50 + w, 36), (50 + w - 0.5, 60), (50 + w, hem - 4),
        (50 + w - 4, hem))
    c.fill(smooth(*knots[:6], (50, hem + 0.6), *knots[6:], (50, 17)), None)
    deep = 34 if item.taper > 0.4 else 25
    c.fill(smooth((40, 13.5), (50, 15), (60, 13.5), (57, 20), (50, deep), (43, 20)), dark(item.body, 0.5))
    collar = smooth((40, 13.5), (43, 20), (50, deep), (57, 20), (60, 13.5), closed=False)
    c.stroke(collar, 2.6, item.trim, round_=False)
    for x, bend in ((38, 3), (62, -3)):
        fold = smooth((x, 84), (x + bend / 2, 70), (x + bend, 58), (x + bend + 1, 70), (x + 2, 84))
        c.fill(fold, dark(item.body, 0.5), alpha=0.22)
    _print(c, item, 50, 46, 10.5, item.body)


def _sneaker(c: Canvas, item: Product) -> None:
    high = 27 - 9 * (item.variant == 2) + 3 * item.stretch
    sole = WHITE if item.variant != 1 else item.trim
    lining = dark(item.trim, 0.45)
    c.fill(smooth((12, high + 2), (24, high + 4), (35, high + 1), (37, high + 9), (24, high + 12),
        (11, high + 8)), lining)
    tongue = smooth((34, high - 5), (41, high - 3), (52, 44), (46, 48), (35, high + 10))
    c.fill(tongue, pale(item.trim, 0.15))
    upper = smooth((9, high + 3), (13, high + 1), (17, high + 7), (25, high + 10), (34, high + 4),
        (37, high + 2), (44, 41), (55, 52), (70, 57), (85, 61), (93, 69), (93, 77), (50, 79), (9, 77),
        (7, 60))
    c.fill(upper, None, gloss=0.12)
    c.fill(smooth((72, 58), (86, 61), (93, 69), (94, 78), (76, 78), (71, 68)), item.trim, gloss=0.1)
    c.fill(smooth((7.6, 54), (16, 52), (21, 64), (19, 78), (8, 78), (6.5, 66)), item.trim)
    c.fill(box(7, high + 2, 12.5, high + 14, 2.2), item.accent)
    swoosh = (smooth((25, 74), (30, 62), (40, 68), (62, 55), (45, 74), (34, 77)), poly((33, 76), (41, 52),
        (46, 52), (40, 76)), arc(29, high + 22, 7.5, 7.5))[item.variant]
    mark = pale(item.accent, 0.1) if item.pattern == "plain" else WHITE
    c.fill(swoosh, mark)
    if item.variant == 1:
        c.fill(swoosh + (10, 0), mark)
    if item.variant == 2:
        c.emblem(29, high + 22, 5, item.trim)
    for k in range(5):
        x, y = 38 + 4.6 * k, high + 12 + (50 - high) / 5.2 * k
        c.stroke(poly((x - 5, y + 3), (x + 4, y - 3)), 2.4, WHITE)
    wave = smooth((5, 76), (30, 77.5), (60, 77), (80, 75), (95, 73), (96.5, 79), (94, 86), (60, 87), (20, 87),
        (7, 86))
    c.fill(wave, sole, gloss=0.15)
    c.stroke(smooth((6, 80.5), (40, 81.5), (75, 81), (95.5, 78.5), closed=False), 1.4, item.accent,
        round_=False)
    c.flat(smooth((8, 85.5), (50, 86.5), (92, 85), (90, 88.6), (50, 89), (12, 88.6)), dark(item.trim, 0.5))


def _backpack(c: Canvas, item: Product) -> None:
    w, top = 25 + 3 * item.stretch, 20 - 2 * item.taper
    for side in (-1, 1):
        strap = smooth((50 + side * 12, top + 4), (50 + side * (w + 6), 38), (50 + side * (w + 7), 66),
            (50 + side * (w - 2), 84), closed=False)
        c.stroke(strap, 5, dark(item.trim, 0.25))
    c.stroke(arc(50, top + 1, 9, 10, 180, 360), 3.4, item.trim)
    for side in (-1, 1):
        c.fill(box(50 + side * w - 6, 56, 50 + side * w + 6, 84, 5), dark(item.body, 0.25))
    c.fill(smooth((50, top - 1), (50 + w - 6, top + 3), (50 + w, top + 16), (50 + w, 60), (50 + w, 84),
        (50 + w - 6, 91), (50, 92), (50 - w + 6, 91), (50 - w, 84), (50 - w, 60), (50 - w, top + 16),
        (50 - w + 6, top + 3)), None)
    zipper = smooth((50 - w + 2, 50), (50 - w + 5, top + 14), (50, top + 7), (50 + w - 5, top + 14),
        (50 + w - 2, 50), closed=False)
    c.stroke(zipper, 1.8, dark(item.body, 0.6), round_=False)
    pocket = item.trim if item.variant else item.accent
    c.fill(box(50 - w + 5, 58, 50 + w - 5, 88, 6), pocket)
    c.stroke(poly((50 - w + 8, 65), (50 + w - 8, 65)), 1.6, dark(pocket, 0.55), round_=False)
    c.stroke(poly((50 + w - 11, 65), (50 + w - 11, 71)), 2, STEEL)
    if item.variant == 2:
        for side in (-1, 1):
            c.fill(box(50 + side * 12 - 2.5, top + 8, 50 + side * 12 + 2.5, 70, 1), mix(WOODS[1], item.trim,
                0.2))
            c.fill(box(50 + side * 12 - 3.4, 66, 50 + side * 12 + 3.4, 72, 1), STEEL)
    c.text(50, 78, item.label, 7, readable_on(pocket), 2 * w - 16)
    c.fill(arc(50, 43, 9.5, 9.5), readable_on(item.trim))
    c.emblem(50, 43, 6.5, item.trim)


def _chair(c: Canvas, item: Product) -> None:
    wood = WOODS[item.number % 3] if item.variant != 1 else dark(item.trim, 0.2)
    w, seat = 22 + 2 * item.stretch, 56 + 2 * item.taper
    for x, foot in ((50 - w + 6, 50 - w + 3), (50 + w - 5, 50 + w - 1)):
        c.fill(poly((x - 2, seat), (x + 2, seat), (foot + 1.4, 84), (foot - 1.4, 84)), dark(wood, 0.4),
            "tube")
    for side in (-1, 1):
        c.fill(poly((50 + side * (w - 3) - 2, 12), (50 + side * (w - 3) + 2, 12),
            (50 + side * (w - 1) + 2, seat), (50 + side * (w - 1) - 2, seat)), wood, "tube")
    if item.variant == 2:
        for k in range(5):
            c.fill(box(50 - w + 7 + k * (2 * w - 16) / 4 - 1, 16, 50 - w + 7 + k * (2 * w - 16) / 4 + 3,
                seat - 4, 1), wood)
        c.fill(smooth((50 - w, 12), (50, 7), (50 + w, 12), (50 + w - 1, 21), (50, 18), (50 - w + 1, 21)),
            None)
    else:
        drop = 44 if item.variant == 0 else 34
        c.fill(smooth((50 - w, 10), (50, 7), (50 + w, 10), (50 + w + 0.5, 26), (50 + w - 2, drop),
            (50, drop + 2), (50 - w + 2, drop), (50 - w - 0.5, 26)), None)
    for x, foot in ((50 - w, 50 - w - 5), (50 + w, 50 + w + 5)):
        c.fill(poly((x - 2.6, seat + 8), (x + 2.6, seat + 8), (foot + 1.8, 95), (foot - 1.8, 95)), wood,
            "tube")
    c.stroke(poly((50 - w - 2, 80), (50 + w + 2, 80)), 2.2, wood)
    c.fill(smooth((50 - w + 2, seat - 3), (50, seat - 4), (50 + w - 2, seat - 3), (50 + w + 5, seat + 8),
        (50 + w + 2, seat + 13), (50, seat + 14), (50 - w - 2, seat + 13), (50 - w - 5, seat + 8)),
        dark(item.body, 0.3))
    c.fill(smooth((50 - w + 2, seat - 4), (50, seat - 5), (50 + w - 2, seat - 4), (50 + w + 5, seat + 7),
        (50, seat + 10), (50 - w - 5, seat + 7)), None)


def _lamp(c: Canvas, item: Product) -> None:
    top, low, rim = 14 + 4 * item.taper, 31 + 3 * item.stretch, 50.0
    c.fill(barrel(50, 84, 94, 17, 18, 4), item.trim, "tube", 0.25)
    c.fill(arc(50, 84.5, 17, 4), pale(item.trim, 0.25))
    if item.variant == 0:
        c.fill(box(47.6, 46, 52.4, 86, 1), item.trim, "tube", 0.3)
        c.fill(arc(50, 68, 6, 6), item.accent, "ball", 0.5)
    elif item.variant == 1:
        body = smooth((53, 50), (54, 58), (64, 70), (60, 82), (50, 86), (40, 82), (36, 70), (46, 58),
            (47, 50))
        c.fill(body, item.accent, "ball", 0.45)
    else:
        for k, r in enumerate((7.0, 8.5, 10.0)):
            c.fill(arc(50, 57 + 10 * k, r, 6.2), WOODS[k % 2] if item.taper > 0 else item.accent, "ball",
                0.35)
    shade = np.concatenate([poly((50 - top, 9), (50 + top, 9)), arc(50, rim, low, 5, 0, 180)])
    c.fill(shade, None, "tube")
    glow = np.concatenate([poly((50 - top * 0.4, 14), (50 + top * 0.4, 14)), arc(50, rim + 1, low * 0.62, 3,
        0, 180)])
    c.fill(glow, (255, 236, 180), "ball", alpha=0.28)
    c.stroke(arc(50, rim, low, 5, 2, 178), 1.5, item.trim, round_=False)
    c.fill(arc(50, 9, top, 2.2), (255, 240, 200))
    c.stroke(poly((50 + low * 0.45, 53), (50 + low * 0.45, 64)), 0.7, STEEL, round_=False)
    c.fill(arc(50 + low * 0.45, 65, 1.6, 1.6), STEEL, "ball", 0.4)


def _book(c: Canvas, item: Product) -> None:
    w, top = 52 + 5 * item.stretch, 12 - 2 * item.taper
    x0, x1, low, thick = 24.0, 24 + w, 84.0, 7 + 2.5 * item.taper
    c.flat(poly((x0, low), (x1, low), (x1 + 4, low + thick), (x0 - 4, low + thick)), dark(item.trim, 0.2))
    c.fill(poly((x0, low), (x1 - 1, low), (x1 + 1.5, low + thick - 2), (x0 - 2, low + thick - 2)),
        (240, 232, 214))
    for k in range(1, 4):
        y = low + k * (thick - 2) / 4
        c.stroke(poly((x0 - 1, y), (x1 + 0.5, y)), 0.4, (190, 180, 160), round_=False)
    c.fill(poly((x0, top), (x0, low), (x0 - 9, low + thick), (x0 - 9, top + thick * 0.8)), item.trim, "tube")
    for y in (24, 72):
        c.flat(poly((x0, y), (x0, y + 2), (x0 - 9, y + 2 + thick * 0.8), (x0 - 9, y + thick * 0.8)),
            pale(item.trim, 0.5))
    c.fill(poly((x0, top), (x1, top), (x1, low), (x0, low)), None)
    c.fill(poly((x0 + 2.5, top), (x0 + 4, top), (x0 + 4, low), (x0 + 2.5, low)), INK, alpha=0.3)
    middle = (x0 + x1) / 2 + 1
    plate = WHITE if item.variant != 1 else item.trim
    ink = readable_on(plate)
    if item.variant == 2:
        c.fill(poly((x0 + 4, 22), (x1, 22), (x1, 42), (x0 + 4, 42)), plate)
    else:
        c.fill(box(x0 + 10, 20, x1 - 6, 44, 2), plate)
    c.text(middle, 28, item.label, 11, ink, w - 20)
    c.text(middle, 38, f"a book of {item.emblem}s" if item.emblem != "none" else "a novel", 5, ink, w - 20)
    c.fill(arc(middle, 62, 12, 12), plate)
    c.emblem(middle, 62, 9, seen_on(plate, item.trim))


def _watch(c: Canvas, item: Product) -> None:
    r, half = 21 + 2 * item.stretch, 10 + 1.5 * item.taper
    square, metal = item.variant == 2, STEEL if item.variant != 1 else (214, 178, 96)
    upper = smooth((50 - half, 34), (50 - half + 1, 16), (50 - half + 2, 4), (50, 3), (50 + half - 2, 4),
        (50 + half - 1, 16), (50 + half, 34))
    for strap in (upper, upper * (1, -1) + (0, 100)):
        c.fill(strap, None)
    for k in range(4):
        c.flat(arc(50, 80 + 4 * k, 1, 1), dark(item.body, 0.65))
    c.fill(box(50 - half - 1, 8, 50 + half + 1, 12, 1), dark(item.body, 0.3))
    c.fill(box(50 + r, 47, 50 + r + 5, 53, 1), metal, "tube")
    case = box(50 - r, 50 - r - 2, 50 + r, 52 + r, 6) if square else arc(50, 50, r + 2, r + 2)
    c.fill(case, metal, "ball", 0.35)
    dial = (WHITE, item.trim, item.accent)[item.number // 16 % 3]
    inner = box(53 - r, 51 - r, 47 + r, 49 + r, 4) if square else arc(50, 50, r - 2, r - 2)
    c.fill(inner, dial)
    ink, reach = readable_on(dial), r - 4.5
    for k in range(12):
        dx, dy = math.sin(math.radians(30 * k)), -math.cos(math.radians(30 * k))
        start = reach - (4 if k % 3 == 0 else 2)
        tick = poly((50 + start * dx, 50 + start * dy), (50 + reach * dx, 50 + reach * dy))
        c.stroke(tick, 1.5 if k % 3 == 0 else 0.8, ink, round_=False)
    c.text(50, 42, item.label, 4.2, ink, 16)
    for angle, length, width in ((305, 10.5, 2.2), (60, 15.0, 1.6), (200, 15.0, 0.6)):
        dx, dy = math.sin(math.radians(angle)), -math.cos(math.radians(angle))
        tone = item.accent if width < 1 and dial != item.accent else ink
        c.stroke(poly((50 - 3 * dx, 50 - 3 * dy), (50 + length * dx, 50 + length * dy)), width, tone,
            round_=False)
    c.fill(arc(50, 50, 1.6, 1.6), metal)
    c.fill(smooth((38, 40), (46, 34), (52, 34), (40, 50)), (255, 255, 255), alpha=0.16)


def _headphones(c: Canvas, item: Product) -> None:
    w, top = 30 + 2.5 * item.stretch, 16 - 3 * item.taper
    c.stroke(arc(50, 52, w, 52 - top, 180, 360), 8, item.trim)
    c.stroke(arc(50, 52, w - 3.5, 46.5 - top, 205, 335), 4.5, item.accent)
    for side in (-1, 1):
        x = 50 + side * w
        c.fill(box(x - 2.2, 46, x + 2.2, 62, 1), STEEL, "tube", 0.2)
        c.fill(box(x - side * 7 - 5.5, 50, x - side * 7 + 5.5, 87, 5.5), dark(item.trim, 0.6))
        if item.variant == 2:
            c.fill(box(x - 8 + side * 2, 49, x + 8 + side * 2, 88, 5), None, gloss=0.2)
        else:
            c.fill(arc(x + side * 2, 68.5, 9.5, 20.5), None, gloss=0.2)
        c.fill(arc(x + side * 4, 68.5, 5, 11), item.accent if item.variant != 1 else STEEL, "ball", 0.3)
        c.text(x + side * 4, 68.5, item.label[:1], 8,
            readable_on(item.accent if item.variant != 1 else STEEL))
    if item.variant == 1:
        c.stroke(smooth((50 - w, 89), (50 - w + 3, 95), (50, 94), (64, 97), closed=False), 1.4,
            dark(item.trim), round_=False)


def _teapot(c: Canvas, item: Product) -> None:
    w, cy, high = 26 + 2 * item.stretch, 60.0, 25 - 3 * item.stretch
    side = 48.0
    if item.variant == 1:
        c.stroke(arc(side, 38, w * 0.8, 30, 195, 345), 4, WOODS[1])
    else:
        c.stroke(arc(side + w - 2, 55, 17, 17, -110, 100), 5.5, item.trim if item.variant == 2 else item.body)
    spout = smooth((side - w + 4, 72), (side - w - 9, 62), (side - w - 13, 46), (side - w - 18, 39),
        (side - w - 10, 37), (side - w - 4, 46), (side - w + 6, 54))
    c.fill(spout, item.body, gloss=0.2)
    c.flat(arc(side - w - 13.6, 38.4, 3.6, 1.4), dark(item.body, 0.6))
    c.fill(barrel(side, cy + high - 5, cy + high + 4, w * 0.5, w * 0.56, 2), item.trim, "tube")
    c.fill(arc(side, cy, w, high), None, "ball", 0.5)
    c.fill(arc(side, cy - high + 4, w * 0.52, 3.6), dark(item.body, 0.4))
    lid = np.concatenate([arc(side, cy - high + 3, w * 0.5, 9 + 2 * item.taper, 180, 360), arc(side,
        cy - high + 3, w * 0.5, 3, 0, 180)])
    c.fill(lid, item.trim, "ball", 0.4)
    c.fill(arc(side, cy - high - 8 - 2 * item.taper, 4, 4), item.accent, "ball", 0.5)
    _print(c, item, side, cy + 2, 8, item.body)


def _hat(c: Canvas, item: Product) -> None:
    w, brim, top = 45 + 2 * item.stretch, 13 + 3 * item.taper, 25 - 4 * item.stretch
    c.fill(arc(50, 70, w, brim), dark(item.body, 0.35))
    c.fill(arc(50, 68, w, brim), None, gloss=0.1)
    c.fill(arc(50, 67, 29, 7), INK, alpha=0.35)
    dent = 5 if item.variant == 0 else -3
    crown = smooth((24, 68), (26, 48), (31, top + 3), (40, top), (50, top + dent), (60, top), (69, top + 3),
        (74, 48), (76, 68), (64, 73), (50, 74.5), (36, 73))
    c.fill(crown, None, "tube", 0.08)
    if item.variant == 0:
        c.fill(smooth((38, top + 3), (50, top + 6), (62, top + 3), (54, top + 13), (50, top + 18),
            (46, top + 13)), INK, alpha=0.2)
    ribbon = np.concatenate([smooth((75.6, 57), (62, 62), (50, 63), (38, 62), (24.4, 57), closed=False),
        smooth((24, 67), (36, 72.5), (50, 74), (64, 72.5), (76, 67), closed=False)])
    c.fill(ribbon, item.trim, "tube")
    if item.variant == 1:
        for tail in (poly((68, 65), (79, 57), (78, 71)), poly((68, 65), (59, 58), (60, 73))):
            c.fill(tail, item.accent)
        c.fill(arc(68.5, 65, 2.6, 3.2), dark(item.accent, 0.15))
    elif item.variant == 2:
        c.fill(smooth((68, 66), (70, 50), (78, 34), (83, 30), (82, 44), (76, 58), (71, 67)), item.accent)
        c.stroke(smooth((69, 66), (75, 50), (82, 33), closed=False), 0.8, dark(item.accent), round_=False)
    c.text(44, 67.5, item.label, 5, readable_on(item.trim), 24)


def _umbrella(c: Canvas, item: Product) -> None:
    w, low, top = 43 + 3 * item.stretch, 50.0, 12 - 3 * item.taper
    c.stroke(poly((50, 40), (50, 84)), 2.4, STEEL)
    grip = WOODS[item.number // 2 % 3] if item.variant else item.trim
    if item.variant == 2:
        c.fill(box(47, 80, 53, 95, 2.5), grip, "tube", 0.2)
    else:
        c.stroke(np.concatenate([poly((50, 74), (50, 88)), arc(43.5, 88, 6.5, 7, 0, 175)]), 4, grip)
    ribs = np.array([-1.0, -0.74, -0.3, 0.3, 0.74, 1.0])
    dome = [arc(50, low, w * abs(rib), low - top, 270, 360 if rib > 0 else 180) for rib in ribs]
    for k in range(5):
        (xa, xb), deep = (50 + w * ribs[k : k + 2]), 6.0
        hem = smooth((xb, low), ((xa + xb) / 2, low - deep), (xa, low), closed=False)
        panel = np.concatenate([dome[k + 1], hem, dome[k][::-1]])
        solid = (item.body, item.accent)[k % 2] if item.variant == 1 else None
        c.fill(panel, solid)
    c.fill(arc(50, low, w, low - top, 180, 360), (255, 255, 255), "ball", alpha=0.12)
    for rib in ribs[1:-1]:
        c.stroke(arc(50, low, w * abs(rib), low - top, 270, 360 if rib > 0 else 180), 0.6, dark(item.body,
            0.45), round_=False)
    c.fill(box(49, top - 7, 51, top + 1, 0.8), item.trim, "tube")
    for rib in ribs:
        c.flat(arc(50 + w * rib, low + 0.6, 1.1, 1.1), STEEL)
    if item.pattern in ("plain", "gradient") and item.variant != 1:
        c.text(50, 38, item.label, 6, readable_on(item.body), 22)


def _guitar(c: Canvas, item: Product) -> None:
    w = 22 + 2 * item.stretch
    if item.variant == 2:
        body = smooth((50, 54), (58, 50), (62, 42), (68, 44), (64, 58), (65, 68), (50 + w, 82), (60, 94),
            (50, 95), (40, 94), (50 - w, 82), (35, 66), (34, 54), (31, 41), (38, 43), (43, 53))
    else:
        body = smooth(*both_sides((50.1, 47), (50 + w * 0.55, 48), (50 + w * 0.74, 55), (50 + w * 0.6, 63),
            (50 + w * 0.82, 71), (50 + w, 82), (50 + w * 0.72, 93), (50.1, 96)))
    c.fill((body - (50, 72)) * 1.035 + (50, 72), dark(item.trim, 0.4))
    c.fill(body, None, gloss=0.25)
    if item.variant == 2:
        c.fill(smooth((56, 57), (62, 62), (64, 76), (68, 84), (60, 88), (55, 74)), WHITE)
        for pickup in (66, 76):
            c.fill(box(43, pickup, 57, pickup + 4, 1), INK)
    else:
        c.fill(arc(50, 66, 8.5, 8.5), item.trim)
        c.fill(arc(50, 66, 6.8, 6.8), (30, 22, 18))
    c.fill(box(41, 82, 59, 86, 1), dark(WOODS[1], 0.3))
    c.fill(poly((47, 16), (53, 16), (53.8, 62), (46.2, 62)), dark(WOODS[1], 0.25), "tube")
    for k in range(9):
        y = 19 + 4.6 * k
        c.stroke(poly((46.8, y), (53.2, y)), 0.5, STEEL, round_=False)
    head = smooth((46.5, 17), (45, 10), (44.5, 3), (50, 4.5), (55.5, 3), (55, 10), (53.5, 17))
    c.fill(head, item.trim, gloss=0.2)
    for y in (6, 10, 14):
        for x in (42.8, 57.2):
            c.fill(arc(x, y, 1.8, 1.3), STEEL, "ball", 0.3)
    for k in range(6):
        x = 47.6 + 0.96 * k
        c.stroke(poly((x, 10), (50 + (x - 50) * 1.5, 84)), 0.28, (228, 222, 206), round_=False)
    c.text(50, 90, item.label, 4, readable_on(item.body), 18)


def _toy_car(c: Canvas, item: Product) -> None:
    roof, tail, r = 33 - 3 * item.taper, (16, 10, 24)[item.variant], 10 + 0.8 * item.stretch
    cabin = smooth((tail + 4, 56), (tail + 12, roof + 6), (tail + 20, roof), (56, roof), (64, roof + 5),
        (74, 55))
    c.fill(cabin, item.trim if item.variant == 2 else item.body, gloss=0.2)
    glass = smooth((tail + 9, 54), (tail + 15, roof + 7), (tail + 21, roof + 4), (55, roof + 4),
        (61, roof + 7), (69, 54))
    c.fill(glass, (150, 196, 214), gloss=0.25)
    c.flat(poly((45, roof + 1), (48.5, roof + 1), (48.5, 56), (45, 56)),
        item.trim if item.variant == 2 else item.body)
    c.fill(poly((tail + 24, roof + 6), (tail + 29, roof + 6), (tail + 18, 53), (tail + 13, 53)),
        (255, 255, 255), alpha=0.35)
    body = smooth((5, 58), (8, 54), (20, 53), (72, 53), (88, 56), (95, 62), (96, 72), (93, 76), (50, 77),
        (8, 76), (4, 72))
    c.fill(body, None, gloss=0.25)
    c.fill(smooth((88, 59), (94, 61), (95, 67), (89, 66)), (255, 240, 170), gloss=0.4)
    c.fill(box(4, 60, 8, 68, 1.5), (206, 48, 44))
    for x in (2.0, 88.0):
        c.fill(box(x, 71, x + 10, 77, 2), STEEL, "tube", 0.2)
    c.stroke(smooth((34, 56), (33, 66), (36, 75), closed=False), 0.7, dark(item.body, 0.5), round_=False)
    c.stroke(smooth((60, 56), (62, 66), (60, 75), closed=False), 0.7, dark(item.body, 0.5), round_=False)
    c.fill(arc(48, 65.5, 7.5, 7.5), WHITE)
    c.text(48, 65.5, str(item.number % 97 + 1), 9, INK)
    c.text(72, 61, item.label, 4.6, readable_on(item.body), 18)
    for x in (24, 76):
        c.flat(arc(x, 76, r + 2.2, r + 2), dark(item.body, 0.7))
        c.fill(arc(x, 77, r, r), (44, 44, 48), "ball", 0.1)
        c.fill(arc(x, 77, r * 0.58, r * 0.58), item.accent if item.variant else STEEL, "ball", 0.4)
        c.fill(arc(x, 77, r * 0.2, r * 0.2), INK)


def _camera(c: Canvas, item: Product) -> None:
    w, top, r = 41 + 3 * item.stretch, 33.0, 19 + 2 * item.taper
    c.stroke(smooth((50 - w + 2, 42), (50 - w - 1, 20), (38, 9), (62, 9), (50 + w + 1, 20), (50 + w - 2, 42),
        closed=False), 2.6, item.accent)
    metal = STEEL if item.variant != 1 else INK
    c.fill(box(50 + w - 20, top - 6, 50 + w - 8, top + 2, 2), metal, "tube", 0.2)
    c.fill(box(50 - w + 8, top - 4.5, 50 - w + 22, top + 2, 2), metal, "tube", 0.2)
    c.fill(poly((37, top + 1), (41, top - 9), (59, top - 9), (63, top + 1)),
        item.trim if item.variant == 2 else metal)
    c.fill(box(50 - w, top, 50 + w, 86, 6), metal)
    c.fill(box(50 - w, top + 11, 50 + w, 79, 1.5), None)
    c.fill(arc(50, 62, r + 3, r + 3), metal, "ball", 0.3)
    for share, tone in ((1.0, INK), (0.8, (70, 72, 80)), (0.68, (24, 26, 34))):
        c.fill(arc(50, 62, r * share, r * share), tone, "ball", 0.15)
    c.fill(arc(50, 62, r * 0.45, r * 0.45), (52, 74, 128), "ball", 0.7)
    c.fill(arc(55, 67, r * 0.16, r * 0.12), (150, 120, 190), alpha=0.7)
    c.fill(box(50 + w - 19, top + 2.5, 50 + w - 6, top + 9, 1), (226, 232, 240), gloss=0.3)
    c.fill(arc(50 - w + 8, top + 6, 2, 2), (206, 48, 44), "ball", 0.4)
    c.text(50, top + 5.4, item.label, 6.5, readable_on(metal), 22)
# fmt: on


DRAWERS: dict[str, Callable[[Canvas, Product], None]] = {
    "mug": _mug, "sneaker": _sneaker, "backpack": _backpack, "bottle": _bottle,
    "t-shirt": _tshirt, "chair": _chair, "lamp": _lamp, "teapot": _teapot,
    "book": _book, "watch": _watch, "headphones": _headphones, "hat": _hat,
    "umbrella": _umbrella, "guitar": _guitar, "toy-car": _toy_car, "camera": _camera,
}  # fmt: skip


@lru_cache(maxsize=8)
def draw_product(item: Product, side: int) -> Image.Image:
    """``item`` alone on a transparent square of ``side`` pixels, painted at twice that and averaged down.

    The image is kept for the next photo of the same product: callers must not change it.
    """
    canvas = Canvas(2 * side, item)
    DRAWERS[item.kind](canvas, item)
    return canvas.image.reduce(2)
