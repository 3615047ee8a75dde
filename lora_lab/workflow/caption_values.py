"""What a caption project hands on: captions as tags, changes to look at before they happen, rows of the tag table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lora_lab.dataset.caption_folder import CaptionFile
from lora_lab.dataset.caption_text import Encoding
from lora_lab.tagging import names
from lora_lab.tagging.filters import Look


@dataclass(frozen=True)
class Caption:
    """One caption as it is on the disk."""

    source: CaptionFile
    edited: bool = False
    """Does it differ from how it was found?"""

    @property
    def file(self) -> str:
        """Its name: relative to the dataset's folder, with slashes, also where there is no file yet."""
        return self.source.file

    @property
    def pictures(self) -> tuple[Path, ...]:
        """Whose caption it is; mostly one."""
        return self.source.pictures

    @property
    def locked(self) -> str:
        """Why it cannot be changed; empty if it can."""
        return self.source.locked

    @property
    def exists(self) -> bool:
        """Is there a file?"""
        return self.source.data is not None

    @property
    def concept(self) -> str:
        """The folder it is in; empty for the dataset's own."""
        return self.file.rpartition("/")[0]

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """In their order."""
        return tuple(names.split(self.source.text.line))

    @cached_property
    def keys(self) -> frozenset[str]:
        """`names.key` of its tags."""
        return frozenset(map(names.key, self.tags))

    def look(self, tokens: Callable[[str], int] | None) -> Look:
        """For filters."""
        return Look(self.tags, self.file, self.edited, tokens)


@dataclass(frozen=True)
class Change:
    """What will become of one caption."""

    file: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    converts: Encoding | None = None
    """How its letters were stored so far, where that is not plain UTF-8: what is written is."""
    old: bytes | None = field(repr=False, default=None)
    """The whole file; None for no file."""
    new: bytes | None = field(repr=False, default=None)

    @property
    def added(self) -> tuple[str, ...]:
        """Tags that it did not have, in their order."""
        before = set(self.before)
        return tuple(tag for tag in self.after if tag not in before)

    @property
    def removed(self) -> tuple[str, ...]:
        """Tags that it will not have any more."""
        after = set(self.after)
        return tuple(tag for tag in self.before if tag not in after)

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        found: dict[str, Any] = {"file": self.file, "before": names.join(self.before), "after": names.join(self.after)}
        return {**found, "converts": self.converts} if self.converts else found


@dataclass(frozen=True)
class TagRow:
    """One tag of the dataset."""

    tag: str
    """As most captions spell it."""
    key: str
    count: int
    """Captions that have it."""
    share: float
    """Of all captions looked at, 0..1."""
    mean: float | None = None
    """The tagger's mean probability over the captions that have it; None where it is not known."""


State = Literal["done", "undone", "noted"]


@dataclass(frozen=True)
class Point:
    """One line of the history."""

    id: int
    """For `preview_restore`; 0 is how everything was found."""
    time: float
    """Seconds since 1970."""
    label: str
    kind: str
    """``edit``, ``restore``, ``undo``, ``redo``, ``outside`` (by another program)."""
    files: int
    """Captions it has changed."""
    state: State = "noted"
    """``done`` and ``undone`` for steps that undo and redo speak of."""

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "id": self.id, "time": round(self.time, 3), "label": self.label, "kind": self.kind, "files": self.files,
            "state": self.state,
        }  # fmt: skip
