"""How hard a character is, as nine drawn examples in the demo's manner: the categories of `guide/difficulty.py`."""

from __future__ import annotations

import json

from lora_lab.guide.difficulty import TABLE, Difficulty
from lora_lab.ui.words import esc, tag

SIDE = 100
"""Of a drawing, in its own units; y downwards, the ground at 96."""
SKIN, HAIR, DRESS, STEEL = "#f2c9a5", "#8a4f2d", "#3f78c9", "#8fa3b5"
GREEN, GOLD, DARK = "#4f9a55", "#e0a92e", "#5a6170"


def _round(x: float, y: float, rx: float, ry: float, colour: str) -> str:
    return f'<ellipse cx="{x:g}" cy="{y:g}" rx="{rx:g}" ry="{ry:g}" fill="{colour}"/>'


def _shape(points: str, colour: str) -> str:
    return f'<polygon points="{points}" fill="{colour}"/>'


def _line(points: str, colour: str, width: float = 6) -> str:
    how = 'fill="none" stroke-linecap="round" stroke-linejoin="round"'
    return f'<polyline points="{points}" stroke="{colour}" stroke-width="{width:g}" {how}/>'


def _eyes(x: float, y: float, apart: float = 6) -> str:
    return _round(x - apart, y, 2, 3, DARK) + _round(x + apart, y, 2, 3, DARK)


def _limbs(colour: str) -> str:
    legs = _line("42,70 42,95", colour) + _line("58,70 58,95", colour)
    return legs + _line("40,52 28,68", colour) + _line("60,52 72,68", colour)


def _person(hair: str, dress: str, *, skin: str = SKIN, behind: str = "", front: str = "") -> str:
    """A girl in a dress, with what is drawn behind and before her."""
    body = _limbs(skin) + _shape("50,44 68,80 32,80", dress)
    head = _round(50, 24, 19, 20, hair) + _round(50, 29, 14, 14, skin) + _eyes(50, 30)
    return behind + body + head + front


def _plain() -> str:
    return _person(HAIR, DRESS)


def _unusual() -> str:
    tails = _line("33,22 18,62", "#d24fb0", 9) + _line("67,22 82,62", "#4fc3d2", 9)
    front = _line("38,70 62,64", DARK, 3) + _shape("50,2 56,12 44,12", "#d33")
    return _person("#d24fb0", GOLD, behind=tails, front=front)


def _elaborate() -> str:
    wings = _shape("46,50 4,14 10,62 34,72", "#dfe7f2") + _shape("54,50 96,14 90,62 66,72", "#dfe7f2")
    armour = _shape("38,46 62,46 58,64 42,64", STEEL) + _round(38, 48, 7, 5, STEEL) + _round(62, 48, 7, 5, STEEL)
    return _person(GOLD, "#7a3fa0", behind=wings + _line("60,78 84,92 92,80", GOLD, 5), front=armour)


def _furry() -> str:
    ears = _shape("34,18 30,0 46,9", "#d98736") + _shape("66,18 70,0 54,9", "#d98736")
    muzzle = _round(50, 36, 8, 6, "#fff1dc") + _round(50, 33, 3, 2, DARK)
    tail = _line("58,78 80,86 88,64", "#d98736", 11)
    return _person("#d98736", GREEN, skin="#e8a860", behind=tail + ears, front=muzzle)


def _proportions() -> str:
    body = _line("44,84 42,95", SKIN, 9) + _line("56,84 58,95", SKIN, 9) + _round(50, 76, 14, 14, "#d1495b")
    arms = _line("38,74 26,82", SKIN, 8) + _line("62,74 74,82", SKIN, 8)
    return body + arms + _round(50, 38, 38, 34, SKIN) + _eyes(50, 44, 14)


def _dragon() -> str:
    legs = "".join(_line(f"{x},66 {x},95", GREEN, 8) for x in (30, 40, 62, 72))
    wing = _shape("48,52 36,8 60,20 78,12 66,52", "#37733c")
    head = _line("26,58 16,34", GREEN, 12) + _shape("24,22 24,40 2,36", GREEN) + _round(17, 28, 2, 2, DARK)
    return _line("76,60 92,72 97,56", GREEN, 7) + legs + _round(51, 60, 28, 13, GREEN) + wing + head


def _mech() -> str:
    left = _line("36,38 14,30 8,12", DARK, 7) + _line("36,50 16,58 10,76", DARK, 7)
    right = _line("64,38 86,30 92,12", DARK, 7) + _line("64,50 84,58 90,76", DARK, 7)
    legs = _line("42,66 34,80 38,95", DARK, 9) + _line("58,66 66,80 62,95", DARK, 9)
    body = _shape("32,32 68,32 60,68 40,68", STEEL) + _shape("40,10 60,10 64,28 36,28", STEEL)
    return left + right + legs + body + _line("42,19 58,19", "#e33", 4)


def _insect() -> str:
    legs = _line("36,58 29,76 24,95", DARK, 3) + _line("50,58 50,95", DARK, 3) + _line("64,58 71,76 76,95", DARK, 3)
    wings = _round(58, 36, 9, 24, "#bcd3e6") + _round(72, 40, 8, 20, "#bcd3e6")
    feelers = _line("18,46 6,26", DARK, 2) + _line("24,44 20,22", DARK, 2)
    body = _round(72, 58, 22, 12, GOLD) + _round(44, 56, 13, 10, DARK) + _round(22, 54, 11, 10, DARK)
    return wings + legs + feelers + body + _round(18, 52, 4, 4, "#e33")


def _shapeless() -> str:
    parts = _round(38, 60, 24, 18, "#7a3fa0") + _round(64, 46, 20, 26, "#9a5fc0")
    parts += _round(52, 76, 32, 16, "#5c2f80") + _round(34, 34, 10, 13, "#9a5fc0")
    places = ((36, 56), (66, 34), (58, 72), (72, 58), (32, 30))
    return parts + "".join(_round(x, y, 4, 4, "#fff") + _round(x, y, 2, 2, DARK) for x, y in places)


DRAWN = dict(zip("ABCDEFGHI", (
    _plain, _unusual, _elaborate, _furry, _proportions, _dragon, _mech, _insect, _shapeless,
), strict=True))  # fmt: skip
"""Category -> what draws its example."""


def drawing(letter: str) -> str:
    """The example of a category as SVG."""
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" aria-hidden="true">{DRAWN[letter]()}</svg>'


def gallery(chosen: str) -> str:
    """All categories with their example, each a button that chooses it.

    Args:
        chosen: the letter that is marked; the page's JavaScript moves the mark with the answer.
    """
    tiles = "".join(_tile(row, row.letter == chosen) for row in TABLE)
    return tag("details", tag("summary", "Examples of how hard") + tag("div", tiles, "lora-lab-examples"))


def _tile(row: Difficulty, pressed: bool) -> str:
    asked = json.dumps({"act": "difficulty", "letter": row.letter})
    return tag(
        "button", drawing(row.letter) + tag("span", tag("b", row.letter) + " " + esc(row.text)), "lora-lab-advise",
        type="button", value=row.letter, data_advice=asked, aria_pressed=str(pressed).lower(),
        title=f"rank {row.rank_words}",
    )  # fmt: skip
