"""What is minimised: the noise and the target, as pure functions; `noise` and `loss` have the finer options.

Letters: ``a`` is alphas_cumprod at a timestep, ``snr = a / (1 - a)``. Shapes: latents (b, 4, h/8, w/8) scaled;
timesteps int64 (b,). The order of the loss is kohya's: per pixel, mean over channels and places, weight of the item,
min-SNR, mean over the batch.

All chance is drawn on the CPU from generators keyed by (seed, step, position), one for each item of a step. So a run
that goes on at any step, pictures made between steps, another device, or ranks that share a step see the same noise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_lab.families import PredictionType
from lora_lab.training.objective.noise import PLAIN, NoiseOptions, multires, perturbation, with_offset


@dataclass(frozen=True)
class Draw:
    """The chance of one batch."""

    noise: Tensor
    """(b, 4, h/8, w/8), float32 on the CPU, the noise offset included."""
    timesteps: Tensor
    """(b,), int64 on the CPU."""
    perturbation: Tensor | None = None
    """What is added to the input's noise and not to the target's, as `noise`; None for nothing."""


def generator_for(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream depends on `key` alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    # mt19937 takes 32 bits of its seed.
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") & 0xFFFFFFFF)


def draw(latents: Tensor, seed: int, step: int, first: int, options: NoiseOptions = PLAIN) -> Draw:
    """Noise and timesteps of a batch.

    Args:
        latents: (b, 4, h/8, w/8); their numbers matter to adaptive_noise_scale only.
        seed: of the run.
        step: optimizer step, 1-based.
        first: position within the step of the batch's first item (batches that are accumulated count on).
        options: what is done to the noise, and which timesteps there are.
    """
    noises, timesteps, extras = [], [], []
    for number, item in enumerate(latents):
        generator = generator_for("noise", seed, step, first + number)
        noise = torch.randn(tuple(item.shape), generator=generator)
        low, high = options.min_timestep, options.max_timestep
        timesteps.append(int(torch.randint(low, high, (1,), generator=generator)))
        if options.noise_offset:
            noise = with_offset(noise, options, item, generator)
        if options.multires_noise_iterations:
            noise = multires(noise, options, generator)
        if options.ip_noise_gamma:
            extras.append(perturbation(noise, options, generator))
        noises.append(noise)
    extra = torch.stack(extras) if extras else None
    return Draw(torch.stack(noises), torch.tensor(timesteps, dtype=torch.int64), extra)


def _at(alphas_cumprod: Tensor, timesteps: Tensor, like: Tensor) -> Tensor:
    """alphas_cumprod at each item's timestep, (b, 1, 1, 1), float32 on the device of `like`."""
    return alphas_cumprod.float()[timesteps.cpu()].to(like.device).view(-1, 1, 1, 1)


def zero_terminal(alphas_cumprod: Tensor) -> Tensor:
    """The schedule stretched so that its last timestep has no signal (arXiv 2305.08891, algorithm 1); a new tensor.

    Args:
        alphas_cumprod: (1000,), falling. Its root is shifted until it ends at 0, and scaled until it begins as before.
    """
    root = alphas_cumprod.double().sqrt()
    stretched = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    return stretched.square().to(alphas_cumprod.dtype)


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) noise (DDPM, arXiv 2006.11239, eq. 4); all (b, 4, h/8, w/8)."""
    a = _at(alphas_cumprod, timesteps, latents)
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def target(
    prediction_type: PredictionType, latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """What the UNet is to say: the noise, or v = sqrt(a) noise - sqrt(1 - a) x_0 (arXiv 2202.00512, appendix D)."""
    if prediction_type == "epsilon":
        return noise
    a = _at(alphas_cumprod, timesteps, latents)
    return a.sqrt() * noise - (1 - a).sqrt() * latents


def combine(losses: Tensor, weights: Tensor, snr_weights: Tensor | None = None) -> Tensor:
    """The loss of a batch: each item's loss times its weight (regularisation pictures), times min-SNR, then the mean.

    Args:
        losses: (b,), of `loss.item_losses`.
        weights: (b,), 1 or prior_loss_weight.
        snr_weights: (b,), of `loss.snr_weights`.
    """
    losses = losses * weights.to(losses)
    if snr_weights is not None:
        losses = losses * snr_weights.to(losses)
    return losses.mean()
