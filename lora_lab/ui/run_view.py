"""A run as HTML: figures, chart, warnings, snapshots. Pure functions from a `RunStatus`; every text is escaped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.guide import loss
from lora_lab.guide.facts import Facts
from lora_lab.guide.rules import findings
from lora_lab.training.events import BIN, BINS, SnapshotSaved
from lora_lab.training.learning.optimizer_kinds import kind_of
from lora_lab.training.status import RunStatus
from lora_lab.ui import advice_view, words
from lora_lab.ui.svg import Curve, loss_chart
from lora_lab.ui.u_chart import Cell, u_chart
from lora_lab.ui.words import esc, own, tag
from lora_lab.workflow.advice import course_of

if TYPE_CHECKING:
    from lora_lab.training.run import Run
    from lora_lab.training.settings import TrainSettings

EMPTY = tag("p", "No run yet. Choose a folder of pictures, give the LoRA a name, and start.", "lora-lab-empty")

STATES = {
    "waiting": "waiting for its turn",
    "preparing": "preparing",
    "running": "training",
    "finished": "finished",
    "stopped": "stopped, what was learnt is kept",
    "interrupted": "interrupted, what was learnt is kept",
    "failed": "failed",
}


@dataclass(frozen=True)
class Waiting:
    """A run that waits for its turn."""

    id: str
    name: str
    short: str = ""
    """What it trains, in a few words."""
    settings: str = ""
    """What is not as usual, one setting a line."""


def waits(run: Run) -> Waiting:
    """A run of the waiting line, with a look at its settings (no HTML)."""
    s = run.checked.settings
    length = f"{s.max_train_steps} steps" if s.max_train_epochs is None else f"{s.max_train_epochs} epochs"
    short = f"{Path(s.train_data_dir).name}, dim {s.network_dim}, {length}, {s.optimizer_type}"
    told = "\n".join(f"{name} = {value}" for name, value in s.to_mapping(changed_only=True).items())
    return Waiting(run.id, run.status().name, short, told)


def state_words(status: RunStatus) -> str:
    """What the run is doing, in a few words (no HTML)."""
    if status.stopping:
        return "stopping"
    if status.ended is not None and status.ended.lora is None and status.state in ("stopped", "interrupted"):
        return f"{status.state} before its first step"
    if status.active and status.progress is not None:
        return status.progress.stage
    return STATES[status.state]


def progress(status: RunStatus) -> list[str]:
    """State, step, epoch and time left, in a few words each (no HTML)."""
    parts = [state_words(status)]
    stage = status.progress
    if status.active and stage is not None and stage.total > 1 and not status.stopping:
        parts.append(f"{stage.done:,} of {stage.total:,}")
    if status.last is not None and status.started is not None:
        parts.append(f"step {status.step:,} of {status.steps:,}")
        parts.append(f"epoch {status.last.epoch} of {status.started.epochs}")
    if status.seconds_left is not None and status.step < status.steps:
        parts.append(f"{words.duration(status.seconds_left)} left")
    if status.ended is not None:
        parts.append(f"took {words.duration(status.ended.seconds)}")
    return parts


def head(status: RunStatus) -> str:
    """Name, state and the bar."""
    name = own("b", status.name)
    text = tag("span", words.listed(progress(status)), "lora-lab-muted")
    bar = words.bar(status.share, label=f"progress of {status.name}") if status.active else ""
    error = status.ended.error if status.ended else ""
    return tag(
        "div",
        tag("div", f"{name} {text}", "lora-lab-line") + bar + (tag("p", esc(error), "lora-lab-error") if error else ""),
        f"lora-lab-head lora-lab-{status.state}",
    )


def figures(status: RunStatus) -> str:
    """Loss, learning rates, speed, time left, memory: a row of small cells."""
    last = status.last
    if last is None:
        return ""
    cells = [("loss, average", f"{last.loss_average:.4f}")]
    if status.validations:
        cells.append(("loss, held out", f"{status.validations[-1].loss:.4f}"))
    # The UNet first, in whatever order the groups are trained.
    rates = sorted(last.learning_rates.items(), reverse=True)
    names = " / ".join(name.replace("_", " ") for name, _ in rates)
    cells.append((f"rate, {names}", " / ".join(words.rate(value) for _, value in rates)))
    cells.append(("speed", words.speed(last.seconds_per_step)))
    if status.active:
        cells.append(("time left", words.duration(last.seconds_left)))
    cells.append(("memory", words.memory(last.memory_mb)))
    if last.share < 0.99:
        cells.append(("share of the time", f"{last.share:.0%}"))
    inner = "".join(tag("div", tag("span", esc(name)) + tag("b", esc(value))) for name, value in cells)
    # Four stand in one row; five and six in rows of up to three that fill the width.
    return tag("div", inner, "lora-lab-figures" if len(cells) == 4 else "lora-lab-figures lora-lab-three")


def chart(status: RunStatus) -> str:
    """Loss of each step, its average, and the held-out pictures' loss."""
    if not status.losses and not status.validations:
        return ""
    curves = [
        Curve("lora-lab-loss", "each step", [(p.step, p.loss) for p in status.losses]),
        Curve("lora-lab-average", "average", [(p.step, p.average) for p in status.losses]),
        Curve("lora-lab-validation dots", "held-out pictures", [(v.step, v.loss) for v in status.validations]),
    ]
    return _drawn(curves, status.steps)


