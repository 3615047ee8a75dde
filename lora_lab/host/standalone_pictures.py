"""Pictures with diffusers' schedulers, one prompt and one seed each, in the webui's order of guidance."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lora_lab.errors import Interrupted, SettingsError
from lora_lab.host.base import Conditioning, PreviewRequest, PreviewResult

if TYPE_CHECKING:
    from lora_lab.host.base import LoadedModel

SAMPLERS = MappingProxyType(
    {
        "Euler": ("EulerDiscreteScheduler", {}),
        "Euler a": ("EulerAncestralDiscreteScheduler", {}),
        "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
        "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
        "UniPC": ("UniPCMultistepScheduler", {}),
    }
)
"""The webui's names to diffusers' classes and arguments."""


def check(request: PreviewRequest) -> None:
    """Refuse what cannot be made.

    Raises:
        SettingsError: the reason.
    """
    if request.sampler not in SAMPLERS:
        raise SettingsError(f"there is no sampler {request.sampler!r}", remedy=f"use {', '.join(SAMPLERS)}")
    request.check()


def make(
    model: LoadedModel, betas: tuple[float, float], request: PreviewRequest, clip_skip: int, stop: Callable[[], bool]
) -> PreviewResult:
    """Sample a batch. A picture's noise comes from its own seed, whatever its batch mates are.

    Raises:
        SettingsError: see `check`.
        Interrupted: `stop` said so between two steps.
    """
    check(request)
    scheduler = _scheduler(model, betas, request)
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
    shape = (4, request.height // 8, request.width // 8)
    noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
    with torch.no_grad():
        latents, timesteps = _start(model, scheduler, request, noise)
        conditioning = _conditioning(model, request, clip_skip)
        for t in timesteps:
            if stop():
                raise Interrupted("the pictures were stopped")
            latents = _step(model, scheduler, latents, t, conditioning, request.cfg_scale, generators)
        pixels = model.decode_latents(latents)
    images = [Image.fromarray(_bytes(picture)) for picture in pixels]
    infotexts = tuple(_infotext(model, request, i, clip_skip) for i in range(len(images)))
    return PreviewResult(tuple(images), infotexts)


def _scheduler(model: LoadedModel, betas: tuple[float, float], request: PreviewRequest) -> Any:  # noqa: ANN401
    import diffusers

    name, more = SAMPLERS[request.sampler]
    scheduler = getattr(diffusers, name)(
        beta_start=betas[0], beta_end=betas[1], beta_schedule="scaled_linear", num_train_timesteps=1000,
        prediction_type=model.info.prediction_type, steps_offset=1, timestep_spacing="leading", **more,
    )  # fmt: skip
    scheduler.set_timesteps(request.steps)
    return scheduler


def _start(model: LoadedModel, scheduler: Any, request: PreviewRequest, noise: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Latents to begin with and the timesteps to do: all, or for img2img the last ones, counted as the webui does."""
    if not request.init_images:
        return noise * float(scheduler.init_noise_sigma), scheduler.timesteps
    first = request.steps - min(int(request.denoise * request.steps) + 1, request.steps)
    timesteps: Tensor = scheduler.timesteps[first:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    clean = model.encode_pixels(torch.stack([_pixels(image) for image in request.init_images]))
    return scheduler.add_noise(clean, noise, timesteps[:1].repeat(len(noise))), timesteps


def _pixels(image: Image.Image) -> Tensor:
    """(3, h, w) in -1..1."""
    found = torch.from_numpy(np.asarray(image.convert("RGB")).copy())
    return found.permute(2, 0, 1).float() / 127.5 - 1


def _conditioning(model: LoadedModel, request: PreviewRequest, clip_skip: int) -> Conditioning:
    """States of all prompts, then of as many negative prompts; both padded to the same number of chunks."""
    count = len(request.prompts)
    tokens = model.tokenize([*request.prompts, *[request.negative] * count], 225)
    found = model.encode_tokens(tokens, clip_skip)
    if found.pooled is None:
        return found
    # SDXL: the whole picture is asked for, and as in the webui an empty negative prompt is all zeros.
    sizes = torch.tensor([[request.height, request.width, 0, 0, request.height, request.width]] * len(found.pooled))
    told = torch.ones(len(found.pooled), device=model.device)
    told[count:] = 1.0 if request.negative else 0.0
    return Conditioning(found.context * told.view(-1, 1, 1), found.pooled * told.view(-1, 1), sizes)


def _step(
    model: LoadedModel, scheduler: Any, latents: Tensor, t: Tensor, conditioning: Conditioning, scale: float,  # noqa: ANN401
    generators: list[torch.Generator],
) -> Tensor:  # fmt: skip
    x = scheduler.scale_model_input(latents, t)
    pair = torch.cat([x, x]).to(model.device)
    times = torch.full((len(pair),), float(t), device=model.device)
    cond, uncond = model.predict(pair, times, conditioning).float().cpu().chunk(2)
    guided = uncond + scale * (cond - uncond)
    accepts = "generator" in scheduler.step.__code__.co_varnames
    found: Tensor = scheduler.step(guided, t, latents, **({"generator": generators} if accepts else {})).prev_sample
    return found


def _bytes(picture: Tensor) -> Any:  # noqa: ANN401 - numpy's
    return ((picture.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def _infotext(model: LoadedModel, request: PreviewRequest, i: int, clip_skip: int) -> str:
    negative = f"\nNegative prompt: {request.negative}" if request.negative else ""
    more = f", Denoising strength: {request.denoise:g}" if request.init_images else ""
    more += f", Clip skip: {clip_skip}" if clip_skip > 1 else ""
    return (
        f"{request.prompts[i]}{negative}\nSteps: {request.steps}, Sampler: {request.sampler}, CFG scale: "
        f"{request.cfg_scale:g}, Seed: {request.seeds[i]}, Size: {request.width}x{request.height}, "
        f"Model: {model.info.name.rsplit('.', 1)[0]}{more}"
    )
