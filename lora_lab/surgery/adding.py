"""Products of factors added to a weight and rounded, some rows at a time, so that all of it stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_lab.surgery.lowrank import product_norm

PIECE = 1 << 18
"""Numbers that are worked on at once: 1 MB in float32, which a core's own cache holds."""


@dataclass(frozen=True)
class Product:
    """`up` (rows, r) times `down` (r, columns), float32, for the rows from `first` on."""

    first: int
    up: Tensor
    down: Tensor

    @property
    def end(self) -> int:
        """The row behind its last one."""
        return self.first + self.up.shape[0]


def stacked(products: Sequence[Product]) -> list[Product]:
    """One product for all of the same rows: the ranks add up."""
    by_rows: dict[tuple[int, int], list[Product]] = {}
    for one in products:
        by_rows.setdefault((one.first, one.end), []).append(one)
    return [
        same[0] if len(same) == 1 else
        Product(first, torch.cat([one.up for one in same], 1), torch.cat([one.down for one in same]))
        for (first, _), same in by_rows.items()
    ]  # fmt: skip


def energy(products: Sequence[Product]) -> float:
    """The squared Frobenius norm of their sum; they must be :func:`stacked` and of different rows."""
    return sum(product_norm(one.up, one.down) ** 2 for one in products)


def added(held: Tensor, products: Sequence[Product], dtype: torch.dtype) -> tuple[Tensor, float]:
    """A weight with products added, computed in float32.

    Args:
        held: (rows, columns), as stored.
        products: stacked, for rows of it.
        dtype: what the sum is rounded to.

    Returns:
        The sum, and the squared norm of what rounding took from it: NaN where a number is NaN, infinite or too large.
    """
    stored = torch.empty_like(held, dtype=dtype)
    step = max(1, PIECE // max(1, held.shape[1]))
    buffer = torch.empty(min(step, held.shape[0]), held.shape[1])
    lost = 0.0
    for first, end in _spans(held.shape[0], products, step):
        wide, new = buffer[: end - first], stored[first:end]
        wide.copy_(held[first:end])
        for one in products:
            if one.first <= first and end <= one.end:
                wide.addmm_(one.up[first - one.first : end - one.first], one.down)
        new.copy_(wide)
        rest = wide.sub_(new).reshape(-1)
        lost += float(rest @ rest)
    return stored, lost


def _spans(rows: int, products: Sequence[Product], step: int) -> Iterator[tuple[int, int]]:
    """All rows in spans of at most `step`, none of which a product covers in part."""
    edges = sorted({0, rows, *(one.first for one in products), *(one.end for one in products)})
    for first, last in zip(edges, edges[1:], strict=False):
        for start in range(first, last, step):
            yield start, min(start + step, last)
