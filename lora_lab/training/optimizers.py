"""The optimizers by kohya's names. Torch and the packages are imported only when one is built.

To add one: write a row of `_ALL`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
    usual: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that kohya gives it unless they are given."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that its name stands for."""


def _from(module: str, attribute: str, package: str) -> Callable[[], Callable[..., Optimizer]]:
    """A loader that says what to install where its package is missing."""

    def load() -> Callable[..., Optimizer]:
        try:
            found: Callable[..., Optimizer] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, RuntimeError) as error:  # bitsandbytes raises the last without a card
            remedy = f"install it with: pip install {package}, or choose AdamW"
            raise SettingsError(f"the optimizer {attribute} needs the package {package}", remedy=remedy) from error
        return found

    return load


def _plain(name: str, load: Callable[[], Callable[..., Optimizer]], states: int, **more: Any) -> OptimizerKind:  # noqa: ANN401
    """One whose learning rates are chosen."""
    return OptimizerKind(name, 1e-4, 5e-5, adaptive=False, load=load, states_per_weight=states, **more)


def _lion(name: str, load: Callable[[], Callable[..., Optimizer]]) -> OptimizerKind:
    """Steps by the sign alone: 3 to 10 times smaller rates than AdamW's (arXiv 2302.06675, section 5)."""
    return OptimizerKind(name, 2e-5, 1e-5, adaptive=False, load=load, states_per_weight=1)


def _adaptive(name: str, load: Callable[[], Callable[..., Optimizer]], states: int) -> OptimizerKind:
    """One that finds the size of its steps."""
    return OptimizerKind(name, 1.0, 1.0, adaptive=True, load=load, states_per_weight=states)


_BNB = "bitsandbytes"
_NESTEROV = {"usual": MappingProxyType({"momentum": 0.9}), "fixed": MappingProxyType({"nesterov": True})}
_ALL = (
    _plain("AdamW", _from("torch.optim", "AdamW", "torch"), 2),
    _plain("SGDNesterov", _from("torch.optim", "SGD", "torch"), 1, **_NESTEROV),
    _lion("Lion", _from("lion_pytorch", "Lion", "lion-pytorch")),
    _adaptive("Prodigy", _from("prodigyopt", "Prodigy", "prodigyopt"), 4),
    _adaptive("DAdaptation", _from("dadaptation.experimental", "DAdaptAdamPreprint", "dadaptation"), 3),
    _adaptive("DAdaptAdamPreprint", _from("dadaptation.experimental", "DAdaptAdamPreprint", "dadaptation"), 3),
    _adaptive("DAdaptAdaGrad", _from("dadaptation", "DAdaptAdaGrad", "dadaptation"), 4),
    _adaptive("DAdaptAdam", _from("dadaptation", "DAdaptAdam", "dadaptation"), 3),
    _adaptive("DAdaptAdan", _from("dadaptation", "DAdaptAdan", "dadaptation"), 5),
    _adaptive("DAdaptAdanIP", _from("dadaptation.experimental", "DAdaptAdanIP", "dadaptation"), 5),
    _adaptive("DAdaptLion", _from("dadaptation", "DAdaptLion", "dadaptation"), 2),
    _adaptive("DAdaptSGD", _from("dadaptation", "DAdaptSGD", "dadaptation"), 3),
    _plain("AdamW8bit", _from("bitsandbytes.optim", "AdamW8bit", _BNB), 1),
    _plain("PagedAdamW8bit", _from("bitsandbytes.optim", "PagedAdamW8bit", _BNB), 1),
    _plain("PagedAdamW", _from("bitsandbytes.optim", "PagedAdamW", _BNB), 2),
    _plain("PagedAdamW32bit", _from("bitsandbytes.optim", "PagedAdamW32bit", _BNB), 2),
    _plain("SGDNesterov8bit", _from("bitsandbytes.optim", "SGD8bit", _BNB), 1, **_NESTEROV),
    _lion("Lion8bit", _from("bitsandbytes.optim", "Lion8bit", _BNB)),
    _lion("PagedLion8bit", _from("bitsandbytes.optim", "PagedLion8bit", _BNB)),
)

KINDS = MappingProxyType({kind.name: kind for kind in _ALL})
"""All optimizers by kohya's names."""

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
    kind = KINDS[name]
    make = kind.load()
    values = {**kind.usual, **parse_args(arguments), **kind.fixed}
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
