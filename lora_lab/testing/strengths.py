"""Strengths and snapshots: where a LoRA is good, and what that says about the next training.

The reading is the guide's: a LoRA that is good only at 0.5 learnt too fast (halve that part's rate), one that needs 2.0
too slowly (double it); a sound one is good at 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError
from lora_lab.testing import measures, rows
from lora_lab.testing.cells import NOTHING, GridPlan, Look
from lora_lab.testing.events import GridEvent, GridResult, Made
from lora_lab.testing.grid import run_grid
from lora_lab.testing.judge import NO_TAG
from lora_lab.testing.words import asked_for, tags_of, with_tags

if TYPE_CHECKING:
    from lora_lab.families import ListedCheckpoint
    from lora_lab.host.base import Host
    from lora_lab.testing.judge import Judge

VALUES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Strengths that are tried unless others are given."""
TIE = 0.02
"""Overall scores this near are alike: then the strength nearer to 1 counts, and `best_snapshot` says which snapshot."""
GOOD = 0.5
"""Overall score below which no strength is good."""
LOW, HIGH = 0.7, 1.4
"""A best strength outside these asks for other rates."""
KEPT, SHORT, FULL = 0.75, 0.8, 0.9
"""Shares of the most: other tags obeyed so far are still obeyed; less of the concept is too little; so much is all."""


@dataclass(frozen=True)
class StrengthPlan:
    """What to try."""

    loras: tuple[Path, ...]
    """One, or the snapshots of a run in their order."""
    prompt: str
    """With the trigger, little else."""
    others: tuple[str, ...]
    """Tags to be obeyed beside it (clothes, pose, background), a prompt for each line of them: ``smile, night sky``."""
    seeds: tuple[int, ...]
    values: tuple[float, ...] = VALUES
    apart: bool = False
    """Text encoders and UNet with each other, not alike."""
    look: Look = Look()
    batch: int = 8
    out: Path | None = None
    checkpoint: ListedCheckpoint | None = None
    """See `GridPlan.checkpoint`."""
    trigger: str = ""
    """Of the prompt's tags the one that may be the concept's."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The trigger alone, then with other tags."""
        return self.prompt, *(with_tags(self.prompt, tags_of(line)) for line in self.others)


@dataclass(frozen=True)
class Point:
    """One LoRA at one strength."""

    lora: Path
    text_encoder: float
    unet: float
    concept: float
    """Share of the concept that the tagger finds, 0..1."""
    flexibility: float
    """Share of the other tags that are obeyed, 0..1; 1 where none were asked for."""
    fidelity: float
    """1 where saturation and contrast are those of the checkpoint's own pictures, 0 where they are far off: burnt."""

    @property
    def overall(self) -> float:
        """All three must hold: the cube root of their product, 0..1."""
        product: float = max(0.0, self.concept) * self.flexibility * self.fidelity
        return float(product ** (1 / 3))

    def to_json(self) -> dict[str, Any]:
        """For ``--json`` and curves."""
        return {**{k: v for k, v in vars(self).items() if k != "lora"}, "lora": self.lora.name, "overall": self.overall}


@dataclass(frozen=True)
class Advice:
    """What to change."""

    sentence: str
    factors: Mapping[str, float] = field(default_factory=dict)
    """Setting -> what to multiply it with: `unet_lr`, `text_encoder_lr`; empty: nothing to change."""


@dataclass(frozen=True)
class StrengthReport:
    """The answer."""

    points: tuple[Point, ...]
    best: Point
    """The best of all."""
    advice: Advice
    concept: tuple[str, ...]
    grid: GridResult
    note: str = ""
    """See `InfluenceMap.note`."""

    @property
    def sound(self) -> bool:
        """Good as it is: there is nothing to change or to look at."""
        return self.best.overall >= GOOD and not self.advice.factors

    @property
    def picture(self) -> Made | None:
        """The first one of the best."""
        return self.grid.at(1 + self.points.index(self.best), 0)


