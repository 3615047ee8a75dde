"""The form of the panel Test: which LoRA, prompts and seeds, and what the rows of the grid are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.errors import HostBusyError, SettingsError
from lora_lab.families import Family
from lora_lab.network.own_presets import all_presets
from lora_lab.network.presets import DEFAULTS, Preset
from lora_lab.testing import prompt_lists, rows
from lora_lab.testing.cells import GridPlan, Look, Weights
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.tools_files import HostFiles
from lora_lab.workflow.advice import first_settings

PRESETS, ALONE, WITHOUT, VALUES = "presets", "single blocks", "each block left out", "blocks times values"
LAYERS, STRENGTHS, APART = "groups of layers", "strengths", "text encoder against UNet"
MODES = (PRESETS, ALONE, WITHOUT, VALUES, LAYERS, STRENGTHS, APART)
SAMPLERS = ("Euler", "Euler a", "DDIM", "DPM++ 2M", "UniPC")
FIRST_PRESETS = ("NONE", "INALL", "MID", "OUTALL", "INX", "OUTX")


@dataclass(frozen=True)
class GridForm:
    """What is filled in."""

    lora: gr.Dropdown
    others: gr.Dropdown
    prompts: gr.Textbox
    kept: gr.Dropdown
    """Saved lists of prompts."""
    keep: gr.Button
    seeds: gr.Textbox
    mode: gr.Radio
    presets: gr.Dropdown
    lists: gr.Textbox
    blocks: gr.Textbox
    values: gr.Textbox
    numbers: dict[str, gr.Number]
    sampler: gr.Dropdown
    negative: gr.Textbox
    large: gr.Checkbox

    @property
    def all(self) -> set[Any]:
        """Every widget."""
        named = {getattr(self, name) for name in self.__dataclass_fields__ if name not in ("numbers", "keep")}
        return named | set(self.numbers.values())


def build(context: UiContext) -> GridForm:
    """Layout."""
    loras = HostFiles(context).loras()
    with gr.Row():
        lora = gr.Dropdown(loras, label="LoRA", elem_id="lora_lab_test_lora", allow_custom_value=True)
        others = gr.Dropdown(
            loras, value=[], multiselect=True, label="snapshots beside it", elem_id="lora_lab_test_others",
            info="for strengths: other snapshots of the run, or any LoRAs",
        )  # fmt: skip
    prompts = gr.Textbox("", lines=3, label="prompts", info="one a line", elem_id="lora_lab_test_prompts")
    with gr.Row():
        kept = gr.Dropdown(
            sorted(_saved(context)), label="saved prompts", elem_id="lora_lab_test_kept", allow_custom_value=True,
            info="choose a list, or type a name for a new one",
        )  # fmt: skip
        keep = gr.Button("Save these prompts", elem_id="lora_lab_test_keep")
    with gr.Row():
        info = "with commas; each is set by itself"
        seeds = gr.Textbox("1, 2", label="seeds", info=info, elem_id="lora_lab_test_seeds")
        negative = gr.Textbox("", label="negative prompt", elem_id="lora_lab_test_negative")
    mode = gr.Radio(list(MODES), value=PRESETS, label="rows", elem_id="lora_lab_test_mode")
    with gr.Group(visible=True, elem_id="lora_lab_test_rows"):
        presets = gr.Dropdown(
            [p.name for p in DEFAULTS], value=list(FIRST_PRESETS), multiselect=True, label="presets",
            elem_id="lora_lab_test_presets",
        )  # fmt: skip
        lists = gr.Textbox(
            "", lines=2, label="lists of weights", elem_id="lora_lab_test_lists",
            info="one a line, 17 or 26 values for SD1 and SD2, 12 or 20 for SDXL; NAME=list gives it a name",
        )  # fmt: skip
        with gr.Row():
            info = "such as OUT03-OUT05 M00; empty: all"
            blocks = gr.Textbox("", label="blocks", info=info, elem_id="lora_lab_test_blocks")
            info = "of blocks or strengths, with commas"
            values = gr.Textbox("0, 0.5, 1", label="values", info=info, elem_id="lora_lab_test_values")
    numbers, sampler, large = _look(first_settings(context.host.current()).resolution)
    return GridForm(
        lora, others, prompts, kept, keep, seeds, mode, presets, lists, blocks, values, numbers, sampler, negative,
        large,
    )  # fmt: skip


def _look(size: tuple[int, int]) -> tuple[dict[str, gr.Number], gr.Dropdown, gr.Checkbox]:
    usual = replace(Look(), width=size[0], height=size[1])
    about: dict[str, tuple[float, int, str]] = {
        "width": (usual.width, 0, ""), "height": (usual.height, 0, ""), "steps": (usual.steps, 0, ""),
        "cfg_scale": (usual.cfg_scale, 1, ""), "batch": (8, 0, "pictures in one call"),
        "x": (0.5, 2, "what X is in presets such as INX"),
        "quick": (0, 2, "share of the steps that the cells of a column share: 0.5 is a quick look, 0 exact"),
    }  # fmt: skip
    with gr.Accordion("Size, sampler, quick look", open=False, elem_id="lora_lab_test_more"):
        with gr.Row():
            numbers = {
                name: gr.Number(
                    value, precision=precision, label=name, info=info or None, min_width=110,
                    elem_id=f"lora_lab_test_{name}",
                )  # fmt: skip
                for name, (value, precision, info) in about.items()
            }
        with gr.Row():
            sampler = gr.Dropdown(
                list(SAMPLERS), value=usual.sampler, label="sampler", elem_id="lora_lab_test_sampler"
            )
            large = gr.Checkbox(False, label="make it however long it takes", elem_id="lora_lab_test_large")
    return numbers, sampler, large


def _saved(context: UiContext) -> dict[str, str]:
    """Saved lists; none where their file is damaged (the error comes when one is saved)."""
    with suppress(SettingsError):
        return prompt_lists.load(context.host.paths().data_dir)
    return {}


def wire(form: GridForm, context: UiContext) -> None:
    """Saved prompts: choosing a list fills the box, saving keeps what is there."""
    take = partial(take_prompts, form=form, context=context)
    on(form.kept.change, take, {form.kept, form.prompts}, [form.prompts], context, quiet=True)
    save = partial(keep_prompts, form=form, context=context)
    on(form.keep.click, save, {form.kept, form.prompts}, [form.kept], context, quiet=True)


def take_prompts(values: Values, form: GridForm, context: UiContext) -> Changes:
    """A saved list into the box; a name that is new changes nothing.

    Raises:
        SettingsError: the file of lists is damaged.
    """
    found = prompt_lists.load(context.host.paths().data_dir).get(str(values[form.kept] or ""))
    return {form.prompts: values[form.prompts] if found is None else found}


def keep_prompts(values: Values, form: GridForm, context: UiContext) -> Changes:
    """The box as a list of that name; an empty box forgets the list.

    Raises:
        LoraLabError: no name, or it cannot be written.
    """
    folder, name = context.host.paths().data_dir, str(values[form.kept] or "")
    prompt_lists.save(name, str(values[form.prompts] or ""), folder)
    return {form.kept: gr.update(choices=sorted(prompt_lists.load(folder)), value=name)}


def family_now(context: UiContext) -> Family:
    """Of the loaded checkpoint.

    Raises:
        HostBusyError: none is loaded.
    """
    info = context.host.current()
    if info is None:
        raise HostBusyError("no checkpoint is loaded", remedy="load one first")
    return info.family


def plan_of(values: Values, form: GridForm, context: UiContext) -> GridPlan:
    """The form as a grid.

    Raises:
        LoraLabError: what is wrong with it.
    """
    files, family = HostFiles(context), family_now(context)
    lora = files.lora(values[form.lora])
    n = {name: values[box] for name, box in form.numbers.items()}
    look = look_of(values, form)
    prompts = tuple(line.strip() for line in str(values[form.prompts] or "").splitlines() if line.strip())
    if not prompts:
        raise SettingsError("there is no prompt", remedy="write one, with the trigger")
    return GridPlan(
        lora=lora, rows=tuple(_rows(values, form, family, context)), prompts=prompts,
        seeds=seeds_of(values[form.seeds]), look=look, batch=int(n["batch"] or 0), quick=float(n["quick"] or 0),
        large=bool(values[form.large]),
    )  # fmt: skip


def look_of(values: Values, form: GridForm) -> Look:
    """Size, steps, guidance and sampler of the form."""
    n = {name: values[box] for name, box in form.numbers.items()}
    return Look(
        int(n["width"] or 0), int(n["height"] or 0), int(n["steps"] or 0), float(n["cfg_scale"] or 0),
        values[form.sampler], str(values[form.negative] or ""),
    )  # fmt: skip


def seeds_of(text: object) -> tuple[int, ...]:
    """Whole numbers between commas.

    Raises:
        SettingsError: one that is none.
    """
    try:
        found = tuple(int(piece) for piece in str(text or "").split(",") if piece.strip())
    except ValueError:
        found = ()
    if not found:
        raise SettingsError(f"seeds are {str(text or '')!r}", remedy="give whole numbers with commas, such as 1, 2")
    return found


def _rows(values: Values, form: GridForm, family: Family, context: UiContext) -> list[Weights]:
    """What the chosen mode makes of the fields."""
    blocks = str(values[form.blocks] or "").split()
    others = [HostFiles(context).lora(name) for name in values[form.others] or []]
    make: dict[str, Callable[[], list[Weights]]] = {
        PRESETS: lambda: _presets(values, form, family, context),
        ALONE: lambda: rows.single_blocks(family, blocks=blocks),
        WITHOUT: lambda: rows.single_blocks(family, blocks=blocks, without=True),
        VALUES: lambda: rows.block_values(blocks, rows.numbers(values[form.values] or "", "values"), family),
        LAYERS: lambda: rows.layer_groups(family, blocks=" ".join(blocks)),
        STRENGTHS: lambda: rows.strengths(
            rows.numbers(values[form.values] or "", "values"), loras=(None, *others)
        ),
        APART: lambda: rows.strengths(
            rows.numbers(values[form.values] or "", "values"), apart=True, loras=(None, *others)
        ),
    }  # fmt: skip
    return make[values[form.mode]]()


def _presets(values: Values, form: GridForm, family: Family, context: UiContext) -> list[Weights]:
    presets: tuple[Preset, ...] = all_presets(context.host.paths().data_dir)
    lists = [line.strip() for line in str(values[form.lists] or "").splitlines() if line.strip()]
    x = float(values[form.numbers["x"]] or 0)
    return rows.of_presets([*(values[form.presets] or []), *lists], family, presets, x)
