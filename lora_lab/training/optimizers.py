"""The optimizers by kohya's names. Torch and the packages are imported only when one is built.

To add one: write a `build` function and a row of `KINDS`, and its name to the choices of `optimizer_type`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError

if TYPE_CHECKING:
    from torch.optim import Optimizer

ParamGroups = list[dict[str, Any]]
"""What torch's optimizers take: dicts with `params`, `lr` and our `name` (`unet`, `text_encoder`)."""


@dataclass(frozen=True)
class OptimizerKind:
    """What the rest needs to know of an optimizer."""

    name: str
    unet_lr: float
    """Rate of the UNet's part when no setting gives one."""
    text_encoder_lr: float
    adaptive: bool
    """It finds the size of its steps itself: rates are about 1, equal for all parts, and d * lr is what acts."""
    load: Callable[[], Callable[..., Optimizer]]
    """Imports the class."""
    states_per_weight: int
    """Numbers kept per trained weight, for the memory estimate."""


def _load_adamw() -> Callable[..., Optimizer]:
    from torch.optim import AdamW

    return AdamW


def _load_prodigy() -> Callable[..., Optimizer]:
    try:
        from prodigyopt import Prodigy
    except ImportError as error:
        remedy = "install it with: pip install prodigyopt, or choose AdamW"
        raise SettingsError("the optimizer Prodigy needs the package prodigyopt", remedy=remedy) from error
    return Prodigy  # type: ignore[no-any-return]


KINDS = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            OptimizerKind("AdamW", 1e-4, 5e-5, adaptive=False, load=_load_adamw, states_per_weight=2),
            OptimizerKind("Prodigy", 1.0, 1.0, adaptive=True, load=_load_prodigy, states_per_weight=4),
        )
    }
)
"""All optimizers by name."""

RESERVED = frozenset({"params", "lr"})
"""Arguments that have settings of their own."""


def parse_args(arguments: Iterable[str]) -> dict[str, Any]:
    """``("weight_decay=0.01", "betas=0.9,0.99")`` to names and Python values, as kohya reads them.

    Raises:
        SettingsError: no ``name=value``, or the value is no Python literal.
    """
    result: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise SettingsError(f"optimizer_args holds {text!r}", remedy="write name=value, such as weight_decay=0.01")
        if name in result:
            raise SettingsError(f"optimizer_args gives {name} twice", remedy="leave one of them out")
        if name in RESERVED:
            raise SettingsError(f"optimizer_args gives {name}", remedy="use unet_lr and text_encoder_lr")
        try:
            result[name] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            remedy = "give a number, True, False, None or a list of numbers"
            raise SettingsError(f"optimizer_args holds {text!r}", remedy=remedy) from None
    return result


def build(name: str, groups: ParamGroups, arguments: Iterable[str]) -> Optimizer:
    """Make the optimizer.

    Args:
        name: a key of `KINDS`.
        groups: parameters with their base learning rates.
        arguments: the setting optimizer_args.

    Raises:
        SettingsError: its package is missing, it has no such argument, or it refuses a value.
    """
    make = KINDS[name].load()
    values = parse_args(arguments)
    known = [p for p in inspect.signature(make).parameters if p not in RESERVED]
    wrong = sorted(set(values) - set(known))
    if wrong:
        raise SettingsError(f"{name} has no option {wrong[0]!r}", remedy=f"its options are {', '.join(known)}")
    rate = max(float(group["lr"]) for group in groups)
    try:
        return make(groups, lr=rate, **values)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name} refuses its options, {error}", remedy="put optimizer_args right") from error


def rates(optimizer: Optimizer) -> dict[str, float]:
    """The rate in force of each group; for adaptive optimizers d * lr, as kohya logs it."""
    return {group["name"]: float(group.get("d", 1.0)) * float(group["lr"]) for group in optimizer.param_groups}
