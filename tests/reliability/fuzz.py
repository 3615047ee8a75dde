"""Damaged and hostile input for every parser and file reader: an answer or one sentence, never a defect, and at once.

    python -m tests.reliability.fuzz [--cases 10000] [--seed 1] [--only NAME] [--folder DIR]

Each reader begins with good files or texts of its own. A case is one of them with bytes flipped, cut out, doubled,
swapped, or replaced by words that mean something to a parser; every eighth is noise. A case fails when it raises
anything but an error that is meant for a person, takes more than a second of processor time, or when the process has
grown by more than 200 MB at the end. A case that failed is written to `--folder`.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lora_lab.errors import LoraLabError

SECONDS, GROWTH_MB = 1.0, 200.0
WORDS: tuple[bytes, ...] = (
    b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"{", b"}", b"[" * 200, b"(" * 200, b'"', b"\\", b"'", b"\n", b"\r\n",
    b",", b":", b"=", b"-1", b"1e999", b"nan", b"99999999999999999999", b"null", b"true", b"..", b"../" * 20, b"$x",
    b"`ls`", b"%PATH%", b"<b>", b"<lora:x:1>", b"--", b"#", b"u" * 5000, "\u202e".encode(), "é日".encode(), b"0x",
    b"BREAK", b"AND", b"|", b"*", b"re:(a+)+$", b"{a|b|c}" * 8, b"\x00\x00\x00\x00\x00\x00\x00\x80", b"\xff" * 8,
)  # fmt: skip
FORGIVEN = (LoraLabError,)


@dataclass(frozen=True)
class Reader:
    """What is fuzzed."""

    name: str
    samples: tuple[bytes, ...]
    read: Callable[[bytes], object]
    forgiven: tuple[type[BaseException], ...] = FORGIVEN
    anything: bool = False
    """Its samples may be refused, too."""


def damaged(sample: bytes, other: bytes, r: random.Random) -> bytes:
    """A sample after one to four accidents."""
    if r.random() < 0.125:
        return r.randbytes(r.randint(0, 300))
    data = bytearray(sample)
    for _ in range(r.randint(1, 4)):
        place, length = r.randint(0, len(data)), r.randint(1, 1 << r.randint(0, 6))
        kind = r.randrange(6)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << r.randrange(8)
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = data[place : place + length] * r.randint(1, 3)
        elif kind == 3:
            data[place : place + r.choice((0, length))] = r.choice(WORDS)
        elif kind == 4:
            at = r.randint(0, len(other))
            data[place : place + length] = other[at : at + length]
        else:
            del data[place:]
    return bytes(data)


@dataclass
class Outcome:
    """What became of a reader's cases."""

    name: str
    cases: int = 0
    refused: int = 0
    slowest: float = 0.0
    failures: int = 0
    first: str = ""

    def line(self) -> str:
        """For people."""
        end = f", {self.failures} FAILED, the first: {self.first}" if self.failures else ""
        return f"{self.name}: {self.cases} cases, {self.refused} refused, slowest {self.slowest:.3f} s{end}"


def fuzz(reader: Reader, cases: int, seed: int, keep: Path) -> Outcome:
    """So many cases of one reader."""
    r, found = random.Random(f"{seed} {reader.name}"), Outcome(reader.name)
    for sample in reader.samples:
        try:
            reader.read(sample)  # what is good is read
        except reader.forgiven as error:
            found.failures += not reader.anything
            found.first = found.first or f"a good sample is refused: {error}"
    for number in range(cases):
        case = damaged(r.choice(reader.samples), r.choice(reader.samples), r)
        began, problem = time.process_time(), ""
        try:
            reader.read(case)
        except reader.forgiven as error:
            found.refused += 1
            problem = "a traceback in the sentence" if "Traceback" in str(error) else ""
        except BaseException as error:  # whatever it is, it is a failure to tell
            problem = f"{type(error).__name__}: {error}"[:200]
        took = time.process_time() - began
        found.cases, found.slowest = number + 1, max(found.slowest, took)
        if took > SECONDS:
            problem = problem or f"it took {took:.1f} s"
        if problem:
            found.failures += 1
            found.first = found.first or problem
            (keep / f"{reader.name.replace(' ', '_')}-{number}.bin").write_bytes(case)
    return found


def memory_mb() -> float:
    """Of this process."""
    import psutil

    return float(psutil.Process().memory_info().rss / (1 << 20))


def run(cases: int, seed: int, only: str, keep: Path) -> Iterator[Outcome]:
    """All readers, one after another."""
    from tests.reliability.readers import readers

    with tempfile.TemporaryDirectory() as name:
        for reader in readers(Path(name)):
            if only in reader.name:
                yield fuzz(reader, cases, seed, keep)


def main() -> int:
    """The long run; exit status 1 when a case failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cases", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", default="")
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "lora_lab_fuzz")
    asked = options.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    failed, before, total = 0, 0.0, 0
    for outcome in run(asked.cases, asked.seed, asked.only, asked.folder):
        before = before or memory_mb()  # after the first reader: libraries are loaded by then
        failed, total = failed + outcome.failures, total + outcome.cases
        print(json.dumps(outcome.__dict__) if outcome.failures else outcome.line(), flush=True)  # noqa: T201
    grown = memory_mb() - before
    print(f"{total} cases, {failed} failed, memory grew by {grown:.0f} MB")  # noqa: T201
    return int(failed > 0 or grown > GROWTH_MB)


if __name__ == "__main__":
    raise SystemExit(main())
