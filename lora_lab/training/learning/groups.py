"""What has a learning rate of its own: parts, blocks by their share, the faster half of LoRA+. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_lab.families import Family
from lora_lab.network.block_words import shortened
from lora_lab.network.blocks import MIDDLE, OTHER
from lora_lab.training.learning.block_rules import blocks_of_places, share_of, shares
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.network.sites import Site


@dataclass(frozen=True)
class Group:
    """A part of the adapter with its own learning rate."""

    name: str
    """`unet`, `text_encoder` (SDXL's two share it), or `text_encoder_2` where that has a rate of its own."""
    learning_rate: float


@dataclass(frozen=True)
class RateGroup:
    """Parameters of one rate: what the optimizer, the log and the curve before the start tell apart."""

    name: str
    """`unet`, `text_encoder`; with shares by block `unet IN04-IN08`; the faster half of LoRA+ with ` plus`."""
    part: str
    """The name of the part's `Group`."""
    share: float
    """Of the part's rate: the block's."""
    plus: bool
    """The up halves, where LoRA+ gives them a rate of their own."""
    learning_rate: float
    """All shares in it."""


def rate_groups(settings: TrainSettings, groups: tuple[Group, ...], family: Family) -> tuple[RateGroup, ...]:
    """All groups that there can be, text encoder first, blocks in the order of their first place; rates above 0 only.

    Args:
        settings: with lists that can be read.
        groups: of the plan, with the parts' rates.
        family: decides the blocks.

    Raises:
        SettingsError: a list or a word about blocks that cannot be read.
    """
    return tuple(one for group in groups for one in _of_part(settings, group, family))


def _of_part(settings: TrainSettings, group: Group, family: Family) -> Iterator[RateGroup]:
    named = {1.0: group.name} if group.name != "unet" else _unet_shares(settings, family)
    ratio = plus_ratio(settings, group.name)
    for share, name in named.items():
        rate = group.learning_rate * share
        yield RateGroup(name, group.name, share, False, rate)
        if ratio is not None:
            yield RateGroup(f"{name} plus", group.name, share, True, rate * ratio)


def plus_ratio(settings: TrainSettings, part: str) -> float | None:
    """LoRA+'s ratio of a part; None where both halves learn alike."""
    own = settings.loraplus_unet_lr_ratio if part == "unet" else settings.loraplus_text_encoder_lr_ratio
    return own or settings.loraplus_lr_ratio


def _unet_shares(settings: TrainSettings, family: Family) -> dict[float, str]:
    """Share -> name of its group."""
    table = shares(settings, family)
    labels = _labels(table, family)
    different = list(dict.fromkeys(s for s, label in zip(table, labels, strict=True) if s > 0 and label != OTHER))
    if different == [1.0]:
        return {1.0: "unet"}
    named = {
        share: "unet " + _short([label for s, label in zip(table, labels, strict=True) if s == share], family)
        for share in different
    }
    if not settings.train_blocks:
        named.setdefault(1.0, "unet outside the blocks")
    return named


def _labels(table: tuple[float, ...], family: Family) -> list[str]:
    """Names of the places; SDXL's three middle pieces are told apart only where their shares differ."""
    places = blocks_of_places(family)
    middle = [i for i, block in enumerate(places) if block == MIDDLE]
    if len({table[i] for i in middle}) == 1:
        return list(places)
    return [f"{MIDDLE}.{i - middle[0]}" if i in middle else block for i, block in enumerate(places)]


def _short(labels: list[str], family: Family) -> str:
    pieces = [label for label in labels if "." in label]
    return " ".join(filter(None, (shortened([x for x in labels if x not in pieces], family), *pieces)))


def site_share(site: Site, settings: TrainSettings, family: Family) -> float:
    """The share of the part's rate of one site; 0 makes no module there."""
    table = shares(settings, family)
    return share_of(site, table, family, outside=0.0 if settings.train_blocks else 1.0)
