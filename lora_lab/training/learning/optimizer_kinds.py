"""The optimizers by kohya's names, and the rules by which any other class is taken. No torch here.

To add one: write a row of `_ALL`.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError

if TYPE_CHECKING:
    from torch.optim import Optimizer

Load = Callable[[], "Callable[..., Optimizer]"]


@dataclass(frozen=True)
class OptimizerKind:
    """What the rest needs to know of an optimizer."""

    name: str
    unet_lr: float
    """Rate of the UNet's part when no setting gives one."""
    text_encoder_lr: float
    adaptive: bool
    """It finds the size of its steps itself: rates are about 1, it is given one, and d * lr is what acts."""
    load: Load
    """Imports the class."""
    states_per_weight: int
    """Numbers kept per trained weight, for the memory estimate."""
    usual: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that kohya gives it unless they are given."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that its name stands for."""
    by_size: bool = False
    """Its steps are as long as the gradient (SGD); the others' are not."""

    @property
    def schedule_free(self) -> bool:
        """It has no schedule; what is saved is the average of its weights. kohya's rule: the name ends so."""
        return self.name.lower().endswith("schedulefree")

    def relative(self, arguments: Mapping[str, Any]) -> bool:
        """Does it make rates of its own out of the steps, so that none is given (Adafactor's relative_step)?"""
        if self.name != "Adafactor":
            return False
        return bool(arguments.get("relative_step", True) or arguments.get("warmup_init", False))


def _from(module: str, attribute: str, package: str) -> Load:
    """A loader that says what to install where its package is missing."""

    def load() -> Callable[..., Optimizer]:
        try:
            found: Callable[..., Optimizer] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, RuntimeError) as error:  # bitsandbytes raises the last without a card
            remedy = f"install it with: pip install {package}, or choose AdamW"
            raise SettingsError(f"the optimizer {attribute} needs the package {package}", remedy=remedy) from error
        return found

    return load


def _plain(name: str, load: Load, states: int, **more: Any) -> OptimizerKind:  # noqa: ANN401
    """One whose learning rates are chosen."""
    return OptimizerKind(name, 1e-4, 5e-5, adaptive=False, load=load, states_per_weight=states, **more)


def _lion(name: str, load: Load) -> OptimizerKind:
    """Steps by the sign alone: 3 to 10 times smaller rates than AdamW's (arXiv 2302.06675, section 5)."""
    return OptimizerKind(name, 2e-5, 1e-5, adaptive=False, load=load, states_per_weight=1)


def _adaptive(name: str, load: Load, states: int, **more: Any) -> OptimizerKind:  # noqa: ANN401
    """One that finds the size of its steps."""
    return OptimizerKind(name, 1.0, 1.0, adaptive=True, load=load, states_per_weight=states, **more)


def _free(name: str, states: int, rates: tuple[float, float] = (1e-3, 5e-4)) -> OptimizerKind:
    """One without a schedule (arXiv 2405.15682); its rates are 1 to 10 times those with one."""
    return OptimizerKind(
        name, *rates, adaptive=False, load=_from("schedulefree", name, "schedulefree"), states_per_weight=states
    )


_BNB = "bitsandbytes"
_NESTEROV = {
    "usual": MappingProxyType({"momentum": 0.9}),
    "fixed": MappingProxyType({"nesterov": True}),
    "by_size": True,
}
_RELATIVE = MappingProxyType({"relative_step": True})
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
    _adaptive("DAdaptSGD", _from("dadaptation", "DAdaptSGD", "dadaptation"), 3, by_size=True),
    _plain("Adafactor", _from("transformers.optimization", "Adafactor", "transformers"), 0, usual=_RELATIVE),
    _free("RAdamScheduleFree", 2),
    _free("AdamWScheduleFree", 2),
    _free("SGDScheduleFree", 1),
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

TORCH = (
    "Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
)  # fmt: skip
"""Those of torch.optim that may be named alone; any other is written torch.optim.Name."""

OLD_SWITCHES = MappingProxyType({"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"})
"""Switches of older kohya files -> the optimizer_type that they stand for, where none is given."""

