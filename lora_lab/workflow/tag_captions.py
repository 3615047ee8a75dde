"""From what taggers saw to captions: what would change, by each of the write modes; sentences of a captioner too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lora_lab.dataset import pictures as files
from lora_lab.errors import SettingsError
from lora_lab.host.base import HostCaptioner
from lora_lab.tagging import names
from lora_lab.tagging.choose import Choice
from lora_lab.tagging.combine import How
from lora_lab.tagging.write_modes import WRITE_MODES, written
from lora_lab.workflow.caption_values import Change
from lora_lab.workflow.captions import CaptionProject
from lora_lab.workflow.tagging import Seen

CAPTIONER_SIDE = 768
"""A captioner's own picture is smaller still."""


def pictures_of(project: CaptionProject) -> list[Path]:
    """All pictures of a project, in the order of its captions."""
    return [picture for caption in project.captions.values() for picture in caption.pictures]


def propose(
    project: CaptionProject, seen: Seen, choice: Choice, mode: str = "if-empty", how: How = "mean"
) -> list[Change]:
    """The captions that tagging would change, for `CaptionProject.apply`. Pictures that could not be read keep theirs.

    Args:
        project: whose pictures were seen.
        seen: from `tagging.look` or `tagging.kept`.
        choice: what is taken.
        mode: a key of `WRITE_MODES`.
        how: several taggers are combined.

    Raises:
        SettingsError: another word for the mode, or a choice out of range.
    """
    tags = seen.choose(choice, how)
    return propose_tags(project, dict(zip(seen.pictures, tags, strict=True)), mode, seen.vocabulary)


def propose_tags(
    project: CaptionProject, tags: dict[Path, list[str]], mode: str, vocabulary: frozenset[str] = frozenset()
) -> list[Change]:
    """As `propose`, from tags that were chosen already. Of pictures that share a caption the first counts.

    Raises:
        SettingsError: another word for the mode.
    """
    if mode not in WRITE_MODES:
        raise SettingsError(f"--write is {mode!r}", remedy=f"use one of {', '.join(WRITE_MODES)}")
    wanted = {}
    for file, caption in project.captions.items():
        new = next((tags[picture] for picture in caption.pictures if picture in tags), None)
        if new is not None:
            after = written(caption.tags, new, mode, vocabulary)
            if tuple(after) != caption.tags:
                wanted[file] = after
    return project.preview_tags(wanted)


def describe(
    captioner: HostCaptioner, pictures: Sequence[Path], listen: Callable[[str, int, int], None]
) -> dict[Path, list[str]]:
    """A sentence for each picture, as the pieces between its commas; pictures that cannot be read are left out.

    Args:
        captioner: of the host.
        pictures: to describe.
        listen: stage, done, total; what it raises ends the work.
    """
    found: dict[Path, list[str]] = {}
    stage = f"describing with {captioner.name}"
    listen(stage, 0, len(pictures))
    with captioner.opened() as caption:
        for number, picture in enumerate(pictures, 1):
            try:
                image = files.small(picture, CAPTIONER_SIDE)
            except OSError:
                continue  # the dataset's check names it
            found[picture] = names.split(caption(image))
            listen(stage, number, len(pictures))
    return found
