"""What a grid tells while it is made. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.testing.cells import Cell, GridPlan

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Made:
    """A finished picture."""

    cell: Cell
    image: Image.Image
    infotext: str
    """As the webui writes it, the weights within the prompt."""
    path: Path
    """Where it is kept, with the infotext inside."""
    seconds: float
    """What it cost; 0 for one that was there already."""


@dataclass(frozen=True)
class GridStarted:
    """First of all."""

    plan: GridPlan
    cells: int
    """Pictures of the grid, base pictures too."""
    kept: int
    """Of these, on disk already."""


@dataclass(frozen=True)
class GridEstimated:
    """Told right after the base picture."""

    cells: int
    """Still to make."""
    seconds: float
    """They will take at most about so long: each as long as the base picture took alone."""


@dataclass(frozen=True)
class CellMade:
    """A picture is ready; the base picture comes first and alone."""

    made: Made
    row: int | None
    """Place in the plan's rows; None for a base picture."""
    column: int
    """Place in the plan's columns."""
    done: int
    total: int
    seconds_left: float | None
    """None before the first picture that had to be made."""


@dataclass(frozen=True)
class GridStep:
    """A step of the sampler is done for the pictures under way."""

    cells: tuple[Cell, ...]
    done: int
    total: int | None
    """Calls of the UNet in all; None during the base picture."""


@dataclass(frozen=True)
class GridTold:
    """Something to know."""

    text: str


@dataclass(frozen=True)
class CheckpointBegun:
    """Of a test on several checkpoints: the next one's pictures follow."""

    name: str
    place: int
    """From 1."""
    count: int


GridEvent = GridStarted | GridEstimated | CellMade | GridStep | GridTold | CheckpointBegun


@dataclass(frozen=True)
class GridResult:
    """A grid, whole or as far as it came."""

    plan: GridPlan
    made: tuple[Made | None, ...]
    """One for each of the plan's cells, in their order: base pictures, then row by row. None: not made."""
    warnings: tuple[str, ...]
    seconds: float
    stopped: bool
    """It was stopped, so that pictures are missing; the same plan goes on from here."""
    folder: Path

    def at(self, row: int | None, column: int) -> Made | None:
        """The picture of a row (None: the base picture) and a column."""
        return self.made[(0 if row is None else row + 1) * len(self.plan.columns) + column]
