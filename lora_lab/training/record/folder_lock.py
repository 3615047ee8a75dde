"""Is a run's folder in use by a living process? A lock of the system's, which dies with its process. No torch here."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path
from typing import IO

FILE = "lock"


class FolderLock:
    """Holds a folder for this process until `release`, or until the process ends, however it does."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._file: IO[bytes] | None = None

    def take(self) -> bool:
        """Hold the folder; False when another process (or another lock of this one) does."""
        try:
            file = self._path.open("a+b")
        except OSError:  # a folder that cannot be written to is told of by those who write there
            return not self._path.exists()
        if not _lock(file):
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let go of it. Harmless when it is not held."""
        if self._file is not None:
            _unlock(self._file)
            self._file.close()
            self._file = None


def in_use(folder: Path) -> bool:
    """Does a living process train in this folder?"""
    if not (folder / FILE).exists():
        return False
    lock = FolderLock(folder)
    free = lock.take()
    lock.release()
    return not free


def sweep(folder: Path, name: str) -> None:
    """Take away what a killed process left half written of the file `name`; for those who hold the folder."""
    for part in folder.glob(f".{glob.escape(name)}.*.part"):
        part.unlink(missing_ok=True)


def _lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)


def sync_folder(folder: Path) -> None:
    """Have the folder's entries on the disk, so that a file that was renamed there survives a power cut."""
    if sys.platform == "win32":  # no such call there: the rename itself is written through
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
