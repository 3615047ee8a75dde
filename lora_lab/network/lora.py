"""LoRA, as kohya's LierLa and C3Lier: delta(x) = alpha / dim * up(down(x)) (arXiv 2106.09685, section 4.1).

The fast way adds the delta into the layer's own output and knows the whole derivative: one function instead of a
chain of five, no copy of the output, and gradients for what is asked for only. With W frozen, y = W x + s B A x:

    dL/dx = W'g + A'(s B'g),   dL/dB = g (s A x)',   dL/dA = (s B'g) x'

The first term is autograd's own; the rest is here. `s` is a number, or one for each sample.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lora_lab.network.lean import Kept, again, keep, plain
from lora_lab.network.piece import PLAIN, Geometry, Piece, by_round, geometry, ratio
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size

MANY = 128
"""Positions of a sample from which leaving samples out gains more than its calls cost, on a CPU: measured at SD1.5's
sizes, batch 24."""


class LoraPiece(Piece):
    """A pair of factors: `down` (dim, in) and `up` (out, dim); at a convolution `down` has its kernel and `up` 1x1."""

    NAMES = frozenset({"alpha", "lora_down.weight", "lora_up.weight"})
    """On disk."""

    def __init__(self, site: Site, down: Tensor, up: Tensor, alpha: float, how: Recipe = PLAIN) -> None:
        """
        Args:
            alpha: as it stands in the file: what is added is alpha / dim times the product.
        """
        super().__init__(site, how)
        self.down = nn.Parameter(down, requires_grad=how.algo != "lora-fa")
        self.up = nn.Parameter(up)
        self.alpha = alpha

    @classmethod
    def fresh(cls, site: Site, size: Size, how: Recipe, generator: torch.Generator) -> LoraPiece:
        """Down drawn as kaiming_uniform(a=sqrt 5) draws (LoRA-FA: normally), from a CPU generator; up zero, so that
        the delta is zero."""
        tail = () if site.kind == "linear" else (1, 1)
        kernel = () if site.kind == "linear" else site.kernel
        fan_in = site.in_features * math.prod(kernel)
        bound = 1 / math.sqrt(fan_in)  # sqrt(3) * gain / sqrt(fan_in) with gain = sqrt(2 / (1 + 5))
        down = torch.empty(size.dim, site.in_features, *kernel)
        if how.algo == "lora-fa":
            down.normal_(0, math.sqrt(2 / (site.in_features + size.dim)), generator=generator)
        else:
            down.uniform_(-bound, bound, generator=generator)
        up = torch.zeros(site.out_features, size.dim, *tail)
        alpha = size.strength * (math.sqrt(size.dim) if how.rs_lora else 1.0)
        return cls(site, down.to(site.device), up.to(site.device), alpha, how)

    @property
    def dim(self) -> int:
        """The rank."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / dim."""
        return self.alpha / self.dim

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Down, up; of a LoRA-FA (arXiv 2308.03303) up alone."""
        return (self.down, self.up) if self.down.requires_grad else (self.up,)

    @property
    def held(self) -> tuple[nn.Parameter, ...]:
        """See `Piece.held`."""
        return self.down, self.up

    def tensors(self) -> dict[str, Tensor]:
        """kohya's three."""
        return {
            "alpha": torch.tensor(self.alpha),
            "lora_down.weight": self.down.detach(),
            "lora_up.weight": self.up.detach(),
        }

    def delta(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Piece.delta`: the plain way, in which dropout acts."""
        x, down, up = x.to(dtype), self.down.to(dtype), self.up.to(dtype)
        if self.site.kind == "linear":
            return functional.linear(self._dropped(functional.linear(x, down)), up).to(dtype) * self.scale
        inner = functional.conv2d(x, down, None, *geometry(self.site))
        return functional.conv2d(self._dropped(inner), up).to(dtype) * self.scale

    def _dropped(self, inner: Tensor) -> Tensor:
        """kohya's dropouts: of single numbers, and of whole ranks of a sample, both made up for."""
        if self.dropping and self.how.dropout:
            inner = functional.dropout(inner, self.how.dropout)
        if self.dropping and self.how.rank_dropout:
            keep = torch.rand(inner.shape[0], self.dim, device=inner.device) > self.how.rank_dropout
            axis = inner.dim() - 1 if self.site.kind == "linear" else 1
            shape = [1] * inner.dim()
            shape[0], shape[axis] = inner.shape[0], self.dim
            inner = inner * keep.to(inner.dtype).view(shape) / (1 - self.how.rank_dropout)
        return inner

    def limit(self, most: float) -> None:
        """See `Piece.limit`: both factors shrink alike, as in kohya's networks.lora."""
        with torch.no_grad():
            up, down = self.up.flatten(1), self.down.flatten(1)
            squared = ((up.T @ up) * (down @ down.T)).sum().clamp(min=0)
            kept = ratio(squared.sqrt() * self.scale, most)
            if kept != 1.0:
                up.mul_(kept**0.5)
                down.mul_(kept**0.5)

    def add(self, output: Tensor, x: Tensor, strength: float | Tensor) -> Tensor:
        """See `Piece.add`: into the layer's own output, wherever autograd allows."""
        drops = self.dropping and (self.how.dropout or self.how.rank_dropout)
        target = None if drops else self._target(output, x)
        if target is None:
            return super().add(output, x, strength)
        rows: Tensor | None = None
        scale = self.scale
        if isinstance(strength, float):
            scale *= strength
        else:
            rows = by_round(strength, x)
            positions = output.numel() // (len(output) * self.site.out_features)
            if self.acting and positions >= MANY and not torch.is_grad_enabled():
                self._add_where_acting(target, x, scale, rows)
                return output
        factors = (target, x, self.down, self.up, scale, rows, keep(x) if self.lean else plain(x))
        changed: Tensor
        if self.site.kind == "conv":
            changed = _AddToWideConv.apply(*factors, geometry(self.site))  # type: ignore[no-untyped-call]
        else:
            function = _AddToLinear if self.site.kind == "linear" else _AddToConv
            changed = function.apply(*factors)  # type: ignore[no-untyped-call]
        return changed if target is output else output  # a view follows its base

    def _add_where_acting(self, target: Tensor, x: Tensor, scale: float, rows: Tensor) -> None:
        """As `add`, but for the runs of samples only whose strength is not 0; without gradients."""
        whole = target.view(*x.shape[:-1], -1) if self.site.kind == "linear" else target
        rounds, samples, _ = rows.shape
        for first in range(0, rounds * samples, samples):
            for run in self.acting:
                part = slice(first + run.start, first + run.stop)
                given = (whole[part], x[part], self.down, self.up, scale, rows[:1, run])
                if self.site.kind == "conv":
                    _wide(*given, geometry(self.site))
                else:
                    (_linear if self.site.kind == "linear" else _narrow)(*given)


class _AddToLinear(torch.autograd.Function):
    """base += scale * rows * up(down(x)) in place, positions being rows of matrices.

    Few calls and no needless ones: at the sizes of a small checkpoint each call weighs as much as its product.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch types it so
        base: Tensor,
        x: Tensor,
        down: Tensor,
        up: Tensor,
        scale: float,
        rows: Tensor | None,
        kept: Kept,
    ) -> Tensor:
        """Args: base, as many elements as the output; x (k * n, ..., in); down (r, in); up (out, r); rows (k, n, 1)."""
        inner = _linear(base, x, down, up, scale, rows)
        ctx.save_for_backward(down, up, inner, rows, *kept.tensors)
        ctx.scale, ctx.kind = scale, kept.kind
        ctx.mark_dirty(base)
        return base

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch types it so
        """The three products of the module's docstring."""
        down, up, inner, rows, *kept = ctx.saved_tensors
        _, need_x, need_down, need_up, *_ = ctx.needs_input_grad
        x = again(ctx.kind, kept)
        dtype = grad.dtype
        g = grad.reshape(-1, up.shape[0])
        grad_x = grad_down = grad_up = None
        if need_up:
            grad_up = _cast(g.t().mm(inner), up.dtype)
        if need_x or need_down:
            back = _times(g.mm(_cast(up, dtype)), ctx.scale, rows)
            if need_down:
                grad_down = _cast(back.t().mm(_cast(x, dtype).reshape(-1, x.shape[-1])), down.dtype)
            if need_x:
                grad_x = _cast(back.mm(_cast(down, dtype)).view(x.shape), x.dtype)
        return grad, grad_x, grad_down, grad_up, None, None, None


class _AddToConv(torch.autograd.Function):
    """The same at a 1x1 convolution, positions being columns of one matrix for each sample."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch types it so
        base: Tensor,
        x: Tensor,
        down: Tensor,
        up: Tensor,
        scale: float,
        rows: Tensor | None,
        kept: Kept,
    ) -> Tensor:
        """Args: base (b, out, h, w); x (b, in, h, w); down (r, in, 1, 1); up (out, r, 1, 1); rows as there."""
        inner = _narrow(base, x, down, up, scale, rows)
        ctx.save_for_backward(down, up, inner, rows, *kept.tensors)
        ctx.scale, ctx.kind = scale, kept.kind
        ctx.mark_dirty(base)
        return base

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch types it so
        """The three products of the module's docstring."""
        down, up, inner, rows, *kept = ctx.saved_tensors
        _, need_x, need_down, need_up, *_ = ctx.needs_input_grad
        x = again(ctx.kind, kept)
        dtype = grad.dtype
        g = grad.flatten(2)
        grad_x = grad_down = grad_up = None
        if need_up:
            grad_up = _cast(_outer(g, inner), up.dtype).view(up.shape)
        if need_x or need_down:
            back = _times(_project(_cast(up, dtype).flatten(1).t(), g), ctx.scale, rows)
            if need_down:
                grad_down = _cast(_outer(back, _cast(x, dtype).flatten(2)), down.dtype).view(down.shape)
            if need_x:
                grad_x = _cast(_project(_cast(down, dtype).flatten(1).t(), back).view(x.shape), x.dtype)
        return grad, grad_x, grad_down, grad_up, None, None, None


class _AddToWideConv(torch.autograd.Function):
    """The same where `down` has a kernel larger than 1x1: its own derivatives are torch's of a convolution."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch types it so
        base: Tensor,
        x: Tensor,
        down: Tensor,
        up: Tensor,
        scale: float,
        rows: Tensor | None,
        kept: Kept,
        how: Geometry,
    ) -> Tensor:
        """Args: base (b, out, h', w'); x (b, in, h, w); down (r, in, k, k); up (out, r, 1, 1); rows as there."""
        inner, size = _wide(base, x, down, up, scale, rows, how)
        ctx.save_for_backward(down, up, inner, rows, *kept.tensors)
        ctx.scale, ctx.kind, ctx.how, ctx.size = scale, kept.kind, how, size
        ctx.mark_dirty(base)
        return base

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch types it so
        """The three products of the module's docstring, the last two with convolutions."""
        down, up, inner, rows, *kept = ctx.saved_tensors
        _, need_x, need_down, need_up, *_ = ctx.needs_input_grad
        x = again(ctx.kind, kept)
        dtype = grad.dtype
        g = grad.flatten(2)
        grad_x = grad_down = grad_up = None
        if need_up:
            grad_up = _cast(_outer(g, inner), up.dtype).view(up.shape)
        if need_x or need_down:
            back = _times(_project(_cast(up, dtype).flatten(1).t(), g), ctx.scale, rows).view(ctx.size)
            grad_x, grad_down, _ = torch.ops.aten.convolution_backward(
                _cast(back, dtype), _cast(x, dtype), _cast(down, dtype), None,
                *ctx.how, False, [0, 0], 1, [need_x, need_down, False],
            )  # fmt: skip
            grad_x = _cast(grad_x, x.dtype) if need_x else None
            grad_down = _cast(grad_down, down.dtype) if need_down else None
        return grad, grad_x, grad_down, grad_up, None, None, None, None


def _linear(base: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float, rows: Tensor | None) -> Tensor:
    """Forward of `_AddToLinear`: adds, and gives the low-rank positions times the strength."""
    dtype = base.dtype
    inner = _cast(x, dtype).reshape(-1, x.shape[-1]).mm(_cast(down, dtype).t())
    inner = _cast(_times(inner, scale, rows), dtype)  # autocast may have its own mind
    base.view(-1, up.shape[0]).addmm_(inner, _cast(up, dtype).t())
    return inner


def _narrow(base: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float, rows: Tensor | None) -> Tensor:
    """Forward of `_AddToConv`, as `_linear`."""
    dtype = base.dtype
    inner = _project(_cast(down, dtype).flatten(1), _cast(x, dtype).flatten(2))
    inner = _cast(_times(inner, scale, rows), dtype)
    _accumulate(base, _cast(up, dtype).flatten(1), inner)
    return inner


def _wide(
    base: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float, rows: Tensor | None, how: Geometry
) -> tuple[Tensor, torch.Size]:
    """Forward of `_AddToWideConv`, as `_linear`; and the shape of the low-rank positions as pictures."""
    dtype = base.dtype
    found = functional.conv2d(_cast(x, dtype), _cast(down, dtype), None, *how)
    inner = _cast(_times(found.flatten(2), scale, rows), dtype)
    _accumulate(base, _cast(up, dtype).flatten(1), inner)
    return inner, found.shape


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _times(inner: Tensor, scale: float, rows: Tensor | None) -> Tensor:
    """Fresh low-rank positions times the strength, in place: a matrix (positions, r) or (b, r, positions)."""
    if rows is not None:
        if inner.dim() == 3:
            inner.view(*rows.shape[:2], *inner.shape[1:]).mul_(rows.unsqueeze(3))
        else:
            inner.view(*rows.shape[:2], -1).mul_(rows)
    return inner if scale == 1.0 else inner.mul_(scale)


def _project(weight: Tensor, columns: Tensor) -> Tensor:
    """`weight` (m, n) applied to each column of (b, n, positions)."""
    if columns.shape[0] == 1:
        return weight.mm(columns[0]).unsqueeze(0)
    return torch.bmm(weight.expand(columns.shape[0], -1, -1), columns)


def _outer(p: Tensor, q: Tensor) -> Tensor:
    """The sum over samples and positions of p q': (features of p, features of q)."""
    if p.shape[0] == 1:
        return p[0].mm(q[0].t())
    return torch.bmm(p, q.transpose(1, 2)).sum(0)


def _accumulate(base: Tensor, weight: Tensor, inner: Tensor) -> None:
    """base (b, out, h, w) += weight (out, r) applied to each column of inner (b, r, h * w)."""
    if inner.shape[0] == 1:
        base.view(weight.shape[0], -1).addmm_(weight, inner[0])
    else:
        base.view(inner.shape[0], weight.shape[0], -1).baddbmm_(weight.expand(inner.shape[0], -1, -1), inner)
