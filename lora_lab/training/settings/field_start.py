"""The settings about what a run starts from. Names and meaning are kohya's; `stages` is ours."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class StartFields:
    """LoRA files to begin with, and runs one after another."""

    network_weights: str = setting(
        "", "A LoRA file to start from instead of from zero: its path, or its name in the LoRA folder.", kind="text",
        group="start", aliases=("lora_network_weights",),
    )
    dim_from_weights: bool = setting(
        False, "Take dim and alpha of each layer from network_weights instead of from network_dim and network_alpha.",
        kind="bool", group="start",
    )
    base_weights: tuple[str, ...] = setting(
        (), "LoRA files that act beside the new one during the run, as if merged into the checkpoint; one per line. "
        "They are not part of the result.",
        kind="paths", group="start", cost="a step takes longer for each",
    )
    base_weights_multiplier: tuple[str, ...] = setting(
        (), "How strongly each of base_weights acts, in their order; 1 where nothing is said.", kind="list",
        group="start",
    )
    stages: str = setting(
        "",
        "Runs one after another, one line for each: the settings in which it differs, such as max_train_epochs=4 "
        "unet_lr=5e-5. Each starts from the LoRA of the one before.",
        kind="lines", group="start",
    )
