"""The settings about the adapter. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class NetworkFields:
    """The adapter's size, and which part of the checkpoint it is trained on."""

    network_dim: int = setting(
        32, "Rank of the adapter: how much it can hold. 32 is enough for most characters, 64 for difficult ones.",
        kind="int", group="network", cost="memory and file size grow with it", minimum=1, maximum=1024,
        kohya_default=4, aliases=("network_rank",),
    )
    network_alpha: float = setting(
        16.0, "Damps what is learnt by alpha / dim; 0 means the same as dim. Keep it at or below dim.",
        kind="float", group="network", minimum=0, maximum=1024, kohya_default=1,
    )
    network_dropout: float = setting(
        0.0, "Share of the adapter's inner values that is left out at random, against overfitting.", kind="float",
        group="network", unit="share from 0 to 1", minimum=0, maximum=0.95,
    )
    network_train_unet_only: bool = setting(
        False, "Train no text encoder; the file has only UNet parts.", kind="bool", group="network"
    )
    network_train_text_encoder_only: bool = setting(
        False, "Train no UNet; the file has only text encoder parts.", kind="bool", group="network"
    )
