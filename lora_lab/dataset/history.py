"""Captions with a memory: every step can be taken back, redone, or any point restored, also after a restart.

Three promises. A step happens to all of its files or to none. What another program has written meanwhile is noticed,
written down, and only overwritten where a person restores a point. Before the first step of a project all captions are
copied into a zip file beside the history, which any program opens.
"""

from __future__ import annotations

import os
import stat
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_lab.dataset.caption_writer import Write, WriteError, remove_parts, write_all
from lora_lab.dataset.journal import Journal, Kind, Record, Step, digest
from lora_lab.dataset.problems import told
from lora_lab.errors import DatasetError, OutputError

MAX_BYTES = 8_000_000
"""A caption file above this is none, and is left alone. 100,000 tags have about two."""
READING = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Does not wait for what never comes, should a caption's name be that of a pipe."""
OUTSIDE = "changed by another program"
UNREADABLE = b"\0unreadable"
"""Stands for the bytes of a file that cannot be read."""


class ChangedError(DatasetError):
    """Captions are no longer as they were when a change was planned; nothing was written."""


@dataclass(frozen=True)
class Done:
    """What a step has done."""

    step: Step
    files: tuple[str, ...]
    """Captions that it has changed."""
    kept: tuple[str, ...] = ()
    """Captions that it has left alone, because another program had written them meanwhile."""


