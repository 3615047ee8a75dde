"""Charts as inline SVG: they follow the theme by currentColor and classes of style.css. Pure functions on numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_lab.ui.words import count, esc

if TYPE_CHECKING:
    from lora_lab.guide.arithmetic import Numbers

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 26
"""Margins of the loss chart, in its own units."""
NAMES, APART = 92, 15
"""Room for names at the ends of lines, and how far apart they stand."""
MARKS = (
    "M-3.4,0a3.4,3.4 0 1,0 6.8,0a3.4,3.4 0 1,0 -6.8,0z", "M-3.2,-3.2h6.4v6.4h-6.4z", "M0,-4.4l4.4,7.6h-8.8z",
    "M0,-4.8l4.8,4.8l-4.8,4.8l-4.8,-4.8z",
)  # fmt: skip
"""Circle, square, triangle, diamond."""

EPOCH_ROW = 14
"""Height of the row of epochs below the steps."""
ROW = 26
"""Height of a row of the bucket chart."""
BAR_LEFT, BAR_RIGHT = 130, 60


@dataclass(frozen=True)
class Curve:
    """Points (step, value) drawn as one line of the class `css`."""

    css: str
    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """Numbers to places: `low` at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + max(0.0, min(1.0, share)) * (self.end - self.start)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart) between `low` and `high`."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / gap - 1e-9)
    last = math.floor(high / gap + 1e-9)
    return [round(i * gap, 12) for i in range(first, last + 1)]


def loss_chart(curves: Sequence[Curve], steps: int) -> str:
    """Losses over the steps of a run.

    Args:
        curves: the first is drawn at the back. Values that are no numbers are left out.
        steps: planned, the right end of the axis.
    """
    clean = [Curve(c.css, c.label, [p for p in c.points if math.isfinite(p[1])]) for c in curves]
    values = [y for curve in clean for _, y in curve.points]
    low, high = _span(values)
    last = max([1.0, float(steps), *(x for curve in clean for x, _ in curve.points)])
    across = Scale(0, last, LEFT, WIDTH - RIGHT)
    up = Scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [_grid(across, up), *(_curve(curve, across, up) for curve in clean)]
    named = ", ".join(f"{c.label} {c.points[-1][1]:.4f}" for c in clean if c.points)
    return _svg(WIDTH, HEIGHT, f"Loss: {named or 'no step yet'}", "".join(parts))


def value_chart(curves: Sequence[Curve], title: str) -> str:
    """Shares, 0 to 1, over any number such as a strength. Each line has marks of its own, and its name at its end.

    Args:
        curves: points (number, share), at least one each and at most as many curves as there are `MARKS`.
        title: told when the mouse is over it, and to screen readers.
    """
    places = [x for curve in curves for x, _ in curve.points] or [0.0]
    low, high = min(places), max(places)
    across = Scale(low, high if high > low else low + 1, LEFT, WIDTH - NAMES)
    up = Scale(0, 1, HEIGHT - BOTTOM, TOP)
    ends = spread([up(curve.points[-1][1]) for curve in curves], TOP, HEIGHT - BOTTOM)
    parts = [_grid(across, up)]
    parts += [_marked(*one, across, up) for one in zip(curves, MARKS, ends, strict=False)]
    return _svg(WIDTH, HEIGHT, title, "".join(parts))


def _marked(curve: Curve, mark: str, name_y: float, across: Scale, up: Scale) -> str:
    """A line with its marks, and its name to the right of its last point, led to where it had to give way."""
    places = [(across(x), up(y)) for x, y in curve.points]
    (x, y), css = places[-1], esc(curve.css)
    line = _line(places, css) + _line([(x + 7, y), (x + 17, name_y)], f"{css} lora-lab-leader")
    for (px, py), (number, share) in zip(places, curve.points, strict=True):
        told = f"<title>{esc(curve.label)} {share:.0%} at {number:g}</title>"
        line += f'<path class="{css}" d="{mark}" transform="translate({px:.1f},{py:.1f})">{told}</path>'
    return line + f'<text class="lora-lab-name" x="{x + 21:.1f}" y="{name_y + 4:.1f}">{esc(curve.label)}</text>'


