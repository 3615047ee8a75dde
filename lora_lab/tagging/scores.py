"""Probabilities of many pictures, sparse: a tagger has ten thousand outputs, of which a few hundred say anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lora_lab.tagging import names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lora_lab.tagging.tags import Tag

FLOOR = 0.005
"""Lower probabilities are not kept."""

Row = tuple["NDArray[np.int32]", "NDArray[np.float32]"]
"""A picture's columns and their probabilities."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a tagger said of some pictures, in compressed rows."""

    tags: tuple[Tag, ...]
    """The columns."""
    starts: NDArray[np.int64]
    """(pictures + 1,): picture i has the entries ``starts[i]:starts[i + 1]``."""
    columns: NDArray[np.int32]
    """(entries,): which tag; ascending within a picture."""
    values: NDArray[np.float32]
    """(entries,): its probability, `FLOOR`..1."""

    @staticmethod
    def from_dense(tags: Sequence[Tag], probabilities: NDArray[np.float32]) -> Scores:
        """From a tagger's output.

        Args:
            tags: the columns.
            probabilities: (pictures, tags), 0..1.
        """
        return Scores.from_rows(tags, [sparse(row) for row in probabilities])

    @staticmethod
    def from_rows(tags: Sequence[Tag], rows: Sequence[Row]) -> Scores:
        """From one row for each picture, as the store keeps them."""
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(columns) for columns, _ in rows], out=starts[1:])
        none: Row = (np.zeros(0, np.int32), np.zeros(0, np.float32))
        columns = np.concatenate([row[0] for row in rows] or [none[0]])
        values = np.concatenate([row[1] for row in rows] or [none[1]])
        return Scores(tuple(tags), starts, columns, values)

    def __len__(self) -> int:
        """Pictures."""
        return len(self.starts) - 1

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(entries,): which picture."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @cached_property
    def column_of(self) -> dict[str, int]:
        """`names.key` of each tag -> its column."""
        return {names.key(tag.name): column for column, tag in reversed(list(enumerate(self.tags)))}

    def picture(self, index: int) -> dict[str, float]:
        """All that is known of one picture: tag (with blanks) -> probability, the highest first."""
        part = slice(self.starts[index], self.starts[index + 1])
        columns, values = self.columns[part], self.values[part]
        order = np.argsort(-values, kind="stable")
        return {names.spaced(self.tags[columns[i]].name): float(values[i]) for i in order}

    def tag(self, name: str) -> NDArray[np.float32]:
        """(pictures,): the probability of one tag in each picture; 0 for one that the tagger does not know."""
        found = np.zeros(len(self), np.float32)
        column = self.column_of.get(names.key(name))
        if column is not None:
            hits = self.columns == column
            found[self.rows[hits]] = self.values[hits]
        return found

    def take(self, indices: Sequence[int]) -> Scores:
        """Only these pictures, in this order."""
        parts = [slice(self.starts[i], self.starts[i + 1]) for i in indices]
        return Scores.from_rows(self.tags, [(self.columns[part], self.values[part]) for part in parts])


def sparse(probabilities: NDArray[np.float32]) -> Row:
    """What is kept of one picture's probabilities (tags,)."""
    columns = np.flatnonzero(probabilities >= FLOOR)
    return columns.astype(np.int32), probabilities[columns].astype(np.float32)
