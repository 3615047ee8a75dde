"""Probabilities that were computed once: per picture content and tagger, in one SQLite file of the project.

It can be deleted at any time: the pictures are tagged again then. A file that is no database any more is put aside.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_lab.errors import OutputError
from lora_lab.tagging.scores import Row, Scores
from lora_lab.tagging.tags import Tag

NAME = "probabilities.sqlite"
THREADS = min(8, os.cpu_count() or 1)
Known = tuple[int, int, str]
"""Size and time (ns) of a file, and the hash of its content."""
AT_ONCE = 500
"""SQLite takes a limited number of values in one question."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS taggers (identity TEXT PRIMARY KEY, name TEXT NOT NULL, tags BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS scores (tagger TEXT, picture TEXT, columns BLOB NOT NULL, chances BLOB NOT NULL,
    PRIMARY KEY (tagger, picture)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, time INTEGER, picture TEXT) WITHOUT ROWID;
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """A tagger whose probabilities are there."""

    identity: str
    name: str
    pictures: int


class ProbabilityStore:
    """The probabilities of a project. Threads and processes may share it; each call opens the file for itself."""

    def __init__(self, folder: Path) -> None:
        """Open, or begin.

        Args:
            folder: of the project; made if needed.

        Raises:
            OutputError: it cannot be written to.
        """
        self.path = folder / NAME
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_room(folder, error) from error
        try:
            self._begin()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _no_room(self.path, error) from error
            aside = self.path.with_suffix(".damaged")
            log.warning("%s is damaged (%s): put aside as %s, pictures are tagged anew", self.path, error, aside.name)
            os.replace(self.path, aside)
            self._begin()

    def hashes(self, pictures: Sequence[Path], hash_of: Callable[[Path], str]) -> list[str | None]:
        """The content hash of each picture; computed only for files whose size or time have changed.

        Args:
            pictures: files.
            hash_of: reads a file; raises OSError.

        Returns:
            None for a file that cannot be read.
        """
        with self._connected() as db:
            question = "SELECT path, size, time, picture FROM files WHERE path IN"
            known: dict[str, Known] = {row[0]: row[1:] for row in _all(db, question, map(_text, pictures))}
        found: list[str | None] = []
        fresh: list[tuple[str, int, int, str]] = []
        with ThreadPoolExecutor(THREADS, "lora-lab-hash") as pool:
            seen = [known.get(_text(path)) for path in pictures]
            for path, now in zip(pictures, pool.map(lambda p, s: _hashed(p, s, hash_of), pictures, seen), strict=True):
                found.append(now[2] if now else None)
                if now and now != known.get(_text(path)):
                    fresh.append((_text(path), *now))
        if fresh:
            with self._connected() as db:
                db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", fresh)
        return found

    def add_tagger(self, identity: str, name: str, tags: Sequence[Tag]) -> None:
        """Let a tagger be known, before its probabilities."""
        packed = zlib.compress(json.dumps([astuple(tag) for tag in tags]).encode())
        with self._connected() as db:
            db.execute("INSERT OR REPLACE INTO taggers VALUES (?, ?, ?)", (identity, name, packed))

    def write(self, identity: str, rows: Mapping[str, Row]) -> None:
        """Keep probabilities, all or none of them.

        Args:
            identity: of the tagger.
            rows: content hash -> what `scores.sparse` gave.

        Raises:
            OutputError: the disk is full or cannot be written to.
        """
        with self._connected() as db:
            db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)",
                [
                    (identity, picture, columns.astype("<i4").tobytes(), values.astype("<f4").tobytes())
                    for picture, (columns, values) in rows.items()
                ],
            )

    def missing(self, identity: str, pictures: Iterable[str]) -> list[str]:
        """Those content hashes, each once, that this tagger has not seen."""
        wanted = list(dict.fromkeys(pictures))
        with self._connected() as db:
            question = "SELECT picture FROM scores WHERE tagger = ? AND picture IN"
            there = {row[0] for row in _all(db, question, wanted, identity)}
        return [picture for picture in wanted if picture not in there]

    def tags(self, identity: str) -> tuple[Tag, ...] | None:
        """A tagger's list of tags; None for one that is not known here."""
        with self._connected() as db:
            row = db.execute("SELECT tags FROM taggers WHERE identity = ?", (identity,)).fetchone()
        return None if row is None else tuple(Tag(*entry) for entry in json.loads(zlib.decompress(row[0])))

    def read(self, identity: str, pictures: Sequence[str | None]) -> Scores | None:
        """The probabilities of all these pictures at once.

        Args:
            identity: of the tagger.
            pictures: content hashes; one that is None or not known here gets an empty row.

        Returns:
            A row for each picture in their order; None for a tagger that is not known here.
        """
        tags = self.tags(identity)
        if tags is None:
            return None
        with self._connected() as db:
            question = "SELECT picture, columns, chances FROM scores WHERE tagger = ? AND picture IN"
            wanted = [picture for picture in dict.fromkeys(pictures) if picture is not None]
            found: dict[str | None, Row] = {
                row[0]: (np.frombuffer(row[1], np.dtype("<i4")), np.frombuffer(row[2], np.dtype("<f4")))
                for row in _all(db, question, wanted, identity)
            }
        none: Row = (np.zeros(0, np.int32), np.zeros(0, np.float32))
        return Scores.from_rows(tags, [found.get(picture, none) for picture in pictures])

    def taggers(self) -> list[Stored]:
        """Those that have tagged something here, the one with the most pictures first."""
        with self._connected() as db:
            rows = db.execute(
                "SELECT identity, name, COUNT(picture) FROM taggers JOIN scores ON tagger = identity "
                "GROUP BY identity ORDER BY COUNT(picture) DESC, name"
            ).fetchall()
        return [Stored(*row) for row in rows]

    def _begin(self) -> None:
        with self._raw() as db:
            db.executescript(SCHEMA)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """One transaction.

        Raises:
            OutputError: the file cannot be read or written.
        """
        try:
            with self._lock, self._raw() as db:
                yield db
        except sqlite3.Error as error:
            raise _no_room(self.path, error) from error

    @contextmanager
    def _raw(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=30)
        try:
            with db:
                yield db
        finally:
            db.close()


def _hashed(path: Path, seen: Known | None, hash_of: Callable[[Path], str]) -> Known | None:
    """Size, time and hash of a file; read only if size or time are others than those seen. None if it cannot be."""
    try:
        state = path.stat()
        if seen and seen[:2] == (state.st_size, state.st_mtime_ns):
            return seen
        return state.st_size, state.st_mtime_ns, hash_of(path)
    except OSError:
        return None


def _all(db: sqlite3.Connection, question: str, values: Iterable[str], *first: str) -> Iterator[tuple[Any, ...]]:
    """Ask for many values, in questions that are not too long."""
    wanted = list(values)
    for begin in range(0, len(wanted), AT_ONCE):
        part = wanted[begin : begin + AT_ONCE]
        yield from db.execute(f"{question} ({','.join('?' * len(part))})", (*first, *part))


def _text(path: Path) -> str:
    """A name that is no Unicode is told apart all the same."""
    return os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")


def _no_room(path: Path, error: Exception) -> OutputError:
    why = getattr(error, "strerror", None) or str(error)
    remedy = "check its rights and that the disk is not full"
    return OutputError(f"the tagger's probabilities cannot be kept here ({why})", file=path, remedy=remedy)
