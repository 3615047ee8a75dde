"""What an adapter hangs on one site: the contract that every kind of adapter fulfils."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site

PLAIN = Recipe()
Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Stride, padding and dilation of a convolution."""

Factor = float | Tensor | None
"""Strength of a piece now: a number, one for each sample (n,) on the piece's device, or None: off."""


class Piece(ABC):
    """The part of an adapter at one site. A kind (LoRA, LoHa, ...) derives from it and gives `delta` and `tensors`.

    Its parameters are float32. Whatever the site's layer computes in (half precision, autocast), the delta is in the
    type of the layer's output.
    """

    def __init__(self, site: Site, how: Recipe = PLAIN) -> None:
        self.site = site
        self.how = how
        """The kind and its options, for what matters after it is made: the dropouts."""
        self.strength: Factor = 1.0
        """Set by the adapter, from its strengths by part, block and sample."""
        self.acting: tuple[slice, ...] = ()
        """Set with it: see `acting`."""
        self.dropping = False
        """Set by the adapter: does dropout act?"""
        self.lean = False
        """Set by the adapter: may it keep of its input what the graph keeps anyway (see `lean`)?"""
        self.frozen = False
        """It is not trained any more."""
        self.alone = True
        """Is this the first hook of the module, so that its output belongs to nobody else yet?"""

    @property
    @abstractmethod
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """What is trained."""

    @property
    def held(self) -> tuple[nn.Parameter, ...]:
        """What lies on the device: what is trained, and what is frozen beside it."""
        return self.parameters

    @abstractmethod
    def delta(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """What full strength adds to the layer's output.

        Args:
            x: the layer's input: (b, ..., in) of a linear layer, (b, in, h, w) of a convolution.
            dtype: of the layer's output; compute and answer in it.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Suffix on disk -> tensor, with the alpha: ``lora_down.weight`` and so on. Detached, not copied."""

    def limit(self, most: float) -> None:
        """Shrink the piece so that its delta's norm is at most `most` (kohya's scale_weight_norms, called after each
        step); a kind that has no such limit stays as it is."""
        return

    def add(self, output: Tensor, x: Tensor, strength: float | Tensor) -> Tensor:
        """The layer's output with `strength` times the delta. A kind may have a faster way that says the same."""
        delta = self.delta(x, output.dtype)
        return output + (delta * strength if isinstance(strength, float) else delta * per_sample(strength, delta))

    def _target(self, output: Tensor, x: Tensor) -> Tensor | None:
        """The tensor to add into: the output, or what it is a view of; None where only a new tensor is safe.

        torch's linear computes in two dimensions and hands on a view of the result. To add into the view would make
        autograd copy the whole gradient on the way back; to add into what it views costs nothing.
        """
        if not self.alone or not output.is_contiguous() or not x.is_contiguous():
            return None
        if output.is_inference() and not torch.is_inference_mode_enabled():
            return None
        if not output._is_view():
            return output
        base = output._base
        whole = base is not None and base.numel() == output.numel() and base.is_contiguous()
        return base if whole else None

    def hook(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """The forward hook on the site's module. Off costs this one branch."""
        strength = self.strength
        if strength is None or (self.dropping and self.how.module_dropout and self._left_out()):
            return None
        if self.site.words_first and (self.dropping or not isinstance(strength, float)):
            # What is drawn or given by sample finds the samples first, as in every other layer.
            return turned(self.add(turned(output), turned(args[0]), strength))
        return self.add(output, args[0], strength)

    def _left_out(self) -> bool:
        """kohya's module_dropout: drawn once for the whole batch."""
        return bool(torch.rand(1) < self.how.module_dropout)


def geometry(site: Site) -> Geometry:
    """How the site's convolution steps over its input."""
    module = site.module
    assert isinstance(module, nn.Conv2d)
    assert not isinstance(module.padding, str)
    pair = [(int(two[0]), int(two[1])) for two in (module.stride, module.padding, module.dilation)]
    return pair[0], pair[1], pair[2]


class _Turned(torch.autograd.Function):
    """The first two dimensions exchanged, whole in memory on both ways.

    torch 2.1's GELU has a wrong backward on a CPU where its gradient lies in another order than its input.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch types it so
        """(a, b, ...) to (b, a, ...)."""
        return x.transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401 - torch types it so
        """The same."""
        return grad.transpose(0, 1).contiguous()


def turned(x: Tensor) -> Tensor:
    """Words first to samples first, and back."""
    found: Tensor = _Turned.apply(x)  # type: ignore[no-untyped-call]
    return found


def per_sample(strength: Tensor, like: Tensor) -> Tensor:
    """Strengths (n,) so that they multiply `like` (k * n, ...), see `by_round`."""
    return by_round(strength, like).reshape(-1, *([1] * (like.dim() - 1)))


def by_round(strength: Tensor, like: Tensor) -> Tensor:
    """Strengths (n,) as (k, n, 1) in the type of `like` (k * n, ...): sample i of each of the k rounds gets the i-th.

    Classifier-free guidance stacks the samples' conditioned and unconditioned halves, which is k = 2.

    Raises:
        ValueError: the batch is no multiple of n.
    """
    rounds, rest = divmod(like.shape[0], strength.shape[0])
    if rest or not rounds:
        raise ValueError(
            f"a batch of {like.shape[0]} cannot have the strengths of {strength.shape[0]} samples: "
            "it must hold each sample once or more, all of them one after another"
        )
    return strength.to(like.dtype).view(1, -1, 1).expand(rounds, -1, 1)


def acting(strength: Factor) -> tuple[slice, ...]:
    """The runs of samples whose strength is not 0, where some samples' is; else none.

    About half the strengths of a grid of presets are 0. On a CPU, what need not be computed is time; on a card more
    and smaller calls are no gain, and to look would wait for it.
    """
    if not isinstance(strength, Tensor) or strength.device.type != "cpu":
        return ()
    runs, at = [], 0
    for on, same in groupby(strength.tolist(), bool):
        after = at + len(list(same))
        runs += [slice(at, after)] if on else []
        at = after
    return () if runs == [slice(0, at)] else tuple(runs)


def ratio(norm: Tensor, most: float) -> float:
    """kohya's limit on norms: how much is kept of a delta of this norm (its networks/lora.py)."""
    held = max(float(norm), most / 2)
    return min(held, most) / held