def _drawn(curves: Sequence[Curve], last: int) -> str:
    """Losses over 0 to `last`, with what each curve is."""
    keys = "".join(tag("span", tag("i", "", c.css) + esc(c.label)) for c in curves if c.points)
    return tag("div", loss_chart(curves, last) + tag("div", keys, "lora-lab-legend"), "lora-lab-loss-chart")


def by_noise(status: RunStatus) -> str:
    """The loss over the timesteps, at the beginning and now; folded."""
    course = course_of(status)
    if not course.late:
        return ""
    curves = [
        Curve(css, label, [(first + BIN / 2, loss) for first, loss in bins.items()])
        for css, label, bins in (
            ("lora-lab-validation", "first quarter of the epochs", course.early),
            ("lora-lab-average", "last quarter", course.late),
        )
    ]
    text = "Timesteps: at the left little noise, where details are learnt; at the right much, where the whole is."
    note = tag("p", text, "lora-lab-muted")
    drawn = _drawn(curves, BIN * BINS)
    return tag("details", tag("summary", "Loss by amount of noise") + note + drawn, "lora-lab-norms")


def norms(status: RunStatus) -> str:
    """How far each block's weights have moved, on the U; folded."""
    if status.norms is None or not any(status.norms.blocks.values()):
        return ""
    most = max(status.norms.blocks.values())
    cells = {
        name: Cell(norm / most, f"{norm:.3g}", f"{name}: norm {norm:.4g}") for name, norm in status.norms.blocks.items()
    }
    title = f"How far each block has moved, step {status.norms.step:,}"
    note = tag("p", "Norm of what the adapter adds to the block's weights, at strength 1.", "lora-lab-muted")
    return tag("details", tag("summary", esc(title)) + note + u_chart(cells, title), "lora-lab-norms")


def card(status: RunStatus | None, waiting: Sequence[Waiting]) -> str:
    """Everything about a run but its pictures and snapshots."""
    if status is None:
        return EMPTY
    return head(status) + figures(status) + chart(status) + by_noise(status) + norms(status) + _waiting(waiting)


def curve_words(status: RunStatus, settings: TrainSettings | None) -> str:
    """The chart read aloud, anew with each epoch; rules that speak of a run while it goes come first."""
    course = course_of(status)
    per_epoch = status.started.steps_per_epoch if status.started else 0
    if not course.averages or not per_epoch:
        return ""
    whole = status.step if status.ended else status.step // per_epoch * per_epoch
    course = dataclasses.replace(
        course, averages=tuple(p for p in course.averages if p[0] <= whole),
        rates=tuple((whole, rate) for _, rate in course.rates),
    )  # fmt: skip
    adaptive = settings is not None and kind_of(settings.optimizer_type).adaptive
    said = [f for f in findings(Facts({}, course=course)) if f.rule.when == "during"]
    losses = [point.loss for point in status.losses if point.step <= whole]
    return advice_view.findings(said) + advice_view.curve(loss.read(course, adaptive=adaptive, losses=losses))


