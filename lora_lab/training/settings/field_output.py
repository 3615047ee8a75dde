"""The settings about what is written, and the pictures on the way. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class OutputFields:
    """What is written, where, and which pictures are made on the way."""

    output_dir: str = setting(
        "", "Folder for the LoRA files; empty is the host's own LoRA folder.", kind="folder", group="output"
    )
    output_name: str = setting("", "File name of the LoRA without its ending.", kind="text", group="output")
    save_every_n_epochs: int | None = setting(
        None, "Keep a snapshot every so many epochs; empty keeps only the end.", kind="int", group="output",
        unit="epochs", cost="one more file each", minimum=1,
    )
    save_every_n_steps: int | None = setting(
        None, "Keep a snapshot every so many steps too, named after its step.", kind="int", group="output",
        unit="steps", cost="one more file each", minimum=1,
    )
    save_state_every_n_steps: int | None = setting(
        None, "Write down all that the run needs to go on after a crash every so many steps; empty: every 3 minutes.",
        kind="int", group="output", unit="steps", cost="a file as large as the adapter with its optimizer", minimum=1,
    )
    save_precision: str = setting(
        "fp16", "Number format in the file; half is half the size and looks the same.", kind="choice", group="output",
        choices=("float", "fp16", "bf16"), kohya_default="float",
    )
    training_comment: str = setting("", "A note that is kept in the file.", kind="text", group="output")
    logging_dir: str = setting(
        "", "Folder for a TensorBoard log as well; needs the package tensorboard.", kind="folder", group="output"
    )
    sample_prompts: str = setting(
        "",
        "One prompt per line for pictures at each snapshot; --n negative --w --h --d seed --s steps --l cfg behind it.",
        kind="lines", group="previews", cost="the time of one picture each",
    )
    sample_every_n_epochs: int | None = setting(
        None, "Make the pictures every so many epochs; empty makes them with each snapshot.", kind="int",
        group="previews", unit="epochs", minimum=1,
    )
    sample_every_n_steps: int | None = setting(
        None, "Make the pictures every so many steps; has no effect where sample_every_n_epochs is set.", kind="int",
        group="previews", unit="steps", minimum=1,
    )
    sample_at_first: bool = setting(
        False, "Make the pictures once before the first step, to compare with.", kind="bool", group="previews"
    )
    sample_sampler: str = setting(
        "euler_a", "Sampler of these pictures, by kohya's name.", kind="choice", group="previews",
        choices=("ddim", "euler", "euler_a", "dpmsolver++", "unipc"), kohya_default="ddim",
    )
