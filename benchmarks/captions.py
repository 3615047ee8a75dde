"""10,000 captions of 30 tags: each operation's preview, a bulk write, undo and redo, the tag table.

    python -m benchmarks.captions [--json] [--rounds N] [--clock cpu] [--folder DIR]

Beside the bulk write stands its floor: the same files written and renamed in a plain loop, without journal or checks.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import CLOCKS, Figure, parser, ratios, show
from lora_lab.demo import assets
from lora_lab.tagging.operations import OPERATIONS, from_texts
from lora_lab.tagging.recipe import Recipe
from lora_lab.tagging.tokens import TokenCounter
from lora_lab.workflow.captions import CaptionProject

CAPTIONS = 10_000
TAGS = 30
COLOURS = ["red", "blue", "green", "long", "short", "white", "black", "small", "large", "open", "striped", "wet"]
THINGS = [  # fmt: skip
    "hair",
    "eyes",
    "boots",
    "shirt",
    "skirt",
    "hat",
    "sky",
    "dress",
    "gloves",
    "ribbon",
    "sleeves",
    "shoes",
    "bag",
    "mouth",
    "coat",
    "scarf",
    "belt",
]
PREVIEW, APPLY, TABLE = 0.5, 3.0, 0.3
"""Bars in seconds."""


def write(root: Path) -> None:
    """The captions, beside empty pictures: none is decoded here."""
    r = random.Random(0)
    words = ["mika", "1girl", "solo", *(f"{colour} {thing}" for colour in COLOURS for thing in THINGS)]
    root.mkdir(parents=True)
    for number in range(CAPTIONS):
        (root / f"{number:05}.png").touch()
        (root / f"{number:05}.txt").write_text(", ".join(r.sample(words, TAGS)), encoding="utf-8")


def floor(root: Path) -> None:
    """What the file system alone takes."""
    for number in range(CAPTIONS):
        part, path = f"{root}/.part{number}", f"{root}/floor-{number:05}.txt"
        with open(part, "xb", buffering=0) as file:
            file.write(b"x" * 400)
        os.replace(part, path)


def measure(folder: Path, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each thing in each round."""
    found: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        began = clock()
        work()
        found.setdefault(name, []).append(clock() - began)

    root = folder / "set"
    write(root / "10_mika")
    timed("open", lambda: CaptionProject.open(root, folder / "data"))
    project = CaptionProject.open(root, folder / "data")
    project.counter = TokenCounter(assets.tokenizer_dir())
    project.scores = lambda file: {"red hair": 0.9, "blue eyes": 0.5}
    for number in range(rounds):
        for name, kind in OPERATIONS.items():
            recipe = Recipe.of(kind(**kind.example))
            timed(f"preview: {name}", lambda recipe=recipe: project.preview(recipe))  # type: ignore[misc]
        timed(
            "preview: with a filter",
            lambda: project.preview(Recipe.of(from_texts("add", {"tags": "x"})), "red* OR solo"),
        )
        changes = project.preview(Recipe.of(from_texts("trigger-first", {"trigger": f"trigger {number}"})))
        timed("apply: first, with the backup" if number == 0 else "apply", lambda c=changes: project.apply(c, "bulk"))  # type: ignore[misc]
        timed("undo", project.undo)
        timed("redo", project.redo)
        timed("tag table", project.table)
        timed("refresh", project.refresh)
        place = folder / f"floor{number}"
        place.mkdir()
        timed("floor: files alone", lambda place=place: floor(place))  # type: ignore[misc]
    return found


def main() -> int:
    """Measure and print."""
    made = parser(__doc__ or "", rounds=3)
    made.add_argument("--folder", type=Path, help="where to write: the disk that is measured")
    args = made.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        found = measure(Path(name), max(2, args.rounds), CLOCKS[args.clock])
    bars = {"tag table": TABLE, "apply: first, with the backup": APPLY, "apply": APPLY}
    figures = [
        Figure(what, tuple(values), "s", PREVIEW if what.startswith("preview") else bars.get(what))
        for what, values in found.items()
    ]
    pairs = ratios(found["apply"], found["floor: files alone"][1:])
    figures.append(Figure("apply / files alone", pairs, "x"))
    return show(f"{CAPTIONS:,} captions with {TAGS} tags each", figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
