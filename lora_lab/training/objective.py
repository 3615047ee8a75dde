"""What is minimised: the noise, the target and the weights of the loss, as pure functions.

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

TIMESTEPS = 1000


@dataclass(frozen=True)
class Draw:
    """The chance of one batch."""

    noise: Tensor
    """(b, 4, h/8, w/8), float32 on the CPU, the noise offset included."""
    timesteps: Tensor
    """(b,), int64 on the CPU."""


def generator_for(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream depends on `key` alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    # mt19937 takes 32 bits of its seed.
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") & 0xFFFFFFFF)


def draw(shape: torch.Size, seed: int, step: int, first: int, noise_offset: float = 0.0) -> Draw:
    """Noise and timesteps of a batch.

    Args:
        shape: of the latents (b, 4, h/8, w/8).
        seed: of the run.
        step: optimizer step, 1-based.
        first: position within the step of the batch's first item (batches that are accumulated count on).
        noise_offset: adds `noise_offset` * N(0, 1), one number per channel (kohya's, after
            crosslabs.org/blog/diffusion-with-offset-noise).
    """
    noises, timesteps = [], []
    for position in range(first, first + shape[0]):
        generator = generator_for("noise", seed, step, position)
        noise = torch.randn(tuple(shape[1:]), generator=generator)
        timesteps.append(int(torch.randint(0, TIMESTEPS, (1,), generator=generator)))
        if noise_offset:
            noise = noise + noise_offset * torch.randn((shape[1], 1, 1), generator=generator)
        noises.append(noise)
    return Draw(torch.stack(noises), torch.tensor(timesteps, dtype=torch.int64))


def _at(alphas_cumprod: Tensor, timesteps: Tensor, like: Tensor) -> Tensor:
    """alphas_cumprod at each item's timestep, (b, 1, 1, 1), float32 on the device of `like`."""
    return alphas_cumprod.float()[timesteps.cpu()].to(like.device).view(-1, 1, 1, 1)


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


def min_snr_weight(
    timesteps: Tensor, alphas_cumprod: Tensor, gamma: float, prediction_type: PredictionType
) -> Tensor:
    """Min-SNR-gamma (arXiv 2303.09556, section 3.4): min(snr, gamma) / snr, for v-prediction / (snr + 1). (b,)"""
    a = alphas_cumprod.float()[timesteps.cpu()]
    snr = a / (1 - a)
    clipped = snr.clamp(max=gamma)
    return clipped / snr if prediction_type == "epsilon" else clipped / (snr + 1)


def item_losses(prediction: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error of each item in float32, (b,)."""
    return (prediction.float() - wanted.float()).square().mean(dim=(1, 2, 3))


def combine(losses: Tensor, weights: Tensor, snr_weights: Tensor | None = None) -> Tensor:
    """The loss of a batch: each item's loss times its weight (regularisation pictures), times min-SNR, then the mean.

    Args:
        losses: (b,), of `item_losses`.
        weights: (b,), 1 or prior_loss_weight.
        snr_weights: (b,), of `min_snr_weight`.
    """
    losses = losses * weights.to(losses)
    if snr_weights is not None:
        losses = losses * snr_weights.to(losses)
    return losses.mean()
