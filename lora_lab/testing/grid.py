"""A grid of previews: the base picture first and alone, then batches of cells that differ in their weights only.

    result = run_grid(host, plan, listen, stop)

Each picture is told as it comes and kept on the disk; the same plan goes on where it was stopped, and a plan with a
row more makes only that row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lora_lab.errors import AdapterFileError, HostBusyError, Interrupted, LoraLabError, SettingsError
from lora_lab.testing.batches import batches
from lora_lab.testing.cells import Cell, GridPlan
from lora_lab.testing.checks import check
from lora_lab.testing.events import (
    CellMade,
    GridEstimated,
    GridEvent,
    GridResult,
    GridStarted,
    GridStep,
    GridTold,
    Made,
)
from lora_lab.testing.making import Adapters, make
from lora_lab.testing.store import Store, file_state
from lora_lab.testing.watch import Trajectory, Watch

if TYPE_CHECKING:
    from pathlib import Path

    from lora_lab.families import ListedCheckpoint
    from lora_lab.host.base import CheckpointInfo, Host, PreviewResult

LENT = 0.5
"""Share of the own steps of a quick look, its last ones, whose guidance is the base picture's."""
MANY = 500
"""Cells: above this a grid is only made when its plan says `large`."""


def run_grid(
    host: Host,
    plan: GridPlan,
    listen: Callable[[GridEvent], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> GridResult:
    """Make it.

    Args:
        host: with the checkpoint loaded.
        plan: what to make.
        listen: gets every event, in the thread that calls this.
        stop: asked before each call of the UNet; what is done is kept.

    Returns:
        The grid; `stopped` if it was stopped.

    Raises:
        SettingsError: the plan cannot be made, or is larger than `MANY` without `large` (after the base picture).
        AdapterFileError: a LoRA that is missing, cannot be read, or does not fit the checkpoint.
        HostBusyError: nothing is loaded, or another checkpoint since the grid began.
        OutputError: the pictures cannot be written.
    """
    info = plan.checkpoint or host.current()
    if info is None:
        raise HostBusyError("no checkpoint is loaded", remedy="load one first")
    warnings = check(plan, info.family)
    grid = _Grid(host, plan, listen, stop, info)
    for text in warnings:
        grid.tell(text)
    return grid.run()


class _Grid:
    """One grid under way."""

    def __init__(
        self, host: Host, plan: GridPlan, listen: Callable[[GridEvent], None], stop: Callable[[], bool],
        info: CheckpointInfo | ListedCheckpoint,
    ) -> None:  # fmt: skip
        self._host, self._plan, self._listen, self._stop = host, plan, listen, stop
        self._identity, self._family = info.identity, info.family
        self._began = time.monotonic()
        self.store = Store(plan.out or host.paths().data_dir / "tests" / plan.lora.stem)
        self._files: dict[Path, str] = {cell.lora: file_state(cell.lora) for cell in plan.cells}
        self._cells = plan.cells
        self._keys = [self._key(i) for i in range(len(self._cells))]
        self._places: dict[str, list[int]] = {}
        for i, key in enumerate(self._keys):
            self._places.setdefault(key, []).append(i)
        self._made: list[Made | None] = [None] * len(self._cells)
        self._adapters = Adapters()
        self._paths: dict[tuple[str, int], Trajectory] = {}
        self._calls: int | None = None
        self._batch = max(1, plan.batch)
        self._spent, self._counted = 0.0, 0
        self._warnings: list[str] = []

    def tell(self, text: str) -> None:
        """A warning, once."""
        if text not in self._warnings:
            self._warnings.append(text)
            self._listen(GridTold(text))

    def run(self) -> GridResult:
        """All of it."""
        kept = self._load()
        self._listen(GridStarted(self._plan, len(self._cells), kept))
        stopped = False
        try:
            self._base()
            self._others()
        except Interrupted:
            stopped = True
        except LoraLabError as error:
            done = sum(made is not None for made in self._made)
            what = f"{error.what}; {done} of {len(self._cells)} pictures are kept" if done else error.what
            raise type(error)(what, file=error.file, remedy=error.remedy) from error
        spent = time.monotonic() - self._began
        return GridResult(self._plan, tuple(self._made), tuple(self._warnings), spent, stopped, self.store.folder)

    def _key(self, i: int) -> str:
        """Of a cell's picture; one that is its column's base picture is never a quick look."""
        look, base = self._plan.look, self._cells[i % len(self._plan.columns)]
        exact, its_base = (c.key(look, self._identity, self._files[c.lora], 0.0) for c in (self._cells[i], base))
        if exact == its_base or not self._plan.quick:
            return exact
        return self._cells[i].key(look, self._identity, self._files[self._cells[i].lora], self._plan.quick)

    def _load(self) -> int:
        """Take what is on disk; how many cells that are."""
        found = 0
        for key, places in self._places.items():
            one = self.store.load(key)
            if one is not None:
                for i in places:
                    self._made[i] = Made(self._cells[i], one[0], one[1], self.store.path(key), 0.0)
                found += len(places)
        return found

    def _base(self) -> None:
        """The first base picture alone, then what the rest will take, then the other columns' base pictures."""
        first, *more = range(len(self._plan.columns))
        wanted = self._columns_to_make()
        self._tell_kept()
        if first in wanted:
            self._make([first], record=True)
        self._estimate()
        for places in self._in_batches([i for i in more if i in wanted]):
            self._make(places, record=bool(self._plan.quick))

    def _columns_to_make(self) -> set[int]:
        """Base pictures that are missing; of a quick look also those whose steps are needed."""
        count = len(self._plan.columns)
        missing = {i for i in range(count) if self._made[i] is None}
        if self._plan.quick:
            missing |= {i % count for i, made in enumerate(self._made) if made is None}
        return missing

    def _tell_kept(self) -> None:
        for i, made in enumerate(self._made):
            if made is not None:
                self._tell_made(i, made)

    def _estimate(self) -> None:
        """Say how long it will take; refuse what is absurd unless it was asked for.

        Raises:
            SettingsError: more than `MANY` cells.
        """
        left = len({self._keys[i] for i, made in enumerate(self._made) if made is None})
        seconds = left * self._spent / self._counted * (1 - self._plan.quick) if self._counted else 0.0
        self._listen(GridEstimated(left, seconds))
        if left > MANY and not self._plan.large:
            about = f", about {seconds / 3600:.1f} hours" if seconds else ""
            remedy = "choose fewer rows, prompts or seeds, or say that you want them all"
            raise SettingsError(f"the grid has {left:,} more pictures to make{about}", remedy=remedy)

    def _others(self) -> None:
        """Every cell that is not a base picture."""
        left = [i for i in range(len(self._plan.columns), len(self._cells)) if self._made[i] is None]
        first = {self._keys[i]: i for i in reversed(left)}
        for places in self._in_batches(sorted(first.values())):
            if self._stop():
                raise Interrupted("the grid was stopped")
            self._make(places)

    def _in_batches(self, places: Sequence[int]) -> list[list[int]]:
        by_cell = {id(self._cells[i]): i for i in places}
        found = batches([self._cells[i] for i in places], self._family, self._batch)
        return [[by_cell[id(cell)] for cell in batch] for batch in found]

    def _make(self, places: list[int], *, record: bool = False) -> None:
        """One batch; in halves, and halves from here on, where memory is too small for it.

        Raises:
            LoraLabError: it is too small for one picture.
        """
        try:
            self._make_now(places, record=record)
        except RuntimeError as error:  # torch's class for this is younger than some torch we run on
            if "memory" not in str(error):
                raise
            if len(places) == 1:
                remedy = "make smaller pictures, or close what else uses the device"
                raise LoraLabError("there is not enough memory for one picture", remedy=remedy) from error
            self.tell(f"not enough memory for {len(places)} pictures at a time: made in halves")
            self._batch = half = len(places) // 2
            self._make(places[:half], record=record)
            self._make(places[half:], record=record)

    def _make_now(self, places: list[int], *, record: bool) -> None:
        """One batch, in a lease of its own so that the person's pictures can come in between."""
        cells = [self._cells[i] for i in places]
        paths = [Trajectory() for _ in cells] if record else []
        began = time.monotonic()
        self._unchanged(cells)
        done = self._pictures(cells, paths, base=places[0] < len(self._plan.columns))
        seconds = (time.monotonic() - began) / len(cells)
        for cell, path in zip(cells, paths, strict=False):
            self._paths[cell.prompt, cell.seed] = path
            self._calls = len(path.answers)
        self._spent, self._counted = self._spent + seconds * len(cells), self._counted + len(cells)
        for i, image, text in zip(places, done.images, done.infotexts, strict=True):
            self._keep(i, image, text, seconds)

    def _pictures(self, cells: list[Cell], paths: list[Trajectory], *, base: bool) -> PreviewResult:
        told = tuple(cells)
        watch = Watch(self._stop, lambda n: self._listen(GridStep(told, n, self._calls)), paths, pictures=len(cells))
        if self._plan.quick and not base:
            watch.replay = [self._paths[cell.prompt, cell.seed] for cell in cells]
            calls = len(watch.replay[0].answers)
            watch.shared = int(self._plan.quick * calls)
            watch.lent = calls - int((calls - watch.shared) * LENT)
        with self._host.lease("pictures", expect=self._identity) as model:
            return make(model, self._adapters, cells, self._plan.look, watch)

    def _unchanged(self, cells: Sequence[Cell]) -> None:
        """The LoRA's file is as it was when the grid began, or it was read before it changed.

        Raises:
            AdapterFileError: it has gone or changed before it was read.
        """
        path = cells[0].lora
        if all(cell.weights.off for cell in cells) or file_state(path) == self._files[path]:
            return
        if not self._adapters.holds(path):
            remedy = "start the grid again with the file as it is"
            raise AdapterFileError("the LoRA was deleted or replaced while the grid ran", file=path, remedy=remedy)
        self.tell(f"{path.name} was deleted or replaced while the grid ran: all pictures are of the file as it was")

    def _keep(self, place: int, image: object, text: str, seconds: float) -> None:
        from PIL import Image

        assert isinstance(image, Image.Image)
        told = with_tag(text, self._cells[place])
        path = self.store.save(self._keys[place], image, told)
        for i in self._places[self._keys[place]]:
            if self._made[i] is None or i == place:
                self._made[i] = made = Made(self._cells[i], image, told, path, seconds)
                self._tell_made(i, made)

    def _tell_made(self, place: int, made: Made) -> None:
        row, column = divmod(place, len(self._plan.columns))
        done = sum(one is not None for one in self._made)
        total = len(self._cells)
        left = (total - done) * self._spent / self._counted if self._counted else None
        self._listen(CellMade(made, row - 1 if row else None, column, done, total, left))


def with_tag(infotext: str, cell: Cell) -> str:
    """The infotext with the weights within its prompt, so that a prompt made of it says the same."""
    if cell.weights.off:
        return infotext
    head = infotext[: len(cell.prompt)]
    return f"{head} {cell.tag}{infotext[len(cell.prompt) :]}" if head == cell.prompt else f"{cell.tag} {infotext}"
