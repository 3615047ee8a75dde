"""Rules that make one tag of several for the same thing: the guide's consolidation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from lora_lab.tagging.operations.cleaning import Consolidate, Implications
from lora_lab.tagging.suggestions.base import Captions, Choice, Edit, Suggestion, listed, pictures
from lora_lab.tagging.suggestions.words import COLOURS, FAMILIES

TOGETHER = 0.5
"""Two tags mean one thing if they stand together in this share of the rarer one's captions."""


def implied(captions: Captions) -> Iterator[Suggestion]:
    """``shirt`` beside ``white shirt``: the shorter one says nothing more."""
    keep = tuple(tag for tags in captions.triggers.values() for tag in tags)
    operation = Implications(keep=keep)
    lines, gone = [], set()
    for i, tags in enumerate(captions.tags):
        left = operation.apply(tags)
        if len(left) != len(tags):
            lines.append(i)
            gone |= set(tags) - set(left)
    if not lines:
        return
    files, tags = captions.named(lines), tuple(sorted(gone))
    why = (
        f"{listed(tags)} stand beside a longer tag that says the same and more. One name for one thing: else the "
        "trainer learns the thing in halves."
    )
    drop = Choice("Keep the exact tags", "drops the shorter one where the longer one stands", (Edit(operation, files),))
    yield Suggestion("implied", f"{len(tags)} tags are said twice", why, files, tags, (drop,))


def general_words(captions: Captions) -> Iterator[Suggestion]:
    """``boots, red footwear, red boots``: a general word beside the exact one for it, in the same captions."""
    for word, nouns in FAMILIES.items():
        for group, into in _groups(captions, word, nouns):
            lines = [i for i, keys in enumerate(captions.key_sets) if keys & group and keys != keys - group | {into}]
            told = captions.told(sorted(group - {into}))
            target = captions.told([into])[0]
            if not lines or not told:
                continue
            why = (
                f"{listed(told)} and {target} stand for one thing in the same pictures. {target} describes it best; "
                f"{pictures(len(lines))} change."
            )
            edit = Edit(Consolidate(tuple(captions.told(sorted(group))), target), captions.named(lines))
            choice = Choice(f"All become '{target}'", "at the place of the first of them", (edit,))
            title = f"{listed(told, 3)} > {target}"
            yield Suggestion("consolidate", title, why, captions.named(lines), (*told, target), (choice,))


def _groups(captions: Captions, word: str, nouns: frozenset[str]) -> Iterator[tuple[frozenset[str], str]]:
    """Tags of one family that stand together, with the one that says most."""
    found: dict[str, list[str]] = defaultdict(list)
    for key in captions.counts:
        words = key.split()
        if words and words[-1] in nouns and key not in captions.trigger_keys:
            colour = next((w for w in words[:-1] if w in COLOURS), "")
            found[colour].append(key)
    for colour, keys in found.items():
        mates = [*keys, *(found.get("", []) if colour else [])]
        general = {key for key in mates if key.split()[-1] == word}
        exact = [key for key in mates if key not in general and (colour in key.split() or not colour)]
        if not exact or not (general or (colour and len(mates) > len(exact))):
            continue
        into = max(exact, key=lambda key: (captions.counts[key], len(key)))
        group = {key for key in mates if key == into or _together(captions, key, into)}
        same = {key for key in group if key in general or key.split()[-1] == into.split()[-1]}
        if len(same) > 1 and same & general:
            yield frozenset(same | {into}), into


def _together(captions: Captions, one: str, other: str) -> bool:
    both = sum(one in keys and other in keys for keys in captions.key_sets)
    return both >= max(1, TOGETHER * min(captions.counts[one], captions.counts[other]))
