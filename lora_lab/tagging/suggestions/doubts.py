"""Rules that doubt the tagger: contradictions, odd ones out, and what it missed by little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from lora_lab.tagging.operations.lists import Add, Remove, Replace
from lora_lab.tagging.suggestions.base import Captions, Choice, Edit, Suggestion, listed, pictures
from lora_lab.tagging.suggestions.words import COLOURS, COUNTS, EXCLUSIVE, ONE_COLOUR, SEVERAL_COLOURS

FEWEST = 8
"""In a smaller dataset every tag is rare."""
MAJORITY, MINORITY = 0.7, 0.15
SHARE, MARGIN, MOST = 0.4, 0.15, 12
"""A neighbour's tag is on this share of the concept, and its probability this much below the threshold at most."""


def contradictions(captions: Captions) -> Iterator[Suggestion]:
    """Two tags of which only one can be true."""
    sets = [*EXCLUSIVE, *_colour_sets(captions)]
    for what, exclusive in sets:
        losers: Counter[tuple[int, str]] = Counter()
        for i, keys in enumerate(captions.keys):
            met = [key for key in dict.fromkeys(keys) if key in exclusive]
            if len(met) > 1 and not (what.endswith("colour") and captions.key_sets[i] & SEVERAL_COLOURS):
                best = max(met, key=lambda key: (captions.probability(i, key) or 0.0, captions.counts[key]))
                losers.update((i, key) for key in met if key != best)
        if not losers:
            continue
        lines = sorted({i for i, _ in losers})
        told = captions.told(sorted({key for i in lines for key in captions.key_sets[i] & exclusive}))
        why = f"{listed(told)} exclude each other, and stand together in {pictures(len(lines))}."
        edits = tuple(
            Edit(Remove(captions.told([key])), captions.named(i for i, lost in losers if lost == key))
            for key in sorted({key for _, key in losers})
        )
        label = "Keep the more probable" if captions.scores is not None else "Keep the more frequent"
        choice = Choice(label, "takes the other one out, picture by picture; look at them first", edits)
        yield Suggestion("contradiction", f"{what}: {listed(told, 3)}", why, captions.named(lines), told, (choice,))


def _colour_sets(captions: Captions) -> Iterator[tuple[str, frozenset[str]]]:
    for thing in ONE_COLOUR:
        keys = frozenset(key for key in captions.counts if _coloured(key, thing))
        if len(keys) > 1:
            yield f"{thing} of one colour", keys


def _coloured(key: str, thing: str) -> bool:
    words = key.split()
    return len(words) == 2 and words[1] == thing and words[0] in COLOURS


def other_colours(captions: Captions) -> Iterator[Suggestion]:
    """``brown hair`` on one picture of a blonde: the guide's false positive that ruins a character."""
    for concept, members in captions.members.items():
        counts = captions.counts_in(members)
        for thing in ONE_COLOUR:
            keys = sorted((key for key in counts if _coloured(key, thing)), key=lambda key: -counts[key])
            if not keys or counts[keys[0]] < MAJORITY * len(members):
                continue
            odd = [key for key in keys[1:] if counts[key] <= max(1, MINORITY * len(members))]
            # Captions with both are a contradiction, which has a rule of its own.
            lines = [i for i in members if captions.key_sets[i] & set(odd) and keys[0] not in captions.key_sets[i]]
            if not lines:
                continue
            main, told = captions.told(keys[:1])[0], captions.told(odd)
            why = (
                f"'{main}' is on {counts[keys[0]]} of {len(members)} pictures of '{concept}'; {listed(told)} on "
                f"{len(lines)}. A wrong colour in one caption is enough to spoil it."
            )
            files = captions.named(lines)
            right = Choice(f"It is {main}", "replaces the odd one", (Edit(Replace(_pairs(told, main)), files),))
            gone = Choice("Take the odd one out", "the picture may show something else", (Edit(Remove(told), files),))
            yield Suggestion("odd-colour", f"{listed(told, 3)} beside {main}", why, files, (*told, main), (right, gone))


def _pairs(old: Iterable[str], new: str) -> tuple[tuple[str, str], ...]:
    return tuple((tag, new) for tag in old)


def rare(captions: Captions) -> Iterator[Suggestion]:
    """Tags on one picture only: most likely seen by mistake."""
    if len(captions.files) < FEWEST:
        return
    once = {
        k for k, n in captions.counts.items() if n == 1 and not COUNTS.fullmatch(k) and k not in captions.trigger_keys
    }
    places = [(i, key) for i, keys in enumerate(captions.keys) for key in keys if key in once]
    if not places:
        return
    told = captions.told(key for _, key in places)
    chances = [captions.probability(i, key) for i, key in places]
    said = [tag if p is None else f"{tag} ({p:.0%})" for tag, p in zip(told, chances, strict=True)]
    why = (
        f"{listed(said, 8)}. One picture teaches a tag nothing, and a wrong one does harm; keep those that can be seen "
        "and that you want to switch off."
    )
    files = captions.named(dict.fromkeys(i for i, _ in places))
    choices = [Choice("Take them all out", "the rest of the captions stays", (Edit(Remove(told), files),))]
    unsure = [key for i, key in places if (captions.probability(i, key) or 0.0) < captions.threshold + MARGIN]
    if captions.scores is not None and 0 < len(unsure) < len(places):
        some = (Edit(Remove(captions.told(unsure)), files),)
        choices.insert(0, Choice(f"Take out the {len(unsure)} unsure ones", "those little above the threshold", some))
    yield Suggestion("rare", f"{len(told)} tags are on one picture only", why, files, told, tuple(choices))


def just_under(captions: Captions) -> Iterator[Suggestion]:
    """A tag that most neighbours have, and that the tagger nearly gave."""
    if captions.scores is None:
        return
    found: list[tuple[str, str, list[int]]] = []
    for concept, members in captions.members.items():
        counts = captions.counts_in(members)
        for key, count in counts.items():
            if SHARE * len(members) <= count < len(members) and key not in captions.trigger_keys:
                lines = [i for i in members if key not in captions.key_sets[i] and _nearly(captions, i, key)]
                if lines:
                    found.append((concept, key, lines))
    for concept, key, lines in sorted(found, key=lambda f: -len(f[2]))[:MOST]:
        tag, files = captions.told([key])[0], captions.named(lines)
        why = (
            f"Most pictures of '{concept}' have it, and in these {len(lines)} its probability is just under the "
            f"threshold of {captions.threshold:g}."
        )
        add = Choice(f"Add '{tag}'", "look at the pictures first", (Edit(Add((tag,)), files),))
        yield Suggestion("just-under", f"{tag}: missing on {pictures(len(lines))}?", why, files, (tag,), (add,))


def _nearly(captions: Captions, index: int, key: str) -> bool:
    chance = captions.probability(index, key)
    return chance is not None and captions.threshold - MARGIN <= chance < captions.threshold
