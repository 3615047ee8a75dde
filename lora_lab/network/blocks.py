"""Blocks: the twelve inputs, the middle and the twelve outputs of a UNet, and BASE for the text encoders.

`INnn` is ldm's `input_blocks.nn`, `M00` its `middle_block`, `OUTnn` its `output_blocks.nn`. Pure strings, no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lora_lab.families import BASE, Family
from lora_lab.network import names

MIDDLE = "M00"
OTHER = "OTHER"
"""Outside the blocks: the time embedding, `conv_out` and the like. No site of a plain LoRA lies there."""

_SIDES = {"input_blocks": "IN", "output_blocks": "OUT"}
_INPUTS = {Family.SD1: 12, Family.SD2: 12, Family.SDXL: 9}


def block_names(family: Family) -> tuple[str, ...]:
    """All blocks of a family in the order of vectors: BASE, IN00.., M00, OUT00.. (26 for SD1 and SD2, 20 for SDXL)."""
    numbers = range(_INPUTS[family])
    return (BASE, *(f"IN{n:02d}" for n in numbers), MIDDLE, *(f"OUT{n:02d}" for n in numbers))


def block_of(ldm_path: str) -> str:
    """The block of a UNet layer, given its ldm path with dots, e.g. ``input_blocks.4.1.proj_in`` -> ``IN04``."""
    if ldm_path.startswith("middle_block."):
        return MIDDLE
    found = re.match(r"(input_blocks|output_blocks)\.(\d+)\.", ldm_path)
    return f"{_SIDES[found[1]]}{int(found[2]):02d}" if found else OTHER


def in_order(blocks: Iterable[str]) -> tuple[str, ...]:
    """The different ones of `blocks`, sorted as vectors are: BASE, inputs, middle, outputs, others."""
    return tuple(sorted(set(blocks), key=order))


def order(block: str) -> tuple[int, str]:
    """A sort key for blocks; works for every family alike."""
    rank = next((n for n, side in enumerate((BASE, "IN", "M", "OUT")) if block.startswith(side)), 4)
    return rank, block


BLOCKS = block_names(Family.SD1)
"""Every block that some family has, in the order of vectors."""


def block_of_name(name: str, family: Family) -> str:
    """The block of a site by its name on disk; OTHER for one outside the blocks, or of another family."""
    found = names.module_path(name, family, "ldm")
    if found is None:
        return BASE if name.startswith("lora_te") else OTHER
    return BASE if found[0] != "unet" else block_of(found[1])
