"""The settings about the learning: how long, how fast, by which optimizer. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.learning.optimizer_kinds import KINDS
from lora_lab.training.learning.schedules import SCHEDULES
from lora_lab.training.settings.fields import setting


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
        "AdamW",
        "AdamW, Lion and SGD want learning rates chosen by you; Prodigy and the DAdapt ones find the size of their "
        "steps themselves. The 8-bit and paged ones need bitsandbytes and a graphics card. Others by their names in "
        "torch.optim, or as package.module.Class.",
        kind="choice", group="learning", cost="Prodigy keeps twice as many numbers per weight as AdamW",
        choices=tuple(KINDS), aliases=("optimizer",), open=True,
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
        group="learning", choices=tuple(SCHEDULES), kohya_default="constant",
    )
    lr_scheduler_type: str = setting(
        "",
        "A schedule by its class in place of lr_scheduler: a name of torch.optim.lr_scheduler, or "
        "package.module.Class. It is made with lr_scheduler_args.",
        kind="text", group="learning",
    )
    lr_scheduler_args: tuple[str, ...] = setting(
        (),
        "Options of lr_scheduler_type as name=value; for piecewise_constant step_rules=1:100,0.5:200,0.1 (the full "
        "rate to step 100, half of it to step 200, then a tenth).",
        kind="list", group="learning",
    )
    lr_warmup_steps: float = setting(
        0.0, "The rate rises from 0 over so many steps; below 1 it is a share of all steps.", kind="float",
        group="learning", unit="steps, or share below 1", minimum=0, maximum=10_000_000,
    )
    lr_scheduler_num_cycles: int = setting(
        1,
        "How often cosine_with_restarts starts again; half waves of cosine_with_min_lr and of the fall of "
        "warmup_stable_decay.",
        kind="int", group="learning", minimum=1, maximum=1000,
    )
    lr_scheduler_power: float = setting(
        1.0, "Bend of the schedule polynomial: 1 is a straight line, 2 falls early.", kind="float", group="learning",
        minimum=0.01, maximum=100,
    )
    lr_scheduler_timescale: int | None = setting(
        None, "Steps from which inverse_sqrt falls; empty takes the warmup, or 10,000.", kind="int", group="learning",
        unit="steps", minimum=1, maximum=10_000_000,
    )
    lr_scheduler_min_lr_ratio: float | None = setting(
        None, "Share of the rate that is left at the end of cosine_with_min_lr and warmup_stable_decay.", kind="float",
        group="learning", unit="share from 0 to 1", minimum=0, maximum=1,
    )
    lr_decay_steps: float = setting(
        0.0, "Steps over which warmup_stable_decay falls at the end; below 1 it is a share of all steps.", kind="float",
        group="learning", unit="steps, or share below 1", minimum=0, maximum=10_000_000,
    )
    stop_text_encoder_training: int = setting(
        0, "Train the text encoder for so many steps only, then the UNet alone, which is faster. 0: throughout.",
        kind="int", group="learning", unit="steps", minimum=0, maximum=10_000_000,
    )
    stop_text_encoder_training_pct: float = setting(
        0.0, "Train the text encoder for this share of all steps only.", kind="float", group="learning",
        unit="percent", minimum=0, maximum=100,
    )
    stop_text_encoder_training_epochs: int = setting(
        0, "Train the text encoder for so many epochs only.", kind="int", group="learning", unit="epochs", minimum=0,
        maximum=100_000,
    )
    max_grad_norm: float = setting(
        1.0, "Longest step of all gradients together; longer ones are shortened to it. 0 is no limit.", kind="float",
        group="learning", minimum=0, maximum=1000,
    )
    seed: int | None = setting(
        None, "Where all chance of the run comes from; the same number gives the same file. Empty draws one.",
        kind="int", group="learning", minimum=0, maximum=2**32 - 1,
    )
