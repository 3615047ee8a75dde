"""Suggestions for captions: each rule is a small function of its own, and each finding says why."""

from __future__ import annotations

from collections.abc import Collection

from lora_lab.tagging.suggestions import concepts, doubts, everywhere, groups, notes, spelling
from lora_lab.tagging.suggestions.base import Captions, Choice, Edit, Suggestion

__all__ = ["RULES", "Captions", "Choice", "Edit", "Suggestion", "suggest"]

RULES = (
    concepts.missing_trigger,
    spelling.spellings,
    spelling.repeated,
    doubts.contradictions,
    doubts.other_colours,
    groups.implied,
    groups.general_words,
    everywhere.on_nearly_all,
    doubts.rare,
    doubts.just_under,
    spelling.too_long,
    notes.unwanted,
    notes.untagged,
    notes.toggles,
    notes.poses,
    concepts.shared_tags,
    notes.dialect,
)
"""In the order of the work: what later rules look at is put right by the earlier ones."""


def suggest(captions: Captions, dismissed: Collection[str] = ()) -> list[Suggestion]:
    """All findings, in the order of the work.

    Args:
        captions: the dataset.
        dismissed: `Suggestion.id` of what a person does not want to see again.
    """
    return [found for rule in RULES for found in rule(captions) if found.id not in dismissed]
