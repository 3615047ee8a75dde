"""Ways of mixing the deltas of several adapters at one layer, as pure functions of dense tensors of one shape."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def trimmed(delta: Tensor, density: float) -> Tensor:
    """The largest entries by magnitude, this share of them; the others zero (TIES, arXiv 2306.01708, section 4.1)."""
    keep = int(density * delta.numel())
    flat = delta.flatten()
    found = torch.zeros_like(flat)
    if keep:
        places = flat.abs().topk(keep).indices
        found[places] = flat[places]
    return found.reshape(delta.shape)


def ties(deltas: Sequence[Tensor], density: float) -> Tensor:
    """Trim, elect a sign for each entry by the sum, and average those that agree with it (arXiv 2306.01708,
    algorithm 1), at each layer for itself. Strengths are folded into the deltas before."""
    stack = torch.stack([trimmed(delta, density) for delta in deltas])
    elected = torch.where(stack.sum(0) >= 0, 1.0, -1.0)
    agree = stack.sign() == elected
    return (stack * agree).sum(0) / agree.sum(0).clamp_min(1)


def dare(deltas: Sequence[Tensor], density: float, seed: str) -> Tensor:
    """Drop entries at random, keep this share of them, magnify them to make up for it, and add (arXiv 2311.03099,
    section 3.2). The same seed drops the same entries."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "little")
    generator = torch.Generator().manual_seed(number)
    total = torch.zeros_like(deltas[0])
    for delta in deltas:
        kept = torch.rand(delta.shape, generator=generator) < density
        total += delta * kept / density
    return total
