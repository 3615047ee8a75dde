"""A grid of block weights inside the webui: its cells, and what it costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lora_lab.families import Family
from lora_lab.host.webui import host
from lora_lab.network import files
from lora_lab.network.adapter import Adapter
from lora_lab.network.sites import find_sites
from lora_lab.testing import rows
from lora_lab.testing.cells import GridPlan, Look
from lora_lab.testing.events import CellMade, GridEvent
from lora_lab.testing.grid import run_grid
from lora_lab.training import kinds
from lora_lab.training.settings import TrainSettings

CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


def now(clock: str) -> float:
    """Seconds, by the webui's own clock."""
    return CLOCKS[clock]()


def bare(clock: str, prompt: str, count: int, seed: int, size: int, steps: int) -> float:
    """Seconds of one batch of the webui's own pictures, without scripts, files, or a LoRA."""
    from modules import processing, shared

    p = processing.StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model, prompt=prompt, batch_size=count, seed=seed, width=size, height=size, steps=steps,
        cfg_scale=5.0, sampler_name="Euler", do_not_save_samples=True, do_not_save_grid=True,
    )  # fmt: skip
    began = now(clock)
    processing.process_images(p)
    return now(clock) - began


def seconds(
    clock: str, lora: str, prompt: str, weights: Sequence[str], seeds: Sequence[int], batch: int, size: int, steps: int
) -> dict[str, float]:
    """Our grid: seconds until the first base picture is there, and of all cells that are none; nothing is kept."""
    marks: list[float] = []
    found = tuple(rows.of_text(text, Family.SD1) for text in weights)
    look = Look(size, size, steps, 5.0, "Euler")

    def listen(event: GridEvent) -> None:
        if isinstance(event, CellMade) and event.row is None:
            marks.append(now(clock))

    began = now(clock)
    with tempfile.TemporaryDirectory() as folder:
        plan = GridPlan(Path(lora), found, (prompt,), tuple(seeds), look, batch=batch, out=Path(folder), trigger=None)
        run_grid(host(), plan, listen)
    return {"base": marks[0] - began, "cells": now(clock) - marks[len(plan.columns) - 1]}


def write_kind(path: str, options: dict[str, Any], spread: float) -> int:
    """A LoRA of a kind for the loaded checkpoint, random numbers of a spread in all that is trained; how many sites."""
    settings = TrainSettings.from_mapping(options)
    generator = torch.Generator().manual_seed(3)
    with host().lease("training") as model:
        reach, family = kinds.reach_of(settings), model.info.family
        sites = find_sites(model.unet, model.text_encoders, family, model.layout, reach=reach)
        sizes, how = kinds.sizes_of(settings), kinds.recipes_of(settings)
        adapter = Adapter.create(sites, sizes=sizes, how=how, generator=generator)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * spread
    files.write(Path(path), adapter.to_tensors(), {}, overwrite=True)
    return len(sites)


def cells(
    lora: str, weights: Sequence[str], prompt: str, seeds: Sequence[int], steps: int, batch: int
) -> dict[str, list[str]]:
    """Pixels of a grid's cells by row, in hex, one for each seed; `base` are the base pictures."""
    info = host().current()
    assert info is not None
    found = tuple(rows.of_text(text, info.family) for text in weights)
    look = Look(64, 64, steps, 7.0, "Euler a")
    with tempfile.TemporaryDirectory() as folder:
        plan = GridPlan(Path(lora), found, (prompt,), tuple(seeds), look, batch=batch, out=Path(folder), trigger=None)
        result = run_grid(host(), plan)
    told: dict[str, list[str]] = {}
    for row, name in [(None, "base"), *((i, one.label) for i, one in enumerate(found))]:
        made = [result.at(row, column) for column in range(len(seeds))]
        told[name] = [np.asarray(one.image.convert("RGB")).tobytes().hex() for one in made if one is not None]
    return told
