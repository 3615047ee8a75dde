"""The settings about the noise and the loss. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class NoiseFields:
    """What noise is added, and how the loss is weighed."""

    min_snr_gamma: float = setting(
        5.0, "Weighs down the steps with little noise so that all count alike (arXiv 2303.09556); 0 is off.",
        kind="float", group="noise", minimum=0, maximum=1000, kohya_default=0.0,
    )
    noise_offset: float = setting(
        0.0, "Adds a constant to the noise of each picture, for darker darks and brighter brights; 0.05 is plenty.",
        kind="float", group="noise", minimum=0, maximum=1,
    )
    noise_offset_random_strength: bool = setting(
        False, "Draws the strength of the noise offset anew for each picture, from 0 to noise_offset.", kind="bool",
        group="noise",
    )
    adaptive_noise_scale: float | None = setting(
        None, "Adds so many times a picture's mean latent to its noise offset; below 0 takes away.", kind="float",
        group="noise", minimum=-10, maximum=10,
    )
    multires_noise_iterations: int | None = setting(
        None, "Adds noise of so many coarser sizes, another way to darker darks; 6 to 10 is usual.", kind="int",
        group="noise", minimum=0, maximum=20,
    )
    multires_noise_discount: float = setting(
        0.3, "How much weaker each coarser size is; 0.1 to 0.3 for a LoRA, 0.8 is strong.", kind="float",
        group="noise", minimum=0, maximum=1,
    )
    ip_noise_gamma: float | None = setting(
        None,
        "Disturbs what the UNet sees, not what it is to say, against overfitting (arXiv 2301.11706); 0.1 is usual.",
        kind="float", group="noise", minimum=0, maximum=1,
    )
    ip_noise_gamma_random_strength: bool = setting(
        False, "Draws the strength of that disturbance anew for each picture.", kind="bool", group="noise"
    )
    zero_terminal_snr: bool = setting(
        False,
        "Stretches the schedule until its end is nothing but noise (arXiv 2305.08891), for real black and white; for "
        "v-prediction checkpoints that were trained so.",
        kind="bool", group="noise",
    )
    min_timestep: int = setting(
        0, "Least noise that is trained on: 0 is none, 1000 nothing but noise.", kind="int", group="noise",
        minimum=0, maximum=999,
    )
    max_timestep: int = setting(
        1000, "Most noise that is trained on; itself left out.", kind="int", group="noise", minimum=1, maximum=1000
    )
    loss_type: str = setting(
        "l2",
        "How an error counts: by its square, its size (l1), or as a parabola that becomes a line (huber, smooth_l1), "
        "which forgives bad pictures.",
        kind="choice", group="noise", choices=("l2", "l1", "huber", "smooth_l1"),
    )
    huber_schedule: str = setting(
        "snr", "How the c of huber and smooth_l1 follows the noise.", kind="choice", group="noise",
        choices=("snr", "exponential", "constant"),
    )
    huber_c: float = setting(
        0.1, "Error above which huber and smooth_l1 count by the size.", kind="float", group="noise", minimum=1e-4,
        maximum=10,
    )
    huber_scale: float = setting(
        1.0, "Multiplies c with the schedules constant and exponential.", kind="float", group="noise", minimum=1e-4,
        maximum=100,
    )
    scale_v_pred_loss_like_noise_pred: bool = setting(
        False, "For v-prediction checkpoints: weighs the timesteps as a noise-predicting one does.", kind="bool",
        group="noise",
    )
    v_pred_like_loss: float | None = setting(
        None, "For noise-predicting checkpoints: adds so many parts of a loss like v-prediction's.", kind="float",
        group="noise", minimum=0, maximum=100,
    )
    debiased_estimation_loss: bool = setting(
        False, "Weighs up the steps with much noise (arXiv 2310.08442); min_snr_gamma weighs down those with little.",
        kind="bool", group="noise",
    )
