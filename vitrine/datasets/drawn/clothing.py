"""What one wears or carries: each kind of product, painted part by part from back to front."""

import math

import numpy as np

from vitrine.datasets.drawn.paint import (
    INK,
    STEEL,
    WHITE,
    WOODS,
    Canvas,
    Product,
    arc,
    both_sides,
    box,
    dark,
    mix,
    pale,
    poly,
    readable_on,
    smooth,
)


# Lists of points are wrapped by hand: one number a line would hide the shapes.
# fmt: off
def tshirt(c: Canvas, item: Product) -> None:
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
    c.sign(50, 46, 10.5, item.body)


def sneaker(c: Canvas, item: Product) -> None:
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


def backpack(c: Canvas, item: Product) -> None:
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


def hat(c: Canvas, item: Product) -> None:
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


def watch(c: Canvas, item: Product) -> None:
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


def umbrella(c: Canvas, item: Product) -> None:
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
# fmt: on
