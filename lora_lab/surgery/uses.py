"""An adapter and how strongly it is used: on the UNet, on the text encoders, block by block and layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network import elements
from lora_lab.network.blocks import block_names
from lora_lab.network.elements import ElementRule
from lora_lab.network.presets import DEFAULTS, Preset, by_name, read_file
from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.metadata import source_entry
from lora_lab.surgery.places import block_of


@dataclass(frozen=True)
class AdapterUse:
    """One adapter of a merge, as a person asks for it.

    Attributes:
        unet, text_encoder: strengths; negative ones take the adapter's effect away.
        blocks: factors by block, IN00..OUT11 and BASE, or by side, IN, M and OUT; what is not named counts 1.
        preset: factors of all blocks, where `blocks` does not name them.
        x: what X stands for in the preset.
        elements: rules for single layers (`network.elements`), whose weight replaces the block's.
    """

    path: Path
    unet: float = 1.0
    text_encoder: float = 1.0
    blocks: Mapping[str, float] = field(default_factory=dict)
    preset: Preset | None = None
    x: float = 1.0
    elements: str = ""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SettingsError: a strength that is no finite number.
        """
        for number in (self.unet, self.text_encoder, self.x, *self.blocks.values()):
            if not math.isfinite(number):
                raise SettingsError(f"the strength {number} is no finite number", file=self.path)

    def settled(self, family: Family) -> AdapterUse:
        """The same with the preset's blocks written out.

        Raises:
            SettingsError: blocks that the family does not have, or a preset that is not for it.
        """
        known = (*block_names(family), "IN", "M", "OUT", "OTHER")
        wrong = [name for name in self.blocks if name not in known]
        if wrong:
            remedy = f"name BASE, {known[1]} .. {known[-5]}, IN, M or OUT"
            raise SettingsError(f"{family.value} has no block {wrong[0]}", remedy=remedy)
        if self.preset is None:
            return self
        told = {
            block: self.blocks.get(block.rstrip("0123456789"), number)
            for block, number in self.preset.blocks(family, self.x).items()
        }
        return replace(self, blocks={**told, **self.blocks}, preset=None, x=1.0)


@dataclass(frozen=True)
class Names:
    """Names that `lbw=` and `lbwe=` may use."""

    presets: tuple[Preset, ...] = DEFAULTS
    rules: Mapping[str, str] = field(default_factory=lambda: elements.DEFAULTS)

    @classmethod
    def of_files(cls, paths: Sequence[Path]) -> Names:
        """The known ones and those of files: `lbwpresets.txt`, `elempresets.txt` or both in one.

        Raises:
            SettingsError: one cannot be read, or has no preset at all.
        """
        found, rules = list(DEFAULTS), dict(elements.DEFAULTS)
        for path in paths:
            lists = read_file(path)
            named = {
                name: text
                for name, text in elements.read_file(path).items()
                if all(rule.count(":") == 2 for rule in text.split(","))
            }
            if not lists and not named:
                raise SettingsError("no preset is in the file", file=path, remedy="write NAME:values, one a line")
            found += lists
            rules |= named
        return cls(tuple(found), rules)

    def rule(self, name: str) -> str | None:
        """The rules of a name, in any letters."""
        return {known.upper(): text for known, text in self.rules.items()}.get(name.strip().upper())


def parse_use(text: str, names: Names | None = None) -> AdapterUse:
    """`FILE`, `FILE:0.8`, `FILE:unet=1:te=0.5:OUT03=0:IN=0.5`, `FILE:lbw=1,0,...`, `FILE:lbw=OUTX:x=0.2`,
    `FILE:lbwe=ATTNDEEPOFF`; rules in place of the last one's name stand at the end.

    Raises:
        SettingsError: a piece that cannot be read.
    """
    names = names or Names()
    name, pieces = _file_and_pieces(text)
    use = AdapterUse(Path(name))
    while pieces:
        key, equals, value = pieces.pop(0).partition("=")
        word = key.strip().lower()
        if word == "lbw":
            use = replace(use, preset=_preset(value, names))
        elif word == "lbwe":
            known = names.rule(value)
            if known is None and not pieces:
                raise _unknown_rules(value, names)
            use = replace(use, elements=":".join([value, *pieces]) if known is None else known)
            pieces = pieces if known is not None else []
        elif not equals:
            number = _number(key, key, text)
            use = replace(use, unet=number, text_encoder=number)
        else:
            use = _with(use, word, _number(value, f"{key}={value}", text))
    if use.x != 1 and (use.preset is None or "X" not in use.preset.weights.upper()):
        raise SettingsError(f"x has no effect in '{text}'", remedy="leave it out, or give a preset with X such as OUTX")
    return use


