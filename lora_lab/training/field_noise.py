"""The settings about the noise and the loss. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.fields import setting


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
