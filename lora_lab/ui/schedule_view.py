"""The learning rates of a run before it starts, as a curve: one line a group, warmup and restarts marked. Pure."""

from __future__ import annotations

from lora_lab.training.optimizers import KINDS
from lora_lab.training.plan import Plan, shape_of
from lora_lab.training.schedules import schedule
from lora_lab.training.settings import TrainSettings
from lora_lab.ui.svg import Curve, Mark, rate_chart
from lora_lab.ui.words import esc, tag

POINTS = 320
"""Of a line: about one for every second unit of the chart's width."""
CSS = {"unet": "lora-lab-average", "text_encoder": "lora-lab-validation", "text_encoder_2": "lora-lab-loss"}
NAMES = {"unet": "UNet", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
MOST_EPOCHS = 40
"""More lines than that hide the curve."""


def curve(settings: TrainSettings, plan: Plan) -> str:
    """The chart with its legend.

    Args:
        settings: checked ones.
        plan: of them.

    Raises:
        SettingsError: warmup and decay do not fit in the run.
    """
    factor = schedule(settings.lr_scheduler, shape_of(settings, plan))
    gap = max(1, plan.steps // POINTS)
    steps = [*range(0, plan.steps, gap), plan.steps - 1]
    groups = sorted(plan.groups, key=lambda group: -group.learning_rate)
    curves = [Curve(CSS[g.name], NAMES[g.name], [(s + 1, g.learning_rate * factor(s)) for s in steps]) for g in groups]
    legend = "".join(
        tag("span", tag("i", "", CSS[g.name]) + esc(f"{NAMES[g.name]} {g.learning_rate:g}")) for g in groups
    )
    if KINDS[settings.optimizer_type].adaptive:
        legend += tag("span", esc(f"{settings.optimizer_type} multiplies them by the d that it finds"))
    chart = rate_chart(curves, plan.steps, _marks(settings, plan))
    return tag("div", chart + tag("div", legend, "lora-lab-legend"), "lora-lab-loss-chart")


def _marks(settings: TrainSettings, plan: Plan) -> list[Mark]:
    """Ends of epochs in thin lines; ends of the warmup and restarts in strong ones."""
    marks = []
    if plan.epochs <= MOST_EPOCHS:
        marks += [Mark(epoch * plan.steps_per_epoch, f"end of epoch {epoch}") for epoch in range(1, plan.epochs)]
    if plan.warmup_steps and settings.lr_scheduler != "constant":
        marks.append(Mark(plan.warmup_steps, f"warmup ends at step {plan.warmup_steps:,}", strong=True))
    if settings.lr_scheduler == "cosine_with_restarts":
        length = (plan.steps - plan.warmup_steps) / settings.lr_scheduler_num_cycles
        steps = [round(plan.warmup_steps + n * length) for n in range(1, settings.lr_scheduler_num_cycles)]
        marks += [Mark(step, f"restart at step {step:,}", strong=True) for step in steps]
    if settings.lr_scheduler == "warmup_stable_decay":
        step = plan.steps - plan.decay_steps
        marks.append(Mark(step, f"the fall begins at step {step:,}", strong=True))
    return marks
