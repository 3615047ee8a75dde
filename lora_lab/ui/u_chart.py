"""The UNet as a U: inputs down the left side, the middle below, outputs up the right, BASE (text encoders) on top.

Inline SVG that follows the theme by classes of style.css. Pure functions on numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lora_lab.ui.words import esc

WIDTH, ROW, TOP = 640, 24, 8
CELL, SIDE, NAME = 220, 8, 58
"""Width of a cell, the margin beside it, and the room for the block's name."""


@dataclass(frozen=True)
class Cell:
    """A block: how long its bar is, 0 to 1, what stands behind it, and what the mouse is told."""

    share: float
    text: str
    hint: str = ""
    lost: float = 0.0
    """The part of the bar that is drawn as lost, 0 to 1."""


def u_chart(cells: Mapping[str, Cell], title: str) -> str:
    """The blocks that are there, each at its place of the U.

    Args:
        cells: by block: BASE, IN00.., M00, OUT00.., OTHER.
    """
    inputs = sorted(name for name in cells if name.startswith("IN"))
    outputs = sorted((name for name in cells if name.startswith("OUT")), reverse=True)
    rows = max(len(inputs), len(outputs))
    right = WIDTH - SIDE - CELL
    top = TOP + (ROW + 6 if "BASE" in cells else 0)
    parts = []
    if "BASE" in cells:
        parts.append(_cell((WIDTH - CELL) / 2, TOP, "BASE", cells["BASE"]))
    parts += [_cell(SIDE, top + n * ROW, name, cells[name]) for n, name in enumerate(inputs)]
    # OUT00 follows the middle: it stands at the bottom right.
    parts += [_cell(right, top + (rows - len(outputs) + n) * ROW, name, cells[name]) for n, name in enumerate(outputs)]
    bottom = top + rows * ROW
    for name in (n for n in ("M00", "OTHER") if n in cells):
        parts.append(_cell((WIDTH - CELL) / 2, bottom + 4, name, cells[name]))
        bottom += ROW + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lora-lab-chart lora-lab-u" role="img" '
        f'viewBox="0 0 {WIDTH} {bottom + TOP}"><title>{esc(title)}</title>{"".join(parts)}</svg>'
    )


def _bar(css: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{css}" x="{x:.1f}" y="{y + 5:.1f}" width="{width:.1f}" height="{ROW - 10}" rx="3"/>'


def _cell(x: float, y: float, name: str, cell: Cell) -> str:
    room = CELL - NAME - 64
    length = max(1.0, min(1.0, cell.share) * room)
    lost = length * max(0.0, min(1.0, cell.lost))
    bar = _bar("lora-lab-fill", x + NAME, y, length)
    if lost >= 0.5:
        bar += _bar("lora-lab-lost", x + NAME + length - lost, y, lost)
    hint = f"<title>{esc(cell.hint)}</title>" if cell.hint else ""
    return (
        f'<g>{hint}<text class="lora-lab-name" x="{x:.1f}" y="{y + 16:.1f}">{esc(name)}</text>{bar}'
        f'<text class="lora-lab-tick" x="{x + NAME + length + 7:.1f}" y="{y + 16:.1f}">{esc(cell.text)}</text></g>'
    )
