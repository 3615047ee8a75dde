"""What was done to captions, in one SQLite file of the project: each step with every file's bytes before and after.

A step is there, and on the disk, before the first file changes (one sync for the whole step), and is marked as done
after the last. A step that is found unmarked was cut short.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora_lab.errors import OutputError

NAME = "captions.sqlite"
LOCK = "captions.lock"
WAIT = 30.0
"""Seconds that another program of ours may take for its step."""
Kind = Literal["edit", "restore", "undo", "redo", "outside"]
SCHEMA = """
CREATE TABLE IF NOT EXISTS contents (digest BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL,
    label TEXT NOT NULL, of INTEGER, done INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS files (step INTEGER NOT NULL, file BLOB NOT NULL, before BLOB, after BLOB, time INTEGER,
    PRIMARY KEY (step, file)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (file BLOB PRIMARY KEY, digest BLOB) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Record:
    """One file of a step."""

    file: str
    """Relative to the dataset's folder, with slashes."""
    before: bytes | None
    """The whole file; None for no file."""
    after: bytes | None
    time: int | None = None
    """Modification time of the old file in nanoseconds."""


@dataclass(frozen=True)
class Step:
    """One step, without its files."""

    id: int
    time: float
    """Seconds since 1970."""
    kind: Kind
    label: str
    of: int | None
    """The step that an undo or a redo is about, or the point that was restored."""
    done: int
    """0 while its files are being written, 1 after."""
    files: int
    """How many it changes."""


def digest(data: bytes | None) -> bytes | None:
    """What two equal files have in common, 16 bytes; None for no file."""
    return None if data is None else hashlib.sha256(data).digest()[:16]


class Journal:
    """The file. Threads and processes may share it; each call opens it for itself."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first step.

        Args:
            folder: of the project.
        """
        self.path = folder / NAME

    @property
    def exists(self) -> bool:
        """Is there a file?"""
        return self.path.is_file()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other thread or process of ours work on these captions meanwhile.

        SQLite's own lock is taken for it: it works on every system, and ends with a killed process.

        Raises:
            OutputError: another one has been at work for long, or the project's folder cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = sqlite3.connect(self.path.with_name(LOCK), timeout=WAIT, isolation_level=None)
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error:
                lock.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        try:
            yield
        finally:
            lock.close()

    def begin(self, kind: Kind, label: str, records: Sequence[Record], *, of: int | None = None) -> int:
        """Write down a step that is about to be done; returns its id. It is on the disk when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        with self._open() as db:
            marks = [(_added(db, r.before), _added(db, r.after)) for r in records]
            done = 1 if kind == "outside" else 0
            insert = "INSERT INTO steps (time, kind, label, of, done) VALUES (?, ?, ?, ?, ?)"
            step = int(db.execute(insert, (time.time(), kind, label, of, done)).lastrowid or 0)
            rows = [(step, os.fsencode(r.file), *m, r.time) for r, m in zip(records, marks, strict=True)]
            db.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", rows)
            if done:
                _learn(db, step)
        return step

    def start(self, captions: Mapping[str, bytes | None]) -> None:
        """Write down how all captions are before the first step.

        Raises:
            OutputError: it cannot be written.
        """
        with self._open() as db:
            rows = [(os.fsencode(file), _added(db, data)) for file, data in captions.items()]
            db.executemany("INSERT OR REPLACE INTO known VALUES (?, ?)", rows)

    def finish(self, step: int) -> None:
        """The step's files are all as it wants them."""
        with self._open() as db:
            db.execute("UPDATE steps SET done = 1 WHERE id = ?", (step,))
            _learn(db, step)

    def drop(self, step: int) -> None:
        """The step's files are all as they were: it did not happen."""
        with self._open() as db:
            db.execute("DELETE FROM files WHERE step = ?", (step,))
            db.execute("DELETE FROM steps WHERE id = ?", (step,))

    def steps(self) -> list[Step]:
        """All, the oldest first."""
        if not self.exists:
            return []
        count = "(SELECT COUNT(*) FROM files WHERE step = id)"
        question = f"SELECT id, time, kind, label, of, done, {count} FROM steps ORDER BY id"
        with self._open() as db:
            return [Step(*row) for row in db.execute(question)]

    def records(self, step: int) -> list[Record]:
        """The files of a step."""
        question = (
            "SELECT file, b.data, a.data, time FROM files LEFT JOIN contents b ON b.digest = before"
            " LEFT JOIN contents a ON a.digest = after WHERE step = ? ORDER BY file"
        )
        with self._open() as db:
            return [Record(os.fsdecode(row[0]), *row[1:]) for row in db.execute(question, (step,))]

    def known(self) -> dict[str, bytes | None]:
        """File -> `digest` of its bytes after the last step."""
        if not self.exists:
            return {}
        with self._open() as db:
            return {os.fsdecode(file): found for file, found in db.execute("SELECT file, digest FROM known")}

    def contents(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """The bytes of digests that were written down."""
        with self._open() as db:
            ask = db.execute
            pairs = ((d, ask("SELECT data FROM contents WHERE digest = ?", (d,)).fetchone()) for d in set(digests))
            return {d: row[0] for d, row in pairs if row is not None}

    def state_before(self, step: int) -> dict[str, bytes | None]:
        """File -> `digest` of its bytes before a step, for the files that it or a later one has changed."""
        question = "SELECT file, before, MIN(step) FROM files WHERE step >= ? GROUP BY file"
        if not self.exists:
            return {}
        with self._open() as db:
            return {os.fsdecode(row[0]): row[1] for row in db.execute(question, (step,))}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction: committed, and synced to the disk, at the end; all or nothing.

        Raises:
            OutputError: it cannot be read or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=WAIT)
            try:
                db.execute("PRAGMA synchronous = FULL")
                db.executescript(SCHEMA)
                with db:
                    yield db
            finally:
                db.close()
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            remedy = "wait until it is done there"
            return OutputError("another window or program of ours is at work on these captions", remedy=remedy)
        remedy = "make room on the disk and check its rights; move a damaged file away, which forgets the history"
        return OutputError(f"the history of the captions cannot be kept ({error})", file=self.path, remedy=remedy)


def _added(db: sqlite3.Connection, data: bytes | None) -> bytes | None:
    """The digest of bytes that are now among the contents."""
    found = digest(data)
    if found is not None:
        db.execute("INSERT OR IGNORE INTO contents VALUES (?, ?)", (found, data))
    return found


def _learn(db: sqlite3.Connection, step: int) -> None:
    db.execute("INSERT OR REPLACE INTO known SELECT file, after FROM files WHERE step = ?", (step,))
