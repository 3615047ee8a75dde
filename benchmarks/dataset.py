"""A folder of 2,000 pictures with captions: how long until the first screen of thumbnails, and what memory it takes.

    python -m benchmarks.dataset [--json] [--rounds N] [--clock cpu] [--pictures N] [--folder DIR]

Each round opens the folder in a process of its own with no thumbnail made yet, by the handlers that the buttons call:
Open in Tags (captions, gallery, tag table, suggestions, editor), Check in Dataset (headers of all pictures, buckets,
thumbnails). Memory is the growth of the process's largest resident size from the tab built to the end, with every page
of the gallery looked at. Beside it stands the floor: the first page's pictures decoded and made small in a plain loop.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import CLOCKS, Figure, parser, show

SIDES = ((1024, 1024), (832, 1216), (1216, 832), (768, 1344), (1920, 1080))
DRAWN = 20
"""Different drawings; the files are copies of them, which costs a reader the same."""
COLOURS = ("red", "blue", "green", "long", "short", "white", "black", "small", "large", "open", "striped", "wet")
THINGS = (
    "hair", "eyes", "boots", "shirt", "skirt", "hat", "sky", "dress", "gloves", "ribbon", "sleeves", "shoes", "bag",
    "mouth", "coat", "scarf", "belt",
)  # fmt: skip
SCREEN, MEMORY = 2.0, 300.0
"""Bars: seconds, MiB."""


def write(root: Path, pictures: int) -> None:
    """Pictures as people have them: four JPEG for each PNG, about a megapixel, with 30 tags."""
    from PIL import Image

    from lora_lab.demo import drawing, world

    r = random.Random(0)
    root.mkdir(parents=True)
    kept: list[tuple[str, bytes]] = []
    for number in range(DRAWN):
        size = SIDES[number % len(SIDES)]
        drawn = drawing.draw(world.sample(r), number).resize(size, Image.Resampling.BICUBIC)
        grain = Image.effect_noise(drawn.size, 24).convert("RGB")
        ending = ".png" if number % 5 == 0 else ".jpg"
        path = root.parent / f"drawn{ending}"
        Image.blend(drawn, grain, 0.1).save(path, quality=92)
        kept.append((ending, path.read_bytes()))
    words = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    for number in range(pictures):
        ending, data = kept[number % DRAWN]
        (root / f"{number:05}{ending}").write_bytes(data)
        (root / f"{number:05}.txt").write_text(", ".join(["mika", *r.sample(words, 29)]), encoding="utf-8")


def child(root: Path, data: Path, clock: str) -> dict[str, float]:
    """One opening, as this process sees it; seconds by what was done, and MiB."""
    import gradio as gr

    from lora_lab.host.choose import standalone_host
    from lora_lab.ui import dataset_panel, tab, tags_data, tags_panel
    from lora_lab.ui.context import UiContext
    from lora_lab.workflow.tasks import tasks

    context = UiContext(standalone_host(data_dir=data))
    with gr.Blocks():
        panels = tab.lay_out(context)
    now, found, before = CLOCKS[clock], {}, peak()

    w, boxes = panels.tags, panels.dataset.fields.widgets
    began = now()
    opened = tags_panel.open_folder({w.folder: str(root), w.extension: ".txt", w.place: w.place.value}, w, context)
    found["open in Tags"] = now() - began
    began = now()
    tags_panel.show(opened[w.place], w, context)
    found["a click in Tags"] = now() - began
    began = now()
    values = {box: box.value for box in boxes.values()} | {boxes["train_data_dir"]: str(root)}
    dataset_panel.check(values, panels.dataset, context)
    found["check in Dataset"] = now() - began

    one = tags_panel.dataset(opened[w.place], context)
    for number in range(-(-len(one.project.captions) // tags_data.PAGE)):
        tags_data.page(one, list(one.project.captions), number, data / "thumbnails")
    checks = tasks().latest(dataset_panel.KIND)
    if checks is not None:
        checks.wait(600)
    return {**found, "memory": peak() - before}


def peak() -> float:
    """The largest resident size of this process so far, in MiB."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / 2**20)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def floor(root: Path, clock: str, pictures: int) -> float:
    """Seconds for decoding and shrinking the first page's pictures, one after the other."""
    from lora_lab.dataset import pictures as files

    now = CLOCKS[clock]
    began = now()
    for path in sorted(p for p in root.iterdir() if p.suffix != ".txt")[:pictures]:
        files.small(path, 256)
    return now() - began


def main() -> int:
    """Measure and print."""
    made = parser(__doc__ or "", rounds=3)
    made.add_argument("--pictures", type=int, default=2000)
    made.add_argument("--folder", type=Path, help="where to write: the disk that is measured")
    made.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = made.parse_args()
    if args.child:
        print(json.dumps(child(args.child / "set", args.folder, args.clock)))
        return 0
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write(folder / "set" / "10_mika", args.pictures)
        for number in range(args.rounds):
            call = [sys.executable, "-m", "benchmarks.dataset", "--child", name, "--clock", args.clock]
            data = folder / f"data{number}"
            done = subprocess.run([*call, "--folder", str(data)], check=True, capture_output=True, text=True)
            for what, value in json.loads(done.stdout.splitlines()[-1]).items():
                found.setdefault(what, []).append(value)
            found.setdefault("floor: 96 pictures made small", []).append(floor(folder / "set/10_mika", args.clock, 96))
    bars = {"open in Tags": SCREEN, "check in Dataset": SCREEN, "memory": MEMORY}
    units = {"memory": "MiB"}
    figures = [Figure(what, tuple(values), units.get(what, "s"), bars.get(what)) for what, values in found.items()]
    return show(f"{args.pictures:,} pictures, thumbnails not made yet", figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
