"""Strengths and snapshots on several checkpoints, one after the other: where a LoRA is good, and where it is not.

The guide trains on one checkpoint and says beside the LoRA on which it works best. Pictures of each checkpoint are kept
apart (a cell's key holds the checkpoint), so that a stopped test goes on in the middle of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError
from lora_lab.network.outline import outline
from lora_lab.testing.checks import look_into
from lora_lab.testing.events import CellMade, CheckpointBegun, GridEstimated, GridEvent
from lora_lab.testing.strengths import GOOD, StrengthPlan, StrengthReport, grid_plan, read, run_strengths

if TYPE_CHECKING:
    from pathlib import Path

    from lora_lab.families import ListedCheckpoint
    from lora_lab.host.base import Host
    from lora_lab.testing.judge import Judge

FAR = 0.15
"""An overall score this much below the best checkpoint's is plainly worse."""


@dataclass(frozen=True)
class OnCheckpoint:
    """What came of one checkpoint."""

    checkpoint: ListedCheckpoint
    own: bool
    """Is it the one that the (last) LoRA says it was trained on?"""
    report: StrengthReport

    @property
    def label(self) -> str:
        """Its name, and whether it is the LoRA's own."""
        return f"{self.checkpoint.name} (its own)" if self.own else self.checkpoint.name

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        best = self.report.best
        return {"checkpoint": str(self.checkpoint.path), "own": self.own, "best": best.to_json()}


@dataclass(frozen=True)
class CheckpointsReport:
    """The answer."""

    found: tuple[OnCheckpoint, ...]
    """In the order asked for."""
    sentence: str

    @property
    def main(self) -> OnCheckpoint:
        """The one whose advice counts for the next training: the LoRA's own, else where it is best."""
        return max(self.found, key=lambda one: (one.own, one.report.best.overall))


def chosen(host: Host, names: Sequence[str], loras: Sequence[Path]) -> tuple[ListedCheckpoint, ...]:
    """The checkpoints by their names, each once; nothing is loaded.

    Raises:
        SettingsError: no name.
        CheckpointError: one that is not there, or whose header does not tell its family.
        AdapterFileError: a LoRA of another family than one of them.
    """
    found = tuple({one.identity: one for one in map(host.checkpoint, names)}.values())
    if not found:
        raise SettingsError("no checkpoint is named", remedy="choose some")
    for one in found:
        for lora in loras:
            look_into(lora, one.family, one.name)
    return found


def pictures(plan: StrengthPlan, checkpoints: int) -> str:
    """How many pictures that is, for people."""
    each = len(grid_plan(plan).cells)
    if checkpoints == 1:
        return f"1 checkpoint: {each:,} pictures"
    return f"{checkpoints} checkpoints with {each:,} pictures each: {checkpoints * each:,} pictures"


def run_on_checkpoints(
    host: Host,
    checkpoints: Sequence[ListedCheckpoint],
    plan: StrengthPlan,
    judge: Judge,
    listen: Callable[[GridEvent], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> CheckpointsReport | None:
    """Make the pictures on each, and read them. The checkpoint that was loaded is loaded again, whatever happens.

    Args:
        host: loads them, each when its first missing picture is made.
        checkpoints: from `chosen`.
        plan: what to try on each.
        judge: looks at all pictures.
        listen: gets the events of all; pictures and times are counted over all checkpoints.
        stop: as of `run_grid`.

    Returns:
        None if it was stopped; the same call goes on.

    Raises:
        CheckpointError: one cannot be loaded.
        LoraLabError: see `run_strengths`.
    """
    found = []
    count, each = len(checkpoints), len(grid_plan(plan).cells)
    own = _trained_on(plan.loras[-1])
    with host.switching(checkpoints):
        for i, one in enumerate(checkpoints):
            listen(CheckpointBegun(one.name, i + 1, count))
            hear = _Counted(listen, i * each, (count - i - 1) * each)
            report = run_strengths(host, replace(plan, checkpoint=one), judge, hear, stop)
            if report is None:
                return None
            found.append(OnCheckpoint(one, own(one), report))
    found = alike(found, plan, judge)
    return CheckpointsReport(tuple(found), across(found))


def alike(found: Sequence[OnCheckpoint], plan: StrengthPlan, judge: Judge) -> list[OnCheckpoint]:
    """All measured by one concept. What each checkpoint adds by itself would hide that it adds little.

    It is what is found on the LoRA's own checkpoint, else where the most is found.
    """
    concept = max(found, key=lambda one: (one.own, len(one.report.concept))).report.concept
    if not concept:
        return list(found)
    told = replace(judge, concept=concept)
    return [
        one if one.report.concept == concept
        else replace(one, report=replace(read(plan, one.report.grid, told), note=one.report.note))
        for one in found
    ]  # fmt: skip


@dataclass(frozen=True)
class _Counted:
    """Events of one checkpoint's grid, counted over all checkpoints."""

    listen: Callable[[GridEvent], None]
    before: int
    """Pictures of the checkpoints before."""
    after: int

    def __call__(self, event: GridEvent) -> None:
        if isinstance(event, GridEstimated) and event.cells:
            share = 1 + self.after / event.cells
            event = GridEstimated(event.cells + self.after, event.seconds * share)
        elif isinstance(event, CellMade):
            here, left = event.total - event.done, event.seconds_left
            if left is not None:
                left = left * (1 + self.after / here) if here else None
            done, total = event.done + self.before, event.total + self.before + self.after
            event = replace(event, done=done, total=total, seconds_left=left)
        self.listen(event)


def _trained_on(lora: Path) -> Callable[[ListedCheckpoint], bool]:
    """By kohya's short hash where both tell it, else by the file's name."""
    metadata = outline(lora).metadata
    name, short = metadata.get("ss_sd_model_name", ""), metadata.get("ss_sd_model_hash", "")

    def own(one: ListedCheckpoint) -> bool:
        return short == one.short_hash if short and one.short_hash else bool(name) and name == one.name

    return own


def across(found: Sequence[OnCheckpoint]) -> str:
    """One sentence: where it is good, and where it is not."""
    best = max(found, key=lambda one: (one.report.best.overall, one.own))
    if best.report.best.overall < GOOD:
        if len(found) == 1:
            return f"Good on {best.label} at no strength, {best.report.best.overall:.0%} at most."
        return f"Good on none of them, {best.label} is the nearest at {best.report.best.overall:.0%}."
    if len(found) == 1:
        return f"Good on {_told(best)}."
    worse = [one for one in found if one.report.best.overall < max(GOOD, best.report.best.overall - FAR)]
    if worse:
        listed = ", ".join(f"on {_told(one)}" for one in worse)
        return f"Works best with {_told(best)}, but {listed}; say so where you share it."
    strengths = {(one.report.best.text_encoder, one.report.best.unet) for one in found}
    if len(strengths) == 1:
        return f"Alike on all {len(found)} checkpoints, best at {_at(best)}."
    return f"Good on all {len(found)} checkpoints, at other strengths: {', '.join(_told(one) for one in found)}."


def _told(one: OnCheckpoint) -> str:
    return f"{one.label}: {one.report.best.overall:.0%} at {_at(one)}"


def _at(one: OnCheckpoint) -> str:
    point = one.report.best
    alike = point.text_encoder == point.unet
    return f"{point.unet:g}" if alike else f"te {point.text_encoder:g} unet {point.unet:g}"