def notes(status: RunStatus | None, settings: TrainSettings | None = None) -> str:
    """The warnings of a run, what its curve says, and, at its end, where its files are."""
    if status is None:
        return ""
    found = words.bullets((esc(text) for text in status.warnings), "lora-lab-notes")
    if found:
        title = tag("summary", words.count(len(status.warnings), "remark"))
        found = tag("details", title + found, open="open")
    found += curve_words(status, settings)
    if status.ended is not None:
        where = tag("span", "Settings and log:") + " " + tag("code", esc(status.folder))
        found += tag("p", where, "lora-lab-muted lora-lab-small")
    return found


def _waiting(runs: Sequence[Waiting]) -> str:
    """Each with a button of its own, which our JavaScript listens to."""
    rows = [_waits(run, number, len(runs)) for number, run in enumerate(runs)]
    return tag("h4", "Waiting") + tag("ul", "".join(rows), "lora-lab-waiting") if rows else ""


def _waits(run: Waiting, number: int, count: int) -> str:
    css = "lora-lab-small-button lg secondary"
    buttons = "".join(
        tag("button", sign, f"lora-lab-move {css}", type="button", title=f"{run.name} {word}",
            data_run=run.id, data_act=act)  # fmt: skip
        for act, sign, word, there in (
            ("up", "↑", "earlier", number > 0), ("down", "↓", "later", number < count - 1),
        ) if there  # fmt: skip
    )
    buttons += tag("button", "cancel", f"lora-lab-cancel {css}", type="button", data_run=run.id)
    look = tag("span", esc(run.short), "lora-lab-muted lora-lab-small")
    text = tag("span", own("b", run.name) + look, "lora-lab-line", title=run.settings)
    return tag("li", text + tag("span", buttons, "lora-lab-buttons"))


def prompt_for(path: Path, trigger: str) -> str:
    """What to write into a prompt to use a LoRA file."""
    return f"<lora:{path.stem}:1> {trigger}".strip()


def snapshots(status: RunStatus | None, trigger: str, lora_dir: Path, *, in_webui: bool) -> str:
    """The files of a run with what to write into a prompt, the newest first.

    Args:
        status: of the run.
        trigger: put behind the LoRA's name in the prompt; may be empty.
        lora_dir: a file elsewhere is not in the host's list, which is said.
        in_webui: there is a txt2img tab to send the prompt to; else it is copied.
    """
    if status is None or not status.snapshots:
        return ""
    rows = [_snapshot(saved, trigger, lora_dir, in_webui) for saved in reversed(status.snapshots)]
    return tag("h4", "Snapshots") + tag("ul", "".join(rows), "lora-lab-snapshots")


def _snapshot(saved: SnapshotSaved, trigger: str, lora_dir: Path, in_webui: bool) -> str:
    prompt = prompt_for(saved.path, trigger)
    when = "the finished LoRA" if saved.final else f"epoch {saved.epoch}, step {saved.step:,}"
    if saved.path.parent.resolve() != lora_dir.resolve() and lora_dir.resolve() not in saved.path.resolve().parents:
        when += f", in {saved.path.parent} (outside of the LoRA folder)"
    word = "use in txt2img" if in_webui else "copy"
    button = tag(
        "button", word, "lora-lab-use lora-lab-small-button lg secondary", type="button", data_prompt=prompt,
        data_target="txt2img" if in_webui else "clipboard",
    )  # fmt: skip
    text = tag("code", esc(prompt)) + tag("span", esc(when), "lora-lab-muted lora-lab-small")
    return tag("li", tag("div", text) + button)
