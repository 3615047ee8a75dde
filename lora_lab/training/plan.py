"""What follows from the settings and the dataset: steps, epochs, warmup, groups. kohya's arithmetic. No torch here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from lora_lab.dataset.options import DatasetOptions
from lora_lab.errors import SettingsError
from lora_lab.families import BASE, Family, Part
from lora_lab.network.block_words import chosen
from lora_lab.training.kinds import trains_text
from lora_lab.training.learning.groups import Group, RateGroup, rate_groups
from lora_lab.training.learning.optimizer_kinds import kind_of, parse_args
from lora_lab.training.learning.schedules import Shape
from lora_lab.training.settings import TrainSettings

DEFAULT_EPOCHS = 10
"""When neither epochs nor steps are given."""


@dataclass(frozen=True)
class Plan:
    """The numbers of a run."""

    batches_per_epoch: int
    steps_per_epoch: int
    """ceil(batches / gradient_accumulation_steps); the last step of an epoch may add up fewer batches."""
    epochs: int
    """The last one may be cut short by max_train_steps."""
    steps: int
    warmup_steps: int
    decay_steps: int
    """Of the fall at the end (lr_decay_steps)."""
    groups: tuple[Group, ...]
    """Only those that are trained (rate above 0)."""
    rates: tuple[RateGroup, ...]
    """The same, taken apart by blocks and halves where these have rates of their own."""
    text_encoder_steps: int | None
    """Steps after which the text encoder learns no more; None: it learns to the end, or not at all."""
    snapshot_epochs: tuple[int, ...]
    """Epochs after which a snapshot is kept; the last epoch is not among them, it gives the final file."""
    seed: int
    snapshot_steps: tuple[int, ...] = ()
    """Steps within epochs after which a snapshot is kept."""
    shared: bool = True
    """Do SDXL's two text encoders share a group?"""
    family: Family = Family.SD1
    """Of the checkpoint: it decides the blocks."""

    @property
    def parts(self) -> frozenset[Part]:
        """Parts of the checkpoint that get an adapter."""
        names = {group.name for group in self.groups}
        parts: set[Part] = set()
        if "unet" in names:
            parts.add("unet")
        if "text_encoder" in names:
            parts.add("text_encoder")
        if "text_encoder_2" in names or ("text_encoder" in names and self.shared):
            parts.add("text_encoder_2")
        return frozenset(parts)

    def trains(self, group: str) -> bool:
        """Is `unet` or `text_encoder` (any of them) trained?"""
        return any(g.name.startswith(group) for g in self.groups)


def make_plan(
    settings: TrainSettings, batches_per_epoch: int, seed: int = 0, family: Family = Family.SD1
) -> Plan:
    """Work out the numbers.

    Args:
        settings: checked ones.
        batches_per_epoch: sum over buckets of ceil(pictures with repeats / train_batch_size).
        seed: used when the settings give none.
        family: of the checkpoint, for rates by block.

    Raises:
        SettingsError: no such optimizer, or a list of rates that cannot be read.
    """
    per_epoch = math.ceil(batches_per_epoch / settings.gradient_accumulation_steps)
    epochs, steps = _length(settings, per_epoch)
    every = settings.save_every_n_epochs
    groups = groups_of(settings)
    return Plan(
        batches_per_epoch=batches_per_epoch,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        steps=steps,
        warmup_steps=_share(settings.lr_warmup_steps, steps),
        decay_steps=_share(settings.lr_decay_steps, steps),
        groups=groups,
        rates=rate_groups(settings, groups, family),
        text_encoder_steps=_text_encoder_steps(settings, groups, per_epoch, steps),
        snapshot_epochs=tuple(range(every, epochs, every)) if every else (),
        snapshot_steps=_between(settings.save_every_n_steps, steps, per_epoch),
        seed=seed if settings.seed is None else settings.seed,
        shared=settings.text_encoder_lr2 is None,
        family=family,
    )


def _between(every: int | None, steps: int, per_epoch: int) -> tuple[int, ...]:
    """Every so many steps, but for those with which an epoch ends."""
    return tuple(n for n in range(every, steps, every) if n % max(1, per_epoch)) if every else ()


