"""Schedules that are classes of torch or of any package (lr_scheduler_type), and the rates of a run step by step."""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError
from lora_lab.training.learning.optimizer_kinds import PACKAGES, parse_args
from lora_lab.training.learning.schedules import schedule
from lora_lab.training.plan import Plan, scheduler_of, shape_of
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch.optim import Optimizer


def load_class(name: str) -> Callable[..., Any]:
    """The class that lr_scheduler_type names: of torch.optim.lr_scheduler, or ``package.module.Class``.

    Raises:
        SettingsError: there is none; the nearest is proposed.
    """
    module, _, attribute = name.rpartition(".")
    module = module or "torch.optim.lr_scheduler"
    try:
        holder = importlib.import_module(module)
    except (ImportError, ValueError, RuntimeError) as error:
        package = module.partition(".")[0]
        what = f"lr_scheduler_type {name} needs the module {module}, which cannot be imported"
        remedy = f"install it with: pip install {PACKAGES.get(package, package)}, or choose an lr_scheduler"
        raise SettingsError(what, remedy=remedy) from error
    found = getattr(holder, attribute, None)
    if not isinstance(found, type):
        near = difflib.get_close_matches(attribute, [n for n, v in vars(holder).items() if isinstance(v, type)], n=1)
        remedy = f"did you mean {near[0]}" if near else "choose an lr_scheduler"
        raise SettingsError(f"{module} has no schedule {attribute!r}", remedy=remedy)
    return found


def make(name: str, arguments: Sequence[str], optimizer: Optimizer) -> Any:  # noqa: ANN401 - a schedule of anybody's
    """The schedule on an optimizer.

    Raises:
        SettingsError: no such class, no such option, a value that it refuses, or one that wants more than steps.
    """
    kind, values = load_class(name), parse_args(arguments, "lr_scheduler_args")
    parameters = inspect.signature(kind).parameters
    known = [p for p in parameters if p != "optimizer"]
    wrong = sorted(set(values) - set(known))
    if wrong and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        raise SettingsError(f"{name} has no option {wrong[0]!r}", remedy=f"its options are {', '.join(known)}")
    needed = [p for p in inspect.signature(kind.step).parameters.values() if p.default is p.empty]  # type: ignore[attr-defined]
    if len(needed) > 1:
        what = f"{name} wants {needed[1].name} after each step, which a schedule here does not get"
        raise SettingsError(what, remedy="choose another one")
    try:
        return kind(optimizer, **values)
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise SettingsError(f"{name} refuses its options, {said}", remedy="put lr_scheduler_args right") from error


class Rates:
    """Sets the rates of an optimizer's groups step by step. Optimizers that make their own are left alone."""

    def __init__(self, settings: TrainSettings, plan: Plan, optimizer: Optimizer) -> None:
        """
        Raises:
            SettingsError: the schedule cannot be made.
        """
        self._optimizer = optimizer
        self._base = [group["lr"] for group in optimizer.param_groups]
        self._made: Any = None
        self._done = 0
        own = scheduler_of(settings) == settings.lr_scheduler  # else the optimizer has none, or one of its own
        if settings.lr_scheduler_type and own:
            foreseen(settings, self._base, plan.steps)  # one that is shorter than the run is told before it
            self._made = make(settings.lr_scheduler_type, settings.lr_scheduler_args, optimizer)
            self._first = [group["lr"] for group in optimizer.param_groups]
        else:
            self._factor = schedule(scheduler_of(settings), shape_of(settings, plan))

    def set(self, done: int) -> None:
        """The rates of the step after `done` steps; a class's schedule moves on step by step."""
        if self._made is not None:
            if self._done == 0 < done:  # a run that goes on: the optimizer's loaded rates are those of its last step
                self._restore()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a step that a gradient scaler left out
                while self._done < done:
                    self._made.step()
                    self._done += 1
            return
        factor = self._factor(done)
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            if base is not None:
                group["lr"] = base * factor

    def _restore(self) -> None:
        for group, base in zip(self._optimizer.param_groups, self._first, strict=True):
            group["lr"] = base


def foreseen(settings: TrainSettings, base: Sequence[float], steps: int) -> list[tuple[float, ...]]:
    """The rates that a class's schedule will give, for the curve before the start.

    Args:
        settings: with an lr_scheduler_type.
        base: the groups' rates.
        steps: of the run.

    Returns:
        For each step the rate of each group.

    Raises:
        SettingsError: as `make`.
    """
    import torch

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in base]
    optimizer = torch.optim.AdamW(groups, lr=max(base))
    made = make(settings.lr_scheduler_type, settings.lr_scheduler_args, optimizer)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            found.append(tuple(float(group["lr"]) for group in optimizer.param_groups))
            optimizer.step()
            try:
                made.step()
            except (ValueError, RuntimeError) as error:  # OneCycleLR that is shorter than the run
                what = f"{settings.lr_scheduler_type} ends before the run, {str(error)[:120]}"
                raise SettingsError(what, remedy="put lr_scheduler_args right") from error
    return found
