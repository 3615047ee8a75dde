"""The learning rates of a run before it starts, as curves: one a group, warmup, restarts and ends marked. Pure."""

from __future__ import annotations

from collections.abc import Callable

from lora_lab.training.learning.groups import RateGroup
from lora_lab.training.learning.optimizer_kinds import kind_of, parse_args
from lora_lab.training.learning.schedules import parse_rules, schedule
from lora_lab.training.plan import Plan, scheduler_of, shape_of, step_rules
from lora_lab.training.settings import TrainSettings
from lora_lab.ui.svg import Curve, Mark, rate_chart
from lora_lab.ui.words import esc, tag

POINTS = 320
"""Of a line: about one for every second unit of the chart's width."""
CSS = {"unet": "lora-lab-average", "text_encoder": "lora-lab-validation", "text_encoder_2": "lora-lab-loss"}
NAMES = {
    "unet": "UNet", "text_encoder": "text encoder", "text_encoder_2": "second text encoder", "plus": "up halves",
}  # fmt: skip
MOST_EPOCHS = 40
"""More lines than that hide the curve."""
MOST_NAMED = 8
"""More groups than that are named by their ends."""
Rate = Callable[[int], float]
"""From the number of steps done to the rate of the next."""


def curve(settings: TrainSettings, plan: Plan) -> str:
    """The chart with its legend.

    Args:
        settings: checked ones.
        plan: of them.

    Raises:
        SettingsError: warmup and decay do not fit in the run, or the schedule cannot be made.
    """
    gap = max(1, plan.steps // POINTS)
    steps = sorted({*range(0, plan.steps, gap), plan.steps - 1, *_corners(plan)})
    known = sorted(_rates(settings, plan), key=lambda pair: -pair[0].learning_rate)
    curves = [
        Curve(CSS[g.part] + (" lora-lab-finer" if _fine(g) else ""), _name(g.name), [(s + 1, rate(s)) for s in steps])
        for g, rate in known
    ]
    legend = "".join(tag("span", tag("i", "", css) + esc(text)) for css, text in _legend([g for g, _ in known]))
    legend += "".join(tag("span", esc(text)) for text in _remarks(settings))
    chart = rate_chart(curves, plan.steps, _marks(settings, plan), epoch=_epoch_ticks(plan))
    return tag("div", chart + tag("div", legend, "lora-lab-legend"), "lora-lab-loss-chart")


def _rates(settings: TrainSettings, plan: Plan) -> list[tuple[RateGroup, Rate]]:
    """Each group with its rate over the steps."""
    groups = [g for g in plan.rates if not g.name.endswith("outside the blocks")]
    if kind_of(settings.optimizer_type).relative(parse_args(settings.optimizer_args)):
        one = schedule("adafactor", shape_of(settings, plan))
        parts = {group.part: group for group in groups}
        return [(group, _ending(one, group, plan)) for group in parts.values()]
    if settings.lr_scheduler_type and scheduler_of(settings) == settings.lr_scheduler:
        from lora_lab.training.learning.schedule_classes import foreseen

        table = foreseen(settings, [g.learning_rate for g in groups], plan.steps)
        return [
            (group, _ending(lambda s, i=i: table[min(s, len(table) - 1)][i], group, plan))  # type: ignore[misc]
            for i, group in enumerate(groups)
        ]
    factor = schedule(scheduler_of(settings), shape_of(settings, plan))
    return [(g, _ending(lambda s, g=g: g.learning_rate * factor(s), g, plan)) for g in groups]  # type: ignore[misc]


def _ending(rate: Rate, group: RateGroup, plan: Plan) -> Rate:
    """0 after the text encoder's end."""
    end = plan.text_encoder_steps
    if end is None or group.part == "unet":
        return rate
    return lambda step: rate(step) if step < end else 0.0


def _corners(plan: Plan) -> list[int]:
    end = plan.text_encoder_steps
    return [] if end is None else [end - 1, end]


def _fine(group: RateGroup) -> bool:
    return group.name not in CSS


def _name(name: str) -> str:
    return " ".join(NAMES.get(word, word) for word in name.split())


def _legend(groups: list[RateGroup]) -> list[tuple[str, str]]:
    """Class and text of each entry; many groups of a part are told by their highest and lowest."""
    if len(groups) <= MOST_NAMED:
        return [(CSS[g.part], f"{_name(g.name)} {g.learning_rate:.3g}") for g in groups]
    found = []
    for part in CSS:
        mine = [g for g in groups if g.part == part]
        if len(mine) > 2:
            ends = f"{_name(mine[0].name)} {mine[0].learning_rate:.3g} to {mine[-1].learning_rate:.3g}"
            found.append((CSS[part], f"{len(mine)} groups of the {NAMES[part]}, from {ends} ({_name(mine[-1].name)})"))
        else:
            found += [(CSS[part], f"{_name(g.name)} {g.learning_rate:.3g}") for g in mine]
    return found


def _remarks(settings: TrainSettings) -> list[str]:
    kind = kind_of(settings.optimizer_type)
    arguments = parse_args(settings.optimizer_args)
    if kind.adaptive:
        return [f"{settings.optimizer_type} multiplies them by the d that it finds"]
    if kind.relative(arguments):
        scaled = arguments.get("scale_parameter", True)
        return ["Adafactor multiplies it by the size of each layer's weights" if scaled else "Adafactor's own rate"]
    if kind.schedule_free:
        return [f"{settings.optimizer_type} has no schedule: it averages instead"]
    return []


def _epoch_ticks(plan: Plan) -> float:
    """Steps of an epoch, for a second row of numbers under the axis."""
    return float(plan.steps_per_epoch)


def _marks(settings: TrainSettings, plan: Plan) -> list[Mark]:
    """Ends of epochs in thin lines; ends of the warmup, restarts and the text encoder's end in strong ones."""
    marks = []
    if plan.epochs <= MOST_EPOCHS:
        marks += [Mark(epoch * plan.steps_per_epoch, f"end of epoch {epoch}") for epoch in range(1, plan.epochs)]
    if plan.text_encoder_steps is not None:
        step = plan.text_encoder_steps
        marks.append(Mark(step, f"the text encoder's training ends at step {step:,}", strong=True))
    name = scheduler_of(settings)
    return marks if settings.lr_scheduler_type else marks + _marks_of_schedule(name, settings, plan)


def _marks_of_schedule(name: str, settings: TrainSettings, plan: Plan) -> list[Mark]:
    marks = []
    if plan.warmup_steps and name not in ("constant", "piecewise_constant", "adafactor"):
        marks.append(Mark(plan.warmup_steps, f"warmup ends at step {plan.warmup_steps:,}", strong=True))
    if name == "cosine_with_restarts":
        length = (plan.steps - plan.warmup_steps) / settings.lr_scheduler_num_cycles
        steps = [round(plan.warmup_steps + n * length) for n in range(1, settings.lr_scheduler_num_cycles)]
        marks += [Mark(step, f"restart at step {step:,}", strong=True) for step in steps]
    if name == "warmup_stable_decay":
        step = plan.steps - plan.decay_steps
        marks.append(Mark(step, f"the fall begins at step {step:,}", strong=True))
    if name == "piecewise_constant":
        stairs = [step for step, _ in parse_rules(step_rules(settings))[0] if step < plan.steps]
        marks += [Mark(step, f"another rate from step {step:,}", strong=True) for step in stairs]
    return marks
