"""The soak in seconds, and its judgement; `python -m tests.reliability.soak` does an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")

from tests.reliability.soak import Measured, judged, soak  # noqa: E402


def rows(last: float, threads: int = 3, files: int = 9) -> list[Measured]:
    return [Measured(60.0 * n, 1000 + last * n / 60, 3, 9) for n in range(60)] + [
        Measured(3600, 1000 + last, threads, files)
    ]


def test_what_is_judged() -> None:
    assert judged(rows(0), 10)[1]
    assert judged(rows(10), 10)[1]
    for bad in (rows(60), rows(0, threads=4), rows(0, files=10)):
        assert not judged(bad, 10)[1]


@pytest.mark.slow
def test_a_short_soak(tmp_path: Path) -> None:
    measured, done = soak(tmp_path, 0.03)
    assert "1 runs" in done
    assert "0 pictures refused" in done
    assert measured[-1].threads <= measured[0].threads
