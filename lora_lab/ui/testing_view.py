"""A grid of previews as HTML: cells to click for the comparison, and the U of sliders for one's own presets. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lora_lab.families import BASE, Family
from lora_lab.network.blocks import MIDDLE, block_names
from lora_lab.testing.cells import GridPlan
from lora_lab.ui.tags_view import url
from lora_lab.ui.testing_work import Place, Shown
from lora_lab.ui.words import esc, tag, void

HINT = "Click two pictures to lay one over the other: the slider uncovers, the box shows where they differ."
LOWEST, HIGHEST = -1.0, 2.0
"""Of a slider."""


def grid(plan: GridPlan, cells: Mapping[Place, Shown]) -> str:
    """The table: a column for each prompt and seed, the base picture's row first.

    Args:
        plan: what is made.
        cells: what is there; others have an empty frame.
    """
    heads = "".join(tag("th", _head(prompt, seed)) for prompt, seed in plan.columns)
    lines = [tag("tr", tag("th", "") + heads)]
    labels = [(-1, plan.base.label, plan.base.text), *((n, row.label, row.text) for n, row in enumerate(plan.rows))]
    for number, label, text in labels:
        line = "".join(_cell(cells.get((number, column)), label, number) for column in range(len(plan.columns)))
        lines.append(tag("tr", tag("th", esc(label), title=text) + line))
    table = tag("div", tag("table", "".join(lines), "lora-lab-grid"), "lora-lab-grid-frame")
    return table + tag("p", esc(HINT), "lora-lab-muted lora-lab-small") + tag("div", "", "lora-lab-compare")


def _head(prompt: str, seed: int) -> str:
    return tag("span", esc(prompt), title=prompt, translate="no") + tag("small", f"seed {seed}", "lora-lab-muted")


def _cell(shown: Shown | None, label: str, row: int) -> str:
    if shown is None:
        return tag("td", tag("i", "", "lora-lab-blank"))
    picture = void("img", src=url(str(shown.path)), alt=label, loading="lazy")
    where = {"data_cell": url(str(shown.path)), "data_label": label, "data_row": row}
    more = {**where, "data_tag": shown.tag, "title": shown.tag, "translate": "no"}
    return tag("td", tag("button", picture, "lora-lab-cell", type="button", **more))


def sliders(family: Family, field: str) -> str:
    """A slider for each block in the shape of the UNet; our JavaScript writes them into a text box and follows it.

    Args:
        family: whose blocks.
        field: id of the text box that holds the list of all blocks' weights.
    """
    names = block_names(family)
    inputs = [name for name in names if name.startswith("IN")]
    outputs = [name for name in names if name.startswith("OUT")]
    depth = max(1, len(inputs) - 1)
    rows = []
    for n, (left, right) in enumerate(zip(inputs, reversed(outputs), strict=True)):
        both = _slider(left, names) + _slider(right, names)
        rows.append(tag("div", both, "lora-lab-blocks-row", style=f"--depth:{n / depth:.3f}"))
    u = "".join(rows) + tag("div", _slider(MIDDLE, names), "lora-lab-blocks-bottom")
    inner = tag("div", _slider(BASE, names), "lora-lab-blocks-base") + tag("div", u, "lora-lab-blocks-u")
    return tag("div", inner, "lora-lab-sliders", data_field=field)


def _slider(name: str, names: tuple[str, ...]) -> str:
    slider = (
        f'<input type="range" min="{LOWEST:g}" max="{HIGHEST:g}" step="0.05" value="1" '
        f'data-index="{names.index(name)}" aria-label="{esc(name)}">'
    )
    return tag("label", tag("span", esc(name)) + slider + tag("output", "1"), "lora-lab-block")
