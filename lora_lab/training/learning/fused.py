"""The optimizer's step within the backward pass: each tensor is updated as soon as its gradient is whole.

torch calls a hook when a parameter's gradient has been added up (post-accumulate-grad, torch 2.1); the hook lets the
optimizer see this one parameter, and drops the gradient. Optimizers whose rule looks at one tensor at a time give the
same numbers as in a step over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


class FusedUpdate:
    """Lets an optimizer step one parameter at a time, from within the backward."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._handles: list[RemovableHandle] = []

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Inside, a backward updates what it reaches. Rates are those in force on entering."""
        groups: Sequence[dict[str, Any]] = self._optimizer.param_groups
        try:
            for group in groups:
                for parameter in filter(lambda p: p.requires_grad, group["params"]):
                    alone = {**group, "params": [parameter]}
                    self._handles.append(parameter.register_post_accumulate_grad_hook(_Step(self._optimizer, alone)))
            yield
        finally:
            while self._handles:
                self._handles.pop().remove()


class _Step:
    """The hook of one parameter."""

    def __init__(self, optimizer: Optimizer, group: dict[str, Any]) -> None:
        self._optimizer = optimizer
        self._group = group

    def __call__(self, parameter: nn.Parameter) -> None:
        whole = self._optimizer.param_groups
        self._optimizer.param_groups = [self._group]
        try:
            self._optimizer.step()
        finally:
            self._optimizer.param_groups = whole
        parameter.grad = None
