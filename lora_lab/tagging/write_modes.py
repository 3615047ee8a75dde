"""What becomes of a caption's tags when a tagger's come: the words of `--write`. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.tagging import names

WRITE_MODES: Mapping[str, str] = MappingProxyType(
    {
        "if-empty": "only pictures without a caption get one",
        "append": "what is missing comes after the tags that are there",
        "prepend": "what is missing comes before the tags that are there",
        "replace": "only the tagger's tags are left",
        "merge": "both: tags that the tagger does not know (triggers) first, then all others as the tagger ranks them",
        "no": "nothing is written: the probabilities are kept, to choose from later",
    }
)
"""Word -> what it does."""


def written(old: Sequence[str], new: Sequence[str], mode: str, vocabulary: Collection[str] = ()) -> list[str]:
    """A caption's tags after tagging. A tag that is there in another spelling is not added again.

    Args:
        old: the caption's tags so far; none where there is no caption.
        new: the chosen tags, the best first.
        mode: a key of `WRITE_MODES`.
        vocabulary: `names.key` of each tag that the tagger knows; only `merge` asks for it.

    Returns:
        The tags; equal to `old` where nothing changes.

    Raises:
        SettingsError: another word for the mode.
    """
    if mode not in WRITE_MODES:
        raise SettingsError(f"--write is {mode!r}", remedy=f"use one of {', '.join(WRITE_MODES)}")
    if mode == "no" or (mode == "if-empty" and old):
        return list(old)
    new = once(new)
    if mode == "replace" or not old:
        # A tagger that finds nothing must not take the caption away.
        return new or list(old)
    missing = _missing(old, new)
    if mode == "append":
        return [*old, *missing]
    if mode == "prepend":
        return [*missing, *old]
    return _merged(old, new, missing, vocabulary)


def once(tags: Iterable[str]) -> list[str]:
    """Each tag once, the first spelling wins."""
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(names.key(tag), tag)
    return list(first.values())


def _missing(old: Sequence[str], new: Sequence[str]) -> list[str]:
    there = {names.key(tag) for tag in old}
    return [tag for tag in new if names.key(tag) not in there]


def _merged(old: Sequence[str], new: Sequence[str], missing: Sequence[str], vocabulary: Collection[str]) -> list[str]:
    """Unknown tags in front; then the chosen in their order; then known ones that were not found this time."""
    rank = {names.key(tag): place for place, tag in enumerate(new)}
    own = [tag for tag in old if names.key(tag) not in rank and names.key(tag) not in vocabulary]
    ranked = sorted(
        [*(tag for tag in old if names.key(tag) in rank), *missing], key=lambda tag: rank[names.key(tag)]
    )  # stable
    rest = [tag for tag in old if names.key(tag) not in rank and names.key(tag) in vocabulary]
    return [*own, *ranked, *rest]
