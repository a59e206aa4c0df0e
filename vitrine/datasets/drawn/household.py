"""What stands in a kitchen or a living room: each kind of product, painted part by part from back to front."""

import numpy as np

from vitrine.datasets.drawn.paint import (
    INK,
    STEEL,
    WHITE,
    WOODS,
    Canvas,
    Product,
    arc,
    barrel,
    box,
    dark,
    pale,
    poly,
    seen_on,
    smooth,
)


# Lists of points are wrapped by hand: one number a line would hide the shapes.
# fmt: off
def mug(c: Canvas, item: Product) -> None:
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
    c.sign(cx - 1, middle + 4, 9, item.body)


def bottle(c: Canvas, item: Product) -> None:
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


def teapot(c: Canvas, item: Product) -> None:
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
    c.sign(side, cy + 2, 8, item.body)


def chair(c: Canvas, item: Product) -> None:
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


def lamp(c: Canvas, item: Product) -> None:
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
# fmt: on
