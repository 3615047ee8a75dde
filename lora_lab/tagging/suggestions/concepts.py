"""Rules about triggers and about concepts side by side."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.tagging import names
from lora_lab.tagging.operations.lists import TriggerFirst
from lora_lab.tagging.suggestions.base import Captions, Choice, Edit, Suggestion, listed, pictures
from lora_lab.tagging.suggestions.words import COUNTS

SHARED = 0.7
"""A tag on this share of both concepts' pictures ties them together."""


def missing_trigger(captions: Captions) -> Iterator[Suggestion]:
    """Captions that do not begin with their concept's trigger; where nothing is said of it, with the concept's name."""
    for concept, members in captions.members.items():
        triggers = captions.triggers.get(concept, (concept,) if concept.strip() else ())
        wanted = tuple(map(names.key, triggers))
        lacking = [i for i in members if captions.keys[i][: len(wanted)] != wanted]
        if not wanted or not lacking:
            continue
        said = ", ".join(triggers)
        why = (
            f"{pictures(len(lacking))} of '{concept}' do not begin with it. The trigger is what you will write in a "
            "prompt; at the front it stays in place when tags are shuffled (keep_tokens 1)."
        )
        edit = Edit(TriggerFirst(triggers), captions.named(lacking))
        put = Choice(f"Put '{said}' first", "moves it to the front where it is, and adds it where it is not", (edit,))
        yield Suggestion("trigger", f"Trigger '{said}' first", why, captions.named(lacking), triggers, (put,))


def shared_tags(captions: Captions) -> Iterator[Suggestion]:
    """Two concepts with the same tags on most pictures: each will call the other."""
    concepts = [(name, members) for name, members in captions.members.items() if len(members) > 2]
    for n, (one, first) in enumerate(concepts):
        for other, second in concepts[n + 1 :]:
            a, b = captions.counts_in(first), captions.counts_in(second)
            tags = [
                key
                for key in a
                if a[key] >= SHARED * len(first) and b[key] >= SHARED * len(second)
                and not COUNTS.fullmatch(key) and key not in captions.trigger_keys
            ]  # fmt: skip
            if not tags:
                continue
            told = captions.told(sorted(tags))
            why = (
                f"{listed(told)} stand on most pictures of '{one}' and of '{other}'. What two concepts share is learnt "
                "for both; give each its own trigger, and more pictures in which they differ in these."
            )
            files = captions.named([*first, *second])
            yield Suggestion("shared-tags", f"'{one}' and '{other}' share {len(told)} tags", why, files, told)
