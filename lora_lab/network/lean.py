"""What to keep of a layer's input for the way back: often what the graph keeps anyway is enough to make it again.

A frozen layer keeps nothing of its input, an adapter's gradient needs it. Where the input is a product, a normalised
tensor or a SiLU, autograd has already kept what it came from (see "Saved tensors" in torch's autograd notes): to keep
those instead costs no memory, and one elementwise pass on the way back. Products are the inputs of the feed-forward's
second layer, four times as wide as its output; SiLUs those of the 3x3 convolutions.

Not while saved tensors are packed by somebody else's hooks, as gradient checkpointing does: the caller knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Kept:
    """An input in other words."""

    kind: str
    """product, norm, silu, or itself."""
    tensors: tuple[Tensor, ...]


def keep(x: Tensor) -> Kept:
    """The cheapest way to have `x` again."""
    node = x.grad_fn
    kind = type(node).__name__
    if kind == "MulBackward0":
        factors = (node._saved_self, node._saved_other)  # type: ignore[union-attr]
        if all(_same(factor, x) for factor in factors):
            return _kept("product", factors)
    elif kind == "SiluBackward0" and _same(node._saved_self, x):  # type: ignore[union-attr]
        return _kept("silu", (node._saved_self,))  # type: ignore[union-attr]
    elif kind == "NativeLayerNormBackward0" and _same(node._saved_input, x):  # type: ignore[union-attr]
        parts = [getattr(node, f"_saved_{name}") for name in ("input", "result1", "result2", "weight", "bias")]
        if all(isinstance(part, Tensor) and part.dtype == x.dtype for part in parts):
            return _kept("norm", parts)
    return plain(x)


def plain(x: Tensor) -> Kept:
    """The input itself."""
    return Kept("itself", (x,))


def again(kind: str, tensors: Sequence[Tensor]) -> Tensor:
    """The input out of what was kept; a norm's to the last bit or the one before it."""
    if kind == "product":
        return tensors[0] * tensors[1]
    if kind == "silu":
        return functional.silu(tensors[0])
    if kind == "norm":
        found, mean, rstd, weight, bias = tensors
        return (found - mean).mul_(rstd).mul_(weight).add_(bias)
    return tensors[0]


def _same(tensor: object, x: Tensor) -> bool:
    """Is it a tensor of the same shape and type?"""
    return isinstance(tensor, Tensor) and tensor.shape == x.shape and tensor.dtype == x.dtype


def _kept(kind: str, tensors: Sequence[Tensor]) -> Kept:
    """Without their graphs: what is kept must not hold on to more."""
    return Kept(kind, tuple(tensor.detach() for tensor in tensors))
