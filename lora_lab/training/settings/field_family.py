"""The settings about the checkpoint's family. Names and meaning are kohya's, but for SDXL's second text encoder."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class FamilyFields:
    """What is said of the checkpoint, and what only some families have."""

    text_encoder_lr2: float | None = setting(
        None,
        "Learning rate of SDXL's second text encoder; 0 does not train it, empty takes text_encoder_lr. kohya gives "
        "both as a list of two in text_encoder_lr, which is understood too.",
        kind="float", group="learning", minimum=0, maximum=10,
    )
    v2: bool = setting(
        False,
        "The settings are for a Stable Diffusion 2 checkpoint: on another one the run is refused. The family itself is "
        "known from the checkpoint.",
        kind="bool", group="network",
    )
    v_parameterization: bool = setting(
        False,
        "The checkpoint predicts velocity (v-prediction). Where that is known (webui, yaml, the file's marks) it is "
        "only compared, and the run is refused if it is not so; standalone it decides for a Stable Diffusion 2 file "
        "that does not say it.",
        kind="bool", group="network",
    )
