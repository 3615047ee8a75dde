"""An adapter's deltas within the live weights for a while: for pictures that all have the same strengths, where hooks
would cost a call at every layer. The only place that writes into a live weight; each is put back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_lab.network import deltas
from lora_lab.network.adapter import Adapter
from lora_lab.network.piece import Piece

TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Weights of other types (8 bits) would lose the delta: those layers keep their hooks."""


@dataclass(frozen=True)
class _Kept:
    """A tensor of the model and a copy of what it held."""

    live: Tensor
    before: Tensor


@contextmanager
def merged(adapter: Adapter) -> Iterator[None]:
    """Inside, the UNet's layers hold the deltas at the strengths in force, and the hooks there rest.

    Pieces with a strength for each sample stay hooks, and so do those of text encoders, which are called once a
    picture. Strengths are set around this, not within.

    Raises:
        AdapterFileError: a delta that does not fit; the weights are as before.
    """
    kept: list[_Kept] = []
    resting: list[tuple[Piece, float]] = []
    try:
        with torch.no_grad():
            for piece in adapter.pieces:
                strength = piece.strength
                if isinstance(strength, float) and _possible(piece):
                    _merge(piece, strength, kept)
                    resting.append((piece, strength))
                    piece.strength = None
        yield
    finally:
        with torch.no_grad():
            for one in reversed(kept):
                one.live.copy_(one.before)
        for piece, strength in resting:
            piece.strength = strength


def _possible(piece: Piece) -> bool:
    module = piece.site.module
    weight = module.weight
    bias = {"diff_b", "b_norm"} & set(piece.tensors())
    fits = isinstance(weight, Tensor) and weight.dtype in TYPES and (isinstance(module.bias, Tensor) or not bias)
    return piece.site.part == "unet" and fits


def _merge(piece: Piece, strength: float, kept: list[_Kept]) -> None:
    """Add a piece's delta; what was there before is in `kept` before it is touched."""
    module, tensors = piece.site.module, piece.tensors()
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    kind = deltas.kind_of({name: tuple(tensor.shape) for name, tensor in tensors.items()}, piece.site.name)
    added = deltas.delta(kind, tensors, weight, piece.site.name)
    for live, change in ((weight, added.weight), (bias, added.bias)):
        if isinstance(live, Tensor) and change is not None:
            kept.append(_Kept(live, live.detach().to("cpu", copy=True)))
            live.copy_((live.float() + strength * change.reshape(live.shape)).to(live.dtype))
