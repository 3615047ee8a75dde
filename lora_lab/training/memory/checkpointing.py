"""Gradient checkpointing on a live model of either layout, without a trace afterwards.

The blocks of both layouts are found by the names of their classes, and each block's `forward` is wrapped on the
instance while the context lasts: `torch.utils.checkpoint` (arXiv 1604.06174) keeps a block's input and computes its
inside again on the way back.

ldm has a checkpointing of its own, which is on in SD1's usual config. It asks for the gradients of a block's own
weights, which are frozen here (it raises then), and knows nothing of an adapter's: it is off meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.utils.checkpoint
from torch import Tensor, nn
from torch.utils._pytree import tree_map

BLOCKS = frozenset({"BasicTransformerBlock", "ResBlock", "ResnetBlock2D", "CLIPEncoderLayer", "ResidualAttentionBlock"})
"""Classes whose inside is worth computing twice: transformer blocks, residual blocks, text encoder layers."""

LDM_FLAGS = ("checkpoint", "use_checkpoint")
LDM_CLASSES = frozenset({"BasicTransformerBlock", "ResBlock", "AttentionBlock", "UNetModel"})


@contextmanager
def gradient_checkpointing(modules: Iterable[nn.Module], enabled: bool, *, to_cpu: bool = False) -> Iterator[None]:
    """Inside, the blocks of `modules` keep only their inputs for the way back (if `enabled`).

    Args:
        modules: roots.
        enabled: or else only what ldm does by itself is off.
        to_cpu: keep these inputs in the machine's memory.
    """
    with ExitStack() as stack:
        for root in modules:
            for module in root.modules():
                name = type(module).__name__
                if name in LDM_CLASSES:
                    _flags_off(module, stack)
                if enabled and name in BLOCKS:
                    _wrap(module, stack, to_cpu)
        yield


def _flags_off(module: nn.Module, stack: ExitStack) -> None:
    for flag in LDM_FLAGS:
        if module.__dict__.get(flag):
            stack.callback(setattr, module, flag, module.__dict__[flag])
            setattr(module, flag, False)


def _wrap(module: nn.Module, stack: ExitStack, to_cpu: bool) -> None:
    """Shadow `forward` on the instance; on leaving, what the instance had of its own (often nothing) is back."""
    own = module.__dict__.get("forward")
    if own is None:
        stack.callback(module.__dict__.pop, "forward", None)
    else:
        stack.callback(module.__dict__.__setitem__, "forward", own)
    module.__dict__["forward"] = (_offloaded if to_cpu else _checkpointed)(module.forward)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the block takes and gives
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return torch.utils.checkpoint.checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return again


def _offloaded(forward: Callable[..., Any]) -> Callable[..., Any]:
    """As `_checkpointed`; what is kept lies in the machine's memory, and comes back when it is computed with again."""

    def again(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the block takes and gives
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        device = next((a.device for a in args if isinstance(a, Tensor)), torch.device("cpu"))

        def back(*kept: Any, **named: Any) -> Any:  # noqa: ANN401 - the same
            return forward(*_to(kept, device), **_to(named, device))

        kept, named = _to(args, torch.device("cpu")), _to(kwargs, torch.device("cpu"))
        return torch.utils.checkpoint.checkpoint(back, *kept, use_reentrant=False, **named)

    return again


def _to(values: Any, device: torch.device) -> Any:  # noqa: ANN401 - any tree of values
    return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, values)
