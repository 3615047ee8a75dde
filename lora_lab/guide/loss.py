"""Loss curves read aloud: what a curve says, what it does not, and the guide's remarks beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, pstdev

from lora_lab.guide.facts import Course
from lora_lab.guide.source import OURS, Source, guide

FEWEST = 20
"""Steps before which a curve says nothing."""
USUAL = (0.05, 0.15)
"""Where losses of a real checkpoint lie, by the guide."""

LITTLE, MUCH = 300, 700
"""Timesteps below and from which a picture is nearly whole, and nearly gone."""


@dataclass(frozen=True)
class Remark:
    """One sentence about a curve, without its full stop."""

    text: str
    source: Source


def read(course: Course, *, adaptive: bool = False, losses: Sequence[float] = ()) -> list[Remark]:
    """What can be said now, the most useful first.

    Args:
        course: averages, held-out losses and rates.
        adaptive: the optimizer finds its own rates.
        losses: of single steps.
    """
    if len(course.averages) < FEWEST:
        return [Remark("The first steps say nothing yet: wait for an epoch", OURS)]
    return [*_held_out(course), *_average(course), *_bins(course), *_noise(losses), *_rate(course, adaptive=adaptive)]


def _held_out(course: Course) -> Iterator[Remark]:
    held = course.held_out
    if len(held) < 2:
        text = "no picture is held out, so this curve cannot tell learning from copying: set validation_split to 0.1"
        yield Remark(text, OURS)
        return
    step, lowest = min(held, key=lambda point: point[1])
    first, last = held[0][1], held[-1][1]
    if last <= lowest * 1.01:
        text = f"the held-out loss (dots) still falls, from {first:.4f} to {last:.4f}: it learns what is common to them"
    elif last > lowest * 1.05:
        text = f"the held-out loss was lowest at step {step:,} and rises since: from there on it learns by heart"
    else:
        text = f"the held-out loss has come to rest near {lowest:.4f}: more steps change little but likeness"
    yield Remark(text + "; it is measured at fixed noise, so its small moves mean something", OURS)


def _average(course: Course) -> Iterator[Remark]:
    averages = [value for _, value in course.averages]
    early, late = mean(averages[: len(averages) // 4 or 1]), mean(averages[-(len(averages) // 4 or 1) :])
    change = (late - early) / early if early else 0.0
    if change < -0.02:
        text = f"the average fell by {-change:.0%} from the first quarter to the last: less loss is more likeness"
    elif change > 0.05:
        text = f"the average rose by {change:.0%}: the rate may be too high, or it has lost track"
    else:
        text = "the average stays where it is, as it often does: likeness grows all the same, so look at pictures"
    low, high = USUAL
    if late < low:
        text += f"; {late:.3f} is below the usual {low:g} to {high:g}, near to a copy of the pictures"
    elif late > high:
        text += f"; {late:.3f} is above the usual {low:g} to {high:g}: busy or many-sided pictures stay there"
    yield Remark(text, guide("Loss"))


def _bins(course: Course) -> Iterator[Remark]:
    """What little noise hides are details, what much noise hides is the whole; each falls in its own time."""
    shared = course.early.keys() & course.late.keys()
    told = []
    for what, bins in ((f"little noise (timesteps below {LITTLE})", {t for t in shared if t < LITTLE}),
                       (f"much noise (from {MUCH})", {t for t in shared if t >= MUCH})):  # fmt: skip
        if not bins:
            return
        first, last = mean(course.early[t] for t in bins), mean(course.late[t] for t in bins)
        told.append(f"at {what} it went from {first:.4f} to {last:.4f}")
    text = ", ".join(told) + ": the first is learning of details, the second of shapes and colours"
    yield Remark(f"apart by noise, {text}", OURS)


def _noise(losses: Sequence[float]) -> Iterator[Remark]:
    if len(losses) < FEWEST or not mean(losses):
        return
    spread = pstdev(losses) / mean(losses)
    text = f"single steps (thin line) differ by {spread:.0%}: each draws another amount of noise, so peaks mean nothing"
    yield Remark(text, OURS)


def _rate(course: Course, *, adaptive: bool) -> Iterator[Remark]:
    if not adaptive or not course.rates:
        return
    step, rate = course.rates[-1]
    text = f"the rate that acts is d * lr, {rate:.1e} at step {step:,}; it starts tiny and stands after 50 to 200 steps"
    yield Remark(text, guide("d"))


NEVER = (
    Remark("A loss does not say whether a picture is good: runs of other pictures, sizes or weights (min_snr_gamma, "
           "noise_offset) cannot be compared by it", OURS),
    Remark("Lower is not better beyond a point: the lowest loss of all is a copy of your pictures", guide("Loss")),
)  # fmt: skip
"""What holds for every curve."""