def _length(settings: TrainSettings, per_epoch: int) -> tuple[int, int]:
    """Epochs and steps; epochs win when both are given, as in kohya's scripts."""
    if settings.max_train_epochs is not None or settings.max_train_steps is None:
        epochs = settings.max_train_epochs or DEFAULT_EPOCHS
        return epochs, epochs * per_epoch
    return math.ceil(settings.max_train_steps / max(1, per_epoch)), settings.max_train_steps


def _text_encoder_steps(settings: TrainSettings, groups: tuple[Group, ...], per_epoch: int, steps: int) -> int | None:
    """From whichever of the three settings is given; one that lies at the end or behind it changes nothing."""
    given = (
        settings.stop_text_encoder_training
        or settings.stop_text_encoder_training_epochs * per_epoch
        or round(settings.stop_text_encoder_training_pct / 100 * steps)
    )
    learns = any(group.name != "unet" for group in groups)
    return given if learns and 0 < given < steps else None


def shape_of(settings: TrainSettings, plan: Plan) -> Shape:
    """The numbers of the schedule.

    Raises:
        SettingsError: warmup and decay together are longer than the run.
    """
    if plan.warmup_steps + plan.decay_steps > plan.steps and scheduler_of(settings) == "warmup_stable_decay":
        what = f"a warmup of {plan.warmup_steps} and a decay of {plan.decay_steps} do not fit in {plan.steps} steps"
        raise SettingsError(what, remedy="make lr_warmup_steps or lr_decay_steps smaller")
    arguments = parse_args(settings.optimizer_args)
    return Shape(
        plan.steps, plan.warmup_steps, settings.lr_scheduler_num_cycles, settings.lr_scheduler_power,
        max(group.learning_rate for group in plan.groups), settings.lr_scheduler_timescale or 0,
        settings.lr_scheduler_min_lr_ratio or 0.0, plan.decay_steps, step_rules(settings),
        bool(arguments.get("warmup_init", False)),
    )  # fmt: skip


def step_rules(settings: TrainSettings) -> str:
    """The argument of piecewise_constant, as it is written."""
    found = [a.partition("=")[2] for a in settings.lr_scheduler_args if a.partition("=")[0].strip() == "step_rules"]
    return found[0].strip() if found else ""


def scheduler_of(settings: TrainSettings) -> str:
    """The schedule that acts: an optimizer that makes its own rates, or wants none, has the word."""
    kind = kind_of(settings.optimizer_type)
    if kind.relative(parse_args(settings.optimizer_args)):
        return "adafactor"
    return "constant" if kind.schedule_free else settings.lr_scheduler


def _share(value: float, steps: int) -> int:
    """A number of steps, or below 1 a share of them."""
    return int(value * steps) if value < 1 else int(value)


def groups_of(settings: TrainSettings) -> tuple[Group, ...]:
    """The groups that are trained: a part's own rate, else learning_rate, else the optimizer's usual one."""
    kind = kind_of(settings.optimizer_type)

    def rate(own: float | None, usual: float) -> float:
        if own is not None:
            return own
        return usual if settings.learning_rate is None else settings.learning_rate

    without_text = settings.network_train_unet_only or not trains_text(settings)
    if settings.train_blocks:
        without_text = without_text or BASE not in chosen(settings.train_blocks)
    text = 0.0 if without_text else rate(settings.text_encoder_lr, kind.text_encoder_lr)
    unet = 0.0 if settings.network_train_text_encoder_only else rate(settings.unet_lr, kind.unet_lr)
    own = settings.text_encoder_lr2
    text2 = 0.0 if own is None or without_text else own
    groups = (Group("text_encoder", text), Group("text_encoder_2", text2), Group("unet", unet))
    return tuple(g for g in groups if g.learning_rate > 0)


def options_of(settings: TrainSettings, seed: int = 0) -> DatasetOptions:
    """The dataset's part of the settings; the names are the same."""
    names = {field.name for field in dataclasses.fields(DatasetOptions)} - {"seed"}
    return DatasetOptions(seed=seed, **{name: getattr(settings, name) for name in names})
