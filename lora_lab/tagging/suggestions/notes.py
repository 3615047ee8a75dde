"""Findings without a button: only a person who looks at the pictures can tell what to do."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.tagging import names
from lora_lab.tagging.suggestions.base import Captions, Suggestion, listed, pictures
from lora_lab.tagging.suggestions.words import COUNTS, FURRY, POSES, UNWANTED, WORN

UNKNOWN = 0.2
"""From this share on, captions are in another dialect than the tagger's."""


def unwanted(captions: Captions) -> Iterator[Suggestion]:
    """Watermarks, text, a second person."""
    for what, words in UNWANTED.items():
        lines = [i for i, keys in enumerate(captions.key_sets) if keys & words]
        if lines:
            told = captions.told(sorted({key for i in lines for key in captions.key_sets[i] & words}))
            why = (
                f"{listed(told)}. Crop it off or paint it over; keep the tag where it stays visible, so that it can be "
                "put into the negative prompt."
            )
            yield Suggestion("unwanted", f"{what} on {pictures(len(lines))}", why, captions.named(lines), told)


def untagged(captions: Captions) -> Iterator[Suggestion]:
    """Captions with nothing but the trigger."""
    lines = [i for i, keys in enumerate(captions.key_sets) if not keys - captions.trigger_keys]
    if lines:
        why = "All that can be seen in them melts into the trigger. Tag them, or leave them so on purpose."
        yield Suggestion("untagged", f"{pictures(len(lines))} without tags", why, captions.named(lines))


def toggles(captions: Captions) -> Iterator[Suggestion]:
    """Things worn: they can be switched by their tag if there are pictures with and without them."""
    for concept, members in captions.members.items():
        counts = captions.counts_in(members)
        worn = [k for k in counts if (k.split() or [""])[-1] in WORN and k not in captions.trigger_keys]
        few = [key for key in worn if counts[key] <= 2 < len(members)]
        good = [key for key in worn if 2 < counts[key] < len(members)]
        if good:
            told = captions.told(sorted(good))
            why = (
                f"{listed(told, 8)}. They are worn in some pictures and not in others, so their tags will switch them "
                "on and off, if each stands exactly where it is visible."
            )
            yield Suggestion("toggles", f"{len(told)} on/off tags in '{concept}'", why, captions.named(members), told)
        if few:
            told = captions.told(sorted(few))
            why = (
                f"{listed(told, 8)}. One or two pictures are too few to learn a switch from; add some, or drop the tag."
            )
            title = (
                "a tag to switch by, on too few pictures"
                if len(told) == 1
                else (f"{len(told)} tags to switch by, on too few pictures")
            )
            yield Suggestion("few-toggles", title, why, (), told)


def poses(captions: Captions) -> Iterator[Suggestion]:
    """The guide's advice: name the pose, or the subject freezes in it."""
    lines = [i for i, keys in enumerate(captions.key_sets) if not {key.replace(" ", "-") for key in keys} & POSES]
    if len(lines) > len(captions.files) / 2:
        why = (
            "Neither pose nor framing is named in them. What is not named is learnt as a part of the subject: it will "
            "stand as it stood in the pictures."
        )
        yield Suggestion("poses", f"no pose on {pictures(len(lines))}", why, captions.named(lines))


def dialect(captions: Captions) -> Iterator[Suggestion]:
    """Words that the tagger's booru does not have, or that another site's checkpoints were trained on."""
    used = {k for k in captions.counts if k not in captions.trigger_keys and not COUNTS.fullmatch(k)}
    furry = sorted(key for key in used if key.replace(" ", "-") in FURRY)
    if len(furry) > 2:
        why = (
            f"{listed(captions.told(furry))} are e621's words. Checkpoints of anime pictures know Danbooru's; tag in "
            "the dialect of the checkpoint that you train on."
        )
        yield Suggestion("dialect", "tags of e621", why, (), captions.told(furry))
    if captions.scores is None or not used:
        return
    unknown = sorted(key for key in used if key not in captions.scores.column_of and names.spaced(key) not in furry)
    if len(unknown) >= UNKNOWN * len(used):
        told = captions.told(unknown)
        why = f"{listed(told, 8)}. The tagger does not know them, so a checkpoint of its dialect may not either."
        yield Suggestion("unknown-tags", f"{len(unknown)} of {len(used)} tags are unknown", why, (), told)
