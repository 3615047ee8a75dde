"""A grid of block weights inside the webui, and what it costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lora_lab.families import Family
from lora_lab.host.webui import host
from lora_lab.testing import rows
from lora_lab.testing.cells import GridPlan, Look
from lora_lab.testing.events import CellMade, GridEvent
from lora_lab.testing.grid import run_grid

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
