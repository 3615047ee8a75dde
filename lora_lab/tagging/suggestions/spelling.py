"""Rules about how captions are written: one spelling, each tag once, no more than the encoder reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from lora_lab.tagging import names
from lora_lab.tagging.operations.arrange import Limit
from lora_lab.tagging.operations.cleaning import Duplicates
from lora_lab.tagging.operations.lists import Replace
from lora_lab.tagging.suggestions.base import Captions, Choice, Edit, Suggestion, listed, pictures


def spellings(captions: Captions) -> Iterator[Suggestion]:
    """One tag in two spellings: two tags for the text encoder."""
    variants: dict[str, set[str]] = defaultdict(set)
    for keys, tags in zip(captions.keys, captions.tags, strict=True):
        for key, tag in zip(keys, tags, strict=True):
            variants[key].add(tag)
    pairs = []
    for key, spelled in variants.items():
        if len(spelled) > 1:
            best = captions.spelling[key]
            best = next((s for s in (best, *sorted(spelled)) if s == names.spaced(names.unescape(s))), best)
            pairs += [(s, best) for s in sorted(spelled) if s != best]
    if not pairs:
        return
    other = {old for old, _ in pairs}
    files = captions.named(i for i, tags in enumerate(captions.tags) if other & set(tags))
    told = tuple(f"{old} > {new}" for old, new in pairs)
    why = f"{listed(told)}: the text encoder reads each spelling as another word."
    unify = Choice(
        "Use one spelling", "the one with blanks, or that most captions have", tuple(_exact(captions, pairs))
    )
    yield Suggestion(
        "spelling", f"{len(pairs)} tags are spelled in two ways", why, files, tuple(sorted(other)), (unify,)
    )


def _exact(captions: Captions, pairs: list[tuple[str, str]]) -> Iterator[Edit]:
    for old, new in pairs:
        files = captions.named(i for i, tags in enumerate(captions.tags) if old in tags)
        yield Edit(Replace(((old, new),)), files)


def repeated(captions: Captions) -> Iterator[Suggestion]:
    """A tag twice in one caption."""
    lines = [i for i, keys in enumerate(captions.keys) if len(keys) != len(captions.key_sets[i])]
    if lines:
        files = captions.named(lines)
        why = "A repeated tag takes tokens and says nothing more."
        once = Choice("Keep the first of each", "the order stays as it is", (Edit(Duplicates(), files),))
        yield Suggestion("repeated", f"{pictures(len(lines))} with a tag twice", why, files, (), (once,))


def too_long(captions: Captions) -> Iterator[Suggestion]:
    """Captions that the text encoder does not read to their end."""
    if captions.tokens is None:
        return
    limit = captions.token_limit
    counts = [captions.tokens(names.join(tags)) for tags in captions.tags]
    lines = [i for i, count in enumerate(counts) if count > limit]
    if lines:
        files = captions.named(lines)
        why = (
            f"The longest has {max(counts):,} tokens; what comes after {limit} is not trained on. Set max_token_length "
            "to 150 or 225, or let the last tags go."
        )
        keep = tuple(tag for tags in captions.triggers.values() for tag in tags)
        cut = Choice(f"Cut at {limit} tokens", "the last tags go, whole ones", (Edit(Limit(limit, keep=keep), files),))
        yield Suggestion("token-limit", f"{pictures(len(lines))} over {limit} tokens", why, files, (), (cut,))
