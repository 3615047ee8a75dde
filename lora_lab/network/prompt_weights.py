"""What a prompt's ``<lora:...>`` says about blocks, layers and steps. No torch.

    <lora:NAME:te:unet:lbw=OUTALL>                  block weights by a preset's name, or as a list of values
    <lora:NAME:1:lbw=1,1,1,1,1,1,1,0,X,X,R,U,...:x=0.5>      X is x; R (0 to 1) and U (-0.5 to 1.5) are drawn
    <lora:NAME:1:lbwe=IN05-OUT05:attn:0>            weights of single layers (see `elements`)
    <lora:NAME:1:step=5-10>                         acts in steps 5 to 9; start=5 and stop=10 say the same

The items are sd-webui-lora-block-weight's and stand in any order; its README is where their meaning is from. What is
drawn depends on the picture's seed and the tag's place only, so that a seed gives the same picture again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lora_lab.errors import SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network import elements, names, presets
from lora_lab.network.blocks import OTHER, block_of_name
from lora_lab.network.own_presets import all_presets
from lora_lab.network.vectors import listed, vector

LISTS = ("lbw", "w", "lwb")
"""Names of the list: lora-block-weight's, its short form, and the seed guide's spelling."""
RULES, X, START, STOP, STEP = "lbwe", "x", "start", "stop", "step"
OURS = frozenset((*LISTS, RULES, X, START, STOP, STEP))
"""Items that the webui's own Lora extension does not know."""
_LIVE_UNET = "diffusion_model_"
FILE_OF_RULES = "elempresets.txt"
"""sd-webui-lora-block-weight's file of named rules; a copy of it in our data folder is read."""


@dataclass(frozen=True)
class Tag:
    """A ``<lora:...>`` as it was written."""

    name: str
    text_encoder: float = 1.0
    unet: float = 1.0
    dyn: int | None = None
    """Rank to cut to, as the webui reads it (its fourth number, or ``dyn=``)."""
    weights: str = ""
    """A preset's name or a list; empty: all 1."""
    rules: str = ""
    """For single layers; empty: none."""
    x: float = 1.0
    start: int | None = None
    """First step in which the UNet has it, from 1."""
    stop: int | None = None
    """First step in which the UNet has it no more, from 1."""


@dataclass(frozen=True)
class PromptWeights:
    """A tag on a checkpoint's family: how strongly each layer takes part, and when."""

    tag: Tag
    family: Family
    blocks: Mapping[str, float]
    """By block, with `OTHER`; empty: all 1."""
    rules: tuple[elements.ElementRule, ...]
    text: str
    """The list with what X, R and U are; empty: all 1."""
    rules_text: str

    def weight_of_layer(self, stored: str, live: str) -> float:
        """Of a layer in the webui, beside the strengths of the tag.

        Args:
            stored: a key of the file, such as ``lora_unet_down_blocks_0_attentions_0_proj_in.alpha``.
            live: the webui's name of the layer, such as ``diffusion_model_input_blocks_1_1_proj_in``.
        """
        return self.weight(site_name(stored, live, self.family))

    def weight(self, site: str) -> float:
        """Of a layer, beside the strengths of the tag.

        Args:
            site: the layer's name on disk.
        """
        own = elements.weight_of(self.rules, site, self.family) if self.rules else None
        return self.blocks.get(block_of_name(site, self.family), 1.0) if own is None else own

    def acts(self, step: int) -> bool:
        """Does the UNet have it in this step, counted from 0?"""
        first, end = self.tag.start, self.tag.stop
        return (first is None or step >= first - 1) and (end is None or step < end - 1)

    @property
    def windowed(self) -> bool:
        """Are there steps in which it does not act?"""
        return self.tag.start is not None or self.tag.stop is not None

    @property
    def told(self) -> str:
        """What the infotext says of it: the list, and the rules; empty if there are none."""
        return " ".join(filter(None, (self.text, self.rules_text and f"lbwe={self.rules_text}")))

    @cached_property
    def plain(self) -> list[str]:
        """The items that the webui's own extension reads."""
        tag = self.tag
        cut = [] if tag.dyn is None else [f"dyn={tag.dyn}"]
        return [tag.name, repr(tag.text_encoder), repr(tag.unet), *cut]

    @cached_property
    def items(self) -> list[str]:
        """Items that say the same with nothing left to look up or to draw."""
        found = list(self.plain)
        found += [f"lbw={self.text}"] if self.text else []
        found += f"lbwe={self.rules_text}".split(":") if self.rules_text else []
        found += [f"start={self.tag.start}"] if self.tag.start is not None else []
        found += [f"stop={self.tag.stop}"] if self.tag.stop is not None else []
        return found


