"""From an influence map to block weights: keep what carries the concept, drop what bleeds. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_lab.families import Family
from lora_lab.network.block_words import shortened
from lora_lab.network.blocks import block_names
from lora_lab.testing import rows
from lora_lab.testing.cells import Weights

if TYPE_CHECKING:
    from lora_lab.testing.influence import BlockInfluence

CARRIES, SOME = 0.5, 0.2
"""Shares of the strongest block's concept from which a block is kept whole, or by half."""
NOISE = 0.02
"""Of the concept: less than this is nothing."""


@dataclass(frozen=True)
class Proposal:
    """Weights to try, and why."""

    weights: Weights
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"vector": self.weights.text, "blocks": dict(self.weights.blocks), "why": list(self.sentences)}


def propose(found: Sequence[BlockInfluence], family: Family, *, judged: bool, called: str) -> Proposal:
    """Weights by block.

    With a tagger: blocks that carry at least `CARRIES` of what the strongest carries stay at 1, those with `SOME` get
    half, others 0. Without one nothing tells concept from the rest, so that blocks that change the prompts without the
    trigger more than those with it get half.

    Args:
        found: of the blocks that the LoRA has.
        judged: did a tagger tell the concept?
        called: what the concept is called in the sentences.
    """
    strongest = max((one.concept for one in found), default=0.0)
    if not judged or strongest < NOISE:
        return _unjudged(found, family, judged)
    weights = {one.block: _weight(one.concept / strongest) for one in found}
    kept = [one for one in found if weights[one.block] == 1]
    half = [one.block for one in found if weights[one.block] == 0.5]
    dropped = [one for one in found if weights[one.block] == 0]
    carried = sum(max(0.0, one.concept) for one in found)
    share = sum(one.concept for one in kept) / carried
    sentences = [f"{shortened([one.block for one in kept], family)} carries {share:.0%} of {called}: keep it at 1."]
    if half:
        sentences.append(f"{shortened(half, family)} carries a little of it: half.")
    loud = sorted((one for one in dropped if one.other or one.bleed), key=lambda one: -(one.other + one.bleed))
    if dropped:
        names = shortened([one.block for one in dropped], family)
        sentences.append(f"{names} adds nothing to it: 0.")
    if loud:
        sentences.append(f"Of these {loud[0].block} changes most of everything else.")
    return Proposal(rows.of_blocks("proposal", {**_zeros(family), **weights}, family), tuple(sentences))


def _weight(share: float) -> float:
    return 1.0 if share >= CARRIES else 0.5 if share >= SOME else 0.0


def _unjudged(found: Sequence[BlockInfluence], family: Family, judged: bool) -> Proposal:
    why = "no block carries a concept that the tagger sees" if judged else "no tagger told the concept from the rest"
    bleeding = [one.block for one in found if one.bleed > one.alone.perceptual]
    weights = {**dict.fromkeys(block_names(family), 1.0), **dict.fromkeys(bleeding, 0.5)}
    sentences = [f"{why[0].upper()}{why[1:]}: only what changes prompts without the trigger is held back."]
    if bleeding:
        names = shortened(bleeding, family)
        sentences.append(f"{names} changes prompts without the trigger more than those with it: half.")
    return Proposal(rows.of_blocks("proposal", weights, family), tuple(sentences))


def _zeros(family: Family) -> dict[str, float]:
    return dict.fromkeys(block_names(family), 0.0)
