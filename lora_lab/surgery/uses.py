"""An adapter and how strongly it is used: on the UNet, on the text encoders, and block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network.blocks import block_names
from lora_lab.network.vectors import FORMATS
from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.metadata import source_entry
from lora_lab.surgery.places import block_of


@dataclass(frozen=True)
class AdapterUse:
    """One adapter of a merge.

    Attributes:
        unet, text_encoder: strengths; negative ones take the adapter's effect away.
        blocks: factors by block, IN00..OUT11 and BASE, or by side, IN, M and OUT; what is not named counts 1.
    """

    path: Path
    unet: float = 1.0
    text_encoder: float = 1.0
    blocks: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SettingsError: a strength that is no finite number.
        """
        for number in (self.unet, self.text_encoder, *self.blocks.values()):
            if not math.isfinite(number):
                raise SettingsError(f"the strength {number} is no finite number", file=self.path)

    @property
    def is_plain(self) -> bool:
        """Whether every strength is 1."""
        return all(number == 1 for number in (self.unet, self.text_encoder, *self.blocks.values()))

    def strength(self, site: str, family: Family) -> float:
        """The factor of a site's finished delta."""
        block = block_of(site, family)
        side = self.blocks.get(block.rstrip("0123456789"), 1.0)
        return (self.text_encoder if block == BASE else self.unet) * self.blocks.get(block, side)

    def check_blocks(self, family: Family) -> None:
        """Refuse blocks that the family does not have.

        Raises:
            SettingsError: naming the first one.
        """
        known = (*block_names(family), "IN", "M", "OUT", "OTHER")
        wrong = [name for name in self.blocks if name not in known]
        if wrong:
            raise SettingsError(
                f"{family.value} has no block {wrong[0]}", remedy=f"name BASE, {known[1]} .. {known[-5]}, IN, M or OUT"
            )

    def to_json(self, reader: AdapterReader) -> dict[str, Any]:
        """The line of a recipe."""
        strengths = {"unet": self.unet, "text_encoder": self.text_encoder, "blocks": dict(self.blocks)}
        return source_entry(reader.file, hash=reader.file.data_hash(), **strengths)


VECTORS = {count: order for formats in FORMATS.values() for count, order in formats.items()}
"""The blocks that a list of weights means, by its length: lora-block-weight's formats."""


PRESETS = {
    "NONE": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "ALL": "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
}
"""Names that people know for lists of 17 (SD1, SD2)."""


def vector(text: str) -> dict[str, float]:
    """A list of block weights, as people know them from lora-block-weight, or the name of one, by block.

    Raises:
        SettingsError: not 17, 26, 12 or 20 numbers, and no name of :data:`PRESETS`.
    """
    try:
        numbers = [float(word) for word in PRESETS.get(text.strip().upper(), text).split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in VECTORS:
        remedy = f"give 17, 26, 12 or 20 numbers, or {', '.join(PRESETS)}"
        raise SettingsError(f"'{text}' is no list of block weights", remedy=remedy)
    return dict(zip(VECTORS[len(numbers)], numbers, strict=True))


def parse_use(text: str) -> AdapterUse:
    """`FILE`, `FILE:0.8`, `FILE:unet=1:te=0.5:OUT03=0:IN=0.5`, `FILE:lbw=1,0,...` or `FILE:lbw=OUTD`.

    Raises:
        SettingsError: a piece that cannot be read.
    """
    name, pieces = _file_and_pieces(text)
    unet = te = 1.0
    blocks: dict[str, float] = {}
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if key.lower() == "lbw":
            blocks |= vector(value)
            continue
        try:
            number = float(value if equals else key)
        except ValueError:
            what = f"'{piece}' of '{text}' is no strength"
            raise SettingsError(what, remedy="write 0.8, te=0.5 or OUT03=0") from None
        if not equals:
            unet = te = number
        elif key.lower() in ("te", "text_encoder"):
            te = number
        elif key.lower() == "unet":
            unet = number
        else:
            blocks[key.upper()] = number
    return AdapterUse(Path(name), unet, te, blocks)


def _file_and_pieces(text: str) -> tuple[str, list[str]]:
    """Split at the colons after the file's name, not at the one of a drive."""
    head = text[:2] if text[1:3] in (":\\", ":/") and text[:1].isalpha() else ""
    name, *pieces = text[len(head) :].split(":")
    return head + name, pieces


@dataclass(frozen=True)
class OpenUse:
    """A use with its file open."""

    use: AdapterUse
    reader: AdapterReader

    def strength(self, entry: SiteEntry) -> float:
        """The factor of a site's finished delta."""
        return self.use.strength(entry.name, self.reader.family)


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
        use.check_blocks(family)
        opened.append(OpenUse(use, reader))
    return opened
