"""Which cells are made in one call: those that differ in block weights and seeds only. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lora_lab.families import BASE, Family
from lora_lab.network import elements
from lora_lab.testing.cells import Cell

JOINED = " AND "
"""Prompts joined so have more rows of guidance than others, ordered by picture: each is made alone."""

Group = tuple[str, str, str, float, str]


def together(cell: Cell, family: Family) -> Group:
    """Cells of which this is equal have one conditioning: LoRA, prompt, and what the text encoders get."""
    w = cell.weights
    rules = elements.rules(w.elements, family)
    text = w.elements if any(BASE in rule.blocks for rule in rules) else ""
    return str(cell.lora), cell.prompt, text, w.base, "off" if w.off else ""


def batches(cells: Iterable[Cell], family: Family, size: int) -> Iterator[list[Cell]]:
    """Batches of at most `size`, groups in the order of their first cells, LoRA by LoRA."""
    groups: dict[Group, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(together(cell, family), []).append(cell)
    loras = list(dict.fromkeys(key[0] for key in groups))
    for key in sorted(groups, key=lambda key: loras.index(key[0])):
        yield from cut(groups[key], 1 if JOINED in key[1] else size)


def cut(cells: Sequence[Cell], size: int) -> Iterator[list[Cell]]:
    """Pieces as even as possible: 9 in batches of 8 are 5 and 4, which leaves no single one at the end."""
    count = -(-len(cells) // size)
    at = 0
    for i in range(count):
        step = (len(cells) - at) // (count - i)
        yield list(cells[at : at + step])
        at += step