def run_strengths(
    host: Host,
    plan: StrengthPlan,
    judge: Judge,
    listen: Callable[[GridEvent], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> StrengthReport | None:
    """Make the pictures and read them. None if it was stopped; the same plan goes on.

    Raises:
        SettingsError: nothing to try.
        LoraLabError: see `run_grid`.
    """
    if not plan.loras or not plan.values:
        raise SettingsError("there is nothing to try", remedy="give a LoRA and some strengths")
    result = run_grid(host, grid_plan(plan), listen, stop)
    return None if result.stopped else read(plan, result, judge)


def grid_plan(plan: StrengthPlan) -> GridPlan:
    """Rows: the bare checkpoint, then each LoRA at each strength. The base picture is the last LoRA at 1."""
    last = plan.loras[-1]
    tried = rows.strengths(plan.values, apart=plan.apart, loras=plan.loras)
    return GridPlan(
        last, (NOTHING, *tried), plan.prompts, plan.seeds, plan.look, plan.batch, out=plan.out, large=True,
        checkpoint=plan.checkpoint,
    )  # fmt: skip


def read(plan: StrengthPlan, result: GridResult, judge: Judge) -> StrengthReport:
    """The report of a finished grid."""
    columns = len(result.plan.columns)
    own, count = len(dict.fromkeys(plan.seeds)), len(result.plan.rows)
    found = [[made for i in range(columns) if (made := result.at(row, i)) is not None] for row in range(count)]
    whole = [made for i in range(columns) if (made := result.at(None, i)) is not None]
    seen = [judge.look([made.image for made in row]) for row in found]
    alone = judge.look([made.image for made in whole[:own]])
    concept = judge.found_concept(alone, seen[0][:own], asked_for((plan.prompt,), plan.trigger))
    wanted = [tags_of(line) for line in plan.others for _ in range(own)]
    points = []
    for row, sight, pictures in zip(result.plan.rows[1:], seen[1:], found[1:], strict=True):
        asked = judge.obeyed(sight[own:], wanted) if wanted else 1.0
        share = judge.share(sight[:own], concept)
        points.append(
            Point(row.lora or result.plan.lora, row.text_encoder, row.unet, share, asked, fidelity(pictures, found[0]))
        )
    best = best_of(points)
    advice = advise(points, apart=plan.apart) if concept else Advice(NO_TAG)
    note = judge.doubt(plan.seeds)
    return StrengthReport(tuple(points), best, advice, concept, result, note)


def fidelity(pictures: Sequence[Made], bare: Sequence[Made]) -> float:
    """1 less the relative drift of saturation and of contrast from the bare checkpoint's pictures, not below 0."""
    drift = 0.0
    for measure in (measures.saturation, measures.contrast):
        own, theirs = (sum(measure(made.image) for made in some) / len(some) for some in (pictures, bare))
        drift += abs(own - theirs) / max(theirs, 1e-3)
    return max(0.0, 1.0 - drift / 2)


def best_of(points: Sequence[Point]) -> Point:
    """The best overall; among equals the one nearer to strength 1, then the earlier LoRA."""
    top = max(point.overall for point in points)
    alike = [point for point in points if point.overall >= top - TIE]
    return min(alike, key=lambda point: abs(point.unet - 1) + abs(point.text_encoder - 1))


def best_snapshot(points: Sequence[Point], held_out: Mapping[Path, float] = MappingProxyType({})) -> tuple[Point, str]:
    """The snapshot to keep, at strength 1 if that was tried (else at its own best), and why.

    Pictures of a few seeds cannot tell snapshots apart that are within `TIE`: of these the one with the lowest held-out
    loss is kept, or the earliest where not all of them have one.

    Args:
        points: all that was tried.
        held_out: by LoRA, the held-out loss of its run when it was saved.
    """
    at_one = [point for point in points if point.unet == point.text_encoder == 1]
    tried = at_one or [best_of([p for p in points if p.lora == lora]) for lora in dict.fromkeys(p.lora for p in points)]
    top = max(point.overall for point in tried)
    alike = [point for point in tried if point.overall >= top - TIE]
    by_loss = len(alike) > 1 and all(point.lora in held_out for point in alike)
    best = min(alike, key=lambda point: held_out[point.lora]) if by_loss else alike[0]
    last = tried[-1]
    why = f"{best.lora.name}: {best.concept:.0%} of the concept, {best.flexibility:.0%} of other tags obeyed"
    if best.lora != last.lora:
        why += f"; the last one has {last.concept:.0%} and {last.flexibility:.0%}"
    if by_loss:
        why += f"; of {len(alike)} that look alike it has the lowest held-out loss"
    return best, f"{why}."


def advise(points: Sequence[Point], *, apart: bool = False) -> Advice:
    """The guide's reading of the best strength; where none is good, whether the pictures are broken or untouched.

    Where it is not below 1, two signs tell wrong rates that the overall score evens out (on the demo's LoRA at eight
    times its rates and at an eighth): see `_too_stiff` and `_too_faint`. Good at 1 and better above is sound.
    """
    best = best_of(points)
    if best.overall < GOOD:
        return _at_no_strength(points)
    tried = {"unet_lr": best.unet, "text_encoder_lr": best.text_encoder} if apart else {"unet_lr": best.unet}
    factors = {name: value for name, value in tried.items() if value > 0 and not LOW <= value <= HIGH}
    sound = Advice("Good at about 1: sound as it is; still fine above, it could have trained longer.")
    at = {point.unet: point for point in points if point.unet == point.text_encoder and point.lora == best.lora}
    if not apart and 1 in at and best.unet >= LOW:
        return _too_stiff(at) or _too_faint(at) or sound
    if not factors:
        return sound
    if not apart:
        factors["text_encoder_lr"] = best.text_encoder
    where = f"te {best.text_encoder:g}, unet {best.unet:g}" if apart else f"{best.unet:g}"
    return _changed(f"Best at {where}, so", factors)


def _changed(why: str, factors: Mapping[str, float]) -> Advice:
    sides = [f"{name} {'down' if value < 1 else 'up'} to {value:g} times" for name, value in factors.items()]
    pace = "too fast" if min(factors.values()) < 1 else "too slowly"
    return Advice(f"{why} it learnt {pace}: {' and '.join(sides)}.", factors)


def _both(factor: float) -> dict[str, float]:
    return {"unet_lr": factor, "text_encoder_lr": factor}


def _too_stiff(at: Mapping[float, Point]) -> Advice | None:
    """At 1 other tags are obeyed much less than at a weaker strength: it learnt too fast."""
    weaker = {value: point for value, point in at.items() if value < LOW}
    most = max((point.flexibility for point in weaker.values()), default=0.0)
    if at[1].flexibility >= KEPT * most:
        return None
    value = max(value for value, point in weaker.items() if point.flexibility >= KEPT * most)
    obeyed = f"At 1 {at[1].flexibility:.0%} of the other tags are obeyed, at {value:g} {at[value].flexibility:.0%}, so"
    return _changed(obeyed, _both(value))


def _too_faint(at: Mapping[float, Point]) -> Advice | None:
    """Much more of the concept comes with strength, and other tags are still obeyed: it learnt too slowly."""
    stronger = {value: point for value, point in at.items() if value > HIGH}
    free = {value: point for value, point in stronger.items() if point.flexibility >= KEPT * at[1].flexibility}
    most = max((point.concept for point in free.values()), default=0.0)
    if at[1].concept >= SHORT * most:
        return None
    value = min(value for value, point in free.items() if point.concept >= FULL * most)
    shown = f"At 1 {at[1].concept:.0%} of the concept is there, at {value:g} {at[value].concept:.0%}, so"
    return _changed(shown, _both(value))


def _at_no_strength(points: Sequence[Point]) -> Advice:
    """Broken (other tags are not obeyed, colours are off) even when weak: far too fast. Untouched even when strong: far
    too slowly."""
    gentle = min(points, key=lambda point: point.unet + point.text_encoder)
    strong = max(points, key=lambda point: point.unet + point.text_encoder)
    if gentle.flexibility * gentle.fidelity < GOOD:
        factor = min(0.5, gentle.unet) or 0.5
        what = f"Broken even at {gentle.unet:g}, so it learnt far too fast: both rates down to {factor:g} times."
    elif strong.flexibility * strong.fidelity >= GOOD:
        factor = max(2.0, strong.unet)
        what = f"Hardly there even at {strong.unet:g}, so it learnt far too slowly: both rates up to {factor:g} times."
    else:
        return Advice("At no strength the concept is there and the picture sound: look at the dataset and its tags.")
    return Advice(what, _both(factor))
