"""A few cases of every reader on each test run; `python -m tests.reliability.fuzz` does ten thousand of each."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.reliability.fuzz import run  # noqa: E402


def test_damaged_input_of_every_reader(tmp_path: Path) -> None:
    outcomes = list(run(60, 1, "", tmp_path))
    assert len(outcomes) >= 30
    assert [outcome.line() for outcome in outcomes if outcome.failures] == []
    assert sum(outcome.refused for outcome in outcomes) > 500
