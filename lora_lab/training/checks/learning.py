"""Learning rates, optimizer, schedule and the length of the run."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.training.learning.optimizer_kinds import kind_of, parse_args
from lora_lab.training.learning.schedules import parse_rules
from lora_lab.training.plan import groups_of, scheduler_of, step_rules
from lora_lab.training.settings import TrainSettings

HIGHEST_LR = 0.1
"""Above this AdamW only makes noise; a rate of 1 is for adaptive optimizers."""
HIGH_LR = 0.01
SHAPED_BY = {
    "lr_scheduler_num_cycles": ("cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay"),
    "lr_scheduler_power": ("polynomial",),
    "lr_scheduler_timescale": ("inverse_sqrt",),
    "lr_scheduler_min_lr_ratio": ("cosine_with_min_lr", "warmup_stable_decay"),
    "lr_decay_steps": ("warmup_stable_decay",),
}
"""Setting -> the schedules that read it."""


def check(settings: TrainSettings) -> None:
    """Rates that fit the optimizer, readable arguments, a warmup only where there can be one."""
    parse_args(settings.optimizer_args)
    _check_rates(settings)
    name = scheduler_of(settings)
    if name != settings.lr_scheduler:
        return  # the optimizer has its own
    if settings.lr_scheduler_type:
        name = settings.lr_scheduler_type
        parse_args(settings.lr_scheduler_args, "lr_scheduler_args")
    if settings.lr_warmup_steps and (name in ("constant", "adafactor") or settings.lr_scheduler_type):
        remedy = "choose constant_with_warmup, or set lr_warmup_steps to 0"
        raise SettingsError(f"the schedule {name} has no warmup", remedy=remedy)
    if settings.lr_warmup_steps and kind_of(settings.optimizer_type).name == "DAdaptSGD":
        what = "DAdaptSGD measures its first gradient, which it cannot at the rate of 0 that a warmup begins with"
        raise SettingsError(what, remedy="set lr_warmup_steps to 0")
    if not settings.lr_scheduler_type:
        _check_schedule(settings)


def _check_rates(settings: TrainSettings) -> None:
    groups = groups_of(settings)
    if not groups:
        raise SettingsError("every learning rate is 0, so nothing is trained", remedy="set unet_lr or text_encoder_lr")
    rates = {group.name: group.learning_rate for group in groups}
    kind = kind_of(settings.optimizer_type)
    if kind.adaptive or kind.relative(parse_args(settings.optimizer_args)):
        return
    for name, rate in rates.items():
        if rate > HIGHEST_LR:
            remedy = "give 0.0001 or so, or choose an adaptive optimizer such as Prodigy, whose rate is 1"
            what = f"{name}_lr is {rate:g}, at which {settings.optimizer_type} learns nothing"
            raise SettingsError(what, remedy=remedy)


def _check_schedule(s: TrainSettings) -> None:
    if s.lr_scheduler == "adafactor":
        what = f"the schedule adafactor is Adafactor's own with relative_step, {s.optimizer_type} does not have it"
        raise SettingsError(what, remedy="choose another lr_scheduler, or optimizer_type Adafactor with relative_step")
    if s.lr_scheduler == "piecewise_constant":
        if not step_rules(s):
            remedy = "give lr_scheduler_args step_rules=1:100,0.5:200,0.1 or so"
            raise SettingsError("piecewise_constant needs its stairs", remedy=remedy)
        parse_rules(step_rules(s))
    names = {argument.partition("=")[0].strip() for argument in s.lr_scheduler_args}
    wrong = sorted(names - ({"step_rules"} if s.lr_scheduler == "piecewise_constant" else set()))
    if wrong:
        what = f"lr_scheduler_args gives {wrong[0]}, which lr_scheduler {s.lr_scheduler} does not take"
        raise SettingsError(what, remedy="take it out, or name the schedule's class in lr_scheduler_type")
    if s.lr_scheduler == "cosine_with_min_lr" and s.lr_scheduler_min_lr_ratio is None:
        remedy = "set it to 0.1 or so, or choose cosine"
        raise SettingsError("cosine_with_min_lr needs lr_scheduler_min_lr_ratio", remedy=remedy)
    if s.lr_scheduler == "warmup_stable_decay" and not s.lr_decay_steps:
        remedy = "set it to 0.2 or so, or choose constant_with_warmup"
        raise SettingsError("warmup_stable_decay needs lr_decay_steps", remedy=remedy)
    if s.lr_scheduler == "warmup_stable_decay" and s.lr_warmup_steps < 1 and s.lr_decay_steps < 1:
        share = s.lr_warmup_steps + s.lr_decay_steps
        if share > 1:
            what = f"lr_warmup_steps and lr_decay_steps together are {share:.0%} of the run"
            raise SettingsError(what, remedy="keep their sum at 1 or less")


def warnings(s: TrainSettings) -> Iterator[str]:
    """What has no effect, or is unusual."""
    if s.max_train_epochs is not None and s.max_train_steps is not None:
        yield "max_train_steps has no effect, since max_train_epochs is set"
    if s.unet_lr is not None and s.text_encoder_lr is not None and s.learning_rate is not None:
        yield "learning_rate has no effect, since unet_lr and text_encoder_lr are both set"
    if s.network_train_unet_only and s.text_encoder_lr:
        yield "text_encoder_lr has no effect, since network_train_unet_only is on"
    if s.network_train_text_encoder_only and s.unet_lr:
        yield "unet_lr has no effect, since network_train_text_encoder_only is on"
    scheduler = "" if s.lr_scheduler_type else s.lr_scheduler
    own = scheduler_of(s) != s.lr_scheduler
    for name, schedules in SHAPED_BY.items():
        if (own or scheduler not in schedules) and _changed(s, name):
            with_what = f"lr_scheduler {scheduler}" if scheduler and not own else s.lr_scheduler_type
            yield f"{name} has no effect with {s.optimizer_type if own else with_what}"
    if own:
        yield from _own_schedule(s)
    elif s.lr_scheduler_type and _changed(s, "lr_scheduler"):
        yield "lr_scheduler has no effect, since lr_scheduler_type is set"
    if s.lr_scheduler == "constant_with_warmup" and not s.lr_warmup_steps:
        yield "constant_with_warmup without lr_warmup_steps is constant"
    yield from _rate_warnings(s)


def _own_schedule(s: TrainSettings) -> Iterator[str]:
    """An optimizer that has no schedule, or makes its own."""
    names = ("lr_scheduler", "lr_scheduler_type", "lr_scheduler_args", "lr_warmup_steps")
    for name in names:
        if _changed(s, name) and not (name == "lr_scheduler" and s.lr_scheduler in ("constant", "adafactor")):
            more = ": give it warmup_steps in optimizer_args" if name == "lr_warmup_steps" else ""
            yield f"{name} has no effect with {s.optimizer_type}, which has a schedule of its own{more}"
    if s.optimizer_type == "Adafactor":
        given = [n for n in ("learning_rate", "unet_lr", "text_encoder_lr") if getattr(s, n)]
        yield from (f"{n} has no effect with Adafactor's relative_step, which makes its own rates" for n in given)


def _changed(s: TrainSettings, name: str) -> bool:
    return bool(getattr(s, name) != TrainSettings.spec(name).default)


def _rate_warnings(s: TrainSettings) -> Iterator[str]:
    kind = kind_of(s.optimizer_type)
    adaptive = kind.adaptive
    if kind.relative(parse_args(s.optimizer_args)):
        return
    if kind.name == "Adafactor" and s.max_grad_norm:
        yield "Adafactor clips by itself: max_grad_norm 0 is usual with relative_step=False"
    for group in groups_of(s):
        if adaptive and group.learning_rate <= HIGHEST_LR:
            yield f"{s.optimizer_type} finds its own rate: {group.name}_lr {group.learning_rate:g} slows it, 1 is usual"
        if not adaptive and group.learning_rate > HIGH_LR:
            yield f"{group.name}_lr {group.learning_rate:g} is very high for {s.optimizer_type}, 0.0001 is usual"
