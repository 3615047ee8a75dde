"""The fold Blocks of the panel Train: the UNet as a U of sliders, one a block, and presets. Pure HTML.

The sliders are drawn here and moved by `javascript/lora_lab_blocks.js`, which keeps them in step with the fields of the
form: what counts is what stands in down_lr_weight, mid_lr_weight, up_lr_weight and text_encoder_lr.
"""

from __future__ import annotations

import json

from lora_lab.families import BASE, Family
from lora_lab.network.blocks import MIDDLE
from lora_lab.training.learning.block_rules import LENGTHS
from lora_lab.training.learning.optimizer_kinds import KINDS
from lora_lab.ui.words import esc, tag

PLAIN_BLOCKS = {
    Family.SD1: frozenset((1, 2, 4, 5, 7, 8)),
    Family.SDXL: frozenset((4, 5, 7, 8)),
}
"""Inputs in which a LoRA without convolutions has layers."""
PLAIN_OUTPUTS = {Family.SD1: frozenset(range(3, 12)), Family.SDXL: frozenset(range(6))}
HIGHEST = 2.0
"""The right end of a slider; larger shares are typed into the fields."""

PRESETS = (
    ("all", "All", "every block at its full rate"),
    ("in", "IN", "the inputs alone: composition, silhouette, pose"),
    ("mid", "MID", "the middle alone"),
    ("out", "OUT", "the outputs alone: colour, shadow, texture"),
    ("style", "Style", "inputs at 0.2, outputs at 1: for a style that was best so in the block tester"),
    ("content", "B-LoRA content", "OUT00 alone: what is shown (arXiv 2403.14572)"),
    ("look", "B-LoRA style", "OUT01 alone: how it looks (arXiv 2403.14572)"),
)
FOR_SDXL = frozenset({"content", "look"})


def panel() -> str:
    """Presets and a U for either number of blocks; the script shows the one of the loaded checkpoint's family."""
    buttons = "".join(
        tag(
            "button", esc(label), "lora-lab-blocks-preset" + (" lora-lab-for-sdxl" if key in FOR_SDXL else ""),
            type="button", data_preset=key, title=why,
        )
        for key, label, why in PRESETS
    )  # fmt: skip
    rates = {name: [kind.unet_lr, kind.text_encoder_lr] for name, kind in KINDS.items()}
    shapes = "".join(_shape(family) for family in (Family.SD1, Family.SDXL))
    hint = (
        "Each slider is the block's share of unet_lr, 0 leaves it out; BASE is the text encoder's rate as a share of "
        "the UNet's. Pale blocks have no layer of a LoRA without convolutions."
    )
    inner = tag("div", buttons, "lora-lab-blocks-presets") + shapes + tag("p", esc(hint), "lora-lab-muted")
    return tag("div", inner, "lora-lab-blocks", data_rates=json.dumps(rates), data_family="sd1")


def _shape(family: Family) -> str:
    """The U: BASE beside, inputs going down, the middle at the bottom, outputs going up."""
    side = LENGTHS[family].side
    rows = []
    for depth in range(side):
        left = _slider(f"IN{depth:02d}", "down", depth, pale=depth not in PLAIN_BLOCKS[family])
        number = side - 1 - depth
        right = _slider(f"OUT{number:02d}", "up", number, pale=number not in PLAIN_OUTPUTS[family])
        rows.append(tag("div", left + right, "lora-lab-blocks-row", style=f"--depth:{depth / (side - 1):.3f}"))
    middle = tag("div", _slider(MIDDLE, "mid", 0, pale=False), "lora-lab-blocks-bottom")
    base = tag("div", _slider(BASE, "base", 0, pale=False), "lora-lab-blocks-base")
    return tag("div", base + tag("div", "".join(rows) + middle, "lora-lab-blocks-u"), "lora-lab-blocks-shape",
               data_for=family.value, data_side=str(side), data_middle=str(LENGTHS[family].middle))  # fmt: skip


def _slider(name: str, side: str, index: int, *, pale: bool) -> str:
    slider = (
        f'<input type="range" min="0" max="{HIGHEST:g}" step="0.05" value="1" data-side="{side}" data-index="{index}" '
        f'aria-label="{esc(name)}">'
    )
    inner = tag("span", esc(name)) + slider + tag("output", "1")
    return tag("label", inner, "lora-lab-block" + (" lora-lab-pale" if pale else ""))
