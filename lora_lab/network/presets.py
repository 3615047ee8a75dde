"""Named block weights: those that people know, the guide's, and files of sd-webui-lora-block-weight. No torch.

A preset is rules by side and block, so that it holds for every family where it makes sense: ``OUT=1`` means the outputs
of SD1's UNet and of SDXL's alike. Lists of values (SD1's 17) are read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network.blocks import block_names
from lora_lab.network.vectors import FORMATS, vector

_FILE_LINE = re.compile(r"\s*([^:#]+?)\s*:\s*([^#]+?)\s*")
_RULE = re.compile(r"(BASE|IN|M|OUT)(\d{2})?(?:-(BASE|IN|M|OUT)(\d{2}))?=(X|-?\d+(?:\.\d+)?)", re.IGNORECASE)
MOST_LINES = 10_000


@dataclass(frozen=True)
class Preset:
    """Named block weights."""

    name: str
    weights: str
    """A list of values, or rules such as ``BASE=1 IN=1 M=1 OUT=X``; blocks no rule names have 0."""
    note: str = ""
    """What it is good for, in a few words."""
    families: frozenset[Family] = frozenset(Family)

    def blocks(self, family: Family, x: float = 1.0) -> Mapping[str, float]:
        """The weight of every block of `family`.

        Args:
            family: of the model.
            x: what X stands for.

        Raises:
            SettingsError: it is for other families, or cannot be read.
        """
        if family not in self.families:
            known = " and ".join(sorted(f.value for f in self.families))
            remedy = f"choose another one for {family.value}"
            raise SettingsError(f"the preset {self.name} is for {known}", remedy=remedy)
        if "=" not in self.weights:
            return vector(self.weights, family, x=x).blocks
        return _by_rules(self, family, x)


def _by_rules(preset: Preset, family: Family, x: float) -> Mapping[str, float]:
    """Later rules win."""
    names = block_names(family)
    found = dict.fromkeys(names, 0.0)
    for word in preset.weights.split():
        rule = _RULE.fullmatch(word)
        if rule is None:
            remedy = "write rules such as IN=1 OUT03-OUT05=0.5, or a list of values"
            raise SettingsError(f"the preset {preset.name} holds {word!r}", remedy=remedy)
        first, last = _span(rule, names)
        number = x if rule[5].upper() == "X" else float(rule[5])
        found |= dict.fromkeys(names[first : last + 1], number)
    return MappingProxyType(found)


def _span(rule: re.Match[str], names: tuple[str, ...]) -> tuple[int, int]:
    """First and last place of the blocks a rule speaks of; an empty span where the family lacks them."""
    side, number = rule[1].upper(), rule[2]
    same = [i for i, name in enumerate(names) if name.startswith(side)]
    if number:
        same = [i for i in same if names[i] == side + number]
    if rule[3]:
        end = rule[3].upper() + (rule[4] or "")
        ends = [i for i, name in enumerate(names) if name.startswith(end)]
        same = [same[0], ends[-1]] if same and ends else []
    return (same[0], same[-1]) if same else (1, 0)


_XL = frozenset({Family.SDXL})
_SD = frozenset({Family.SD1, Family.SD2})
DEFAULTS: tuple[Preset, ...] = (
    Preset("NONE", "BASE=0", "nothing: the picture without it"),
    Preset("ALL", "BASE=1 IN=1 M=1 OUT=1", "everything: as <lora:name:1>"),
    Preset("ALL0.5", "BASE=0.5 IN=0.5 M=0.5 OUT=0.5", "everything at half strength"),
    Preset("INS", "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0", "the shallow inputs", _SD),
    Preset("IND", "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0", "the deep inputs", _SD),
    Preset("INALL", "BASE=1 IN=1", "the inputs: composition, silhouette, pose"),
    Preset("MIDD", "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0", "around the middle", _SD),
    Preset("OUTD", "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0", "the deep outputs", _SD),
    Preset("OUTS", "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1", "the shallow outputs", _SD),
    Preset("OUTALL", "BASE=1 OUT=1", "the outputs: colour, shadow, texture"),
    Preset("INX", "BASE=1 IN=1 M=1 OUT=X", "the guide's: inputs whole, outputs at X"),
    Preset("OUTX", "BASE=1 IN=X M=1 OUT=1", "the guide's: outputs whole, inputs at X"),
    Preset("LINX", "BASE=1 IN=1 M=1 OUT=X", "the guide's for LoCons; its lists lack the first value, for BASE"),
    Preset("LOUTX", "BASE=1 IN=X M=1 OUT=1", "the guide's for LoCons; its lists lack the first value, for BASE"),
    Preset("MID", "BASE=1 M=1", "the middle alone"),
    Preset("B-LoRA-content", "OUT00=1", "what is shown (arXiv 2403.14572)", _XL),
    Preset("B-LoRA-style", "OUT01=1", "how it looks (arXiv 2403.14572)", _XL),
    Preset("InstantStyle-layout", "IN08=1", "where things are", _XL),
)
"""Those that everybody has."""


LARGEST = 4_000_000
"""Bytes of a file."""


def read_file(path: Path) -> tuple[Preset, ...]:
    """An `lbwpresets.txt`: ``NAME:values`` a line; lines with ``#`` or another number of values are comments there.

    Raises:
        SettingsError: it cannot be read, or is no text.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise OSError
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("the presets cannot be read", file=path, remedy="give a text file") from error
    return tuple(parse_lines(text.splitlines()[:MOST_LINES]))


def parse_lines(lines: Iterable[str]) -> list[Preset]:
    """The presets among lines of text; the last of a name counts."""
    found: dict[str, Preset] = {}
    for line in lines:
        match = _FILE_LINE.fullmatch(line)
        families = match and _families(match[2])
        if match and families:
            found[match[1]] = Preset(match[1], match[2].replace(" ", ""), "from a file of presets", families)
    return list(found.values())


def _families(values: str) -> frozenset[Family]:
    """Those whose lists have so many values, each of which is one."""
    words = values.split(",")
    fits = set()
    for family, formats in FORMATS.items():
        if len(words) in formats:
            try:
                vector(values, family)
            except SettingsError:
                continue
            fits.add(family)
    return frozenset(fits)


def by_name(name: str, presets: Iterable[Preset] = DEFAULTS) -> Preset | None:
    """The preset of a name, in any letters; the last one counts."""
    return next((p for p in reversed(list(presets)) if p.name.upper() == name.strip().upper()), None)

