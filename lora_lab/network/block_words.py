"""Blocks as people name them: one, a range, a side, a preset. Pure strings, no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.families import BASE, Family
from lora_lab.network.blocks import BLOCKS, MIDDLE, block_names

PRESETS = MappingProxyType({"b-lora-content": "OUT00", "b-lora-style": "OUT01"})
"""For SDXL: the two blocks of B-LoRA (arXiv 2403.14572, section 3): what is shown, and how it looks."""

_BLOCK = re.compile(r"(IN|OUT|M)(\d{1,2})")
_SIDES = MappingProxyType({"in": "IN", "out": "OUT", "mid": "M", "middle": "M", "m": "M"})


def chosen(words: Iterable[str], family: Family | None = None, where: str = "train_blocks") -> frozenset[str]:
    """The blocks that these words name.

    Args:
        words: ``IN``, ``MID``, ``OUT``, ``BASE``, ``IN04``, ``OUT03-OUT05`` or a preset, whatever their capitals;
            several may stand in one word with commas between.
        family: whose blocks they must be; None takes what any family has.
        where: what holds the words, for the sentence of an error.

    Raises:
        SettingsError: a word that names none, or a block that the family lacks.
    """
    pieces = [piece.strip() for word in words for piece in word.split(",") if piece.strip()]
    return frozenset(block for piece in pieces for block in _of_word(piece, family, where))


def _of_word(word: str, family: Family | None, where: str) -> tuple[str, ...]:
    low = word.lower()
    all_of_it = BLOCKS if family is None else block_names(family)
    if low == BASE.lower():
        return (BASE,)
    if low in _SIDES:
        return tuple(b for b in all_of_it if b.startswith(_SIDES[low]))
    if low in PRESETS:
        if family not in (None, Family.SDXL):
            raise SettingsError(f"{where} has {word}, which is for SDXL", remedy="name blocks such as OUT03-OUT05")
        return (PRESETS[low],)
    ends = [_block(end, word, where) for end in word.split("-")]
    if len(ends) > 2:
        raise _unknown(word, where)
    for block in ends:
        if block not in all_of_it:
            last = max(all_of_it[:-1], key=lambda b: (b.startswith(block.rstrip("0123456789")), b))
            what = f"{where} has {block}, which {family.value if family else 'no family'} lacks"
            raise SettingsError(what, remedy=f"its last one is {last}")
    first, last_one = sorted(all_of_it.index(block) for block in (ends[0], ends[-1]))
    return all_of_it[first : last_one + 1]


def _block(text: str, word: str, where: str) -> str:
    found = _BLOCK.fullmatch(text.strip().upper())
    if found is None:
        raise _unknown(word, where)
    return f"{found[1]}{int(found[2]):02d}"


def _unknown(word: str, where: str) -> SettingsError:
    names = ("IN", "MID", "OUT", BASE, MIDDLE, "IN04", "OUT03-OUT05", "B-LoRA-content", "B-LoRA-style")
    near = difflib.get_close_matches(word, names, n=1)
    remedy = f"did you mean {near[0]}" if near else "write IN, MID, OUT, BASE, IN04, OUT03-OUT05 or so"
    return SettingsError(f"{where} has {word!r}, which is no block", remedy=remedy)


def shortened(blocks: Iterable[str], family: Family) -> str:
    """Blocks in as few words as there are runs: ``IN01-IN05 M00 OUT03``."""
    wanted, runs = set(blocks), list[list[str]]()
    before = ""
    for block in block_names(family):
        if block in wanted:
            same_side = before and before.rstrip("0123456789") == block.rstrip("0123456789")
            if same_side:
                runs[-1].append(block)
            else:
                runs.append([block])
        before = block if block in wanted else ""
    return " ".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