def spread(places: Sequence[float], low: float, high: float) -> list[float]:
    """Places at least `APART` from each other, in their order, moved as little as that takes and kept within bounds."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = list(places)
    for last, i in zip([None, *order], order, strict=False):
        found[i] = max(low, found[i]) if last is None else max(found[i], found[last] + APART)
    for after, i in zip([None, *reversed(order)], reversed(order), strict=False):
        found[i] = min(high, found[i]) if after is None else min(found[i], found[after] - APART)
    return found


@dataclass(frozen=True)
class Mark:
    """A place on the axis of steps, told when the mouse is over it."""

    step: float
    label: str
    strong: bool = False


def rate_chart(curves: Sequence[Curve], steps: int, marks: Sequence[Mark], epoch: float = 0) -> str:
    """Learning rates over the steps of a run, from 0 up.

    Args:
        curves: the first is drawn at the back.
        steps: the right end of the axis.
        marks: epochs, the end of the warmup, restarts.
        epoch: steps of one, for a second row of numbers below the steps; 0 leaves it out.
    """
    across = Scale(0, max(1.0, float(steps)), LEFT, WIDTH - RIGHT)
    highest = max((y for curve in curves for _, y in curve.points), default=0.0)
    up = Scale(0, highest * 1.08 or 1.0, HEIGHT - BOTTOM, TOP)
    lines = []
    for mark in marks:
        css, x = "lora-lab-mark" if mark.strong else "lora-lab-grid", across(mark.step)
        place = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        lines.append(f'<line class="{css}" {place}><title>{esc(mark.label)}</title></line>')
    told = "; ".join(mark.label for mark in marks if mark.strong)
    parts = [_grid(across, up), *lines, *(_curve(curve, across, up) for curve in curves)]
    if epoch > 0:
        parts.append(_epochs(across, epoch))
    height = HEIGHT + (EPOCH_ROW if epoch > 0 else 0)
    return _svg(WIDTH, height, "Learning rate over the steps" + (f": {told}" if told else ""), "".join(parts))


def _epochs(across: Scale, epoch: float) -> str:
    """The second row of numbers: whole epochs."""
    parts = [f'<text class="lora-lab-tick" x="{LEFT - 8}" y="{HEIGHT + 8}" text-anchor="end">epoch</text>']
    for value in (v for v in ticks(0, across.high / epoch, 6) if v and float(v).is_integer()):
        x = across(value * epoch)
        anchor = "end" if x > WIDTH - RIGHT - 20 else "middle"
        place = f'x="{x:.1f}" y="{HEIGHT + 8}" text-anchor="{anchor}"'
        parts.append(f'<text class="lora-lab-tick" {place}>{value:g}</text>')
    return "".join(parts)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """What the axis shows: a lone wild value is cut off at the top, so that the rest can be read."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.98))]
    low = ordered[0]
    room = (high - low) * 0.08 or abs(high) * 0.1 or 0.5
    return max(0.0, low - room) if low >= 0 else low - room, high + room


