"""What a person answers before the settings are chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.guide.difficulty import LETTERS

Making = Literal["character", "style", "concept", "outfit", "several"]
Knows = Literal["anime", "realistic", "furry", "other"]
"""What a checkpoint draws, and with that: whose tags it knows, and which clip skip it was made with."""
Look = Literal["keep", "free", "skin"]
"""keep: as in the pictures. free: the pictures' style is to be left behind. skin: only colours and details, on a usual
body."""

MAKINGS: Mapping[str, str] = MappingProxyType(
    {
        "character": "one character (person, creature, robot, vehicle)",
        "style": "a style of drawing",
        "concept": "a concept: a pose, a composition, a thing",
        "outfit": "clothes or an accessory",
        "several": "several of these in one LoRA",
    }
)
CHECKPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "anime": "anime and cartoons (NAI and what comes from it)",
        "realistic": "realistic pictures, photos",
        "furry": "furry (tags of e621)",
        "other": "something else",
    }
)
LOOKS: Mapping[str, str] = MappingProxyType(
    {
        "keep": "as in the pictures",
        "free": "free of the pictures' style",
        "skin": "colours and details only, on a usual body",
    }
)


@dataclass(frozen=True)
class Answers:
    """All of them have a usual value, so that one may answer what one knows."""

    making: Making = "character"
    difficulty: str = "B"
    """A to I, of characters (see `difficulty`)."""
    male: bool = False
    asymmetric: bool = False
    """One side differs from the other: an eye patch, one glove."""
    pictures: int = 40
    good: bool = True
    """Sharp, accurate, in several poses and clothes; not one style that is to be left behind."""
    captions: bool = True
    """Are there caption files (or will there be)?"""
    known: bool = False
    """Does the checkpoint draw it already, when asked by its name?"""
    look: Look = "keep"
    flexible: bool = False
    """Other clothes and poses matter more than likeness; it is used together with other LoRAs."""
    small_file: bool = False
    dull: bool = False
    """The pictures have dull colours, and bolder ones are wanted."""
    knows: Knows = "anime"
    family: Family = Family.SD1
    vram: float | None = None
    """GB of the card; None is unknown, 0 none (a CPU)."""
    bf16: bool | None = None
    """Can the card compute in bfloat16 (RTX 30 and later)? None is unknown."""
    adaptive: bool = True
    """Is an optimizer that finds its own rates at hand (Prodigy)?"""
    bits8: bool = False
    """Are 8-bit optimizers at hand (bitsandbytes)?"""
    resolution: int | None = None
    """Of the checkpoint, where it is not the family's own."""

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.difficulty not in LETTERS or len(self.difficulty) != 1:
            raise SettingsError(f"there is no difficulty {self.difficulty!r}", remedy="use a letter from A to I")
        if self.pictures < 1:
            raise SettingsError(f"there are {self.pictures} pictures", remedy="give 1 or more")
        if self.vram is not None and not 0 <= self.vram <= 10_000:
            raise SettingsError(f"the card has {self.vram:g} GB", remedy="give its memory in GB, such as 12")
        side = self.resolution
        if side is not None and (side < 64 or side > 4096 or side % 8):
            raise SettingsError(f"the checkpoint's resolution is {side}", remedy="give a multiple of 8 from 64 to 4096")
        for name, choices in (("making", Making), ("look", Look), ("knows", Knows)):
            value = getattr(self, name)
            if value not in get_args(choices):
                what = f"{name} is {value!r}"
                raise SettingsError(what, remedy=f"use one of {', '.join(get_args(choices))}")


def from_values(values: Mapping[str, Any]) -> Answers:
    """Answers from plain values, such as JSON or a form gives them; what is missing has its usual value.

    Raises:
        SettingsError: there is no such question, or a value is none of its answers.
    """
    known = {field.name for field in fields(Answers)}
    wrong = sorted(set(values) - known)
    if wrong:
        raise SettingsError(f"there is no question {wrong[0]!r}", remedy=f"there are {', '.join(sorted(known))}")
    hints = get_type_hints(Answers)
    given = {name: _read(name, hints[name], value) for name, value in values.items()}
    return Answers(**given)


def _read(name: str, hint: Any, value: Any) -> Any:  # noqa: ANN401 - a field's type and a plain value
    if hint is Family or name == "family":
        try:
            return Family(value)
        except ValueError:
            raise SettingsError(f"family is {value!r}", remedy="use one of sd1, sd2, sdxl") from None
    if value is None:
        return None
    try:
        if hint is bool or name == "bf16":
            if not isinstance(value, bool):
                raise ValueError(value)
            return value
        if name in ("pictures", "resolution"):
            if float(value) != int(float(value)):
                raise ValueError(value)
            return int(float(value))
        if name == "vram":
            return float(value)
    except (TypeError, ValueError, OverflowError):
        raise SettingsError(f"{name} is {value!r}", remedy="give a number, or yes or no where it is asked") from None
    return str(value).strip().upper() if name == "difficulty" else str(value)


_NAMES: tuple[tuple[Knows, str], ...] = (
    ("furry", r"fluffyrock|furry|e621|e6|yiff|bb95|lodestone|easyfluff"),
    (
        "anime",
        r"nai|animefull|animefinal|anything|(?:abyss)?orangemixs?\d?|aom\w*|counterfeit|anylora|pastel|meina\w*|cetus\w*|"
        r"hll\w*|waifu|animagine\w*|pony\w*|illustrious\w*|noob\w*|ghostmix|dark ?sushi\w*|anime\w*",
    ),
    (
        "realistic",
        r"realis\w*|photo\w*|v1[- _]?5|sd[- _]?v?1[._-]?5|deliberate|epicrealism|chillout\w*|cyberrealistic|"
        r"juggernaut\w*",
    ),
)


def knows_by_name(checkpoint: str) -> Knows | None:
    """What a checkpoint draws, as far as its file name tells; None when it does not."""
    text = re.sub(r"[^a-z0-9.]+", " ", checkpoint.lower().rsplit(".", 1)[0])
    for kind, words in _NAMES:
        if re.search(rf"(?<![a-z0-9])(?:{words})(?![a-z0-9])", text):
            return kind
    return None
