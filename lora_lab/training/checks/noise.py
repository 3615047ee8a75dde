"""Noise and loss."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.families import PredictionType
from lora_lab.training.settings import TrainSettings


def check(settings: TrainSettings) -> None:
    """Options that need another one, and a range of timesteps that holds some."""
    if settings.adaptive_noise_scale and not settings.noise_offset:
        remedy = "set noise_offset to 0.05 or so, or leave adaptive_noise_scale empty"
        raise SettingsError("adaptive_noise_scale changes the noise_offset, which is 0", remedy=remedy)
    if settings.min_timestep >= settings.max_timestep:
        what = f"there is no timestep from {settings.min_timestep} up to {settings.max_timestep}"
        raise SettingsError(what, remedy="make min_timestep smaller or max_timestep larger")


def prediction_warnings(settings: TrainSettings, kind: PredictionType) -> Iterator[str]:
    """What is unwise on this kind of checkpoint."""
    if settings.zero_terminal_snr and kind != "v_prediction":
        yield "zero_terminal_snr is for velocity-predicting checkpoints: one that predicts noise learns nothing there"


def check_prediction(settings: TrainSettings, kind: PredictionType) -> None:
    """Options that are for one kind of checkpoint only.

    Raises:
        SettingsError: the loaded one is of the other kind.
    """
    if settings.scale_v_pred_loss_like_noise_pred and kind != "v_prediction":
        what = "scale_v_pred_loss_like_noise_pred is for velocity-predicting checkpoints, the loaded one predicts noise"
        raise SettingsError(what, remedy="switch it off")
    if settings.zero_terminal_snr and kind == "epsilon":
        for name in ("debiased_estimation_loss", "v_pred_like_loss"):
            if getattr(settings, name):
                what = f"{name} weighs steps without any signal endlessly, and zero_terminal_snr makes one"
                raise SettingsError(what, remedy="switch one of them off")
    if settings.v_pred_like_loss and kind != "epsilon":
        what = "v_pred_like_loss is for noise-predicting checkpoints, the loaded one predicts velocity"
        raise SettingsError(what, remedy="leave it empty")


def warnings(s: TrainSettings) -> Iterator[str]:
    """What has no effect."""
    if s.noise_offset_random_strength and not s.noise_offset:
        yield "noise_offset_random_strength has no effect, since noise_offset is 0"
    if s.ip_noise_gamma_random_strength and not s.ip_noise_gamma:
        yield "ip_noise_gamma_random_strength has no effect, since ip_noise_gamma is not set"
    default = TrainSettings.spec("multires_noise_discount").default
    if s.multires_noise_discount != default and not s.multires_noise_iterations:
        yield "multires_noise_discount has no effect, since multires_noise_iterations is not set"
    if s.loss_type not in ("huber", "smooth_l1"):
        for name in ("huber_schedule", "huber_c", "huber_scale"):
            if getattr(s, name) != TrainSettings.spec(name).default:
                yield f"{name} has no effect with loss_type {s.loss_type}"
    elif s.huber_schedule == "snr" and s.huber_scale != 1:
        yield "huber_scale has no effect with huber_schedule snr"
    if s.debiased_estimation_loss and s.min_snr_gamma:
        yield "debiased_estimation_loss and min_snr_gamma both weigh the timesteps: together they nearly cancel"
