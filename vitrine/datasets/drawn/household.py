"""What one has at home, to live or to play with: each kind of product, painted part by part from back to front."""

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
    both_sides,
    box,
    dark,
    pale,
    poly,
    readable_on,
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


def book(c: Canvas, item: Product) -> None:
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


def headphones(c: Canvas, item: Product) -> None:
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


def guitar(c: Canvas, item: Product) -> None:
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


def toy_car(c: Canvas, item: Product) -> None:
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


def camera(c: Canvas, item: Product) -> None:
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
