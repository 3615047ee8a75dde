"""What kind of adapter is made, and how: everything about it but its sizes. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The kind of a piece and its options; kohya's and LyCORIS's names."""

    algo: str = "lora"
    dropout: float = 0.0
    """Share of the down projection's output that is dropped in training (network_dropout)."""
    rank_dropout: float = 0.0
    """Chance of each rank, in each sample, to be left out of a step; the others are made larger for it."""
    module_dropout: float = 0.0
    """Chance of the whole piece to be left out of a step."""
    rs_lora: bool = False
    """Scale by alpha / sqrt(dim) instead of alpha / dim (arXiv 2312.03732); the file's alpha says so to all readers."""
