"""What becomes of weights that were liked, a part of the panel Test: into a new file, or to the next training."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network.blocks import MIDDLE, block_names
from lora_lab.testing.cells import OTHER, Cell, Weights
from lora_lab.ui import testing_work
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields
from lora_lab.ui.testing_form import family_now
from lora_lab.ui.tools_files import HostFiles
from lora_lab.ui.words import count, esc, tag

MIDDLES = {Family.SD1: 1, Family.SD2: 1, Family.SDXL: 3}
"""Values of kohya's mid_lr_weight."""
LR_FIELDS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")


@dataclass(frozen=True)
class ActWidgets:
    """Buttons for the cell that was clicked last; our JavaScript says which row it is in."""

    row: gr.Textbox
    name: gr.Textbox
    bake: gr.Button
    send: gr.Button
    save: gr.Button
    files: gr.File
    told: gr.HTML


def build() -> ActWidgets:
    """Layout."""
    with gr.Row(elem_id="lora_lab_test_acts"):
        name = gr.Textbox("", label="new file", placeholder="empty: named after both", elem_id="lora_lab_test_name")
        bake = gr.Button("Bake these weights into a file", elem_id="lora_lab_test_bake")
        send = gr.Button("Send them to Train", elem_id="lora_lab_test_send")
    save = gr.Button("Save the grid: one picture, a page, single files", elem_id="lora_lab_test_save")
    files = gr.File(label="saved", file_count="multiple", visible=False, elem_id="lora_lab_test_files")
    told = gr.HTML("", elem_id="lora_lab_test_acted")
    row = gr.Textbox("", elem_id="lora_lab_test_row", elem_classes=["lora-lab-hidden"])
    return ActWidgets(row, name, bake, send, save, files, told)


def wire(w: ActWidgets, tabs: gr.Tabs, train: Fields, context: UiContext) -> None:
    """Bake, and send: that shows the panel Train."""
    on(w.bake.click, partial(bake, w=w, context=context), {w.row, w.name}, [w.told], context)
    fields = [train.widgets[name] for name in LR_FIELDS]
    sent = partial(send, w=w, tabs=tabs, train=train, context=context)
    on(w.save.click, partial(save, w=w, context=context), set(), [w.told, w.files], context)
    on(w.send.click, sent, {w.row}, [w.told, tabs, *fields], context, quiet=True)


def chosen(values: Values, w: ActWidgets) -> Cell:
    """The weights of the row that was clicked last, with its LoRA.

    Raises:
        SettingsError: none was.
    """
    now, row = testing_work.latest(), str(values[w.row] or "")
    if now is None or not re.fullmatch(r"-?\d{1,6}", row):
        raise SettingsError("no picture is chosen", remedy="click one of the grid first")
    plan = now[1].plan
    weights: Weights = plan.base if int(row) < 0 else plan.rows[min(int(row), len(plan.rows) - 1)]
    return plan.cell(weights, plan.columns[0])


def bake(values: Values, w: ActWidgets, context: UiContext) -> Changes:
    """The LoRA with these weights as a file of its own, beside it.

    Raises:
        LoraLabError: nothing is chosen, the kind has no place for weights, or the file is there already.
    """
    from lora_lab.surgery.bake import BakeRequest
    from lora_lab.surgery.bake import bake as bake_file
    from lora_lab.surgery.uses import AdapterUse

    cell = chosen(values, w)
    word = "".join(letter if letter.isalnum() else "-" for letter in cell.label).strip("-")
    out = HostFiles(context).out(values[w.name], "lora", f"{cell.lora.stem}-{word}")
    use = AdapterUse(
        cell.lora, cell.weights.unet, cell.weights.text_encoder, dict(cell.blocks), elements=cell.weights.elements
    )
    bake_file(BakeRequest(use, out))
    context.host.lora_saved(out)
    said = f"{out.name} does at strength 1 what {cell.tag} does."
    return {w.told: tag("p", esc(said), "lora-lab-good")}


def send(values: Values, w: ActWidgets, tabs: gr.Tabs, train: Fields, context: UiContext) -> Changes:
    """Block weights as shares of the learning rate: the guide's weighted training.

    Raises:
        LoraLabError: nothing is chosen.
    """
    weights = chosen(values, w).weights
    return {**rates_for(weights, tabs, train, context), w.told: tag("p", esc(sent_words(weights)), "lora-lab-good")}


def rates_for(weights: Weights, tabs: gr.Tabs, train: Fields, context: UiContext) -> Changes:
    """The fields of Train that say the same, and that panel shown.

    Raises:
        HostBusyError: no checkpoint is loaded.
    """
    lists = rates(weights.blocks, family_now(context))
    fields = {train.widgets[name]: text for name, text in zip(LR_FIELDS, lists, strict=True)}
    return {**fields, tabs: gr.update(selected="train")}


def sent_words(weights: Weights) -> str:
    """What has become of them."""
    notes = []
    if any(number < 0 for number in weights.blocks.values()):
        notes.append("weights below 0 became 0: those blocks are not trained")
    base = weights.blocks.get(BASE, 1.0)
    if base != 1:
        notes.append(f"BASE is {base:g}: set text_encoder_lr to that share of itself")
    zeros = sum(number <= 0 for block, number in weights.blocks.items() if block not in (BASE, OTHER))
    said = f"{weights.label} is in the fold Blocks of Train; {count(zeros, 'block')} left out."
    return said + (f" {'; '.join(notes).capitalize()}." if notes else "")


def save(values: Values, w: ActWidgets, context: UiContext) -> Changes:
    """The newest grid as one picture with labels, as a page to look through, and as single files.

    Raises:
        LoraLabError: there is no grid, or it cannot be written.
    """
    from lora_lab.testing.export import save_files, save_sheet
    from lora_lab.testing.page import save_page

    now = testing_work.latest()
    if now is None or now[1].result is None:
        raise SettingsError("no grid is finished", remedy="make one first, or stop the one under way")
    result = now[1].result
    folder = context.host.paths().data_dir / "grids" / f"{result.plan.lora.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    single = save_files(result, folder / "pictures")
    found = [save_sheet(result, folder / "grid.png"), save_page(result, folder / "grid.html")]
    said = f"Saved in {folder}: grid.png, grid.html, and {count(len(single), 'picture')}."
    shown = gr.update(value=[str(path) for path in found], visible=True)
    return {w.told: tag("p", esc(said), "lora-lab-good"), w.files: shown}


def rates(blocks: Mapping[str, float], family: Family) -> tuple[str, str, str]:
    """kohya's three lists of shares; empty where all are 1.

    Args:
        blocks: weights; a block that is not named has 1.
        family: whose lists.
    """

    def listed(names: list[str], times: int = 1) -> str:
        shares = [max(0.0, blocks.get(name, 1.0)) for name in names for _ in range(times)]
        return "" if all(share == 1 for share in shares) else ",".join(f"{share:.4g}" for share in shares)

    names = block_names(family)
    down = [name for name in names if name.startswith("IN")]
    up = [name for name in names if name.startswith("OUT")]
    return listed(down), listed([MIDDLE], MIDDLES[family]), listed(up)
