"""A grid of block weights in a real webui, beside lora-block-weight's own plot and pictures without any LoRA.

    LORA_LAB_WEBUI=... LORA_LAB_WEBUI_PYTHON=... python -m benchmarks.grid_webui --peer FOLDER
        [--json] [--rounds N] [--clock cpu] [--kinds lora locon dora] [--batches 24 12 4 1] [--picture FILE]

12 presets at one prompt and two seeds, the same checkpoint, LoRA, sampler and steps for all. Bare is the webui's own
pictures at the same batch size, asked for within its process; the peer's plot makes its 24 pictures one by one, as it
always does. Seconds are the webui's process's own. FOLDER is a copy of its extension; it is linked into the data folder
of this benchmark only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.grid import BARRED, KINDS, PROMPT, lora, twelve
from benchmarks.harness import CLOCKS, Figure, interleave, parser, ratios, show, table
from lora_lab.families import Family
from lora_lab.host.choose import standalone_host
from lora_lab.network.vectors import FORMATS
from lora_lab.whole_file import write_whole
from tests.webui.conftest import started
from tests.webui.server import Webui, lay_out

SEEDS = (7, 8)
COLOURS = ("#0072b2", "#d55e00", "#009e73")
ORDER = FORMATS[Family.SD1][17]
DEFAULTS = ["none", "", "", "", "0", "black", "20", False, "", False, False]
"""Of its plot's other controls, behind two axes."""


@dataclass
class Case:
    """What is measured, and what was found."""

    webui: Webui
    clock: str
    size: int
    steps: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def keep(self, name: str, what: Callable[[], float]) -> Callable[[], None]:
        """A candidate that keeps its own seconds."""
        return lambda: self.seconds.setdefault(name, []).append(what())

    def timed(self, **asked: Any) -> float:  # noqa: ANN401 - a request's values
        """Seconds of one txt2img."""
        look = {"width": self.size, "height": self.size, "steps": self.steps, "cfg_scale": 5.0}
        began = self.webui.check("grid.now", clock=self.clock)
        self.webui.picture(**{**look, "sampler_name": "Euler", "seed": SEEDS[0], **asked})
        return float(self.webui.check("grid.now", clock=self.clock)) - began

    def bare(self, count: int) -> float:
        """Seconds of so many pictures of one batch without a LoRA."""
        found: float = self.webui.check(
            "grid.bare", clock=self.clock, prompt=PROMPT, count=count, seed=SEEDS[0], size=self.size, steps=self.steps
        )
        return found

    def grid(self, file: Path, batch: int, *, one: bool = False) -> dict[str, float]:
        """Ours; of one cell only."""
        weights = [f"{name}={values}" for name, values in vectors().items()]
        found: dict[str, float] = self.webui.check(
            "grid.seconds", clock=self.clock, lora=str(file), prompt=PROMPT, weights=weights[: 1 if one else None],
            seeds=SEEDS[: 1 if one else None], batch=batch, size=self.size, steps=self.steps,
        )  # fmt: skip
        return found

    def peer(self, file: Path) -> float:
        """Its plot."""
        names = ",".join(vectors())
        plot = ["Original Weights", names, "seed", ",".join(map(str, SEEDS))]
        lines = "\n".join(f"{name}:{values}" for name, values in vectors().items())
        return self.timed(
            prompt=f"{PROMPT} <lora:{file.stem}:1:XYZ>", script_name="LoRA Block Weight",
            script_args=[lines, True, 1, *plot, *DEFAULTS],
        )  # fmt: skip


def vectors() -> dict[str, str]:
    """Name -> 17 values, of the rows of `benchmarks.grid`."""
    found = {}
    for number, row in enumerate(twelve()):
        name = "".join(c for c in row.label if c.isalnum()) or f"ROW{number}"
        found[name] = ",".join(f"{row.blocks[block]:g}" for block in ORDER)
    return found


def measure(case: Case, file: Path, asked: argparse.Namespace) -> None:
    """All seconds of one kind of LoRA, kept in the case."""
    cells = len(vectors()) * len(SEEDS)
    ways: dict[str, Callable[[], None]] = {
        "bare 1": case.keep("bare 1", lambda: case.bare(1)),
        "one": case.keep("one", lambda: case.grid(file, 1, one=True)["cells"]),
    }
    for batch in asked.batches:

        def grid(batch: int = batch) -> float:
            found = case.grid(file, batch)
            case.seconds.setdefault(f"base {batch}", []).append(found["base"])
            return found["cells"] / cells

        ways[f"grid {batch}"] = case.keep(f"grid {batch}", grid)
        if batch != 1:
            ways[f"bare {batch}"] = case.keep(f"bare {batch}", lambda batch=batch: case.bare(batch) / batch)
    if asked.peer is not None:
        ways["peer"] = case.keep("peer", lambda: case.peer(file) / cells)
    interleave(asked.rounds, ways)
    case.seconds = {name: found[-asked.rounds :] for name, found in case.seconds.items()}