def _with(use: AdapterUse, word: str, number: float) -> AdapterUse:
    if word in ("te", "text_encoder"):
        return replace(use, text_encoder=number)
    if word == "unet":
        return replace(use, unet=number)
    if word == "x":
        return replace(use, x=number)
    return replace(use, blocks={**use.blocks, word.upper(): number})


def _number(word: str, piece: str, text: str) -> float:
    try:
        return float(word)
    except ValueError:
        what = f"'{piece}' of '{text}' is no strength"
        raise SettingsError(what, remedy="write 0.8, te=0.5, OUT03=0, lbw=OUTD or lbwe=ATTNDEEPOFF") from None


def _preset(value: str, names: Names) -> Preset:
    found = by_name(value, names.presets)
    if found is None and "," not in value and "=" not in value:
        known = ", ".join(dict.fromkeys(preset.name for preset in names.presets))
        remedy = f"give 17, 26, 12 or 20 numbers, or {known}"
        raise SettingsError(f"there are no block weights named '{value}'", remedy=remedy)
    return found or Preset("lbw", value)


def _unknown_rules(value: str, names: Names) -> SettingsError:
    remedy = f"give {', '.join(names.rules)}, or rules such as IN05-OUT05:attn:0 at the end"
    return SettingsError(f"there are no rules for layers named '{value}'", remedy=remedy)


def _file_and_pieces(text: str) -> tuple[str, list[str]]:
    """Split at the colons after the file's name, not at the one of a drive."""
    head = text[:2] if text[1:3] in (":\\", ":/") and text[:1].isalpha() else ""
    name, *pieces = text[len(head) :].split(":")
    return head + name, pieces


@dataclass(frozen=True)
class OpenUse:
    """A use, settled, with its file open."""

    use: AdapterUse
    reader: AdapterReader
    rules: tuple[ElementRule, ...] = ()

    def strength(self, entry: SiteEntry) -> float:
        """The factor of a site's finished delta."""
        family = self.reader.family
        block = block_of(entry.name, family)
        whole = self.use.text_encoder if block == BASE else self.use.unet
        single = elements.weight_of(self.rules, entry.name, family) if self.rules else None
        if single is not None:
            return whole * single
        return whole * self.use.blocks.get(block, self.use.blocks.get(block.rstrip("0123456789"), 1.0))

    @property
    def is_plain(self) -> bool:
        """Whether every site's strength is 1."""
        return all(self.strength(entry) == 1 for entry in self.reader)

    def to_json(self) -> dict[str, Any]:
        """The line of a recipe."""
        use, file = self.use, self.reader.file
        strengths: dict[str, Any] = {
            "unet": use.unet, "text_encoder": use.text_encoder, "blocks": dict(use.blocks)
        }  # fmt: skip
        if use.elements:
            strengths["elements"] = use.elements
        return source_entry(file, hash=file.data_hash(), **strengths)


def open_uses(stack: ExitStack, uses: Sequence[AdapterUse], family: Family | None = None) -> list[OpenUse]:
    """Open all adapters, which must be of one family.

    Raises:
        SettingsError: none is given, or a block is unknown.
        AdapterFileError: unreadable, or of another family.
    """
    if not uses:
        raise SettingsError("no adapter is given", remedy="name one or more LoRA files")
    opened: list[OpenUse] = []
    for use in uses:
        reader = stack.enter_context(AdapterReader(use.path, family))
        family = family or reader.family
        if reader.family is not family:
            raise AdapterFileError(
                f"this adapter is for {reader.family.value}, the others and the checkpoint are {family.value}",
                file=use.path,
                remedy="give files of one family",
            )
        opened.append(OpenUse(use.settled(family), reader, elements.rules(use.elements, family)))
    return opened
