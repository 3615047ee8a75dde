"""color_aug: now and then another hue or another brightness, as kohya's scripts draw them. No torch."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

SHARE = 0.33
"""Of the pictures that are changed at all."""
MOST_HUE = 8 / 180
"""Of the circle of hues; kohya's 8 counts in OpenCV's half degrees."""
LEAST_GAMMA, MOST_GAMMA = 0.95, 1.05


@dataclass(frozen=True)
class Colours:
    """One of the two is off: hue 0, gamma 1."""

    hue: float
    """Turn of the circle of hues, in circles."""
    gamma: float


def draw_colours(r: random.Random) -> Colours | None:
    """What becomes of a picture's colours this time; None for nothing."""
    if r.random() > SHARE:
        return None
    if r.random() > 0.5:
        return Colours(r.uniform(-MOST_HUE, MOST_HUE), 1.0)
    return Colours(0.0, r.uniform(LEAST_GAMMA, MOST_GAMMA))


def recoloured(picture: Image.Image, colours: Colours) -> Image.Image:
    """An RGB picture in other colours; brightness goes by the power of gamma on a scale from 0 to 1."""
    if colours.gamma != 1:
        table = [round((value / 255) ** colours.gamma * 255) for value in range(256)]
        return picture.point(table * 3)
    hue, saturation, value = picture.convert("HSV").split()
    turn = round(colours.hue * 256)
    hue = hue.point([(h + turn) % 256 for h in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
