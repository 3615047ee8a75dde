"""The rounds as they stand on the disk: one file that is written whole, pictures of ours beside it. No torch.

A candidate that is kept moves into the dataset (its name tells that it was generated), and back when its round is
undone; nothing that the person brought is ever touched.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lora_lab.dataset.caption_files import caption_path
from lora_lab.errors import OutputError, SettingsError
from lora_lab.whole_file import write_whole
from lora_lab.workflow import variants

Choice = Literal["", "keep", "drop"]
FILE = "gachamax.json"


@dataclass(frozen=True)
class Candidate:
    """A picture that a round made."""

    file: str
    """Its name in the round's folder."""
    caption: str
    """Its prompt without what the tagger did not find again: what it joins the dataset with."""
    likeness: float
    """To what the originals show, 0..1."""
    apart: float
    """Difference of its thumbnail from the nearest picture of the dataset, 0..1."""
    original: str = ""
    """The name of the picture it was made from by img2img."""
    copy: bool = False
    """Nothing but a picture that the dataset has."""
    choice: Choice = ""
    joined: str = ""
    """Where in the dataset it lies, relative to its folder."""


@dataclass(frozen=True)
class Round:
    """Train, make, choose: once."""

    number: int
    lora: str = ""
    """The LoRA of the quick run."""
    candidates: tuple[Candidate, ...] = ()
    """The best first."""
    concept: float | None = None
    """Mean likeness of the candidates that come from a prompt alone, 0..1."""
    flexibility: float | None = None
    """Share of the other tags in their prompts that the tagger finds in them, 0..1."""
    pictures: int = 0
    """That the run learnt from."""
    undone: bool = False

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """Those that are in the dataset."""
        return tuple(c for c in self.candidates if c.joined)


@dataclass(frozen=True)
class Rounds:
    """All rounds of a dataset."""

    folder: Path
    """Ours, where everything but kept pictures lies."""
    dataset: Path
    rounds: tuple[Round, ...] = field(default=())

    @property
    def last(self) -> Round | None:
        """The newest that is not undone."""
        return next((r for r in reversed(self.rounds) if not r.undone), None)

    def folder_of(self, number: int) -> Path:
        """Where a round's pictures lie."""
        return self.folder / f"round-{number:02d}"

    def round(self, number: int) -> Round:
        """A round by its number, from 1.

        Raises:
            SettingsError: there is none.
        """
        found = next((r for r in self.rounds if r.number == number), None)
        if found is None:
            raise SettingsError(f"there is no round {number}", remedy=f"give 1 to {len(self.rounds)}")
        return found

    def put(self, one: Round) -> Rounds:
        """With a round new or changed, and written.

        Raises:
            OutputError: the folder cannot be written to.
        """
        others = tuple(r for r in self.rounds if r.number != one.number)
        found = replace(self, rounds=tuple(sorted((*others, one), key=lambda r: r.number)))
        _write(found)
        return found

    def choose(self, number: int, choices: dict[str, Choice]) -> Rounds:
        """Mark candidates by their names; nothing moves yet.

        Raises:
            SettingsError: there is no such round or candidate, or the candidate has joined the dataset.
        """
        one = self.round(number)
        by_name = {c.file: c for c in one.candidates}
        for file in choices:
            if file not in by_name or by_name[file].joined:
                raise SettingsError(f"{file} cannot be chosen in round {number}", remedy="undo the round first")
        new = tuple(replace(c, choice=choices.get(c.file, c.choice)) for c in one.candidates)
        return self.put(replace(one, candidates=new))

    def join(self, number: int, target: Path, extension: str = ".txt") -> Rounds:
        """Move the kept candidates into a folder of the dataset, with their captions.

        Raises:
            DatasetError: a candidate's picture is gone.
            OutputError: the dataset's folder cannot be written to.
        """
        found = self
        for candidate in self.round(number).candidates:
            if candidate.choice == "keep" and not candidate.joined:
                moved = variants.keep([self.folder_of(number) / candidate.file], target, extension)[0]
                found = found._changed(number, candidate.file, moved.relative_to(self.dataset).as_posix())
        return found

    def undo(self, number: int, extension: str = ".txt") -> Rounds:
        """Take a round's pictures out of the dataset again; they stay in the round's folder.

        Raises:
            SettingsError: there is no such round.
            OutputError: a picture cannot be moved.
        """
        found, folder = self, self.folder_of(number)
        for candidate in self.round(number).kept:
            path = self.dataset / candidate.joined
            _back(path, folder / candidate.file, extension)
            found = found._changed(number, candidate.file, "")
        return found.put(replace(found.round(number), undone=True))

    def _changed(self, number: int, file: str, joined: str) -> Rounds:
        one = self.round(number)
        new = tuple(replace(c, joined=joined) if c.file == file else c for c in one.candidates)
        return self.put(replace(one, candidates=new, undone=False))


def load(folder: Path, dataset: Path) -> Rounds:
    """What was played so far; nothing where nothing was.

    Raises:
        SettingsError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return Rounds(folder, dataset)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rounds"]
        return Rounds(folder, dataset, tuple(_round(row) for row in rows))
    except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        remedy = "move it away to begin anew; kept pictures stay in the dataset"
        raise SettingsError("the list of rounds is damaged", file=path, remedy=remedy) from error


def _round(row: dict[str, Any]) -> Round:
    candidates = tuple(Candidate(**one) for one in row["candidates"])
    return Round(**{**row, "candidates": candidates})


def _write(rounds: Rounds) -> None:
    told = {"rounds": [dataclasses.asdict(one) for one in rounds.rounds]}
    write_whole(rounds.folder / FILE, json.dumps(told, ensure_ascii=False, indent=1), "the list of rounds")


def _back(path: Path, target: Path, extension: str) -> None:
    """A kept picture to its round; one that the person took away in the meantime is left alone."""
    moves: Sequence[tuple[Path, Path]] = (
        (caption_path(path, extension), caption_path(target, ".txt")), (path, target)
    )  # fmt: skip
    move: Callable[[Path, Path], None] = variants.move
    try:
        for source, to in moves:
            if source.is_file():
                to.parent.mkdir(parents=True, exist_ok=True)
                move(source, to)
    except OSError as error:
        what = f"the picture cannot be taken out of the dataset ({error.strerror or error})"
        raise OutputError(what, file=path, remedy="check the folder's rights") from error
