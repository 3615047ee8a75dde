"""The settings about blocks and groups of the network: rates, ranks, what is trained at all. Names are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting

_LIST = "A list with commas, or a curve: sine, cosine, linear, reverse_linear, zeros, each with +0.25 or so."
_EXACT = "25 whole numbers for SD1 and SD2 (IN00-IN11, M00, OUT00-OUT11), 23 for SDXL (embeddings, IN00-IN08, "
_EXACT_FLOATS = _EXACT.replace("whole ", "")
_EXACT_END = "3 in the middle, OUT00-OUT08, the end)."


@dataclass(frozen=True)
class BlockFields:
    """Rates and ranks by block."""

    train_blocks: tuple[str, ...] = setting(
        (),
        "Train these blocks only, such as IN, MID, OUT, BASE (the text encoders), IN04 or OUT03-OUT05; for SDXL also "
        "B-LoRA-content and B-LoRA-style. Empty trains all.",
        kind="list", group="blocks",
    )
    down_lr_weight: str = setting(
        "", f"Shares of unet_lr for IN00 and on: 12, or 9 for SDXL; 0 leaves a block out. {_LIST}", kind="numbers",
        group="blocks",
    )
    mid_lr_weight: str = setting(
        "", "Share of unet_lr for the middle block: 1, or 3 for SDXL; 0 leaves it out.", kind="numbers", group="blocks"
    )
    up_lr_weight: str = setting(
        "", f"Shares of unet_lr for OUT00 and on: 12, or 9 for SDXL; 0 leaves a block out. {_LIST}", kind="numbers",
        group="blocks",
    )
    block_lr_zero_threshold: float = setting(
        0.0, "Shares of this size or less count as 0.", kind="float", group="blocks", minimum=0, maximum=100
    )
    block_dims: str = setting(
        "", f"Ranks by block in place of network_dim, 0 leaves a block out. {_EXACT}{_EXACT_END}", kind="numbers",
        group="blocks",
    )
    block_alphas: str = setting(
        "", f"Alphas by block in place of network_alpha. {_EXACT_FLOATS}{_EXACT_END}", kind="numbers", group="blocks"
    )
    conv_block_dims: str = setting(
        "", f"Ranks of 3x3 convolutions by block in place of conv_dim. {_EXACT}{_EXACT_END}", kind="numbers",
        group="blocks",
    )
    conv_block_alphas: str = setting(
        "", f"Alphas of 3x3 convolutions by block in place of conv_alpha. {_EXACT_FLOATS}{_EXACT_END}", kind="numbers",
        group="blocks",
    )
    loraplus_lr_ratio: float | None = setting(
        None, "LoRA+: how much faster the up half learns than the down half, such as 16. Empty: as fast.",
        kind="float", group="blocks", minimum=0.001, maximum=1000,
    )
    loraplus_unet_lr_ratio: float | None = setting(
        None, "LoRA+ of the UNet; empty takes loraplus_lr_ratio.", kind="float", group="blocks", minimum=0.001,
        maximum=1000,
    )
    loraplus_text_encoder_lr_ratio: float | None = setting(
        None, "LoRA+ of the text encoders; empty takes loraplus_lr_ratio.", kind="float", group="blocks",
        minimum=0.001, maximum=1000,
    )
