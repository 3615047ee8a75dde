"""Rows of grids: presets, single blocks, a block times values, groups of layers, strengths, snapshots. No torch."""

from __future__ import annotations

import difflib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network import elements
from lora_lab.network.block_words import chosen
from lora_lab.network.blocks import block_names, in_order
from lora_lab.network.presets import DEFAULTS, Preset, by_name
from lora_lab.network.vectors import FORMATS, listed, vector
from lora_lab.testing.cells import OTHER, Weights


def of_blocks(label: str, blocks: Mapping[str, float], family: Family, rules: str = "") -> Weights:
    """A row of weights by block; blocks that are not named have 1.

    Raises:
        SettingsError: the rules for layers cannot be read.
    """
    elements.rules(rules, family)
    every = {block: blocks.get(block, 1.0) for block in block_names(family)}
    unet_off = not any(number for block, number in every.items() if block != BASE)
    every[OTHER] = blocks.get(OTHER, 0.0 if unet_off else 1.0)
    text = "" if all(number == 1 for number in every.values()) else listed(every, family)
    return Weights(label, MappingProxyType(every), text, elements.DEFAULTS.get(rules.upper(), rules))


def of_text(
    text: str,
    family: Family,
    *,
    presets: Sequence[Preset] = DEFAULTS,
    x: float = 1.0,
    draw: random.Random | None = None,
) -> Weights:
    """A row from what a person wrote: a preset's name, a list of values (with X, R, U), or ``NAME=list``.

    Raises:
        SettingsError: no such preset, a wrong number of values, or a preset of other families.
    """
    label, _, values = text.rpartition("=") if "," in text and "=" in text else ("", "", text)
    preset = by_name(values, presets)
    if preset is not None:
        return of_blocks(label.strip() or preset.name, preset.blocks(family, x), family)
    if "," not in values:
        raise unknown_preset(values, [p.name for p in presets if family in p.families], family)
    found = vector(values, family, x=x, draw=draw)
    return of_blocks(label.strip() or found.text, found.blocks, family)


def unknown_preset(name: str, known: Sequence[str], family: Family) -> SettingsError:
    """The error of a name that no preset has."""
    near = difflib.get_close_matches(name.strip().upper(), [word.upper() for word in known], 1)
    counts = " or ".join(map(str, FORMATS[family]))
    remedy = f"did you mean {near[0]}" if near else f"use one of {', '.join(known)}, or {counts} values"
    return SettingsError(f"there is no preset {name.strip()!r}", remedy=remedy)


def of_presets(
    names: Iterable[str],
    family: Family,
    presets: Sequence[Preset] = DEFAULTS,
    x: float = 1.0,
    draw: random.Random | None = None,
) -> list[Weights]:
    """A row for each name or list; no names: every preset that the family has, each set of weights once.

    Raises:
        SettingsError: see `of_text`.
    """
    wanted = list(names)
    if wanted:
        return [of_text(name, family, presets=presets, x=x, draw=draw) for name in wanted]
    rows = [of_blocks(p.name, p.blocks(family, x), family) for p in presets if family in p.families]
    return list({row.text: row for row in reversed(rows)}.values())[::-1]


def single_blocks(family: Family, *, blocks: Iterable[str] = (), without: bool = False) -> list[Weights]:
    """A row for each block: it alone, or all others.

    Args:
        blocks: which ones, as `block_words.chosen` reads them; none: all of the family.
        without: the block is the one at 0.
    """
    names = in_order(chosen(blocks, family, "the list of blocks")) or block_names(family)
    inside, outside = (0.0, 1.0) if without else (1.0, 0.0)
    rows = []
    for name in names:
        weights = {**dict.fromkeys((*block_names(family), OTHER), outside), name: inside}
        rows.append(of_blocks(f"without {name}" if without else name, weights, family))
    return rows


def block_values(blocks: Iterable[str], values: Sequence[float], family: Family) -> list[Weights]:
    """A row for each value of some blocks together, the others at 1.

    Raises:
        SettingsError: no block is named, or one that the family lacks.
    """
    words = list(blocks)
    names = chosen(words, family, "the list of blocks")
    if not names:
        raise SettingsError("no block is named", remedy="name some, such as OUT03-OUT05")
    label = " ".join(words)
    return [of_blocks(f"{label} = {value:g}", dict.fromkeys(names, value), family) for value in values]


def layer_groups(family: Family, *, blocks: str = "", weight: float = 0.0) -> list[Weights]:
    """A row for each group of layers at `weight`, within some blocks or everywhere."""
    return [of_blocks(f"{name} {weight:g}", {}, family, rule) for name, rule in elements.groups(blocks, weight).items()]


def strengths(values: Sequence[float], *, apart: bool = False, loras: Sequence[Path | None] = (None,)) -> list[Weights]:
    """A row for each strength of each LoRA.

    Args:
        apart: every strength of the text encoders with every one of the UNet; else both alike.
        loras: snapshots; None is the plan's own.
    """
    pairs = [(te, unet) for te in values for unet in values] if apart else [(v, v) for v in values]
    return [
        Weights(" ".join(filter(None, [lora.stem if lora else "", f"te {te:g} unet {u:g}" if apart else f"{u:g}"])),
                unet=u, text_encoder=te, lora=lora)
        for lora in loras for te, u in pairs
    ]  # fmt: skip


def numbers(text: str, what: str = "x") -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        SettingsError: one that is none.
    """
    found = []
    for word in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise SettingsError(f"{what} is {word!r}, which is no number", remedy="give numbers such as 0,0.5,1")
        found.append(number)
    if not found:
        raise SettingsError(f"{what} holds no number", remedy="give numbers such as 0,0.5,1")
    return tuple(found)
