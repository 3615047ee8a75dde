"""What all benchmarks share: rounds interleaved, medians with their spread, the bar and whether it holds.

A machine is never quiet: each round measures every candidate once, in turning order, and figures are ratios within a
round.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts this process's own seconds: use it with OMP_NUM_THREADS=1 while others use the machine too."""


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    name: str
    values: tuple[float, ...]
    """Of each round."""
    unit: str = "x"
    at_most: float | None = None
    """The bar from the issue; None where the figure is only reported."""

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Is the median within the bar? None without one."""
        return None if self.at_most is None else self.median <= self.at_most

    def to_json(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {
            "name": self.name,
            "median": round(self.median, 4),
            "min": round(min(self.values), 4),
            "max": round(max(self.values), 4),
            "rounds": len(self.values),
            "unit": self.unit,
            "bar": self.at_most,
            "holds": self.holds,
        }


def interleave(
    rounds: int, candidates: Mapping[str, Callable[[], object]], *, clock: str = "wall", warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; the order turns from round to round, warm-up rounds do not count."""
    names, now = list(candidates), CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            began = now()
            candidates[name]()
            if number >= 0:
                seconds[name].append(now() - began)
    return seconds


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Round by round."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def table(title: str, figures: Sequence[Figure]) -> str:
    """The figures as lines of text."""
    width = max(len(figure.name) for figure in figures)
    lines = [title, f"{'figure':<{width}}  {'median':>9}  {'spread':>17}  {'bar':>8}  holds"]
    for figure in figures:
        spread = f"{min(figure.values):.3f} .. {max(figure.values):.3f}"
        bar = "-" if figure.at_most is None else f"{figure.at_most:.2f}"
        holds = {None: "-", True: "yes", False: "NO"}[figure.holds]
        median = f"{figure.median:.3f} {figure.unit}"
        lines.append(f"{figure.name:<{width}}  {median:>9}  {spread:>17}  {bar:>8}  {holds}")
    return "\n".join(lines)


def show(title: str, figures: Sequence[Figure], as_json: bool) -> int:
    """Print the figures; the exit status is 1 if a bar does not hold."""
    if as_json:
        print(json.dumps({"benchmark": title, "figures": [figure.to_json() for figure in figures]}))
    else:
        print(table(title, figures))
    return 1 if any(figure.holds is False for figure in figures) else 0


def parser(about: str, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--json", action="store_true", help="one line for machines")
    made.add_argument("--clock", choices=list(CLOCKS), default="wall", help="wall, or cpu where the machine is shared")
    made.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds (default %(default)s)")
    return made