def _grid(across: Scale, up: Scale) -> str:
    """Lines and numbers of both axes."""
    parts = []
    for value in ticks(up.low, up.high):
        y = up(value)
        parts.append(f'<line class="lora-lab-grid" x1="{LEFT}" x2="{across.end:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="lora-lab-tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for value in ticks(across.low, across.high, 6):
        anchor = "end" if across(value) > WIDTH - RIGHT - 20 else "middle"
        place = f'x="{across(value):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}"'
        parts.append(f'<text class="lora-lab-tick" {place}>{value:.6g}</text>')
    return "".join(parts)


def _curve(curve: Curve, across: Scale, up: Scale) -> str:
    """A line, or a dot while there is one point only."""
    places = [(across(x), up(y)) for x, y in curve.points]
    css = esc(curve.css)
    if not places:
        return ""
    line = ""
    if len(places) > 1:
        line = _line(places, css)
    if len(places) == 1 or "dots" in curve.css.split():
        line += "".join(
            f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{esc(curve.label)} {value:.4f} '
            f"at step {step:.0f}</title></circle>"
            for (x, y), (step, value) in zip(places, curve.points, strict=True)
        )
    return line


def _line(places: Sequence[tuple[float, float]], css: str) -> str:
    return f'<polyline class="{css}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'


def bucket_chart(buckets: Mapping[tuple[int, int], int]) -> str:
    """One bar for each bucket, with a frame of the bucket's shape before its size.

    Args:
        buckets: (width, height) in pixels -> pictures of an epoch, repeats counted.
    """
    most = max(buckets.values(), default=1)
    height = max(1, len(buckets)) * ROW
    length = Scale(0, max(1, most), 0, WIDTH - BAR_LEFT - BAR_RIGHT)
    rows = "".join(_bucket_row(i, size, n, length) for i, (size, n) in enumerate(buckets.items()))
    return _svg(WIDTH, height, count(len(buckets), "bucket"), rows)


def _bucket_row(index: int, size: tuple[int, int], pictures: int, length: Scale) -> str:
    y = index * ROW
    shape = 16 / max(size)
    wide, high = size[0] * shape, size[1] * shape
    frame = (
        f'<rect class="lora-lab-frame" x="{12 - wide / 2:.1f}" y="{y + ROW / 2 - high / 2:.1f}" '
        f'width="{wide:.1f}" height="{high:.1f}" rx="1"/>'
    )
    name = f'<text class="lora-lab-name" x="34" y="{y + 17}">{size[0]} × {size[1]}</text>'
    bar = (
        f'<rect class="lora-lab-fill" x="{BAR_LEFT}" y="{y + 5}" width="{max(2.0, length(pictures)):.1f}" '
        f'height="{ROW - 10}" rx="3"/>'
    )
    amount = f'<text class="lora-lab-name" x="{BAR_LEFT + length(pictures) + 10:.1f}" y="{y + 17}">{pictures:,}</text>'
    return frame + name + bar + amount


def _svg(width: int, height: int, title: str, inner: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lora-lab-chart" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{esc(title)}</title>{inner}</svg>"
    )


def step_chain(n: Numbers) -> str:
    """pictures (+ regularisation) / batch / accumulation x epochs = steps, as boxes with signs between."""
    boxes = [("pictures", f"{n.pictures:,}", "")]
    if n.regularised:
        boxes.append(("regularisation", f"{n.regularised:,}", "+"))
    boxes.append(("batch", f"{n.batch:,}", "÷"))
    if n.accumulation > 1:
        boxes.append(("accumulation", f"{n.accumulation:,}", "÷"))
    full = math.ceil((n.pictures + n.regularised) / n.batch / n.accumulation)
    short = f" ({n.per_epoch - full:,} short)" if n.per_epoch > full else ""
    boxes += [("an epoch" + short, f"{n.per_epoch:,}", "="), ("epochs", f"{n.epochs:,}", "×")]
    boxes.append(("steps", f"{n.steps:,}", "="))
    width, gap = 104, 24
    parts = []
    for i, (label, value, sign) in enumerate(boxes):
        x = i * (width + gap)
        css = "lora-lab-box lora-lab-strong" if label == "steps" else "lora-lab-box"
        parts.append(f'<rect class="{css}" x="{x + 1}" y="1" width="{width - 2}" height="50" rx="6"/>')
        middle = x + width / 2
        parts.append(f'<text class="lora-lab-name" x="{middle}" y="23" text-anchor="middle">{esc(value)}</text>')
        parts.append(f'<text class="lora-lab-tick" x="{middle}" y="41" text-anchor="middle">{esc(label)}</text>')
        if sign:
            parts.append(f'<text class="lora-lab-name" x="{x - gap / 2}" y="31" text-anchor="middle">{sign}</text>')
    told = " ".join(f"{sign} {value} {label}".strip() for label, value, sign in boxes)
    return _svg(len(boxes) * (width + gap) - gap, 52, told, "".join(parts))
