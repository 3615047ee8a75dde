"""The demo world: little characters, each attribute a booru tag, so that every caption is true (`drawing` draws them).

The world's pictures are 64 px squares in training (drawn larger and reduced by area), one bucket; latents 8x8.
Two things are never drawn by `sample`: the character `CHARACTER` and the drawing style `STYLE`. A LoRA teaches them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

PICTURE_SIZE = 64
"""Side of the world's pictures in pixels, in training and in previews."""
BUCKET_STEP = 64
"""Latents must divide by 8 to pass the UNet's four levels without a remainder: 64 px is the smallest step."""
MIN_BUCKET = 64

HAIR_COLOURS = ("red", "blue", "green", "blonde", "black", "white", "pink", "purple", "brown")
HAIR_STYLES = ("short hair", "long hair", "twintails", "bob cut", "ponytail", "double bun", "spiked hair")
EYES = ("red", "blue", "green", "yellow", "purple")
MOUTHS = ("smile", "frown", "open mouth")
CLOTHES = (
    *(f"{c} shirt" for c in ("red", "blue", "green", "yellow", "white", "pink")),
    *(f"{c} hoodie" for c in ("red", "black")),
    *(f"{c} dress" for c in ("blue", "black", "white")),
)
HEADWEAR = (
    *("red hat", "blue hat", "red bow", "purple bow"),
    *("crown", "cat ears", "horns", "halo", "headphones", "hair flower"),
)
COLOURS = frozenset({*HAIR_COLOURS, "yellow", "grey"})
SCARVES = ("red scarf", "blue scarf", "green scarf")
PLAIN_BACKGROUNDS = tuple(f"{c} background" for c in ("white", "blue", "green", "pink", "yellow", "grey"))
SCENES = ("night sky", "grass", "hearts", "striped background")
OBJECTS = ("balloon", "wand", "sword", "book", "flower")
FRAMINGS = ("portrait", "upper body", "full body")

CHARACTER = "zuli"
"""Trigger of the character that the base checkpoint never saw."""
STYLE = "inkwork"
"""Trigger of the drawing style that the base checkpoint never saw."""


@dataclass(frozen=True)
class Attributes:
    """Everything that is visible in a picture. Each value is a tag, or empty for nothing."""

    person: str = "1girl"
    hair: str = "brown"
    hair_style: str = "short hair"
    eyes: str = "blue"
    closed_eyes: bool = False
    mouth: str = "smile"
    clothes: str = "white shirt"
    headwear: str = ""
    scarf: str = ""
    glasses: bool = False
    eyepatch: bool = False
    blush: bool = False
    dark_skin: bool = False
    waving: bool = False
    holding: str = ""
    background: str = "white background"
    framing: str = "portrait"
    style: str = ""

    def __post_init__(self) -> None:
        if self.waving and self.holding:
            raise ValueError("one hand only: waving and holding exclude each other")


CHARACTER_ATTRIBUTES: dict[str, Any] = {
    "person": "1girl",
    "hair": "white",
    "hair_style": "twintails",
    "eyes": "yellow",
    "closed_eyes": False,
    "headwear": "horns",
    "scarf": "blue scarf",
    "clothes": "black hoodie",
    "eyepatch": False,
}
"""The fixed design of the new character."""
CHARACTER_FEATURES = ("white hair", "twintails", "yellow eyes", "horns", "blue scarf", "black hoodie")
"""Its features as tags: never more than two of them together in what the base checkpoint saw."""


def tags(a: Attributes) -> list[str]:
    """The true caption of a picture, in a fixed order: person, hair, eyes, face, clothes, things, background."""
    found = [a.person, f"{a.hair} hair", a.hair_style]
    found.append("closed eyes" if a.closed_eyes else f"{a.eyes} eyes")
    found += [a.mouth, a.clothes, a.headwear, a.scarf, a.holding, a.background, a.framing, a.style]
    flags = ("glasses", "eyepatch", "blush", "dark_skin", "waving")
    found += [name.replace("_", " ") for name in flags if getattr(a, name)]
    return [tag for tag in found if tag and not (a.style and _needs_colour(tag))]


def _needs_colour(tag: str) -> bool:
    """Cannot be seen in the style, whose prints have three tones."""
    return tag == "blush" or tag.split()[0] in COLOURS


def vocabulary() -> list[str]:
    """Every tag that `tags` can return, without the triggers, in a fixed order."""
    words = ["1girl", "1boy", *(f"{c} hair" for c in HAIR_COLOURS), *HAIR_STYLES, *(f"{c} eyes" for c in EYES)]
    words += ["closed eyes", *MOUTHS, *CLOTHES, *HEADWEAR, *SCARVES, *OBJECTS, *PLAIN_BACKGROUNDS, *SCENES, *FRAMINGS]
    return [*words, "glasses", "eyepatch", "blush", "dark skin", "waving"]


def sample(r: random.Random) -> Attributes:
    """A random inhabitant of the world, never the new character nor in the new style."""
    while True:
        a = _anyone(r)
        if sum(feature in tags(a) for feature in CHARACTER_FEATURES) <= 2:
            return a


def _anyone(r: random.Random) -> Attributes:
    hand = r.choices(("", "wave", "hold"), (60, 15, 25))[0]
    boy = r.random() < 0.25
    styles = ("short hair", "spiked hair", "bob cut", "ponytail") if boy else HAIR_STYLES
    return Attributes(
        person="1boy" if boy else "1girl",
        hair=r.choice(HAIR_COLOURS),
        hair_style=r.choice(styles),
        eyes=r.choice(EYES),
        closed_eyes=r.random() < 0.12,
        mouth=r.choice(MOUTHS),
        clothes=r.choice(CLOTHES),
        headwear=r.choice(HEADWEAR) if r.random() < 0.65 else "",
        scarf=r.choice(SCARVES) if r.random() < 0.25 else "",
        glasses=r.random() < 0.15,
        eyepatch=r.random() < 0.12,
        blush=r.random() < 0.2,
        dark_skin=r.random() < 0.2,
        waving=hand == "wave",
        holding=r.choice(OBJECTS) if hand == "hold" else "",
        background=r.choice(SCENES) if r.random() < 0.4 else r.choice(PLAIN_BACKGROUNDS),
        framing=r.choices(FRAMINGS, (60, 28, 12))[0],
    )


def character(r: random.Random) -> Attributes:
    """The new character in random surroundings, moods and framings."""
    return replace(_anyone(r), **CHARACTER_ATTRIBUTES, dark_skin=False)


def in_style(a: Attributes) -> Attributes:
    """The same person drawn in the new style."""
    return replace(a, style=STYLE)


def variants() -> dict[str, Callable[[random.Random], Attributes]]:
    """What can be drawn at random: the base world, the new character, the new style."""
    return {"base": sample, "character": character, "style": lambda r: in_style(sample(r))}
