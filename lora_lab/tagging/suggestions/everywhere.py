"""Tags on nearly all pictures of a concept: the choice between keeping them and letting the trigger absorb them."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.tagging.operations.cleaning import Prune
from lora_lab.tagging.operations.lists import Add
from lora_lab.tagging.suggestions.base import Captions, Choice, Edit, Suggestion, listed
from lora_lab.tagging.suggestions.words import COUNTS

NEARLY = 0.9
FEWEST = 4
"""With fewer pictures 'nearly all' says nothing."""


def on_nearly_all(captions: Captions) -> Iterator[Suggestion]:
    """One finding for each concept, with both ways explained."""
    for concept, members in captions.members.items():
        if len(members) < FEWEST:
            continue
        counts = captions.counts_in(members)
        keys = [
            key
            for key, count in counts.items()
            if count >= NEARLY * len(members) and not COUNTS.fullmatch(key) and key not in captions.trigger_keys
        ]
        if not keys:
            continue
        told = captions.told(sorted(keys, key=lambda key: (-counts[key], key)))
        trigger = next(iter(captions.triggers.get(concept, ())), "")
        why = (
            f"{listed(told, 8)}. What every caption names stays apart: you write it in the prompt to get it, and can "
            "change it. What no caption names melts into the trigger: it comes with it, and is hard to change. The "
            "guide keeps hair and clothes tagged, so that they can change; prune what is always part of the subject."
        )
        files = captions.named(members)
        having = captions.named(i for i in members if captions.key_sets[i] & set(keys))
        absorb = Choice(
            f"Let '{trigger or concept}' absorb them", "the trigger alone will bring them all",
            (Edit(Prune(told, trigger), having),),
        )  # fmt: skip
        choices = [absorb]
        lacking = {key: [i for i in members if key not in captions.key_sets[i]] for key in keys}
        adds = tuple(Edit(Add(captions.told([key])), captions.named(lines)) for key, lines in lacking.items() if lines)
        if adds:
            choices.append(
                Choice("Name them everywhere", "adds them where they are missing, if they can be seen", adds)
            )
        title = f"{len(told)} tags are on nearly all pictures of '{concept}'"
        yield Suggestion("nearly-all", title, why, files, told, tuple(choices))
