"""A grid of block weights against the bare checkpoint making as many pictures, standalone on the demo checkpoint.

    python -m benchmarks.grid [--json] [--rounds N] [--clock cpu] [--kinds lora locon dora] [--size 128]

12 presets at one prompt and two seeds, in one batch of 24 whose pictures differ in their block weights; bare is the
same model asked for 24 pictures without any LoRA. A single cell has its delta merged for the while. The quick look
shares half of the steps with the base picture; its difference from the exact grid is the mean over all pixels, beside
that of the exact cells from their base picture. The first figure of a kind with a dense delta has no bar.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import CLOCKS, Figure, interleave, parser, ratios, show
from lora_lab.demo import world
from lora_lab.families import Family
from lora_lab.host.base import PreviewRequest
from lora_lab.host.choose import standalone_host
from lora_lab.network.recipe import Recipe
from lora_lab.testing import measures, rows
from lora_lab.testing.cells import GridPlan, Look
from lora_lab.testing.events import CellMade, GridEvent, GridResult
from lora_lab.testing.grid import run_grid

if TYPE_CHECKING:
    from lora_lab.host.base import Host

KINDS = {
    "lora": Recipe(),
    "locon": Recipe("locon"),
    "dora": Recipe(dora_wd=True),
    "loha": Recipe("loha"),
    "oft": Recipe("oft"),
}
BARRED = ("lora", "locon")
PROMPT = f"{world.CHARACTER}, smile, night sky"


@dataclass(frozen=True)
class Case:
    """What is measured."""

    host: Host
    plan: GridPlan
    clock: str

    def bare(self, count: int) -> float:
        """Seconds for so many pictures without a LoRA."""
        began = CLOCKS[self.clock]()
        with self.host.lease("pictures") as model:
            seeds = tuple(range(count))
            model.generate(PreviewRequest((PROMPT,) * count, seeds, **vars(self.plan.look)))
        return CLOCKS[self.clock]() - began

    def grid(self, plan: GridPlan) -> tuple[float, float, GridResult]:
        """Seconds until the base picture was there, seconds for the other cells, and the grid; nothing is kept."""
        marks: list[float] = []
        now = CLOCKS[self.clock]
        columns = len(plan.columns)

        def listen(event: GridEvent) -> None:
            if isinstance(event, CellMade) and event.row is None:
                marks.append(now())

        began = now()
        with tempfile.TemporaryDirectory() as folder:
            result = run_grid(self.host, replace(plan, out=Path(folder)), listen)
        return marks[0] - began, now() - marks[columns - 1], result


def lora(host: Host, folder: Path, kind: str) -> Path:
    """Random numbers of a rank of 8."""
    import torch

    from lora_lab.network import files
    from lora_lab.network.adapter import Adapter
    from lora_lab.network.reach import C3LIER, LIERLA
    from lora_lab.network.sites import find_sites
    from lora_lab.network.sizes import Size

    with host.lease("pictures") as model:
        reach = C3LIER if kind == "locon" else LIERLA
        sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout, reach=reach)
        generator = torch.Generator().manual_seed(1)
        adapter = Adapter.create(sites, sizes=Size(8, 8.0), how=KINDS[kind], generator=generator)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        files.write(folder / f"{kind}.safetensors", adapter.to_tensors(), {})
    return folder / f"{kind}.safetensors"


def twelve() -> tuple[rows.Weights, ...]:
    """As many rows that share BASE, and are not the base picture."""
    names = ("INALL", "OUTALL", "MIDD", "INS", "IND", "OUTD", "OUTS", "MID", "INX", "OUTX")
    found = rows.of_presets(names, Family.SD1, x=0.5)
    found += rows.block_values(["OUT04"], [0.5], Family.SD1) + rows.block_values(["M00"], [0.0], Family.SD1)
    return tuple(found)


def measure(case: Case, kind: str, rounds: int) -> list[Figure]:
    """The figures of one kind."""
    plan, grids = case.plan, dict[str, list[tuple[float, float, GridResult]]]()
    one = replace(plan, rows=plan.rows[:1], seeds=plan.seeds[:1])
    seconds: dict[str, list[float]] = {"bare batch": [], "bare one": []}

    def keep(name: str, what: Callable[[], tuple[float, float, GridResult]]) -> Callable[[], None]:
        return lambda: grids.setdefault(name, []).append(what())

    interleave(
        rounds,
        {
            "grid": keep("grid", lambda: case.grid(plan)),
            "bare batch": lambda: seconds["bare batch"].append(case.bare(plan.batch)),
            "quick": keep("quick", lambda: case.grid(replace(plan, quick=0.5))),
            "one": keep("one", lambda: case.grid(one)),
            "bare one": lambda: seconds["bare one"].append(case.bare(1)),
        },
    )
    cells, quick, single, first = (
        [found[place] for found in grids[name][-rounds:]]
        for name, place in (("grid", 1), ("quick", 1), ("one", 1), ("grid", 0))
    )
    many, alone = (seconds[name][-rounds:] for name in ("bare batch", "bare one"))
    bar = 1.08 if kind in BARRED else None
    exact, look = grids["grid"][-1][2], grids["quick"][-1][2]
    return [
        Figure(f"{kind}: a cell of a batch of {plan.batch} / a bare picture", ratios(cells, many), at_most=bar),
        Figure(f"{kind}: a single cell / a bare picture alone", ratios(single, alone), at_most=bar),
        Figure(f"{kind}: base picture first / a bare picture alone", ratios(first, alone), at_most=1.5),
        Figure(f"{kind}: quick look at half / exact cells", ratios(quick, cells), at_most=0.5),
        Figure(f"{kind}: quick look differs from exact", (apart(look, exact),), unit="of 255"),
        Figure(f"{kind}: exact cells differ from base", (apart(exact, None),), unit="of 255"),
    ]


def apart(one: GridResult, other: GridResult | None) -> float:
    """Mean difference of all cells from those of another grid, or from their base pictures; 0..255."""
    found = []
    for row in range(len(one.plan.rows)):
        for column in range(len(one.plan.columns)):
            mine = one.at(row, column)
            theirs = one.at(None, column) if other is None else other.at(row, column)
            if mine and theirs:
                found.append(255 * measures.pixel_distance(mine.image, theirs.image))
    return sum(found) / len(found)


def main() -> int:
    """Measure; the exit status is 1 if a bar does not hold."""
    options = parser(__doc__ or "", 3)
    options.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["lora", "locon"])
    options.add_argument("--size", type=int, default=128, help="pixels (default 128)")
    options.add_argument("--steps", type=int, default=10)
    asked = options.parse_args()
    figures: list[Figure] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        host = standalone_host(data_dir=folder / "data", lora_dir=folder)
        look = Look(asked.size, asked.size, asked.steps, 5.0, "Euler")
        for kind in asked.kinds:
            plan = GridPlan(lora(host, folder, kind), twelve(), (PROMPT,), (7, 8), look, batch=24)
            figures += measure(Case(host, plan, asked.clock), kind, asked.rounds)
    title = f"grid of 12 presets x 2 seeds, {asked.size} px, {asked.steps} steps ({time.monotonic() - began:.0f} s)"
    return show(title, figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
