"""What a sweep shows at its end: a table (CSV, HTML) and one grid of pictures. No torch here."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import OutputError

if TYPE_CHECKING:
    from lora_lab.workflow.sweep import Outcome, Sweep

GRID = "grid.png"
"""The picture, in the sweep's folder."""
COLUMNS = ("loss", "val_loss", "score", "seconds", "state", "lora")

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }}
div {{ overflow-x: auto; }} img {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .3rem .8rem; text-align: right; }}
th {{ border-bottom: 2px solid; }} td {{ border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); }}
td:last-child, th:last-child {{ text-align: left; }} .best {{ font-weight: 700; }}
</style>
<h1>{title}</h1><div>{table}</div>{grid}</html>
"""


def rows(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[Any]]]:
    """Heading and rows of the table: what differs, then what came of it. A column that nothing is in is left out."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.changes))
    values = [[_cell(o.changes.get(n)) for n in names] + [getattr(o, c) for c in COLUMNS] for o in outcomes]
    heads = names + list(COLUMNS)
    kept = [i for i in range(len(heads)) if i < len(names) or any(row[i] is not None for row in values)]
    return [heads[i] for i in kept], [[row[i] for i in kept] for row in values]


def _cell(value: Any) -> Any:  # noqa: ANN401 - a value of a setting
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def to_csv(outcomes: Sequence[Outcome]) -> str:
    """The table for a spreadsheet, with every result's error."""
    heads, found = rows(outcomes)
    file = io.StringIO()
    out = csv.writer(file)
    out.writerow(["name", *heads, "error"])
    for outcome, row in zip(outcomes, found, strict=True):
        out.writerow([outcome.name, *row, outcome.error or ""])
    return file.getvalue()


def to_html(outcomes: Sequence[Outcome]) -> str:
    """The table; the lowest loss and the highest score are marked."""
    heads, found = rows(outcomes)
    best = {i: _best(name, [row[i] for row in found]) for i, name in enumerate(heads)}
    top = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in heads)
    lines = [f"<tr>{top}</tr>"]
    for outcome, row in zip(outcomes, found, strict=True):
        cells = "".join(
            f"<td{_css(best[i] is not None and value == best[i])}>{html.escape(_text(heads[i], value, outcome))}</td>"
            for i, value in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f'<table class="lora-lab-table lora-lab-sweep">{"".join(lines)}</table>'


def _css(best: bool) -> str:
    return ' class="best"' if best else ""


def _best(name: str, values: Sequence[Any]) -> float | None:
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(numbers) < 2 or name not in ("loss", "val_loss", "score"):
        return None
    return max(numbers) if name == "score" else min(numbers)


def _text(name: str, value: Any, outcome: Outcome) -> str:  # noqa: ANN401 - a cell
    if name == "state" and outcome.error:
        return f"{value}: {outcome.error}"
    if value is None:
        return "-"
    if name == "lora":
        return Path(value).name
    if name == "score":
        return f"{value:.0%}"
    if name == "seconds":
        return f"{value:.0f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_all(sweep: Sweep, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Table, grid and page into the sweep's folder; name -> path.

    Raises:
        OutputError: they cannot be written.
    """
    folder = sweep.folder
    try:
        (folder / "table.csv").write_text(to_csv(outcomes), encoding="utf-8")
        made = {"table": str(folder / "table.csv")}
        if write_grid(sweep, outcomes, folder / GRID):
            made["grid"] = str(folder / GRID)
        image = '<p><img src="grid.png" alt="a row of pictures for each run"></p>' if "grid" in made else ""
        page = PAGE.format(title=html.escape(f"Sweep {folder.name}"), table=to_html(outcomes), grid=image)
        (folder / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"the sweep's table cannot be written, {error.strerror}", file=folder) from error
    return made | {"page": str(folder / "index.html")}


def write_grid(sweep: Sweep, outcomes: Sequence[Outcome], path: Path) -> bool:
    """One row for each run that has pictures, one column for each prompt, the same seed in a column."""
    from PIL import Image

    from lora_lab.testing.sheet import Row, sheet

    prompts = [prompt.prompt for prompt in sweep.look.prompts]
    words = {run.mark: run.words for run in sweep.runs}
    found = []
    for outcome in outcomes:
        if len(outcome.pictures) == len(prompts) > 0:
            label = words.get(outcome.mark, outcome.name).replace(", ", "\n")
            found.append(Row(label, [Image.open(sweep.folder / name) for name in outcome.pictures]))
    if not found:
        return False
    sheet(found, prompts).save(path)
    return True
