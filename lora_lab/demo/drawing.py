"""The pictures of the demo world, drawn with Pillow. Coordinates are in units of a 64 x 64 canvas."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps

from lora_lab.demo.world import Attributes

Points = Sequence[tuple[float, float]]
RGB = tuple[int, int, int]
INK: RGB = (38, 30, 44)
COLOURS: dict[str, RGB] = {
    "red": (216, 44, 52),
    "blue": (44, 98, 220),
    "green": (44, 160, 76),
    "yellow": (248, 208, 56),
    "blonde": (248, 208, 96),
    "black": (44, 42, 52),
    "white": (244, 244, 246),
    "pink": (248, 140, 188),
    "purple": (142, 74, 196),
    "brown": (128, 80, 46),
    "orange": (244, 138, 40),
    "grey": (150, 152, 160),
    "aqua": (84, 212, 216),
}
SPIKES: Points = (
    *((12, 30), (6, 18), (14, 18), (12, 4), (23, 9), (28, -2), (36, 7)),
    *((46, -1), (47, 11), (58, 8), (52, 20), (59, 28), (52, 32)),
)
LOCKS: tuple[Points, ...] = (
    ((15, 25), (17, 35), (22, 25)),
    ((21, 25), (25, 30.5), (29, 25)),
    ((28, 25), (32, 30), (36, 25)),
    ((35, 25), (39, 30.5), (43, 25)),
    ((42, 25), (47, 35), (49, 25)),
)


class _Pen:
    """Draws in units of a 64 x 64 canvas, moved and zoomed for the framing, onto a picture of any size."""

    def __init__(self, d: ImageDraw.ImageDraw, size: int, zoom: float, dx: float, dy: float) -> None:
        self.d, self.k = d, size / 64
        self.zoom, self.dx, self.dy = zoom, dx, dy
        self.line = max(1, round(0.9 * self.k * zoom**0.5))

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (32 + (x - 32) * self.zoom + self.dx) * self.k, (32 + (y - 32) * self.zoom + self.dy) * self.k

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return (*self.at(x0, y0), *self.at(x1, y1))

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, ink: RGB | None = INK) -> None:
        self.d.ellipse(self.box(x0, y0, x1, y1), fill=fill, outline=ink, width=self.line if ink else 0)

    def shape(self, points: Points, fill: RGB, ink: RGB | None = INK) -> None:
        corners = [self.at(x, y) for x, y in points]
        self.d.polygon(corners, fill=fill)
        if ink:
            self.d.line([*corners, corners[0]], fill=ink, width=self.line, joint="curve")

    def arc(self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, ink: RGB, width: float) -> None:
        w = max(1, round(width * self.k * self.zoom))
        self.d.arc(self.box(x0, y0, x1, y1), start, end, fill=ink, width=w)

    def stroke(self, points: Points, ink: RGB, width: float) -> None:
        w = max(1, round(width * self.k * self.zoom))
        self.d.line([self.at(x, y) for x, y in points], fill=ink, width=w, joint="curve")


def _colour(tag: str) -> RGB:
    return COLOURS[tag.split()[0]]


def _darker(c: RGB, share: float = 0.75) -> RGB:
    return (int(c[0] * share), int(c[1] * share), int(c[2] * share))


def _star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    spokes = ((0, -1), (0.25, -0.3), (1, -0.3), (0.4, 0.15), (0.62, 0.85), (0, 0.42))
    right = [(x + radius * u, y + radius * v) for u, v in spokes]
    return right + [(2 * x - px, py) for px, py in reversed(right[1:-1])]


def _background(d: ImageDraw.ImageDraw, size: int, a: Attributes, r: random.Random) -> None:
    pen = _Pen(d, size, 1, 0, 0)
    if a.background == "night sky":
        d.rectangle((0, 0, size, size), fill=(28, 32, 84))
        for _ in range(12):
            pen.shape(_star(r.uniform(2, 62), r.uniform(2, 62), r.uniform(1.6, 3)), (255, 244, 170), None)
    elif a.background == "grass":
        d.rectangle((0, 0, size, size), fill=(150, 212, 246))
        d.rectangle((0, size * 0.6, size, size), fill=(96, 184, 84))
        for x in range(0, 64, 5):
            pen.shape([(x, 39), (x + 2.5, 34), (x + 5, 39)], (96, 184, 84), None)
    elif a.background == "hearts":
        d.rectangle((0, 0, size, size), fill=(255, 220, 232))
        for i in range(16):
            x, y = (i % 4) * 17 + 5 + (i // 4 % 2) * 6, (i // 4) * 17 + 5
            _heart(pen, x, y, 4.2)
    elif a.background == "striped background":
        d.rectangle((0, 0, size, size), fill=(250, 244, 225))
        for x in range(-64, 64, 14):
            pen.shape([(x, 64), (x + 64, 0), (x + 71, 0), (x + 7, 64)], (236, 150, 120), None)
    else:
        d.rectangle((0, 0, size, size), fill=_colour(a.background))


def _heart(pen: _Pen, x: float, y: float, s: float) -> None:
    c = (236, 70, 110)
    pen.oval(x - s, y - s * 0.8, x + s * 0.1, y + s * 0.4, c, None)
    pen.oval(x - s * 0.1, y - s * 0.8, x + s, y + s * 0.4, c, None)
    pen.shape([(x - s * 0.95, y + 0.05 * s), (x + s * 0.95, y + 0.05 * s), (x, y + s * 1.1)], c, None)


def _hair_behind(pen: _Pen, a: Attributes, h: RGB) -> None:
    style = a.hair_style
    if style == "long hair":
        pen.shape([(14, 26), (11, 60), (53, 60), (50, 26)], h)
        pen.oval(13, 8, 51, 46, h)
    elif style == "twintails":
        pen.oval(0, 18, 15, 58, h)
        pen.oval(49, 18, 64, 58, h)
    elif style == "bob cut":
        pen.shape([(13, 28), (12, 46), (52, 46), (51, 28)], h)
    elif style == "ponytail":
        pen.shape([(42, 12), (56, 10), (63, 26), (58, 50), (52, 30)], h)
    elif style == "double bun":
        pen.oval(6, 2, 22, 18, h)
        pen.oval(42, 2, 58, 18, h)
    elif style == "spiked hair":
        pen.shape(SPIKES, h)


def _body(pen: _Pen, a: Attributes, skin: RGB) -> None:
    c = _colour(a.clothes)
    kind = a.clothes.split()[1]
    if a.framing == "full body":
        pen.shape([(24, 78), (24, 100), (30, 100), (31, 80)], skin)
        pen.shape([(40, 78), (40, 100), (34, 100), (33, 80)], skin)
        pen.oval(20, 97, 31, 104, (90, 60, 50))
        pen.oval(33, 97, 44, 104, (90, 60, 50))
    if kind == "dress":
        pen.shape([(20, 54), (44, 54), (44, 60), (54, 90), (10, 90), (20, 60)], skin if a.framing == "portrait" else c)
        pen.shape([(17, 58), (20, 52), (44, 52), (47, 58), (46, 66), (18, 66)], skin)
        straps = [(22, 57), (26, 51), (29, 57), (35, 57), (38, 51), (42, 57)]
        pen.shape([*straps, (44, 66), (54, 90), (10, 90), (20, 66)], c)
        pen.shape([(29, 57), (32, 60), (35, 57)], _darker(c), None)
        return
    pen.shape([(13, 84), (15, 60), (21, 51), (43, 51), (49, 60), (51, 84)], c)
    if kind == "hoodie":
        pen.oval(17, 46, 47, 60, _darker(c, 0.62) if a.clothes != "black hoodie" else (92, 92, 108))
        pen.stroke([(28, 57), (28, 66)], (250, 250, 250), 1.4)
        pen.stroke([(36, 57), (36, 66)], (250, 250, 250), 1.4)
    else:
        pen.shape([(27, 51), (32, 57), (37, 51)], skin)


def _hand(pen: _Pen, a: Attributes, skin: RGB) -> None:
    if not (a.waving or a.holding):
        return
    pen.stroke([(49, 64), (56, 54)], INK, 6.4)
    pen.stroke([(49, 64), (56, 54)], _colour(a.clothes), 5)
    x, y = 57.0, 49.0
    if a.holding == "balloon":
        pen.stroke([(x, y), (57, 28)], INK, 0.8)
        pen.oval(50, 6, 64, 25, (240, 50, 60))
        pen.oval(52.5, 9, 56, 13, (255, 190, 190), None)
    elif a.holding == "wand":
        pen.stroke([(x, y + 4), (57, 30)], (150, 90, 40), 2)
        pen.shape(_star(57, 26, 7.5), (255, 226, 60))
    elif a.holding == "sword":
        pen.shape([(55, 46), (55, 16), (57, 11), (59, 16), (59, 46)], (214, 222, 236))
        pen.shape([(51, 45), (63, 45), (63, 48), (51, 48)], (190, 140, 40))
    elif a.holding == "flower":
        pen.stroke([(x, y + 4), (57, 34)], (50, 140, 60), 1.8)
        for u, v in ((0, -4), (4, -1), (2.5, 4), (-2.5, 4), (-4, -1)):
            pen.oval(57 + u - 3.4, 30 + v - 3.4, 57 + u + 3.4, 30 + v + 3.4, (250, 120, 200), None)
        pen.oval(54.5, 27.5, 59.5, 32.5, (255, 220, 60), None)
    if a.waving:
        for u in (-3.4, -1.2, 1.2, 3.4):
            pen.stroke([(x, y), (x + u, y - 8)], INK, 3.2)
            pen.stroke([(x, y), (x + u, y - 7.6)], skin, 1.9)
    pen.oval(x - 4, y - 4, x + 4, y + 4, skin)
    if a.holding == "book":
        pen.shape([(44, 46), (54, 49), (64, 46), (64, 60), (54, 63), (44, 60)], (40, 110, 190))
        pen.shape([(46, 45), (54, 48), (62, 45), (62, 57), (54, 60), (46, 57)], (252, 250, 240))
        pen.stroke([(54, 48), (54, 60)], INK, 0.8)


def _face(pen: _Pen, a: Attributes, skin: RGB) -> None:
    if a.blush:
        for x in (18.5, 37.5):
            pen.oval(x, 36.5, x + 8, 41, (252, 120, 130), None)
    for x in (24.5, 39.5):
        if a.eyepatch and x > 32:
            continue
        if a.closed_eyes:
            pen.arc(x - 4.6, 27, x + 4.6, 36, 10, 170, INK, 1.6)
            continue
        pen.oval(x - 5, 25.5, x + 5, 38, (255, 255, 255))
        pen.oval(x - 4.3, 27, x + 4.3, 37.6, COLOURS[a.eyes], None)
        pen.oval(x - 1.7, 30, x + 1.7, 35.2, (20, 16, 24), None)
        pen.oval(x - 3.1, 28, x - 0.5, 30.8, (255, 255, 255), None)
        pen.arc(x - 5.2, 25, x + 5.2, 38, 200, 340, INK, 1.5)
    if a.eyepatch:
        pen.stroke([(16, 24), (48, 29)], (30, 26, 34), 1.6)
        pen.shape([(33.5, 26), (46, 26.5), (45, 36), (39.5, 39.5), (34, 36)], (30, 26, 34))
    if a.glasses:
        for x in (24.5, 39.5):
            w = max(1, round(1.5 * pen.k * pen.zoom))
            pen.d.ellipse(pen.box(x - 6.8, 24.5, x + 6.8, 38.8), outline=(24, 24, 34), width=w)
        pen.stroke([(31, 31), (33, 31)], (24, 24, 34), 1.5)
    if a.mouth == "smile":
        pen.arc(26.5, 36, 37.5, 44.5, 15, 165, (120, 24, 34), 1.6)
    elif a.mouth == "frown":
        pen.arc(27, 41.5, 37, 49, 200, 340, (120, 24, 34), 1.6)
    else:
        pen.oval(28, 39.5, 36, 46.5, (176, 40, 54))


def _fringe(pen: _Pen, h: RGB, style: str) -> None:
    pen.d.pieslice(pen.box(14.2, 7, 49.8, 45), 180, 360, fill=h, outline=INK, width=pen.line)
    for points in LOCKS:
        pen.shape(points, h, None)
    pen.d.rectangle(pen.box(15.2, 23.4, 48.8, 25.6), fill=h)
    if style == "bob cut":
        pen.shape([(13.5, 24), (13, 44), (19, 46), (19, 24)], h)
        pen.shape([(50.5, 24), (51, 44), (45, 46), (45, 24)], h)
    if style == "twintails":
        pen.oval(11, 15, 18, 22, (240, 70, 90))
        pen.oval(46, 15, 53, 22, (240, 70, 90))


def _headwear(pen: _Pen, a: Attributes, h: RGB) -> None:
    w = a.headwear
    if w.endswith("hat"):
        c = _colour(w)
        pen.shape([(19, 15), (22, -3), (42, -3), (45, 15)], c)
        pen.oval(8, 10, 56, 19, c)
        pen.shape([(20, 8), (44, 8), (44.6, 11.5), (19.4, 11.5)], (250, 240, 200), None)
    elif w.endswith("bow"):
        c = _colour(w)
        pen.shape([(32, 8), (18, -1), (18, 17)], c)
        pen.shape([(32, 8), (46, -1), (46, 17)], c)
        pen.oval(28, 4, 36, 12, _darker(c))
    elif w == "crown":
        pen.shape([(19, 14), (16, -2), (25, 6), (32, -4), (39, 6), (48, -2), (45, 14)], (252, 206, 48))
        pen.oval(30, 7, 34, 11, (220, 40, 60), None)
    elif w == "cat ears":
        for s in (-1, 1):
            pen.shape([(32 + s * 18, 18), (32 + s * 17, -3), (32 + s * 4, 9)], h)
            pen.shape([(32 + s * 15.5, 13), (32 + s * 15, 2), (32 + s * 8, 9)], (252, 170, 190), None)
    elif w == "horns":
        for s in (-1, 1):
            horn = ((7, 10), (16, 15), (23, 3), (20, -6), (16, 3))
            pen.shape([(32 + s * x, y) for x, y in horn], (180, 40, 60))
    elif w == "halo":
        pen.d.ellipse(pen.box(16, -4, 48, 5), outline=(255, 222, 70), width=max(1, round(2.6 * pen.k * pen.zoom)))
    elif w == "headphones":
        pen.arc(11, 3, 53, 46, 180, 360, (60, 62, 74), 3.2)
        for x in (8.5, 47.5):
            pen.oval(x, 21, x + 8, 37, (250, 140, 40))
    elif w == "hair flower":
        for u, v in ((0, -4.4), (4.4, -1.2), (2.6, 4), (-2.6, 4), (-4.4, -1.2)):
            pen.oval(45 + u - 3.6, 14 + v - 3.6, 45 + u + 3.6, 14 + v + 3.6, (255, 250, 250))
        pen.oval(42, 11, 48, 17, (255, 210, 50))


def _scarf(pen: _Pen, a: Attributes) -> None:
    if not a.scarf:
        return
    c = _colour(a.scarf)
    pen.shape([(38, 52), (46, 52), (47, 70), (39, 70)], c)
    pen.d.rounded_rectangle(pen.box(18, 46.5, 46, 56), radius=4 * pen.k * pen.zoom, fill=c, outline=INK, width=pen.line)


FRAME: dict[str, tuple[float, float]] = {"portrait": (0.97, 3.0), "upper body": (0.74, -3.5), "full body": (0.6, -11.5)}
"""Zoom and shift down (canvas units) of each framing."""


def _person(d: ImageDraw.ImageDraw, size: int, a: Attributes, r: random.Random) -> None:
    zoom, down = FRAME[a.framing]
    pen = _Pen(d, size, zoom * r.uniform(0.96, 1.04), r.uniform(-2, 2), down + r.uniform(-1.2, 1.2))
    h = COLOURS[a.hair]
    skin = (150, 98, 68) if a.dark_skin else (255, 224, 200)
    _hair_behind(pen, a, h)
    _body(pen, a, skin)
    pen.shape([(28.5, 44), (35.5, 44), (36.5, 53), (27.5, 53)], skin, None)
    _scarf(pen, a)
    pen.oval(16, 12, 48, 49, skin)
    _face(pen, a, skin)
    _fringe(pen, h, a.hair_style)
    if a.person == "1boy":
        for x in (20.5, 35):
            pen.stroke([(x, 24), (x + 8.5, 24)], _darker(h, 0.45), 2.2)
    _headwear(pen, a, h)
    _hand(pen, a, skin)


def _inkwork(picture: Image.Image) -> Image.Image:
    """The new style: a print in navy, steel blue and cream, with the lines kept."""
    grey = ImageOps.autocontrast(ImageOps.grayscale(picture))
    tones = ((66, (28, 40, 112)), (150, (112, 146, 204)), (256, (252, 240, 208)))
    print_ = Image.new("RGB", picture.size, tones[-1][1])
    for limit, colour in reversed(tones[:-1]):
        print_.paste(colour, mask=grey.point([255 if v < limit else 0 for v in range(256)]))
    return print_


def draw(a: Attributes, seed: int, size: int = 256) -> Image.Image:
    """The picture of these attributes, RGB, `size` x `size` pixels.

    Args:
        a: what is to be seen.
        seed: small accidents of place and zoom; the same seed gives the same picture.
        size: side in pixels; drawn at four times that (at most 1024) and reduced by area.
    """
    r = random.Random(seed)
    big = min(1024, size * 4)
    picture = Image.new("RGB", (big, big))
    d = ImageDraw.Draw(picture)
    _background(d, big, a, r)
    _person(d, big, a, r)
    if a.style:
        picture = _inkwork(picture)
    return picture.resize((size, size), Image.Resampling.BOX)
