"""Optimizers made and driven: their groups, the one rate of those that want one, the averages of schedule-free ones.

**One rate.** Prodigy raises on two different rates, some versions of dadaptation silently take the first group's. They
are given the highest, and each group's ratio to it is folded into the *unit* in which the optimizer sees the group's
weights: it is shown w / u and the gradient u * g, and what it does to w / u is read back as w. For optimizers whose
step does not depend on the gradient's size (Adam and all that are built like it, sign methods) w then moves u times
as far, so u is the ratio; where the step is as long as the gradient (SGD) w moves u * u times as far, so u is the
ratio's root. That is the same movement as with a rate for each group, step for step (weight decay, which acts on w as
it is, apart), and the estimate of d stays right, since the optimizer sees one consistent problem. Nothing of it is
left in the adapter: its files are right at strength 1.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError
from lora_lab.training.learning.optimizer_kinds import KINDS, RESERVED, given_args, kind_of, parse_args

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["KINDS", "ParamGroups", "build", "kind_of", "parse_args", "rates", "try_out"]

ParamGroups = list[dict[str, Any]]
"""What torch's optimizers take: dicts with `params`, `lr` and our `name` (`unet`, `text_encoder`, ...)."""


def build(name: str, groups: ParamGroups, arguments: Iterable[str]) -> Optimizer:
    """Make the optimizer.

    Args:
        name: the setting optimizer_type.
        groups: parameters with their base learning rates. An optimizer that wants one rate gets the highest in all
            groups; each keeps its ratio as `share`.
        arguments: the setting optimizer_args.

    Raises:
        SettingsError: its package is missing, it has no such argument, or it refuses a value.
    """
    kind = kind_of(name)
    make = kind.load()
    values = {**given_args(name, arguments), **kind.fixed}
    _check_options(name, make, values)
    rate: float | None = max(float(group["lr"]) for group in groups)
    made: ParamGroups = []
    for group in groups:
        one = {**group, "share": 1.0, "unit": 1.0}
        if kind.relative(values):
            one["lr"] = rate = None
        elif kind.adaptive and rate:
            share = float(group["lr"]) / rate
            one |= {"lr": rate, "share": share, "unit": math.sqrt(share) if kind.by_size else share}
        made.append(one)
    try:
        return make(made, lr=rate, **values)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        said = str(error).partition("\n")[0]
        raise SettingsError(f"{name} refuses its options, {said}", remedy="put optimizer_args right") from error


def _check_options(name: str, make: Any, values: dict[str, Any]) -> None:  # noqa: ANN401 - a class
    parameters = inspect.signature(make).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    known = [p for p in parameters if p not in RESERVED]
    wrong = sorted(set(values) - set(known))
    if wrong:
        raise SettingsError(f"{name} has no option {wrong[0]!r}", remedy=f"its options are {', '.join(known)}")


def try_out(name: str, arguments: Iterable[str]) -> None:
    """Make the optimizer for four numbers and do a step, so that what is wrong with it shows before the run.

    Raises:
        SettingsError: as `build`, or it cannot be driven by plain steps.
    """
    import torch

    parameter = torch.nn.Parameter(torch.ones(2, 2))
    made = build(name, [{"name": "unet", "params": [parameter], "lr": 1e-4}], arguments)
    if name.lower().startswith(("paged", "bitsandbytes")) or name.lower().endswith("8bit"):
        return  # they step on a graphics card only
    parameter.grad = torch.ones(2, 2)
    try:
        settle(made, averaged=False)
        made.step()
    except Exception as error:
        said = str(error).partition("\n")[0]
        what = f"{name} cannot make the steps of a training, {type(error).__name__}: {said}"
        raise SettingsError(what, remedy="choose another optimizer, or put optimizer_args right") from error


def settle(optimizer: Optimizer, *, averaged: bool) -> None:
    """Schedule-free ones: put the averaged weights in place (to save, draw, validate), or those that are trained."""
    change = getattr(optimizer, "eval" if averaged else "train", None)
    if callable(change):
        change()


@contextmanager
def in_units(optimizer: Optimizer) -> Iterator[None]:
    """Inside, weights and gradients of groups with a share stand in the units described above."""
    import torch

    scaled = [(g["params"], g["unit"]) for g in optimizer.param_groups if g.get("unit", 1.0) != 1.0]
    with torch.no_grad():
        for parameters, unit in scaled:
            for parameter in (p for p in parameters if p.grad is not None):
                parameter.div_(unit)
                parameter.grad.mul_(unit)
    moved = [(p, unit) for parameters, unit in scaled for p in parameters if p.grad is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, unit in moved:
                parameter.mul_(unit)


def rates(optimizer: Optimizer) -> dict[str, float]:
    """The rate in force of each group: for adaptive optimizers d * lr (times the group's share), as kohya logs it;
    for Adafactor's relative steps the one of the group's first weights; 0 for a group that is frozen."""
    return {group["name"]: _rate(optimizer, group) for group in optimizer.param_groups}


def _rate(optimizer: Optimizer, group: dict[str, Any]) -> float:
    if not any(p.requires_grad for p in group["params"]):
        return 0.0
    if group["lr"] is None:
        state = optimizer.state.get(group["params"][0])
        return float(optimizer._get_lr(group, state)) if state else 0.0  # type: ignore[attr-defined]
    return float(group.get("d", 1.0)) * float(group["lr"]) * float(group.get("share", 1.0))
