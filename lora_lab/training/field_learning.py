"""The settings about the adapter, the learning rates, the noise and the speed. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.fields import setting


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


@dataclass(frozen=True)
class LearningFields:
    """How long, how fast, and by which optimizer."""

    train_batch_size: int = setting(
        2, "Pictures per forward pass; a batch never mixes buckets.", kind="int", group="learning", unit="pictures",
        cost="memory for the activations grows with it", minimum=1, maximum=256, kohya_default=1,
    )
    max_train_epochs: int | None = setting(
        None, "How many times the dataset is gone through. With max_train_steps empty as well: 10.", kind="int",
        group="learning", unit="epochs", minimum=1, maximum=100_000, aliases=("epoch",),
    )
    max_train_steps: int | None = setting(
        None, "Optimizer steps; used when max_train_epochs is empty.", kind="int", group="learning", unit="steps",
        minimum=1, maximum=10_000_000, kohya_default=1600,
    )
    optimizer_type: str = setting(
        "AdamW", "AdamW wants learning rates chosen by you; Prodigy finds the size of its steps itself.",
        kind="choice", group="learning", cost="Prodigy keeps twice as many numbers per weight as AdamW",
        choices=("AdamW", "Prodigy"), aliases=("optimizer",),
    )
    optimizer_args: tuple[str, ...] = setting(
        (), "More options of the optimizer as name=value, such as weight_decay=0.01 or d_coef=2.", kind="list",
        group="learning",
    )
    learning_rate: float | None = setting(
        None,
        "Rate of both parts where unet_lr and text_encoder_lr are empty. Empty: 1e-4, and 5e-5 for the text encoder; "
        "1 for Prodigy.",
        kind="float", group="learning", minimum=0, maximum=10, kohya_default=2e-6,
    )
    unet_lr: float | None = setting(
        None, "Learning rate of the UNet's part; 0 does not train it, empty takes learning_rate.", kind="float",
        group="learning", minimum=0, maximum=10,
    )
    text_encoder_lr: float | None = setting(
        None, "Learning rate of the text encoder's part; 0 does not train it, empty takes learning_rate.",
        kind="float", group="learning", minimum=0, maximum=10,
    )
    lr_scheduler: str = setting(
        "cosine", "How the learning rate moves over the run. Prodigy goes well with constant.", kind="choice",
        group="learning", choices=("constant", "constant_with_warmup", "cosine", "cosine_with_restarts"),
        kohya_default="constant",
    )
    lr_warmup_steps: float = setting(
        0.0, "The rate rises from 0 over so many steps; below 1 it is a share of all steps.", kind="float",
        group="learning", unit="steps, or share below 1", minimum=0, maximum=10_000_000,
    )
    lr_scheduler_num_cycles: int = setting(
        1, "How often cosine_with_restarts starts again.", kind="int", group="learning", minimum=1, maximum=1000
    )
    max_grad_norm: float = setting(
        1.0, "Longest step of all gradients together; longer ones are shortened to it. 0 is no limit.", kind="float",
        group="learning", minimum=0, maximum=1000,
    )
    seed: int | None = setting(
        None, "Where all chance of the run comes from; the same number gives the same file. Empty draws one.",
        kind="int", group="learning", minimum=0, maximum=2**32 - 1,
    )
    min_snr_gamma: float = setting(
        5.0, "Weighs down the steps with little noise so that all count alike (arXiv 2303.09556); 0 is off.",
        kind="float", group="noise", minimum=0, maximum=1000, kohya_default=0.0,
    )
    noise_offset: float = setting(
        0.0, "Adds a constant to the noise of each picture, for darker darks and brighter brights; 0.05 is plenty.",
        kind="float", group="noise", minimum=0, maximum=1,
    )
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
    sample_at_first: bool = setting(
        False, "Make the pictures once before the first step, to compare with.", kind="bool", group="previews"
    )
    sample_sampler: str = setting(
        "euler_a", "Sampler of these pictures, by kohya's name.", kind="choice", group="previews",
        choices=("ddim", "euler", "euler_a", "dpmsolver++", "unipc"), kohya_default="ddim",
    )
