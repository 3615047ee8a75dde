"""Weights of single layers within blocks, as sd-webui-lora-block-weight's ``lbwe`` writes them. No torch.

    rules("IN05-OUT05:attn:0", Family.SD1)          the attentions between IN05 and OUT05 are off
    rules("NOT OUT04:ff_net attn2_to_k:0.5", family)

A rule is ``BLOCKS:LAYERS:WEIGHT``; rules stand behind commas or on lines of their own. Blocks and layers have blanks
between them, an empty part means all, and a leading NOT turns it round. Of a layer a piece of its path is given (ldm's,
with underscores or dots). A rule that fits replaces the weight of the layer's block, and the last one that fits counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network import names
from lora_lab.network.block_words import chosen
from lora_lab.network.blocks import block_names, block_of_name

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {"ATTNDEEPON": "IN05-OUT05:attn:1", "ATTNDEEPOFF": "IN05-OUT05:attn:0", "PROJDEEPOFF": "IN05-OUT05:proj:0"}
)
"""Names that people know for rules. The blocks are those that a family has between these two."""

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "self-attention": "attn1 self_attn",
        "cross-attention": "attn2",
        "feed-forward": "ff_net mlp",
        "projections": "proj_in proj_out",
        "convolutions": "in_layers out_layers skip_connection op conv",
        "time": "emb_layers",
    }
)
"""Groups of layers that a grid can switch: what they are called, and pieces of their paths."""
MOST_CHARACTERS = 1_000_000
REMEDY = "write BLOCKS:LAYERS:WEIGHT, as IN05-OUT05:attn:0"


@dataclass(frozen=True)
class ElementRule:
    """One rule."""

    blocks: frozenset[str]
    layers: tuple[str, ...]
    """Pieces of paths; empty: all layers."""
    outside: bool
    """The layers that none of the pieces fits are meant."""
    weight: float

    def fits(self, block: str, path: str) -> bool:
        """Is the layer meant?

        Args:
            block: that it lies in.
            path: ldm's, with underscores.
        """
        if block not in self.blocks:
            return False
        return not self.layers or any(piece in path for piece in self.layers) != self.outside


def rules(text: str, family: Family, named: Mapping[str, str] = DEFAULTS) -> tuple[ElementRule, ...]:
    """Read rules, or the name of some.

    Raises:
        SettingsError: a rule that cannot be read; which one.
    """
    found = {name.upper(): value for name, value in named.items()}.get(text.strip().upper(), text)
    return tuple(_rule(line.strip(), family) for line in re.split(r"[,\n]", found) if line.strip())


def read_file(path: Path) -> dict[str, str]:
    """An `elempresets.txt` of sd-webui-lora-block-weight: name -> rules (see :func:`named_rules`).

    Raises:
        SettingsError: it cannot be read, or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")[:MOST_CHARACTERS]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("the rules for layers cannot be read", file=path, remedy="give a text file") from error
    return named_rules(text)


def named_rules(text: str) -> dict[str, str]:
    """``NAME:BLOCKS:LAYERS:WEIGHT`` and further rules, empty lines between the names; the last of a name counts."""
    found = {}
    for piece in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        name, colon, rest = piece.partition(":")
        if colon and name.strip() and not name.lstrip().startswith("#"):
            found[name.strip()] = ",".join(line.strip() for line in re.split(r"[,\n]", rest) if line.strip())
    return found


def weight_of(rules_: Sequence[ElementRule], site: str, family: Family) -> float | None:
    """The weight that replaces the block's at a site; None where no rule fits.

    Args:
        site: its name on disk.
    """
    place = names.module_path(site, family, "ldm")
    path = (place[1] if place else site).replace(".", "_")
    block = block_of_name(site, family)
    return next((rule.weight for rule in reversed(rules_) if rule.fits(block, path)), None)


def groups(blocks: str, weight: float) -> dict[str, str]:
    """A rule for each group of layers: what it is called -> its text, for the rows of a grid."""
    return {name: f"{blocks}:{layers}:{weight:g}" for name, layers in GROUPS.items()}


def _rule(text: str, family: Family) -> ElementRule:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) != 3:
        raise SettingsError(f"{text!r} is no rule for layers", remedy=REMEDY)
    try:
        weight = float(parts[2])
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise SettingsError(f"{parts[2]!r} in {text!r} is no weight", remedy=REMEDY)
    layers, outside = _turned(parts[1].replace(".", "_"))
    return ElementRule(_blocks(parts[0], family), tuple(layers), outside and bool(layers), weight)


def _blocks(text: str, family: Family) -> frozenset[str]:
    words, outside = _turned(text)
    everything = frozenset((*block_names(family), "OTHER"))
    if not words:
        return everything
    named: frozenset[str] = frozenset()
    for word in words:
        span = _between(word, family)
        named |= chosen([word], family, text) if span is None else span
    return everything - named if outside else named


def _between(word: str, family: Family) -> frozenset[str] | None:
    """A range between two blocks of which the family may lack one, so that the known names fit every family."""
    ends = word.upper().split("-")
    everybody = block_names(Family.SD1)
    if len(ends) != 2 or not set(ends) <= set(everybody):
        return None
    first, last = sorted(everybody.index(end) for end in ends)
    return frozenset(everybody[first : last + 1]) & frozenset(block_names(family))


def _turned(text: str) -> tuple[list[str], bool]:
    words = text.split()
    turned = bool(words) and words[0].upper() == "NOT"
    return words[1:] if turned else words, turned
