"""open_clip's text attention as four layers, so that an adapter can hang on each of them.

`torch.nn.MultiheadAttention` holds query, key and value as rows of one matrix, `in_proj_weight`, and never calls a
layer: there is nothing to hook. While an adapter is attached, the instance's `forward` says the same in five calls: a
linear view of each third of the matrix, torch's scaled dot product, and a linear view of `out_proj`. The views read
the live weights when they are called, hold none of their own, and are no part of the model. Outside of that time the
module is untouched: the webui's own LoRAs patch the class, which goes on as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

QKV = ("q_proj", "k_proj", "v_proj")
"""The thirds of `in_proj_weight`, from above, in the names of transformers' CLIP."""
OUT = "out_proj"


class LinearView(nn.Linear):
    """Some rows of a live matrix as a linear layer: hook it and call it, it has no parameters of its own."""

    def __init__(self, attention: nn.MultiheadAttention, place: str) -> None:
        """Args: the live attention, and `q_proj`, `k_proj`, `v_proj` or `out_proj`."""
        nn.Module.__init__(self)  # not Linear's, which would make a weight
        self.in_features = self.out_features = attention.embed_dim
        self._attention = (attention,)  # in a tuple, or it would become a part of this module
        self._place = place
        self.below: tuple[LinearView, ...] = ()
        """The same view of another adapter that is attached too; called instead of the matrix."""

    def forward(self, input: Tensor) -> Tensor:
        """As a linear layer: (..., in) to (..., out)."""
        return self.below[0](input) if self.below else functional.linear(input, self.weight, self.bias)

    def _rows(self, tensor: Tensor) -> Tensor:
        return tensor.chunk(3)[QKV.index(self._place)]

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in) as it is now."""
        attention = self._attention[0]
        return attention.out_proj.weight if self._place == OUT else self._rows(attention.in_proj_weight)

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """(out,) as it is now."""
        attention = self._attention[0]
        if self._place == OUT:
            return attention.out_proj.bias
        return None if attention.in_proj_bias is None else self._rows(attention.in_proj_bias)


class OpenedAttention:
    """The four views of one live attention, and its `forward` made of them.

    Several may be open on one attention (two adapters): each calls the views of the one below.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        self.attention = attention
        self.views = {place: LinearView(attention, place) for place in (*QKV, OUT)}
        self._found: tuple[Any, ...] = ()

    def open(self) -> None:
        """Put the `forward` of views on the instance."""
        held = self.attention.__dict__
        self._found = (held["forward"],) if "forward" in held else ()
        held["forward"] = self._forward
        self._stack(below=_owner(self._found))

    def close(self) -> None:
        """As it was found, in whatever order several are closed. Harmless when it is not open."""
        held = self.attention.__dict__
        above, top = None, _owner((held.get("forward"),))
        while top is not None and top is not self:
            above, top = top, _owner(top._found)
        if top is None:
            return
        if above is not None:
            above._found = self._found
            above._stack(below=_owner(self._found))
        elif self._found:
            held["forward"] = self._found[0]
        else:
            del held["forward"]
        self._found = ()
        self._stack(below=None)

    def _stack(self, below: OpenedAttention | None) -> None:
        for place, view in self.views.items():
            view.below = () if below is None else (below.views[place],)

    def _forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, **options: Any,  # noqa: ANN401 - torch's
    ) -> tuple[Tensor, None]:  # fmt: skip
        """As `MultiheadAttention.forward` without dropout; a CLIP asks for neither weights nor padding.

        Args:
            query, key, value: (t, b, c), or (b, t, c) with batch_first.
            attn_mask: float (t, t), added to the products.

        Raises:
            RuntimeError: it is called for something else than a text encoder does.
        """
        if need_weights or key_padding_mask is not None or query.dim() != 3:
            raise RuntimeError("this attention is not called as a text encoder calls it")
        first = self.attention.batch_first
        parts = (self.views[place](x) for place, x in zip(QKV, (query, key, value), strict=True))
        q, k, v = (self._heads(part, first) for part in parts)
        mask = None if attn_mask is None else attn_mask.to(q.dtype)
        states = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        rows = states.permute(0, 2, 1, 3) if first else states.permute(2, 0, 1, 3)
        return self.views[OUT](rows.reshape(query.shape)), None

    def _heads(self, x: Tensor, first: bool) -> Tensor:
        """To (b, heads, t, c / heads)."""
        split = x.view(*x.shape[:2], self.attention.num_heads, -1)
        return split.permute(0, 2, 1, 3) if first else split.permute(1, 2, 0, 3)


def _owner(found: tuple[Any, ...]) -> OpenedAttention | None:
    """Whose `forward` this is, if one of ours."""
    owner = getattr(found[0], "__self__", None) if found else None
    return owner if isinstance(owner, OpenedAttention) else None


def layers(root: nn.Module) -> Iterator[tuple[str, nn.Module, OpenedAttention | None]]:
    """Path, module and opened attention of everything below `root`; an attention's parts are its four views."""
    for path, module in root.named_modules():
        if is_attention(module):
            opened = OpenedAttention(module)
            yield from ((f"{path}.{place}", view, opened) for place, view in opened.views.items())
        elif not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):  # an attention's out_proj
            yield path, module, None


def is_attention(module: nn.Module) -> bool:
    """Is it torch's attention with one matrix for query, key and value?"""
    return isinstance(module, nn.MultiheadAttention) and isinstance(module.in_proj_weight, torch.Tensor)
