"""How an error becomes a loss: its shape (l2, l1, huber) and its weight over the timesteps. Pure functions.

Letters: ``a`` is alphas_cumprod at a timestep, ``snr = a / (1 - a)``, ``e`` the error of one number. Shapes: (b,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lora_lab.families import PredictionType

TIMESTEPS = 1000
MOST_SNR = 1000.0
"""Where the noise is nearly none, the ratio is cut, as kohya's scripts do."""

LossType = Literal["l2", "l1", "huber", "smooth_l1"]
HuberSchedule = Literal["snr", "exponential", "constant"]


@dataclass(frozen=True)
class LossOptions:
    """How the loss is taken; kohya's names."""

    loss_type: LossType = "l2"
    huber_schedule: HuberSchedule = "snr"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    min_snr_gamma: float = 0.0
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: float = 0.0
    debiased_estimation_loss: bool = False
    masked_loss_normalize: bool = False


SMALLEST_MASK = 1e-3
"""A mask that lets less through than this is not blown up further by masked_loss_normalize."""


def item_losses(
    prediction: Tensor, wanted: Tensor, options: LossOptions, c: Tensor | None = None, masks: Tensor | None = None
) -> Tensor:
    """Mean error of each item in float32, (b,).

    Args:
        prediction: (b, 4, h/8, w/8).
        wanted: the same.
        options: the shape of the error. huber is 2c (sqrt(e^2 + c^2) - c), smooth_l1 the same without the c in front
            (pseudo-Huber, Charbonnier et al. 1997).
        c: from `huber_c`, (b,); where the parabola becomes a line.
        masks: (b, 1, h/8, w/8) in 0..1, how much each place counts. The mean is taken over all places, as kohya's
            scripts do, or with masked_loss_normalize over what the mask lets through.
    """
    error = prediction.float() - wanted.float()
    if options.loss_type == "l2":
        found = error.square()
    elif options.loss_type == "l1":
        found = error.abs()
    else:
        assert c is not None
        edge = c.to(error).view(-1, 1, 1, 1)
        found = 2 * ((error.square() + edge.square()).sqrt() - edge)
        found = found * edge if options.loss_type == "huber" else found
    if masks is None:
        return found.mean(dim=(1, 2, 3))
    masks = masks.to(found)
    mean = (found * masks).mean(dim=(1, 2, 3))
    if options.masked_loss_normalize:
        mean = mean / masks.mean(dim=(1, 2, 3)).clamp(min=SMALLEST_MASK)
    return mean


def huber_c(timesteps: Tensor, alphas_cumprod: Tensor, options: LossOptions) -> Tensor:
    """The c of each item, (b,): the same at all timesteps, or smaller where there is more noise."""
    c = options.huber_c
    if options.huber_schedule == "constant":
        return torch.full(timesteps.shape, c * options.huber_scale)
    if options.huber_schedule == "exponential":
        return c ** (timesteps.cpu().float() / TIMESTEPS) * options.huber_scale
    a = alphas_cumprod.float()[timesteps.cpu()]
    sigma = ((1 - a) / a).sqrt()
    return (1 - c) / (1 + sigma).square() + c


def snr_weights(
    timesteps: Tensor, alphas_cumprod: Tensor, options: LossOptions, prediction_type: PredictionType
) -> Tensor | None:
    """All weights over the timesteps together, (b,); None where there is none.

    min-SNR (arXiv 2303.09556), velocity scaled like noise: snr / (snr + 1); noise with a velocity-like part: 1 + k
    (snr + 1) / snr; debiased estimation (arXiv 2310.08442): 1 / sqrt(snr), for velocity 1 / (snr + 1).
    """
    a = alphas_cumprod.float()[timesteps.cpu()]
    snr = a / (1 - a)
    cut = snr.clamp(max=MOST_SNR)
    eps, weights = prediction_type == "epsilon", torch.ones_like(snr)
    if options.min_snr_gamma:
        least = snr.clamp(max=options.min_snr_gamma)
        # Without any signal (zero_terminal_snr) the first is 1 in the limit.
        weights = weights * (torch.where(snr > 0, least / snr, 1.0) if eps else least / (snr + 1))
    if options.scale_v_pred_loss_like_noise_pred:
        weights = weights * cut / (cut + 1)
    if options.v_pred_like_loss:
        weights = weights * (1 + options.v_pred_like_loss * (cut + 1) / cut)
    if options.debiased_estimation_loss:
        weights = weights / (cut.sqrt() if eps else cut + 1)
    return None if bool((weights == 1).all()) else weights