class History:
    """The captions of one folder and what was done to them."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Mend what a killed program has left, if there is anything.

        Args:
            root: the dataset's folder, resolved.
            folder: of the project; made with the first step.

        Raises:
            OutputError: the history cannot be read, or another window is at work.
        """
        self.root = root
        self._base = os.path.join(root, "")
        self.folder = folder
        self.journal = Journal(folder)
        # A folder that is not there (a disk that is not plugged in) cannot be mended, and is not forgotten.
        if root.is_dir() and any(not step.done for step in self.journal.steps()):
            with self.journal.alone():
                self._mend()

    def read(self, file: str) -> bytes | None:
        """A caption file's bytes, None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        return read_file(self._place(file))

    def notice(self, now: Mapping[str, bytes | None], label: str = OUTSIDE) -> Step | None:
        """Write down what other programs have done since the last step.

        Args:
            now: the `digest` of every caption that is there, or may be.
            label: one line for the list.

        Returns:
            None where nothing has changed, or where no step was done yet.
        """
        if not self.journal.steps():
            return None
        known = self.journal.known()
        changed = [file for file, new in now.items() if known.get(file) != new]
        changed += [file for file, old in known.items() if file not in now and old is not None]
        if not changed:
            return None
        with self.journal.alone():
            # Again under the lock: another window of ours may have done it meanwhile.
            known = self.journal.known()
            seen = {file: data for file in changed if (data := self._seen(file)) is not UNREADABLE}
            changed = [file for file, data in seen.items() if known.get(file) != digest(data)]
            if not changed:
                return None
            old = self.journal.contents(d for file in changed if (d := known.get(file)) is not None)
            records = [Record(file, _of(old, known.get(file)), seen[file]) for file in changed]
            return self._step(self.journal.begin("outside", label, records))

    def write(
        self, label: str, records: Sequence[Record], captions: Mapping[str, bytes | None], *,
        kind: Kind = "edit", of: int | None = None,
    ) -> Done:  # fmt: skip
        """Do a step.

        Args:
            label: one line for the list.
            records: what to change; a file whose bytes are not `before` any more is not overwritten.
            captions: all captions of the dataset, which are copied before the first step.
            kind: ``edit`` or ``restore``.
            of: the point that is restored.

        Raises:
            ChangedError: another program has written a caption meanwhile; nothing is written.
            WriteError: it failed; all is as it was.
            OutputError: the history cannot be kept.
        """
        with self.journal.alone():
            if not self.journal.steps():
                self._back_up(captions)
                self.journal.start(captions)
            changed = [r.file for r in records if self._seen(r.file) != r.before]
            if changed:
                raise _changed(self.root / changed[0], len(changed))
            return self._do(kind, label, records, of=of)

    def undo(self) -> Done:
        """Take the last step back that has not been taken back.

        Raises:
            DatasetError: there is none.
            ChangedError: other programs have written all of its captions since.
            WriteError: it failed; all is as it was.
        """
        with self.journal.alone():
            done, _ = self.stacks()
            if not done:
                raise DatasetError("there is nothing to undo", remedy="look at the history to restore a point")
            step = done[-1]
            wanted = [Record(r.file, r.after, r.before, r.time) for r in self.journal.records(step.id)]
            return self._again("undo", step, wanted)

    def redo(self) -> Done:
        """Do the step again that was taken back last.

        Raises:
            DatasetError: there is none.
            ChangedError: other programs have written all of its captions since.
            WriteError: it failed; all is as it was.
        """
        with self.journal.alone():
            _, undone = self.stacks()
            if not undone:
                raise DatasetError("there is nothing to redo", remedy="look at the history to restore a point")
            wanted = [Record(r.file, r.before, r.after) for r in self.journal.records(undone[-1].id)]
            return self._again("redo", undone[-1], wanted)

    def stacks(self) -> tuple[list[Step], list[Step]]:
        """Steps that undo would take back, and those that redo would do again; the next one is the last."""
        done: list[Step] = []
        undone: list[Step] = []
        for step in self.journal.steps():
            if step.kind in ("edit", "restore"):
                done.append(step)
                undone = []
            elif step.kind == "undo" and done:
                undone.append(done.pop())
            elif step.kind == "redo" and undone:
                done.append(undone.pop())
        return done, undone

    def at(self, point: int) -> dict[str, bytes | None]:
        """The captions after a step, where they differ from now or have changed since.

        Args:
            point: `Step.id`; 0 for before the first step.

        Raises:
            DatasetError: there is no such step.
        """
        if point and all(step.id != point for step in self.journal.steps()):
            raise DatasetError(f"the history has no point {point}", remedy="choose one of its list")
        wanted = self.journal.state_before(point + 1)
        contents = self.journal.contents(found for found in wanted.values() if found is not None)
        return {file: _of(contents, found) for file, found in wanted.items()}

    def edited(self, now: Mapping[str, bytes | None]) -> frozenset[str]:
        """Captions that differ from how they were before the first step that changed them.

        Args:
            now: file -> `digest`.
        """
        return frozenset(f for f, old in self.journal.state_before(0).items() if f in now and now[f] != old)

    def _again(self, kind: Kind, step: Step, wanted: list[Record]) -> Done:
        """Undo or redo where the files are as that step left them; one that goes back gets its old time back."""
        same = [self._seen(r.file) == r.before for r in wanted]
        there = [r for r, is_same in zip(wanted, same, strict=True) if is_same]
        kept = tuple(r.file for r, is_same in zip(wanted, same, strict=True) if not is_same)
        if wanted and not there:
            raise _changed(self.root / wanted[0].file, len(wanted))
        done = self._do(kind, step.label, there, of=step.id)
        return Done(done.step, done.files, kept)

    def _do(self, kind: Kind, label: str, records: Sequence[Record], *, of: int | None) -> Done:
        """Journal, files, mark. The lock is held."""
        before = [Record(r.file, r.before, r.after, self._time(r.file)) for r in records]
        step = self.journal.begin(kind, label, before, of=of)
        times = {r.file: r.time for r in records}
        try:
            self._check_places(records)
            write_all([Write(self._place(r.file), r.before, r.after, times[r.file], r.time) for r in before])
        except WriteError as error:
            # Where the way back failed too, the step stays unmarked and is mended when the folder is opened next.
            if error.undone:
                self.journal.drop(step)
            raise
        except BaseException:
            self._mend()
            raise
        self.journal.finish(step)
        return Done(self._step(step), tuple(r.file for r in records))

    def _check_places(self, records: Sequence[Record]) -> None:
        """No caption outside the folder is written, through whatever link.

        Raises:
            WriteError: one would be.
        """
        for folder in self._folders(records):
            inside = Path(os.path.realpath(folder))
            if inside != self.root and self.root not in inside.parents:
                what = "nothing was written: a link leads out of the folder"
                raise WriteError(what, file=told(Path(folder)), remedy="open the folder that it leads to")

    def _mend(self) -> None:
        """Take back the steps that were cut short. The lock is held.

        Raises:
            WriteError: a file cannot be written; the step stays unmarked.
        """
        for step in reversed([step for step in self.journal.steps() if not step.done]):
            records = self.journal.records(step.id)
            remove_parts(self._folders(records))
            self._check_places(records)
            half = [r for r in records if r.after != r.before and self._seen(r.file) == r.after]
            write_all([Write(self._place(r.file), r.after, r.before, r.time) for r in half])
            self.journal.drop(step.id)

    def _seen(self, file: str) -> bytes | None:
        """As `read`; `UNREADABLE`, which no caption is, for what cannot be read."""
        try:
            return self.read(file)
        except OSError:
            return UNREADABLE

    def _place(self, file: str) -> str:
        return self._base + file

    def _folders(self, records: Sequence[Record]) -> list[str]:
        return sorted({self._place(r.file.rpartition("/")[0]) for r in records})

    def _time(self, file: str) -> int | None:
        try:
            return os.stat(self._place(file)).st_mtime_ns
        except OSError:
            return None

    def _step(self, step: int) -> Step:
        return next(s for s in reversed(self.journal.steps()) if s.id == step)

    def _back_up(self, captions: Mapping[str, bytes | None]) -> None:
        """All captions as one zip file, unless there is one from a first try.

        Raises:
            OutputError: it cannot be written, so nothing else may be.
        """
        if any(self.folder.glob("captions-*.zip")):
            return
        path = self.folder / time.strftime("captions-%Y%m%d-%H%M%S.zip")
        part = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(part, "w") as archive:
                for file, data in captions.items():
                    if data is not None:
                        archive.writestr(told(Path(file)).replace("\\", "/"), data)
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            what = f"the captions cannot be copied before the first change ({error.strerror})"
            raise OutputError(what, file=self.folder, remedy="make room on the disk, and check its rights") from error


def read_file(path: str) -> bytes | None:
    """A caption file's bytes, None where there is none.

    Raises:
        OSError: it cannot be read, is no file, or is far too large for a caption.
    """
    try:
        file = os.open(path, READING)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(0, "it is no file")
        if about.st_size > MAX_BYTES:
            raise OSError(0, f"it has {about.st_size:,} bytes, which is no caption")
        data = os.read(file, about.st_size + 1)
        while len(data) < MAX_BYTES and (more := os.read(file, MAX_BYTES)):
            data += more
        return data
    finally:
        os.close(file)


def _of(contents: Mapping[bytes, bytes], found: bytes | None) -> bytes | None:
    return None if found is None else contents[found]


def _changed(path: Path, count: int) -> ChangedError:
    what = "another program has changed this caption meanwhile, nothing was written"
    if count > 1:
        what = f"another program has changed {count} captions meanwhile, nothing was written; the first"
    return ChangedError(what, file=told(path), remedy="look at the preview again")
