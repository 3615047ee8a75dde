"""Many caption files at once, each whole or as it was: written beside, then renamed; a failure takes all back.

Nothing of a file is ever written in place, links are not followed, and what needs room on the disk is done before the
first file changes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lora_lab.dataset.problems import told
from lora_lab.errors import OutputError

PART = ".lora-lab-part-"
"""What files that are not finished are named; the dot keeps them from being read as captions."""

WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Write:
    """One file's step."""

    path: str
    """Text: thousands of them are handled at once."""
    before: bytes | None
    """What is there; None for no file."""
    after: bytes | None
    """What is to be there; None for no file."""
    time: int | None = None
    """Modification time in nanoseconds that the new file gets; None for now."""
    old_time: int | None = None
    """Modification time of the old file, which it gets again if all is taken back."""


class WriteError(OutputError):
    """A bulk write that did not happen; `undone` tells whether all files are as before."""

    undone = True


def write_all(writes: Sequence[Write]) -> None:
    """Write all of them, or none.

    Args:
        writes: each path once; the caller has made sure that `before` is there.

    Raises:
        WriteError: a full disk, no rights, a file that another program holds; all files are as they were, unless
            `undone` is False, where the way back failed too.
    """
    parts: list[str | None] = []
    try:
        for number, write in enumerate(writes):
            parts.append(None)
            parts[-1] = _prepared(write, number)
    except OSError as error:
        _remove(parts)
        _remove([_part(w.path, n) for n, w in enumerate(writes[: len(parts)])])
        raise _failed(writes[len(parts) - 1].path, error) from error
    done = 0
    try:
        for part, write in zip(parts, writes, strict=True):
            _put(part, write)
            done += 1
    except OSError as error:
        failed = _failed(writes[done].path, error)
        _remove(parts[done:])
        failed.undone = _taken_back(writes[:done])
        raise failed from error


def remove_parts(folders: Sequence[str]) -> None:
    """Take away what a killed program has left."""
    for folder in folders:
        with suppress(OSError):
            for entry in list(os.scandir(folder)):
                if entry.name.startswith(PART):
                    os.unlink(entry.path)


def _prepared(write: Write, number: int) -> str | None:
    """The new file beside the old one, with its rights.

    Raises:
        OSError: no room, no rights, the caption is a link or protected.
    """
    mode = _mode(write.path)
    if mode is not None and stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "it is a link, which is not followed")
    if mode is not None and not os.access(write.path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    if write.after is None:
        return None
    part = _part(write.path, number)
    file = os.open(part, WRITING, 0o666)
    try:
        if os.write(file, write.after) != len(write.after):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        other = mode is not None and os.fstat(file).st_mode != mode
    finally:
        os.close(file)
    if mode is not None and other:
        os.chmod(part, stat.S_IMODE(mode))
    if write.time is not None:
        os.utime(part, ns=(write.time, write.time))
    return part


def _part(path: str, number: int) -> str:
    return os.path.join(os.path.dirname(path), f"{PART}{os.getpid()}-{number}")


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _put(part: str | None, write: Write) -> None:
    if part is None:
        with suppress(FileNotFoundError):
            os.unlink(write.path)
    else:
        os.replace(part, write.path)


def _taken_back(writes: Sequence[Write]) -> bool:
    """Put the old files back, the last first. False where one could not be."""
    good = True
    for number, write in reversed(list(enumerate(writes))):
        try:
            back = Write(write.path, write.after, write.before, write.old_time)
            _put(_prepared(back, number), back)
        except OSError:
            good = False
    return good


def _remove(parts: Sequence[str | None]) -> None:
    for part in parts:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)


def _failed(path: str, error: OSError) -> WriteError:
    why = error.strerror or type(error).__name__
    remedies = {
        errno.ENOSPC: "make room on the disk", getattr(errno, "EDQUOT", -1): "make room on the disk",
        errno.EROFS: "copy the dataset to a disk that can be written to",
        errno.ENAMETOOLONG: "give the picture a shorter name", errno.ENOENT: "put the folder back, and open it again",
        errno.ELOOP: "put the file itself there",
    }  # fmt: skip
    remedy = remedies.get(error.errno or 0, "check its rights, and that no other program holds it")
    return WriteError(f"nothing was written ({why})", file=told(Path(path)), remedy=remedy)
