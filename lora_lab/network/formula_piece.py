"""Pieces of every kind that is no plain LoRA: the change of the layer's weight, worked out from the tensors that
stand in a file (`deltas.py`), times the layer's input.

Also kinds that turn or scale the weight (OFT, BOFT, DoRA, IA3) are the difference of the new weight from the live
one, so that strength 0 is exactly off, and half a strength half the difference, as in the webui.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora_lab.network import deltas
from lora_lab.network.deltas import Kind
from lora_lab.network.dense import Dense, add_dense
from lora_lab.network.lean import keep, plain
from lora_lab.network.piece import PLAIN, Piece, geometry, ratio
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site

CONSTANT = frozenset({"alpha", "scale", "on_input"})
"""Numbers of a file that are not trained; they stay on the CPU, where reading them waits for nothing."""
FOLDED: Mapping[Kind, tuple[str, ...]] = {
    Kind.LORA: ("lora_up.weight",),
    Kind.LOHA: ("hada_w1_a",),
    Kind.LOKR: ("lokr_w1", "lokr_w1_a"),
    Kind.GLORA: ("a1.weight", "b1.weight"),
}
"""Tensors that the factor of the whole piece is multiplied into; the file has no place of its own for it."""


class FormulaPiece(Piece):
    """A piece whose tensors say how the weight changes."""

    def __init__(self, site: Site, kind: Kind, tensors: Mapping[str, Tensor], how: Recipe = PLAIN) -> None:
        """
        Args:
            tensors: suffix on disk -> float32 tensor on the site's device, constants anywhere. `scalar` (one number)
                beside them is a factor of the whole.
        """
        super().__init__(site, how)
        self.kind = kind
        given = dict(tensors)
        scalar = given.pop("scalar", None)
        self._scalar = None if scalar is None else nn.Parameter(scalar)
        self._values = {
            name: tensor.detach().cpu() if name in CONSTANT else nn.Parameter(tensor) for name, tensor in given.items()
        }

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """All tensors but the constants, and the scalar if there is one."""
        trained = [tensor for tensor in self._values.values() if isinstance(tensor, nn.Parameter)]
        return (*trained, *([] if self._scalar is None else [self._scalar]))

    def tensors(self) -> dict[str, Tensor]:
        """As LyCORIS writes them. The webui passes over GLoRA's alpha: it is multiplied in, and is dim."""
        found = {name: tensor.detach() for name, tensor in self._folded().items()}
        rank = deltas.rank_of(self.kind, {name: tuple(tensor.shape) for name, tensor in found.items()})
        if self.kind is Kind.GLORA and rank and "alpha" in found:
            scale = deltas.scale_of(found, rank)
            found |= {name: found[name] * scale for name in FOLDED[Kind.GLORA]}
            found["alpha"] = torch.tensor(float(rank))
        return found

    def _folded(self) -> dict[str, Tensor]:
        """The tensors with the factor of the whole in its place."""
        values: dict[str, Tensor] = dict(self._values)
        if self._scalar is not None:
            values.update({name: values[name] * self._scalar for name in FOLDED[self.kind] if name in values})
        return values

    def change(self) -> tuple[Tensor, Tensor | None]:
        """What full strength adds to the layer's weight and bias, float32."""
        with _without_autocast(self.site.device):
            weight = self.site.module.weight
            assert isinstance(weight, Tensor)
            base, held = weight.detach().float(), self._folded()
            added = deltas.change(self.kind, held, base).reshape(base.shape)
            bias = held.get("b_norm" if self.kind is Kind.NORM else "diff_b")
            added, bias = self._masked(added, bias)
            if "dora_scale" in held:
                added = deltas.decomposed(base, added, held["dora_scale"])
            return added, bias

    def _masked(self, added: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """LyCORIS's rank_dropout: some outputs of the layer stay as they are in this step."""
        if not (self.dropping and self.how.rank_dropout):
            return added, bias
        keep = (torch.rand(added.shape[0]) > self.how.rank_dropout).to(added)
        if self.how.rank_dropout_scale and bool(keep.any()):
            keep = keep / keep.mean()
        return added * keep.view(-1, *[1] * (added.dim() - 1)), None if bias is None else bias * keep

    def add(self, output: Tensor, x: Tensor, strength: float | Tensor) -> Tensor:
        """See `Piece.add`: a dense change goes into the layer's own output, and is not kept for the way back, wherever
        it is the same when it is made again. Pictures have no way back."""
        drawn = self.dropping and self.how.rank_dropout
        in_parts = self.kind is Kind.LOKR and self._in_parts()
        target = self._target(output, x) if torch.is_grad_enabled() else None
        if target is None or drawn or in_parts or self.site.kind == "norm" or not isinstance(strength, float):
            return super().add(output, x, strength)
        dense = Dense(self.change, strength, None if self.site.kind == "linear" else geometry(self.site))
        changed = add_dense(target, x, dense, keep(x) if self.lean else plain(x), self.parameters)
        return changed if target is output else output  # a view follows its base

    def delta(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Piece.delta`."""
        if self.kind is Kind.LOKR and self._in_parts():
            return self._kronecker(x.to(dtype)).to(dtype)
        weight, bias = self.change()
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        if self.site.kind == "linear":
            return functional.linear(x.to(dtype), weight, bias).to(dtype)
        if self.site.kind == "norm":
            return self._normed(x, weight, bias).to(dtype)
        return functional.conv2d(x.to(dtype), weight, bias, *geometry(self.site)).to(dtype)

    def _normed(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        module = self.site.module
        x, weight, bias = x.float(), weight.float(), None if bias is None else bias.float()
        if isinstance(module, nn.GroupNorm):
            return functional.group_norm(x, module.num_groups, weight, bias, module.eps)
        assert isinstance(module, nn.LayerNorm)
        return functional.layer_norm(x, module.normalized_shape, weight, bias, module.eps)

    def _in_parts(self) -> bool:
        """May the two Kronecker factors be applied one after the other?"""
        dropped = self.dropping and self.how.rank_dropout
        return not dropped and "dora_scale" not in self._values and "diff_b" not in self._values

    def _kronecker(self, x: Tensor) -> Tensor:
        """(A o B) x without the product, which is as large as the layer: B on each of A's columns, then A across."""
        with _without_autocast(self.site.device):
            outer, inner = deltas.kronecker(self._folded())
        outer, inner = outer.to(x.dtype), inner.to(x.dtype)
        a, c = outer.shape
        if self.site.kind == "linear":
            turned = functional.linear(x.reshape(*x.shape[:-1], c, -1), inner)
            return torch.einsum("ac,...cb->...ab", outer, turned).flatten(-2)
        inner = inner.reshape(inner.shape[0], -1, *self.site.kernel)
        groups = functional.conv2d(x.reshape(-1, x.shape[1] // c, *x.shape[2:]), inner, None, *geometry(self.site))
        groups = groups.reshape(x.shape[0], c, -1)
        mixed = torch.einsum("ac,ncq->naq", outer, groups)
        return mixed.reshape(x.shape[0], a * inner.shape[0], *_out_size(self.site, x))

    def limit(self, most: float) -> None:
        """See `Piece.limit`: LyCORIS shrinks a factor of the whole that it multiplies into one tensor when it saves;
        here that tensor shrinks at once. Of OFT the blocks themselves are what is limited."""
        with torch.no_grad():
            if self.kind in (Kind.OFT, Kind.BOFT):
                blocks = self._values["oft_blocks"]
                blocks.mul_(ratio(blocks.norm(), most))
            elif self.kind in FOLDED:
                kept = ratio(deltas.change(self.kind, self._folded(), self._base()).norm(), most)
                whole = [self._values[name] for name in FOLDED[self.kind] if name in self._values]
                for tensor in whole if self._scalar is None else [self._scalar]:
                    tensor.mul_(kept)

    def _base(self) -> Tensor:
        weight = self.site.module.weight
        assert isinstance(weight, Tensor)
        return weight.detach().float()


def _out_size(site: Site, x: Tensor) -> tuple[int, int]:
    """Height and width of the convolution's output."""
    stride, padding, dilation = geometry(site)
    sizes = [
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (site.kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]
    return sizes[0], sizes[1]


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The change of a weight is worked out in float32; what multiplies the input is cast afterwards."""
    if device.type in ("cpu", "cuda", "xpu"):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
