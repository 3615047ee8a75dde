"""Many pictures through one session: threads decode the next ones while the net looks at these."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lora_lab.errors import Interrupted
from lora_lab.tagging.session import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Read = Callable[[Path, int], "Image.Image"]
"""Reads a picture; a longest side below the given one is not needed. Raises OSError with the reason."""
Listen = Callable[[int, int], None]
"""Told how many pictures are done, of how many."""


class Net(Protocol):
    """What tags prepared pictures: `session.Tagger`, or one that a host offers."""

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size it takes; None for any."""

    @property
    def on_cpu(self) -> bool:
        """Does the CPU do the work?"""

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(pictures, tags), from pictures of `session.prepare`."""


BATCH_BYTES = 3_000_000
"""Of a batch's float32 input: one picture of 448 px. On a CPU two at a time were no faster (benchmarks/tagging.py)."""
MOST = 32
"""Pictures of a batch at most."""
ON_A_CARD = 16
"""So many times larger on a graphics card."""
THREADS = min(8, os.cpu_count() or 1)
DECODED = 2
"""Pictures are read with sides of so many times the net's, so that its own reduction does most of the work."""


@dataclass(frozen=True)
class Tagged:
    """What came of one picture."""

    path: Path
    probabilities: NDArray[np.float32] | None
    """(tags,), 0..1; None if it could not be read."""
    error: str = ""
    """Why it could not be read."""


@dataclass(frozen=True)
class Batching:
    """How the work is cut. Zeros leave it to us."""

    size: int = 0
    """Pictures that the net sees at a time."""
    threads: int = 0
    """That decode pictures."""


def tag_pictures(
    tagger: Net,
    paths: Sequence[Path],
    read: Read,
    *,
    listen: Listen | None = None,
    stop: Callable[[], bool] | None = None,
    batching: Batching | None = None,
) -> Iterator[list[Tagged]]:
    """Tag pictures, a batch at a time, in their order.

    At most two batches and one picture for each thread are held decoded, as bytes at the net's size.

    Args:
        tagger: opened.
        paths: pictures.
        read: opens one, upright and with its transparent places on white.
        listen: called after each batch; what it raises ends the work.
        stop: asked before each batch.
        batching: None for the defaults.

    Yields:
        What came of each picture of a batch, those that could not be read among them.

    Raises:
        Interrupted: `stop` said so.
        TaggerError: the model fails.
    """
    batching = batching or Batching()
    size = batching.size or batch_size(tagger)
    threads = batching.threads or THREADS
    left = iter(paths)
    waiting: deque[tuple[Path, Future[NDArray[np.uint8]]]] = deque()
    done = 0
    pool = ThreadPoolExecutor(threads, "lora-lab-decode")
    try:
        while True:
            while len(waiting) < 2 * size + threads and (path := next(left, None)) is not None:
                waiting.append((path, pool.submit(_decode, read, path, tagger.size)))
            if not waiting:
                return
            if stop is not None and stop():
                raise Interrupted("tagging was stopped")
            part = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            yield _tagged(tagger, part)
            done += len(part)
            if listen is not None:
                listen(done, len(paths))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batch_size(tagger: Net) -> int:
    """Pictures that are best shown to the net at a time."""
    if tagger.fixed_batch:
        return tagger.fixed_batch
    fits = BATCH_BYTES // (tagger.size**2 * 3 * 4)
    return max(1, min(MOST, fits if tagger.on_cpu else ON_A_CARD * fits))


def _decode(read: Read, path: Path, side: int) -> NDArray[np.uint8]:
    return prepare(read(path, DECODED * side), side)


def _tagged(tagger: Net, part: list[tuple[Path, Future[NDArray[np.uint8]]]]) -> list[Tagged]:
    pictures, reasons = [], []
    for _, future in part:
        try:
            pictures.append(future.result())
            reasons.append("")
        except OSError as error:
            reasons.append(error.strerror or str(error) or type(error).__name__)
        except MemoryError:
            reasons.append("it takes more memory than there is")
    rows = iter(tagger.run(pictures))
    return [
        Tagged(path, None, reason) if reason else Tagged(path, next(rows))
        for (path, _), reason in zip(part, reasons, strict=True)
    ]
