"""Lists of block weights as people write them (sd-webui-lora-block-weight's formats), to weights by block. No torch.

    vector("1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0", Family.SD1)      17 numbers: the blocks where a LierLa LoRA has sites
    vector("OUTD", Family.SD1, presets=DEFAULTS)                  by name
    vector("1,0,0,0,0,0,X,R,U,...", family, x=0.5, draw=Random(7))   X is x, R random in 0..1, U in -0.5..1.5
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network.blocks import block_names

_SD_LIERLA = (BASE, "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{n:02d}" for n in range(3, 12)))
_XL_LIERLA = (BASE, "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{n:02d}" for n in range(6)))
FORMATS: Mapping[Family, Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        Family.SD1: MappingProxyType({17: _SD_LIERLA, 26: block_names(Family.SD1)}),
        Family.SD2: MappingProxyType({17: _SD_LIERLA, 26: block_names(Family.SD2)}),
        Family.SDXL: MappingProxyType({12: _XL_LIERLA, 20: block_names(Family.SDXL)}),
    }
)
"""Of each family: number of values -> the blocks they stand for, in order."""

OUTSIDE = 0.0
"""Weight of the blocks that a short list has no place for, as in sd-webui-lora-block-weight."""

_SPECIAL = re.compile(r"([XRU])(?:([+-])(\d+(?:\.\d+)?))?", re.IGNORECASE)


@dataclass(frozen=True)
class Vector:
    """Weights of all blocks of a family."""

    blocks: Mapping[str, float]
    """By block, every block of the family."""
    text: str
    """The list with what was drawn or put in for X, R and U, for the infotext."""


def vector(
    text: str,
    family: Family,
    *,
    x: float = 1.0,
    draw: random.Random | None = None,
    presets: Mapping[str, str] = MappingProxyType({}),
) -> Vector:
    """Read a list, or the name of one.

    Args:
        text: values with commas, or a key of `presets` in any letters.
        family: of the model, which decides how many values there may be.
        x: what X stands for; ``X+0.2`` and ``X-0.2`` are beside it.
        draw: where R (0 to 1) and U (-0.5 to 1.5) come from; without one they are refused.
        presets: name -> list.

    Raises:
        SettingsError: no such preset, a wrong number of values for the family, or a value that is none.
    """
    named = {name.upper(): value for name, value in presets.items()}
    words = [word.strip() for word in named.get(text.strip().upper(), text).split(",")]
    formats = FORMATS[family]
    if len(words) not in formats:
        raise _wrong_length(text, words, family, named)
    numbers = [_number(word, x, draw) for word in words]
    known = dict(zip(formats[len(words)], numbers, strict=True))
    blocks = {block: known.get(block, OUTSIDE) for block in block_names(family)}
    return Vector(MappingProxyType(blocks), ",".join(f"{number:.4g}" for number in numbers))


def listed(blocks: Mapping[str, float], family: Family) -> str:
    """Weights by block as the shortest list that says the same; a block that is not named has 1."""
    for order in (formats for _, formats in sorted(FORMATS[family].items())):
        if all(blocks.get(block, 1.0) == OUTSIDE for block in block_names(family) if block not in order):
            return ",".join(f"{blocks.get(block, 1.0):.4g}" for block in order)
    return ",".join(f"{blocks.get(block, 1.0):.4g}" for block in block_names(family))


def _wrong_length(text: str, words: list[str], family: Family, named: Mapping[str, str]) -> SettingsError:
    wanted = " or ".join(map(str, FORMATS[family]))
    remedy = f"give {wanted} values for {family.value}" + (f", or one of {', '.join(named)}" if named else "")
    if len(words) == 1:
        return SettingsError(f"there are no block weights named {text.strip()!r}", remedy=remedy)
    others = [f.value for f, formats in FORMATS.items() if len(words) in formats]
    meant = f", which are {others[0].upper()}'s," if others else ""
    return SettingsError(f"{len(words)} block weights{meant} do not fit {family.value}", remedy=remedy)


def _number(word: str, x: float, draw: random.Random | None) -> float:
    found = _SPECIAL.fullmatch(word)
    if found is None:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise SettingsError(f"{word!r} is no block weight", remedy="give a number, X, R or U")
        return number
    letter, sign, beside = found[1].upper(), found[2], float(found[3] or 0)
    shift = -beside if sign == "-" else beside
    if letter == "X":
        return x + shift
    if draw is None:
        raise SettingsError(f"{word!r} is drawn at random, which this place cannot do", remedy="give a number")
    return draw.uniform(0.0, 1.0) + shift if letter == "R" else draw.uniform(-0.5, 1.5) + shift
