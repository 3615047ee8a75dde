"""A finished grid as one labelled picture, as separate files, and as a page to look through."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from lora_lab.errors import OutputError, SettingsError
from lora_lab.testing.events import GridResult, Made
from lora_lab.testing.sheet import CELL, MARGIN, MOST_SIDE, Row, sheet
from lora_lab.testing.store import write_png

Places = list[tuple[str, list[Made | None]]]


def lines(result: GridResult) -> Places:
    """Label and pictures of every row that has any, the base pictures first (once, if a row is the same)."""
    count = len(result.plan.columns)
    found = [
        (row.label, list(result.made[i * count : (i + 1) * count]))
        for i, row in enumerate((result.plan.base, *result.plan.rows))
    ]
    first = [made.path for made in found[0][1] if made]
    twice = any([made.path for made in pictures if made] == first for _, pictures in found[1:])
    return [(label, pictures) for label, pictures in found[1 if twice else 0 :] if any(pictures)]


def columns(result: GridResult) -> list[str]:
    """What stands over each column: prompt and seed, as far as they differ."""
    plan = result.plan
    one_prompt, one_seed = len(plan.prompts) == 1, len(set(plan.seeds)) == 1
    return [
        prompt if one_seed else f"seed {seed}" if one_prompt else f"{prompt}, seed {seed}"
        for prompt, seed in plan.columns
    ]


def save_sheet(result: GridResult, path: Path) -> Path:
    """One PNG with labels; the infotext of the base picture, all weights and seeds are inside.

    Raises:
        SettingsError: there is no picture, or the sheet would be too large for a picture.
        OutputError: it cannot be written.
    """
    found = lines(result)
    if not found:
        raise SettingsError("the grid has no picture yet", remedy="let it make one")
    blank = Image.new("RGB", (8, 8), (200, 200, 204))
    rows = [Row(label, [made.image if made else blank for made in pictures]) for label, pictures in found]
    width = next(made.image.width for _, pictures in found for made in pictures if made)
    room = MOST_SIDE // max(len(rows), len(rows[0].pictures)) - MARGIN
    page = sheet(rows, columns(result), cell=max(64, min(max(CELL, width), room)))
    write_png(page, path, told(result))
    return path


def told(result: GridResult) -> str:
    """The infotext of the whole: the first picture's, and what the rows and columns are."""
    first = next((made for made in result.made if made), None)
    plan = result.plan
    words = [first.infotext if first else "", f"LoRA Lab grid: {plan.lora.name}"]
    words += [f"row {i + 1}: {row.label} {plan.cell(row, plan.columns[0]).tag}" for i, row in enumerate(plan.rows)]
    words += [f"column {i + 1}: seed {seed}, {prompt}" for i, (prompt, seed) in enumerate(plan.columns)]
    words += [f"quick look: {plan.quick:.0%} of the steps are the base picture's"] if plan.quick else []
    return "\n".join(words)


def save_files(result: GridResult, folder: Path) -> list[Path]:
    """Each picture as a file of its own, with its infotext inside: ``02-OUTALL-seed7-1.png`` is row 2, column 1.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder cannot be made ({error.strerror})"
        raise OutputError(what, file=folder, remedy="choose another one") from error
    written = []
    for number, (label, pictures) in enumerate(lines(result)):
        for column, made in enumerate(pictures):
            if made:
                name = re.sub(r"[^\w.+=-]+", "_", label)[:60]
                path = folder / f"{number:02d}-{name}-seed{made.cell.seed}-{column + 1}.png"
                write_png(made.image, path, made.infotext)
                written.append(path)
    return written
