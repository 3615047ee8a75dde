"""Checks by captions: what only tags tell, until a detector of faces and hands is at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lora_lab.dataset.captions import first_line, split_tags
from lora_lab.dataset.problems import Problem, told

if TYPE_CHECKING:
    from lora_lab.dataset.folders import Subset
    from lora_lab.dataset.scan import Item

CUT = frozenset(
    {
        "head out of frame", "out of frame", "feet out of frame", "cropped legs", "cropped torso", "cropped arms",
        "cropped head", "cropped shoulders", "cropped", "eyes out of frame", "hands out of frame",
    }
)  # fmt: skip
COVERED = frozenset(
    {
        "covering face", "covered face", "face mask", "hand over face", "hair over eyes", "covering own eyes",
        "facing away", "from behind", "faceless", "obscured face", "head down", "covering own mouth",
    }
)  # fmt: skip
PARTS = ("face", "head", "eyes", "hands", "feet")
FRAMINGS = frozenset({"portrait", "upper body", "cowboy shot", "full body", "close-up", "lower body", "head shot"})
POSES = frozenset(
    {
        "standing", "sitting", "lying", "kneeling", "squatting", "walking", "running", "jumping", "waving", "arms up",
        "from side", "from behind", "from above", "from below", "looking back", "profile", "hand on hip",
    }
)  # fmt: skip
ALIKE, FEWEST = 0.9, 8
NO_DETECTOR = Problem(
    "", "no-face-detector", "faces and hands cut off by the border are only known from tags",
    "tag the pictures; face_crop_aug_range needs a detector, and none is installed", "note",
)  # fmt: skip


def look(items: Sequence[Item], subsets: Sequence[Subset]) -> list[Problem]:
    """Cut and covered subjects, and concepts that always stand the same way."""
    train = [item for item in items if not item.subset.regularisation]
    found = [problem for item in train for problem in _single(item)]
    return [*found, *(p for s in subsets if not s.regularisation for p in _alike(s))]


def tags_of(caption: str) -> frozenset[str]:
    """A caption's tags, with blanks, in small letters."""
    return frozenset(tag.replace("_", " ").lower() for tag in split_tags(first_line(caption)))


def _single(item: Item) -> Iterator[Problem]:
    tags, name = tags_of(item.picture.caption), told(item.picture.path)
    for met, rule, what, remedy in (
        (
            tags & CUT,
            "cut-off",
            "a part of the subject lies outside the picture",
            "use one that shows it, or keep it tagged",
        ),
        (tags & COVERED, "covered", "the face cannot be seen", "keep few of these, and keep them tagged"),
    ):
        if met:
            yield Problem(name, rule, f"{what} (tagged {', '.join(sorted(met))})", remedy, "note")


def _alike(subset: Subset) -> Iterator[Problem]:
    """One framing, or one pose, on nearly all pictures."""
    captions = [tags_of(p.caption) for p in subset.pictures if p.has_caption]
    if len(captions) < FEWEST:
        return
    for words, what, remedy in (
        (FRAMINGS, "framing", "add close-ups and full bodies, so that it can be drawn at any distance"),
        (POSES, "pose", "add other poses, or the subject will freeze in this one"),
    ):
        counts = Counter(tag for tags in captions for tag in tags & words)
        for tag, count in counts.items():
            if count >= ALIKE * len(captions):
                why = f"{count} of {len(captions)} captions have the {what} '{tag}'"
                yield Problem(told(subset.folder), f"one-{what}", why, remedy)
