"""The settings about speed and memory. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class SpeedFields:
    """What a step costs in time and memory."""

    gradient_accumulation_steps: int = setting(
        1, "Batches added up before each optimizer step: a larger batch for no more memory.", kind="int",
        group="speed", unit="batches", cost="each step takes so many times as long", minimum=1, maximum=1024,
    )
    gradient_checkpointing: bool = setting(
        False, "Compute the blocks' inner values again on the way back instead of keeping them.", kind="bool",
        group="speed", cost="about a third more time, for much less memory",
    )
    mixed_precision: str = setting(
        "auto", "Number format of the forward pass; the adapter itself stays in 32 bits. auto takes the live model's.",
        kind="choice", group="speed", choices=("auto", "no", "fp16", "bf16"), kohya_default="no",
    )
    sharing: str = setting(
        "share", "Who comes first when pictures are made during the run: turns of a second in between, no step while a "
        "picture is wanted, or turns of ten seconds.", kind="choice", group="speed",
        choices=("share", "pictures_first", "training_first"),
    )
