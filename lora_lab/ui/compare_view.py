"""The runs of a project as one table: what was changed, the numbers, stars to click, the place. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_lab.training.settings import TrainSettings
from lora_lab.ui.words import bar, esc, own, tag
from lora_lab.workflow.compare_runs import MOST_STARS, ComparedRun, next_step, rank

BUTTON = "lora_lab_compare_act"
"""Id of the hidden button that our JavaScript presses."""
HEADS = ("run", "changed", "steps", "held-out loss", "concept", "leakage", "flexibility", "stars", "place")
NONE = tag("p", "No run has trained on this dataset yet.", "lora-lab-empty")


def table(runs: Sequence[ComparedRun]) -> str:
    """The best first; nothing was ranked where no run has a number."""
    if not runs:
        return NONE
    head = tag("tr", "".join(tag("th", esc(name)) for name in HEADS))
    ranked = rank(runs)
    body = "".join(_row(run, place if place else None, first=n == 0) for n, (run, place) in enumerate(ranked))
    said = tag("p", tag("b", "Next:") + " " + esc(next_step(runs)), "lora-lab-notes")
    inner = tag("table", head + body, "lora-lab-table", data_button=BUTTON)
    return said + tag("div", inner, "lora-lab-grid-frame")


def _row(one: ComparedRun, place: float | None, *, first: bool) -> str:
    score, run = one.score, one.run
    pairs = [f"{name} {_short(name, old)} → {_short(name, new)}" for name, (old, new) in one.changed.items()]
    changed = "".join(own("div", pair) for pair in pairs)
    cells = (
        own("b", run.name or run.id) + tag("div", esc(run.state), "lora-lab-muted lora-lab-small"),
        tag("div", changed or "-", "lora-lab-small"), f"{run.step:,}",
        "-" if run.val_loss is None else f"{run.val_loss:.4f}", _share(score.concept if score else None),
        _share(score.leakage if score else None), _share(score.flexibility if score else None), _stars(one),
        "-" if place is None else f"{place:.1f}",
    )  # fmt: skip
    return tag("tr", "".join(tag("td", cell) for cell in cells), "lora-lab-best" if first and place else "")


def _stars(one: ComparedRun) -> str:
    """A click gives so many; a click on the number that is given takes them away."""
    stars = []
    for number in range(1, MOST_STARS + 1):
        act = f"stars-{0 if number == one.stars else number}"
        more = {"data_variant": act, "data_path": one.run.id, "title": f"{number} of {MOST_STARS}"}
        stars.append(tag("button", "★" if number <= one.stars else "☆", "lora-lab-star", type="button", **more))
    return tag("span", "".join(stars), "lora-lab-stars")


def _share(value: float | None) -> str:
    return "-" if value is None else bar(value, label="share") + f"{value:.0%}"


def _short(name: str, value: Any) -> str:  # noqa: ANN401 - a setting
    if value and TrainSettings.spec(name).kind == "folder":
        value = Path(value).name
    text = "empty" if value in (None, "", ()) else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) < 40 else text[:37] + "..."
