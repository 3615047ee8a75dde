"""Tiny models of every family that make real pictures by real samplers, and LoRAs of every kind for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")

from PIL import Image  # noqa: E402

from lora_lab.families import Family  # noqa: E402
from lora_lab.host import standalone_pictures  # noqa: E402
from lora_lab.host.base import LoadedModel, PreviewRequest, PreviewResult  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.reach import LIERLA, Reach  # noqa: E402
from lora_lab.network.recipe import Recipe  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.testing.cells import GridPlan, Look, Weights  # noqa: E402
from tests.training.tiny import TinyHost, TinyModel, TinySd2, TinySdxl  # noqa: E402

BETAS = (0.00085, 0.012)
LOOK = Look(width=64, height=64, steps=4, cfg_scale=3.0, sampler="Euler")
PROMPT = "mika, smile"


class _Sampled:
    """Pictures by the standalone host's own samplers."""

    def generate(self: Any, request: PreviewRequest) -> PreviewResult:
        self.drawing()
        return standalone_pictures.make(self, BETAS, request, 1, lambda: False)


class PictureModel(_Sampled, TinyModel):
    """SD1's."""


class PictureSd2(_Sampled, TinySd2):
    """SD2's."""


class PictureSdxl(_Sampled, TinySdxl):
    """SDXL's."""


MODELS = {Family.SD1: PictureModel, Family.SD2: PictureSd2, Family.SDXL: PictureSdxl}


def host_of(folder: Path, family: Family = Family.SD1) -> TinyHost:
    """A host with a tiny checkpoint of a family, in 64 pixels and four steps."""
    return TinyHost(folder, MODELS[family]())  # type: ignore[abstract]


def write_lora(path: Path, model: LoadedModel, how: Recipe | None = None, reach: Reach = LIERLA, seed: int = 1) -> Path:
    """A LoRA of random numbers that is plainly seen.

    Those of `full` are smaller: weights that change by as much as they are make a model in which rounding alone moves
    pixels by 20 of 255 (half a last place in all weights, at a strength of 0.75).
    """
    sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout, reach=reach)
    generator = torch.Generator().manual_seed(seed)
    adapter = Adapter.create(sites, sizes=Size(4, 4.0), how=how or Recipe(), generator=generator)
    with torch.no_grad():
        for parameter in adapter.parameters():
            fresh = torch.tensor(0.05 if how and how.algo == "full" else 0.2)
            scale = parameter.abs().mean() if bool(parameter.any()) else fresh
            parameter += 0.5 * scale * torch.randn(parameter.shape, generator=generator)
    files.write(path, adapter.to_tensors(), {}, overwrite=True)
    return path


def plan_of(lora: Path, rows: list[Weights], folder: Path, **changes: Any) -> GridPlan:
    """A grid of one prompt and one seed."""
    plan = GridPlan(lora, tuple(rows), (PROMPT,), (7,), LOOK, batch=8, out=folder / "grid")
    return replace(plan, **changes)


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest of any pixel's channels, 0..255."""
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())
