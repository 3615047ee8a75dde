"""Rates and ranks by block, LoRA+, and the end of the text encoder's training."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network.block_words import chosen
from lora_lab.network.blocks import OTHER
from lora_lab.training.learning.block_rules import (
    DIM_LISTS,
    LENGTHS,
    blocks_of_places,
    dim_list,
    lr_weights,
    shares,
    side_weights,
)
from lora_lab.training.learning.optimizer_kinds import kind_of, parse_args
from lora_lab.training.plan import groups_of
from lora_lab.training.settings import TrainSettings

STOPS = ("stop_text_encoder_training", "stop_text_encoder_training_pct", "stop_text_encoder_training_epochs")
SIDES = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")


def check(settings: TrainSettings) -> None:
    """Lists that can be read and that fit some family; one end of the text encoder's training, and something left."""
    chosen(settings.train_blocks)
    lr_weights(settings, Family.SD1)
    for name in DIM_LISTS:
        text = getattr(settings, name)
        if text and text.count(",") + 1 not in {n.whole for n in LENGTHS.values()}:
            what = f"{name} has {text.count(',') + 1} numbers"
            raise SettingsError(what, remedy="give 25 for SD1 and SD2, 23 for SDXL")
    _check_stops(settings)


def _check_stops(settings: TrainSettings) -> None:
    given = [name for name in STOPS if getattr(settings, name)]
    if len(given) > 1:
        raise SettingsError(f"{given[0]} and {given[1]} both end the text encoder's training", remedy="set one to 0")
    if given and "unet" not in {group.name for group in groups_of(settings)}:
        what = f"{given[0]} leaves nothing to train, since the UNet is not trained"
        raise SettingsError(what, remedy="set it to 0, or train the UNet too")


def check_blocks(settings: TrainSettings, family: Family) -> None:
    """What depends on the checkpoint's family: names of blocks and lengths of lists.

    Raises:
        SettingsError: a block that it lacks, a list of another length, or no block is left.
    """
    for name in DIM_LISTS:
        if text := getattr(settings, name):
            dim_list(name, text, family)
    table = shares(settings, family)
    unet = any(group.name == "unet" for group in groups_of(settings))
    inner = [share for share, block in zip(table, blocks_of_places(family), strict=True) if block != OTHER]
    if unet and not any(inner) and not _only_base(settings):
        what = "every block of the UNet has a rate of 0"
        raise SettingsError(what, remedy="raise one, or switch network_train_text_encoder_only on")


def _only_base(settings: TrainSettings) -> bool:
    return bool(settings.train_blocks) and chosen(settings.train_blocks) == {BASE}


def block_warnings(settings: TrainSettings, family: Family) -> Iterator[str]:
    """Lists of rates that are filled up or cut, as kohya does."""
    n = LENGTHS[family]
    for name, size in zip(SIDES, (n.side, n.middle, n.side), strict=True):
        text = getattr(settings, name)
        found = len(side_weights(name, text, size)) if text else size
        if found != size:
            done = "the rest counts as 1" if found < size else "the rest is left out"
            yield f"{name} has {found} numbers, {family.value} has {size} blocks there: {done}"


def warnings(s: TrainSettings) -> Iterator[str]:
    """What has no effect, and what becomes of several rates where the optimizer takes one."""
    rated = any(getattr(s, name) for name in SIDES)
    if s.block_lr_zero_threshold and not rated:
        yield "block_lr_zero_threshold has no effect without down_, mid_ or up_lr_weight"
    if not rated and not s.block_dims:
        yield from (f"{n} has no effect without block_dims or rates by block" for n in DIM_LISTS[1:] if getattr(s, n))
    elif s.conv_block_alphas and not s.conv_block_dims:
        yield "conv_block_alphas has no effect without conv_block_dims"
    if s.conv_block_dims and getattr(s, "conv_dim", None) is None:
        yield "conv_block_dims has no effect where no 3x3 convolution is trained (conv_dim)"
    parts = {group.name for group in groups_of(s)}
    if not parts - {"unet"}:
        yield from (f"{n} has no effect, since the text encoder is not trained" for n in STOPS if getattr(s, n))
    if s.loraplus_unet_lr_ratio and "unet" not in parts:
        yield "loraplus_unet_lr_ratio has no effect, since the UNet is not trained"
    if s.loraplus_text_encoder_lr_ratio and not parts - {"unet"}:
        yield "loraplus_text_encoder_lr_ratio has no effect, since the text encoder is not trained"
    yield from _one_rate(s, rated)


def _one_rate(s: TrainSettings, rated: bool) -> Iterator[str]:
    kind, plus = kind_of(s.optimizer_type), _loraplus(s)
    if kind.relative(parse_args(s.optimizer_args)):
        if rated or plus:
            yield (
                "Adafactor with relative_step makes its own rates: rates by block and LoRA+ have no effect, but that a "
                "block with 0 is left out"
            )
        return
    different = len({group.learning_rate for group in groups_of(s)}) > 1
    if kind.adaptive and (different or rated or plus):
        yield (
            f"{s.optimizer_type} takes one learning rate for all, so it is given the highest, and the steps of the "
            "others are made smaller or larger by their ratio to it"
        )


def _loraplus(s: TrainSettings) -> bool:
    return any((s.loraplus_lr_ratio, s.loraplus_unet_lr_ratio, s.loraplus_text_encoder_lr_ratio))