def site_name(stored: str, live: str, family: Family) -> str:
    """The name on disk that our tables know (see `PromptWeights.weight_of_layer`).

    Files of SDXL may say diffusers' names, and kohya's OFT has a prefix of its own.
    """
    name = stored.partition(".")[0]
    if names.module_path(name, family, "ldm") is not None or not live.startswith(_LIVE_UNET):
        return name
    path = names.dotted(live.removeprefix(_LIVE_UNET))
    return (path and names.disk_name(path, "unet", family, "ldm")) or name


def is_ours(items: Sequence[str]) -> bool:
    """Does a tag hold an item that only we read?"""
    return any(key in OURS for key in (item.partition("=")[0].strip() for item in items[1:] if "=" in item))


def parse(items: Sequence[str], named: Mapping[str, str] = elements.DEFAULTS) -> Tag:
    """Read a tag, split at its colons as the webui does.

    Args:
        items: the name first.
        named: names for rules; a rule that is none of them goes on over the next colons.

    Raises:
        SettingsError: a number that is none, or steps that leave none.
    """
    positional, keyed = _sorted(items, {name.upper() for name in named})
    name = positional[0]
    try:
        numbers = positional[1:]
        te = _number(keyed.get("te", numbers[0] if numbers else "1"), "the text encoder's strength")
        unet = _number(keyed.get("unet", numbers[1] if len(numbers) > 1 else repr(te)), "the UNet's strength")
        dyn = keyed.get("dyn", numbers[2] if len(numbers) > 2 else None)
        start, stop = _steps(keyed)
        return Tag(
            name, te, unet, None if dyn is None else _whole(dyn, "dyn"),
            weights=next((keyed[key] for key in LISTS if key in keyed), ""),
            rules=keyed.get(RULES, ""), x=_number(keyed.get(X, "1"), X), start=start, stop=stop,
        )  # fmt: skip
    except SettingsError as error:
        raise _of_tag(name, error) from error


def resolve(
    tag: Tag,
    family: Family,
    *,
    known: Sequence[presets.Preset] = presets.DEFAULTS,
    named: Mapping[str, str] = elements.DEFAULTS,
    draw: random.Random | None = None,
) -> PromptWeights:
    """What a tag means for a family.

    Raises:
        SettingsError: no such preset, a wrong number of values, a value that is none, rules that cannot be read.
    """
    try:
        text = _as_list(tag, family, known, draw) if tag.weights else ""
        # What the infotext says is what acts: a value is rounded first.
        blocks = _with_other(vector(text, family).blocks) if text else {}
        rules_text = {name.upper(): rule for name, rule in named.items()}.get(tag.rules.strip().upper(), tag.rules)
        return PromptWeights(tag, family, blocks, elements.rules(rules_text, family), text, rules_text)
    except SettingsError as error:
        raise _of_tag(tag.name, error) from error


