"""A tagger of the host's own (`host.base.HostTagger`), made to look like one of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from lora_lab.tagging.tags import GENERAL, RATING, Tag, TaggerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lora_lab.host.base import HostTagger, OpenedTagger

RATINGS = "rating:"
"""How such taggers mark a rating."""


class HostNet:
    """What `tagging.batches` needs of a net, and the list of its tags."""

    note = ""
    fixed_batch = None
    on_cpu = True
    """Small batches: the host's queue is held for each."""

    def __init__(self, name: str, opened: OpenedTagger) -> None:
        self._name, self._opened = name, opened
        self.size = opened.side
        self.tags = tuple(
            Tag(word.removeprefix(RATINGS), RATING if word.startswith(RATINGS) else GENERAL) for word in opened.words
        )

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(pictures, tags), from BGR pictures of `session.prepare`.

        Raises:
            TaggerError: the host's tagger fails.
        """
        if not pictures:
            return np.zeros((0, len(self.tags)), np.float32)
        try:
            found = self._opened.run(np.ascontiguousarray(np.stack(pictures)[..., ::-1]))
        except Exception as error:  # the host's code may raise anything
            raise TaggerError(f"{self._name} failed, {error}", remedy="choose another tagger") from error
        return np.asarray(np.clip(found, 0, 1), np.float32)


@contextmanager
def host_net(tagger: HostTagger) -> Iterator[HostNet]:
    """Open it, and put it back as it was found."""
    with tagger.opened() as opened:
        yield HostNet(tagger.name, opened)
