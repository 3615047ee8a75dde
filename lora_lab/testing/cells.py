"""The words of a grid: weights (a row), a prompt and a seed (a column), and the cell where they meet. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lora_lab.families import BASE, ListedCheckpoint

OTHER = "OTHER"
"""Layers outside the blocks. As in lora-block-weight their weight is 1, unless the whole UNet is at 0."""


@dataclass(frozen=True)
class Weights:
    """How strongly a LoRA acts, with a name: one row of a grid. Make some with `rows`."""

    label: str
    blocks: Mapping[str, float] = field(default_factory=dict)
    """By block, every block of the family; empty: all 1."""
    text: str = ""
    """The list of block weights as people write it, for prompts and infotext; empty: all 1."""
    elements: str = ""
    """Rules for single layers (see `network.elements`); empty: none."""
    unet: float = 1.0
    text_encoder: float = 1.0
    lora: Path | None = None
    """Another LoRA than the plan's: a snapshot."""

    @property
    def off(self) -> bool:
        """Does the LoRA do nothing at all?"""
        if self.elements:
            return False
        unet = [number for block, number in self.blocks.items() if block not in (BASE, OTHER)]
        silent = self.unet == 0 or (bool(unet) and not any(unet) and not self.blocks.get(OTHER))
        return silent and self.base == 0

    @property
    def base(self) -> float:
        """What the text encoders get: their strength times BASE."""
        return self.text_encoder * self.blocks.get(BASE, 1.0)


WHOLE = Weights("whole")
"""The LoRA at strength 1: ``<lora:name:1>``, the base picture of a grid."""
NOTHING = Weights("without", unet=0.0, text_encoder=0.0)
"""The bare checkpoint."""


@dataclass(frozen=True)
class Look:
    """What all pictures of a grid share."""

    width: int = 512
    height: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "Euler"
    negative: str = ""
    clip_skip: int | None = None
    """None: as the host is set."""


@dataclass(frozen=True)
class Cell:
    """One picture of a grid: everything that decides it, but the checkpoint."""

    weights: Weights
    prompt: str
    seed: int
    lora: Path
    """The file whose adapter acts."""

    @property
    def label(self) -> str:
        """Of its row."""
        return self.weights.label

    @property
    def blocks(self) -> Mapping[str, float]:
        """Of its row."""
        return self.weights.blocks

    @property
    def text(self) -> str:
        """The list of its block weights as people write it."""
        return self.weights.text

    @property
    def tag(self) -> str:
        """What a prompt would say for the same: ``<lora:name:te:unet:lbw=...>``."""
        w = self.weights
        words = [f"lora:{self.lora.stem}:{w.text_encoder:g}" + (f":{w.unet:g}" if w.unet != w.text_encoder else "")]
        words += [f"lbw={w.text}"] if w.text else []
        words += [f"lbwe={w.elements}"] if w.elements else []
        return f"<{':'.join(words)}>"

    def key(self, look: Look, identity: str, file_state: str, quick: float) -> str:
        """A name for the picture on disk: changes with everything that decides its pixels.

        Args:
            identity: of the checkpoint.
            file_state: of the LoRA's file.
            quick: share of the steps that was shared; 0 for an exact one.
        """
        w = self.weights
        told: dict[str, Any] = {
            "blocks": sorted(item for item in w.blocks.items() if item[1] != 1), "elements": w.elements,
            "unet": w.unet, "te": w.text_encoder,
            "prompt": self.prompt, "seed": self.seed, "look": vars(look), "checkpoint": identity,
            "lora": "" if w.off else file_state, "quick": quick,
        }  # fmt: skip
        if w.off:
            told |= {"blocks": [], "elements": "", "unet": 0.0, "te": 0.0}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class GridPlan:
    """A grid: rows of weights against columns of prompts and seeds."""

    lora: Path
    rows: tuple[Weights, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    look: Look = Look()
    batch: int = 8
    """Pictures made in one call."""
    quick: float = 0.0
    """Quick look: share of the steps, 0 to below 1, that a column's cells take from its base picture. 0: exact."""
    out: Path | None = None
    """Folder for the pictures; None: ``tests/<LoRA's name>`` in the host's data folder."""
    trigger: str | None = ""
    """The tag that calls the subject, for a warning about prompts without it; empty: what the file's metadata says;
    None: no such warning."""
    large: bool = False
    """Make it however long it takes; else a grid of more than `grid.MANY` cells is refused after its base picture."""
    base: Weights = WHOLE
    """What the base picture of each column is made with."""
    checkpoint: ListedCheckpoint | None = None
    """Within `Host.switching`: the one to make it on; None: the loaded one."""

    @cached_property
    def columns(self) -> tuple[tuple[str, int], ...]:
        """Prompt and seed of each, seeds varying faster; equal ones once."""
        return tuple(dict.fromkeys((prompt, seed) for prompt in self.prompts for seed in self.seeds))

    def cell(self, weights: Weights, column: tuple[str, int]) -> Cell:
        """The cell of a row (or of `base`) and a column."""
        return Cell(weights, column[0], column[1], weights.lora or self.lora)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The base pictures, then all others, row by row."""
        return tuple(self.cell(row, column) for row in (self.base, *self.rows) for column in self.columns)
