"""Adding a dense change of the weight to a layer's output, with nothing of the weight's size kept for the way back.

A kind whose change is no product of thin factors (LoHa, GLoRA, OFT, ...) makes a tensor as large as the layer's weight,
and its own steps make several. Autograd would keep them all, for every layer of the UNet at once. Here they are made
again on the way back, one layer at a time: cheap beside the layer's own products. With y = W x + s D(p) x:

    dL/dx = W'g + s D'g,   dL/dD = s g x',   dL/dp by autograd through D

The first term is autograd's own; the rest is here. What is drawn at random must not be made again: see `FormulaPiece`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lora_lab.network.lean import Kept, again
from lora_lab.network.piece import Geometry

Change = Callable[[], tuple[Tensor, Tensor | None]]
"""Makes D (out, in) or (out, in, k, k), and what is added to the bias (out,) or None."""


@dataclass(frozen=True)
class Dense:
    """A dense change at a layer."""

    change: Change
    strength: float
    geometry: Geometry | None
    """Of a convolution; None at a linear layer."""


def add_dense(target: Tensor, x: Tensor, dense: Dense, kept: Kept, parameters: Sequence[Tensor]) -> Tensor:
    """`target`, with s D x added in place.

    Args:
        target: the layer's output (b, ..., out) or (b, out, h', w'), contiguous, or the matrix that it is a view of.
        x: the layer's input (b, ..., in) or (b, in, h, w).
        kept: how `x` is had again.
        parameters: what `dense.change` depends on.
    """
    changed: Tensor = _AddDense.apply(target, x, dense, kept, *parameters)  # type: ignore[no-untyped-call]
    return changed


class _AddDense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, dense: Dense, kept: Kept, *parameters: Tensor) -> Tensor:  # noqa: ANN401 - torch types it so
        weight, bias = (None if one is None else one.to(base.dtype) for one in dense.change())
        assert weight is not None
        if dense.geometry is None:
            base.view(-1, weight.shape[0]).addmm_(_rows(x, base.dtype), weight.t(), alpha=dense.strength)
        else:
            base.add_(functional.conv2d(x.to(base.dtype), weight, None, *dense.geometry), alpha=dense.strength)
        if bias is not None:
            base.add_(bias.view(-1, 1, 1) if dense.geometry else bias, alpha=dense.strength)
        ctx.save_for_backward(*parameters, *kept.tensors)
        ctx.dense, ctx.kind, ctx.count = dense, kept.kind, len(parameters)
        ctx.mark_dirty(base)
        return base

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch types it so
        """The three of the module's docstring."""
        dense: Dense = ctx.dense
        parameters, kept = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        x = again(ctx.kind, kept)
        wanted = [p for p, asked in zip(parameters, ctx.needs_input_grad[4:], strict=True) if asked]
        with torch.enable_grad():
            weight, bias = dense.change()
        grad_x, grad_weight = _products(ctx.needs_input_grad[1], bool(wanted), grad, x, weight.detach(), dense)
        found: Iterator[Tensor] = iter(())
        if wanted and grad_weight is not None:
            outs, grads = [weight], [grad_weight]
            if bias is not None and bias.requires_grad:
                sums = grad.sum((0, 2, 3)) if dense.geometry else grad.reshape(-1, grad.shape[-1]).sum(0)
                outs, grads = [*outs, bias], [*grads, sums.to(bias.dtype) * dense.strength]
            found = iter(torch.autograd.grad(outs, wanted, grads, allow_unused=True))
        given = [next(found) if asked else None for asked in ctx.needs_input_grad[4:]]
        return grad, grad_x, None, None, *given


def _products(
    need_x: bool, need_weight: bool, grad: Tensor, x: Tensor, weight: Tensor, dense: Dense
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the input, in its type, and of the change, in the change's."""
    dtype = grad.dtype
    if dense.geometry is not None:
        scaled = grad if dense.strength == 1.0 else grad * dense.strength
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            scaled, x.to(dtype), weight.to(dtype), None,
            *dense.geometry, False, [0, 0], 1, [need_x, need_weight, False],
        )  # fmt: skip
        return grad_x.to(x.dtype) if need_x else None, grad_weight.to(weight.dtype) if need_weight else None
    g = grad.reshape(-1, weight.shape[0])
    g = g if dense.strength == 1.0 else g * dense.strength
    grad_x = g.mm(weight.to(dtype)).view(x.shape).to(x.dtype) if need_x else None
    return grad_x, g.t().mm(_rows(x, dtype)).to(weight.dtype) if need_weight else None


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).reshape(-1, x.shape[-1])
