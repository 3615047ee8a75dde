"""Learning rates, optimizer, schedule and the length of the run."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.training.optimizers import KINDS, parse_args
from lora_lab.training.plan import groups_of
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
    _check_rates(settings)
    parse_args(settings.optimizer_args)
    if settings.lr_scheduler == "constant" and settings.lr_warmup_steps:
        remedy = "choose constant_with_warmup, or set lr_warmup_steps to 0"
        raise SettingsError("lr_scheduler constant has no warmup", remedy=remedy)
    _check_schedule(settings)


def _check_rates(settings: TrainSettings) -> None:
    groups = groups_of(settings)
    if not groups:
        raise SettingsError("every learning rate is 0, so nothing is trained", remedy="set unet_lr or text_encoder_lr")
    rates = {group.name: group.learning_rate for group in groups}
    if KINDS[settings.optimizer_type].adaptive:
        if len(set(rates.values())) > 1:
            listed = " and ".join(f"{name} {rate:g}" for name, rate in rates.items())
            what = f"{settings.optimizer_type} has one learning rate for all parts, these differ ({listed})"
            raise SettingsError(what, remedy="set unet_lr and text_encoder_lr to 1, or one of them to 0")
        return
    for name, rate in rates.items():
        if rate > HIGHEST_LR:
            remedy = "give 0.0001 or so, or choose an adaptive optimizer such as Prodigy, whose rate is 1"
            what = f"{name}_lr is {rate:g}, at which {settings.optimizer_type} learns nothing"
            raise SettingsError(what, remedy=remedy)


def _check_schedule(s: TrainSettings) -> None:
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
    for name, schedules in SHAPED_BY.items():
        if s.lr_scheduler not in schedules and getattr(s, name) != TrainSettings.spec(name).default:
            yield f"{name} has no effect with lr_scheduler {s.lr_scheduler}"
    if s.lr_scheduler == "constant_with_warmup" and not s.lr_warmup_steps:
        yield "constant_with_warmup without lr_warmup_steps is constant"
    yield from _rate_warnings(s)


def _rate_warnings(s: TrainSettings) -> Iterator[str]:
    adaptive = KINDS[s.optimizer_type].adaptive
    for group in groups_of(s):
        if adaptive and group.learning_rate <= HIGHEST_LR:
            yield f"{s.optimizer_type} finds its own rate: {group.name}_lr {group.learning_rate:g} slows it, 1 is usual"
        if not adaptive and group.learning_rate > HIGH_LR:
            yield f"{group.name}_lr {group.learning_rate:g} is very high for {s.optimizer_type}, 0.0001 is usual"
