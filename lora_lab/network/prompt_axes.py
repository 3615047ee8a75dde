"""One thing of a prompt's LoRA changed: what the axes of the webui's X/Y/Z plot do. Pure strings, no torch.

    changed("hat <lora:x:1>", "preset", "OUTALL")          hat <lora:x:1:lbw=OUTALL>
    changed("hat <lora:x:1>", "block", "OUT03-OUT05=0.5")  these blocks at 0.5
    changed("hat <lora:x:1>", "block", "OUT04")            this block alone; NOT OUT04: all but this one
    changed("hat <lora:x:1>", "strength", "0.5/1")         text encoder 0.5, UNet 1
    changed("hat <lora:x:1>", "snapshot", "x-000004")      another file

The first LoRA of a prompt is meant. Blocks become rules for layers, which replace what the list says, so that a plot
can have presets on one axis and blocks on the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network import block_words, elements
from lora_lab.network.own_presets import all_presets
from lora_lab.network.prompt_weights import LISTS, RULES, PromptReader, parse

_TAG = re.compile(r"<(lora|lyco):([^>]+)>")


def changed(prompt: str, axis: str, value: str, named: Mapping[str, str] = elements.DEFAULTS) -> str:
    """The prompt with its first LoRA changed.

    Args:
        axis: one of `AXES`.
        value: see the module's head.
        named: names for rules.

    Raises:
        SettingsError: the prompt has no LoRA, or the value cannot be read.
    """
    found = _TAG.search(prompt)
    if found is None:
        raise SettingsError("the prompt has no LoRA to change", remedy="put <lora:NAME:1> into it")
    items = AXES[axis](found[2].split(":"), value.strip(), named)
    return f"{prompt[: found.start()]}<{found[1]}:{':'.join(items)}>{prompt[found.end() :]}"


def first_lora(prompt: str) -> list[str]:
    """Items of the prompt's first LoRA, its name first; empty without one."""
    found = _TAG.search(prompt)
    return found[2].split(":") if found else []


def _preset(items: list[str], value: str, _: Mapping[str, str]) -> list[str]:
    if ":" in value or ">" in value or not value:
        raise SettingsError(f"{value!r} is no preset", remedy="give a preset's name or a list of values")
    return [item for item in items if item.partition("=")[0] not in LISTS] + [f"lbw={value}"]


def _block(items: list[str], value: str, named: Mapping[str, str]) -> list[str]:
    words, equals, number = value.partition("=")
    outside, names = _turned(words)
    block_words.chosen([word for word in names.split() if word.upper() not in ("BASE", "OTHER")], where="the axis")
    if not names:
        raise SettingsError(f"{value!r} names no block", remedy="write OUT03-OUT05=0.5, OUT04 or NOT OUT04")
    if equals:
        rule = f"{'NOT ' if outside else ''}{names}::{_number(number)}"
    else:
        rule = f"{'' if outside else 'NOT '}{names}::0"
    tag = parse(items, named)
    before = {name.upper(): text for name, text in named.items()}.get(tag.rules.upper(), tag.rules)
    kept = _without_rules(items, tag.rules)
    return kept + f"{RULES}={','.join(filter(None, (before, rule)))}".split(":")


def _turned(words: str) -> tuple[bool, str]:
    pieces = words.split()
    outside = bool(pieces) and pieces[0].upper() == "NOT"
    return outside, " ".join(pieces[1:] if outside else pieces).upper()


def _without_rules(items: list[str], text: str) -> list[str]:
    """The items without the rules, which go on over some colons."""
    start = next((n for n, item in enumerate(items) if item.partition("=")[0] == RULES), None)
    return items if start is None else items[:start] + items[start + 1 + text.count(":") :]


def _strength(items: list[str], value: str, _: Mapping[str, str]) -> list[str]:
    first, slash, second = value.partition("/")
    te, unet = _number(first), _number(second if slash else first)
    rest = _without_numbers(items)
    return [items[0], te, unet, *rest]


def _without_numbers(items: list[str]) -> list[str]:
    """What stands behind the name and the two strengths, those that have a key among them."""
    found, place = list[str](), 0
    for n, item in enumerate(items[1:]):
        if "=" not in item and n == place and place < 2:
            place += 1
        elif item.partition("=")[0] not in ("te", "unet"):
            found.append(item)
    return found


def _number(word: str) -> str:
    try:
        return f"{float(word):g}"
    except ValueError:
        raise SettingsError(f"{word.strip()!r} is no strength", remedy="give a number such as 0.5") from None


def _snapshot(items: list[str], value: str, _: Mapping[str, str]) -> list[str]:
    return [value, *items[1:]]


AXES: Mapping[str, Callable[[list[str], str, Mapping[str, str]], list[str]]] = MappingProxyType(
    {"preset": _preset, "block": _block, "strength": _strength, "snapshot": _snapshot}
)
"""What can be changed."""


@dataclass(frozen=True)
class PlotAxes:
    """The axes with the presets and rules of a data folder."""

    reader: PromptReader

    def changed(self, prompt: str, axis: str, value: str) -> str:
        """See `changed`."""
        return changed(prompt, axis, value, self.reader.rules())

    def check(self, prompt: str, family: Family | None) -> str:
        """See that the prompt's first LoRA means something for a family.

        Returns:
            Its name.

        Raises:
            SettingsError: see `PromptReader.read`.
        """
        items = first_lora(prompt)
        self.reader.read([items], family, 0)
        return items[0]

    def presets(self, family: Family | None) -> list[str]:
        """Names of the presets that hold for a family.

        Raises:
            SettingsError: a file of presets is damaged.
        """
        known = all_presets(self.reader.data_dir)
        return list(dict.fromkeys(one.name for one in known if family is None or family in one.families))