@dataclass(frozen=True)
class PromptReader:
    """Reads the tags of a prompt with the presets and rules of a data folder."""

    data_dir: Path

    def read(self, tags: Sequence[Sequence[str]], family: Family | None, seed: int) -> list[PromptWeights | None]:
        """What each tag means; None for one that the webui's own extension reads alone.

        A LoRA that is named twice is ours twice: the webui's own extension would give both the last one's strengths.

        Raises:
            SettingsError: see `parse` and `resolve`; or a family that has no blocks we know.
        """
        ours = {items[0] for items in tags if is_ours(items)}
        if not ours:
            return [None] * len(tags)
        if family is None:
            raise SettingsError("block weights need a Stable Diffusion 1, 2 or XL checkpoint", remedy="load one")
        known, named = all_presets(self.data_dir), self.rules()
        found: list[PromptWeights | None] = []
        for place, items in enumerate(tags):
            draw = random.Random(f"{seed}/{place}/{items[0]}")
            meant = resolve(parse(items, named), family, known=known, named=named, draw=draw)
            found.append(meant if items[0] in ours else None)
        return found

    def rules(self) -> Mapping[str, str]:
        """Names for rules.

        Raises:
            SettingsError: the data folder's file of them cannot be read.
        """
        path = self.data_dir / FILE_OF_RULES
        return {**elements.DEFAULTS, **(elements.read_file(path) if path.is_file() else {})}


def _as_list(tag: Tag, family: Family, known: Sequence[presets.Preset], draw: random.Random | None) -> str:
    preset = presets.by_name(tag.weights, known)
    if preset is not None:
        return listed(preset.blocks(family, tag.x), family)
    choices = {one.name: one.weights for one in known if family in one.families}
    return vector(tag.weights, family, x=tag.x, draw=draw, presets=choices).text


def _with_other(blocks: Mapping[str, float]) -> Mapping[str, float]:
    """Layers outside the blocks have 1, as in lora-block-weight, but 0 where the whole UNet is off."""
    silent = not any(number for block, number in blocks.items() if block != BASE)
    return {**blocks, OTHER: 0.0 if silent else 1.0}


def _sorted(items: Sequence[str], named: set[str]) -> tuple[list[str], dict[str, str]]:
    """Items by place, the name first, and those with a key."""
    positional, keyed, rest = [items[0].strip()], {}, list(items[1:])
    while rest:
        item = rest.pop(0)
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals:
            positional.append(item.strip())
            continue
        if key == RULES and value.strip().upper() not in named:
            value = _rule_text(value, rest)
        keyed[key] = value.strip()
    return positional, keyed


def _rule_text(begun: str, rest: list[str]) -> str:
    """Rules have colons of their own: two more items for each, which are taken from `rest`."""
    parts = [begun]
    while len(rest) >= 2 and "=" not in rest[0] and "=" not in rest[1]:
        parts += [rest.pop(0), rest.pop(0)]
        if "," not in parts[-1]:
            break
    return ":".join(parts)


def _steps(keyed: Mapping[str, str]) -> tuple[int | None, int | None]:
    if STEP in keyed:
        first, dash, last = keyed[STEP].partition("-")
        if not dash:
            raise SettingsError(f"step={keyed[STEP]!r} is no range of steps", remedy="write it as step=5-10")
        keyed = {START: first, STOP: last}
    start = _whole(keyed[START], START) if START in keyed else None
    stop = _whole(keyed[STOP], STOP) if STOP in keyed else None
    if stop is not None and stop <= max(1, start or 0):
        what = f"from step {start or 1} until before step {stop} there is no step"
        raise SettingsError(what, remedy="give a later stop, or take the LoRA out")
    return start, stop


def _whole(word: str, what: str) -> int:
    if not word.strip().isascii() or not word.strip().isdigit():
        raise SettingsError(f"{what} is {word.strip()!r}, which is no whole number", remedy="give one such as 5")
    return int(word)


def _number(word: str, what: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SettingsError(f"{what} is {word.strip()!r}, which is no number", remedy="give one such as 0.5")
    return number


def _of_tag(name: str, error: SettingsError) -> SettingsError:
    return SettingsError(f"<lora:{name}>: {error.what}", file=error.file, remedy=error.remedy)