PACKAGES = MappingProxyType({"pytorch_optimizer": "pytorch-optimizer", "prodigyplus": "prodigy-plus-schedule-free"})
"""Module -> what to install, where the two differ."""

RESERVED = frozenset({"params", "lr"})
"""Arguments that have settings of their own."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def kind_of(name: str) -> OptimizerKind:
    """The optimizer that the setting optimizer_type names.

    Args:
        name: one of `KINDS` whatever its capitals, one of `TORCH`, or ``package.module.Class``; the last two with
            their own capitals. Nothing is imported here.

    Raises:
        SettingsError: it is none of those; the nearest is proposed.
    """
    known = {key.lower(): kind for key, kind in KINDS.items()}
    if name.lower() in known:
        return known[name.lower()]
    if name in TORCH:
        return _other(name, "torch.optim", name)
    if _DOTTED.fullmatch(name):
        module, _, attribute = name.rpartition(".")
        return _other(name, module, attribute)
    near = difflib.get_close_matches(name.lower(), [*known, *(n.lower() for n in TORCH)], n=1, cutoff=0.5)
    spelled = {n.lower(): n for n in (*TORCH, *KINDS)}
    remedy = f"did you mean {spelled[near[0]]}" if near else "take one of the list, or write package.module.Class"
    raise SettingsError(f"there is no optimizer {name!r}", remedy=remedy)


def _other(name: str, module: str, attribute: str) -> OptimizerKind:
    """A class of any package. What its name says of it: *prodigy* and *dadapt* find their steps, *lion* signs them."""
    low = attribute.lower()
    adaptive = "prodigy" in low or "dadapt" in low
    rates = (1.0, 1.0) if adaptive else (2e-5, 1e-5) if "lion" in low else (1e-4, 5e-5)
    package = module.partition(".")[0]

    def load() -> Callable[..., Optimizer]:
        try:
            holder = importlib.import_module(module)
        except (ImportError, RuntimeError) as error:
            what = f"the optimizer {name} needs the module {module}, which cannot be imported"
            remedy = f"install it with: pip install {PACKAGES.get(package, package)}, or choose AdamW"
            raise SettingsError(what, remedy=remedy) from error
        found = getattr(holder, attribute, None)
        if not isinstance(found, type):
            near = difflib.get_close_matches(attribute, [n for n in vars(holder) if n[:1].isupper()], n=1)
            remedy = f"did you mean {module}.{near[0]}" if near else "see the names in its documentation"
            raise SettingsError(f"{module} has no optimizer {attribute!r}", remedy=remedy)
        return found

    return OptimizerKind(name, *rates, adaptive=adaptive, load=load, states_per_weight=2, by_size=low == "sgd")


def parse_args(arguments: Iterable[str], setting: str = "optimizer_args") -> dict[str, Any]:
    """``("weight_decay=0.01", "betas=0.9,0.99")`` to names and Python values, as kohya reads them.

    Raises:
        SettingsError: no ``name=value``, or the value is no Python literal.
    """
    result: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise SettingsError(f"{setting} holds {text!r}", remedy="write name=value, such as weight_decay=0.01")
        if name in result:
            raise SettingsError(f"{setting} gives {name} twice", remedy="leave one of them out")
        if name in RESERVED:
            raise SettingsError(f"{setting} gives {name}", remedy="use unet_lr and text_encoder_lr")
        try:
            result[name] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            remedy = "give a number, True, False, None or a list of numbers"
            raise SettingsError(f"{setting} holds {text!r}", remedy=remedy) from None
    return result


def given_args(name: str, arguments: Iterable[str]) -> dict[str, Any]:
    """The arguments that are given, and those that kohya gives unless they are, as it writes them into a file.

    Raises:
        SettingsError: an argument that cannot be read.
    """
    kind = kind_of(name)
    values = {**kind.usual, **parse_args(arguments)}
    if kind.name == "Adafactor":
        values["relative_step"] = kind.relative(values)
    return values