def figures(case: Case, kind: str, batches: list[int]) -> list[Figure]:
    """As the issue asks for them."""
    s, largest = case.seconds, max(batches)
    bar = 1.08 if kind in BARRED else None
    found = [
        Figure(f"{kind}: a cell of a batch of {b} / a bare picture of one", ratios(s[f"grid {b}"], s[f"bare {b}"]),
               at_most=bar if b == largest else None)
        for b in batches
    ]  # fmt: skip
    found.append(Figure(f"{kind}: a single cell / a bare picture alone", ratios(s["one"], s["bare 1"]), at_most=bar))
    found.append(
        Figure(f"{kind}: base picture first / a bare picture alone", ratios(s[f"base {largest}"], s["bare 1"]),
               at_most=1.5)
    )  # fmt: skip
    if "peer" in s:
        found.append(Figure(f"{kind}: the peer's cell / a bare picture alone", ratios(s["peer"], s["bare 1"])))
        found += [
            Figure(f"{kind}: our cell of a batch of {b} / the peer's", ratios(s[f"grid {b}"], s["peer"]), at_most=1.0)
            for b in batches
        ]
    return found


def drawn(gains: Mapping[str, Mapping[int, float]]) -> str:
    """How many times faster than the peer's a cell of ours is, over the batch size, as SVG.

    Args:
        gains: kind -> batch -> how many times.
    """
    batches = sorted({batch for by_batch in gains.values() for batch in by_batch})
    most = max(number for by_batch in gains.values() for number in by_batch.values())
    grey, high, wide = "#7a7f87", 130, 40 * len(gains) + 40
    parts = []
    for place, batch in enumerate(batches):
        parts.append(f'<text x="{40 + place * wide + 20 * len(gains)}" y="172" fill="{grey}">batch of {batch}</text>')
        for bar, (kind, colour) in enumerate(zip(gains, COLOURS, strict=False)):
            tall = gains[kind][batch] / most * high
            x = 40 + place * wide + 40 * bar
            parts.append(f'<rect x="{x}" y="{156 - tall:.1f}" width="36" height="{tall:.1f}" rx="3" fill="{colour}"/>')
            number = f"{gains[kind][batch]:.1f}"
            parts.append(f'<text x="{x + 18}" y="{150 - tall:.1f}" fill="{grey}">{number}</text>')
    right = 40 + len(batches) * wide
    for row, (kind, colour) in enumerate(zip(gains, COLOURS, strict=False)):
        parts.append(f'<rect x="{right}" y="{40 + 22 * row}" width="12" height="12" fill="{colour}"/>')
        text = f'<text x="{right + 20}" y="{51 + 22 * row}" fill="{grey}" text-anchor="start">{kind}</text>'
        parts.append(text)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 90} 184" font-family="sans-serif"'
    head += ' font-size="13" text-anchor="middle">'
    return head + "<title>Times faster than lora-block-weight, by batch size</title>" + "".join(parts) + "</svg>\n"


def main() -> int:
    """Measure; the exit status is 1 if a bar does not hold."""
    options = parser(__doc__ or "", 3)
    options.add_argument("--peer", type=Path, help="a copy of lora-block-weight's extension")
    options.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["lora", "locon"])
    options.add_argument("--batches", nargs="+", type=int, default=[24, 12, 4, 1])
    options.add_argument("--size", type=int, default=128, help="pixels (default 128)")
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--picture", type=Path, help="draw the gain over the batch size into this SVG")
    asked = options.parse_args()
    assert asked.clock in CLOCKS
    found: list[Figure] = []
    gains: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        lay_out(Path(os.environ["LORA_LAB_WEBUI"]), data)
        if asked.peer is not None:
            os.symlink(asked.peer.resolve(), data / "extensions" / "lora-block-weight", target_is_directory=True)
        loras = data / "models" / "Lora"
        host = standalone_host(data_dir=folder / "standalone", lora_dir=loras)
        files = {kind: lora(host, loras, kind) for kind in asked.kinds}
        webui = started(data)
        try:
            for kind, file in files.items():
                case = Case(webui, asked.clock, asked.size, asked.steps)
                measure(case, file, asked)
                here = figures(case, kind, asked.batches)
                found += here
                if "peer" in case.seconds:
                    of = {b: ratios(case.seconds["peer"], case.seconds[f"grid {b}"]) for b in asked.batches}
                    gains[kind] = {batch: statistics.median(numbers) for batch, numbers in of.items()}
                if not asked.json:
                    print(table(f"... {kind}", here), flush=True)
        finally:
            webui.stop()
    if asked.picture is not None and gains:
        write_whole(asked.picture, drawn(gains), "the picture")
    return show(f"grid of 12 presets x 2 seeds in the webui, {asked.size} px, {asked.steps} steps", found, asked.json)


if __name__ == "__main__":
    sys.exit(main())
