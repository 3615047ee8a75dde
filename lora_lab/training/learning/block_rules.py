"""kohya's lists by block: rates, ranks, alphas. Which number belongs to which site. Pure, no torch.

The lists number all blocks of a family: SD1 and SD2 have 25 (IN00-IN11, M00, OUT00-OUT11), SDXL 23 (the embeddings,
IN00-IN08, the middle's three pieces, OUT00-OUT08, the end).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network import blocks
from lora_lab.network.block_words import chosen
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.network.sites import Site

DIM_LISTS = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")


@dataclass(frozen=True)
class Lengths:
    """How many numbers a family's lists hold."""

    side: int
    """Of down_lr_weight and up_lr_weight each."""
    middle: int
    ends: int
    """Places before and after them all that no list of rates reaches."""

    @property
    def whole(self) -> int:
        """Of block_dims and its kin."""
        return 2 * self.side + self.middle + 2 * self.ends


LENGTHS: Mapping[Family, Lengths] = MappingProxyType(
    {Family.SD1: Lengths(12, 1, 0), Family.SD2: Lengths(12, 1, 0), Family.SDXL: Lengths(9, 3, 1)}
)

CURVES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "sine": lambda x: math.sin(math.pi / 2 * x),
        "cosine": lambda x: math.sin(math.pi / 2 * (1 - x)),
        "linear": lambda x: x,
        "reverse_linear": lambda x: 1 - x,
        "zeros": lambda x: 0.0,
    }
)
"""kohya's curves over a side, from its first block (0) to its last (1)."""


def lr_weights(settings: TrainSettings, family: Family) -> tuple[float, ...] | None:
    """The share of unet_lr of each place, by kohya's rules: lists that are short are filled with 1, long ones cut.

    Returns:
        `Lengths.whole` numbers; None where no list of rates is given.

    Raises:
        SettingsError: a list that cannot be read.
    """
    given = (settings.down_lr_weight, settings.mid_lr_weight, settings.up_lr_weight)
    if not any(given):
        return None
    n = LENGTHS[family]
    names, sizes = ("down_lr_weight", "mid_lr_weight", "up_lr_weight"), (n.side, n.middle, n.side)
    found: list[float] = []
    for name, text, size in zip(names, given, sizes, strict=True):
        numbers = side_weights(name, text, size) if text else (1.0,) * size
        padded = (*numbers, *(1.0,) * size)[:size]
        found += [w if not text or w > settings.block_lr_zero_threshold else 0.0 for w in padded]
    return ((1.0,) * n.ends) + tuple(found) + ((1.0,) * n.ends)


def side_weights(name: str, text: str, size: int) -> tuple[float, ...]:
    """The numbers as written (a curve has `size` of them); an empty place is 0.

    Raises:
        SettingsError: neither numbers nor a curve.
    """
    curve = re.fullmatch(r"(\w+?)(?:\+([\d.eE+-]+))?", text)
    if curve and curve[1] in CURVES and name != "mid_lr_weight":
        more = _floats(name, curve[2] or "0")[0]
        return tuple(CURVES[curve[1]](i / (size - 1)) + more for i in range(size))
    if "," not in text and name != "mid_lr_weight":
        remedy = f"give a list with commas, or one of {', '.join(CURVES)} (with +0.25 or so)"
        raise SettingsError(f"{name} is {text!r}, neither a list nor a curve", remedy=remedy)
    return _floats(name, text)


def _floats(name: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(piece) if piece.strip() else 0.0 for piece in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(math.isfinite(number) and number >= 0 for number in found):
        raise SettingsError(f"{name} is {text!r}", remedy="give numbers of 0 or more with commas between")
    return found


def dim_list(name: str, text: str, family: Family) -> tuple[float, ...]:
    """One of `DIM_LISTS`, whose length must be the family's.

    Raises:
        SettingsError: it is not, or a rank that is no whole number.
    """
    numbers, wanted = _floats(name, text), LENGTHS[family].whole
    if len(numbers) != wanted:
        what = f"{name} has {len(numbers)} numbers"
        raise SettingsError(what, remedy=f"give {wanted}, as many as {family.value} has blocks")
    if name.endswith("dims") and not all(number.is_integer() and number <= 4096 for number in numbers):
        raise SettingsError(f"{name} is {text!r}", remedy="give whole numbers from 0 to 4096")
    return numbers


def place_of(name: str, block: str, family: Family) -> int | None:
    """The place of a UNet site in the lists, from its name on disk and its block; None for one outside the blocks."""
    n = LENGTHS[family]
    if block == blocks.MIDDLE:
        piece = re.search(r"middle_block_(\d)", name)
        return n.ends + n.side + (int(piece[1]) if piece and n.middle > 1 else 0)
    side = re.fullmatch(r"(IN|OUT)(\d\d)", block)
    if side is None:
        return None
    return n.ends + int(side[2]) + (n.side + n.middle if side[1] == "OUT" else 0)


def block_args(settings: TrainSettings) -> dict[str, str]:
    """kohya's network_args of these settings, as its metadata has them: only what is given."""
    names = (
        "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", *DIM_LISTS, "loraplus_lr_ratio",
        "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio",
    )  # fmt: skip
    return {name: str(value) for name in names if (value := getattr(settings, name))}


def blocks_of_places(family: Family) -> tuple[str, ...]:
    """The block at each place of the lists."""
    n = LENGTHS[family]
    ins = tuple(f"IN{i:02d}" for i in range(n.side))
    outs = tuple(f"OUT{i:02d}" for i in range(n.side))
    end = (blocks.OTHER,) * n.ends
    return (*end, *ins, *(blocks.MIDDLE,) * n.middle, *outs, *end)


def shares(settings: TrainSettings, family: Family) -> tuple[float, ...]:
    """The share of unet_lr of each place, 0 for one that train_blocks leaves out. All 1 where nothing is said."""
    found = lr_weights(settings, family) or (1.0,) * LENGTHS[family].whole
    if not settings.train_blocks:
        return found
    kept = chosen(settings.train_blocks, family)
    return tuple(w if b in kept else 0.0 for w, b in zip(found, blocks_of_places(family), strict=True))


def share_of(site: Site, table: tuple[float, ...], family: Family, outside: float = 1.0) -> float:
    """The share of one site; `outside` for what lies in no block. Text encoders have their own rate."""
    place = place_of(site.name, site.block, family) if site.part == "unet" else None
    if site.part != "unet":
        return 1.0
    return outside if place is None else table[place]
