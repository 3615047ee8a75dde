"""The noise of one item beyond plain Gaussian noise: offset, several resolutions, perturbed input. Pure functions.

All chance comes from the item's own generator, so that an item's noise hangs on no other item of its batch; kohya's
scripts draw strengths and the final scaling of several resolutions once for a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TIMESTEPS = 1000


@dataclass(frozen=True)
class NoiseOptions:
    """What is done to the noise; kohya's names."""

    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False
    min_timestep: int = 0
    max_timestep: int = TIMESTEPS
    """Timesteps are drawn from min_timestep up to this, itself left out."""


PLAIN = NoiseOptions()


def with_offset(noise: Tensor, options: NoiseOptions, latents: Tensor | None, generator: torch.Generator) -> Tensor:
    """Adds a constant to each channel (crosslabs.org/blog/diffusion-with-offset-noise).

    Args:
        noise: (c, h, w).
        options: a noise_offset above 0; with adaptive_noise_scale the strength grows with the channel's mean.
        latents: of the item, (c, h, w); asked for by adaptive_noise_scale.
        generator: of the item.
    """
    shift = torch.randn((noise.shape[0], 1, 1), generator=generator)
    strength: float | Tensor = options.noise_offset
    if options.noise_offset_random_strength:
        strength = strength * float(torch.rand(1, generator=generator))
    if options.adaptive_noise_scale and latents is not None:
        mean = latents.detach().to("cpu", torch.float32).mean(dim=(1, 2), keepdim=True).abs()
        strength = (strength + options.adaptive_noise_scale * mean).clamp(min=0)
    return noise + strength * shift


def multires(noise: Tensor, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """Adds coarser and coarser noise, and scales all to a deviation of 1 (J. Whitaker, Multi-resolution noise, 2023).

    Args:
        noise: (c, h, w).
        options: multires_noise_iterations above 0.
        generator: of the item.
    """
    height, width = noise.shape[1:]
    for level in range(options.multires_noise_iterations):
        ratio = (2 + 2 * float(torch.rand(1, generator=generator))) ** level
        small = (max(1, int(height / ratio)), max(1, int(width / ratio)))
        coarse = torch.randn((1, noise.shape[0], *small), generator=generator)
        grown = functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
        noise = noise + grown * options.multires_noise_discount**level
        if 1 in small:
            break
    return noise / noise.std()


def perturbation(noise: Tensor, options: NoiseOptions, generator: torch.Generator) -> Tensor:
    """What the input's noise has beyond the target's (input perturbation, arXiv 2301.11706); (c, h, w)."""
    strength = options.ip_noise_gamma
    extra = torch.randn(noise.shape, generator=generator)
    if options.ip_noise_gamma_random_strength:
        strength *= float(torch.rand(1, generator=generator))
    return strength * extra
