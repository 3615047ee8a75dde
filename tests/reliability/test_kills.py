"""A small number of kills on each test run; `python -m tests.reliability.kills` does hundreds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks, which Windows cannot")
def test_killed_runs_end_with_the_same_numbers() -> None:
    command = [sys.executable, "-m", "tests.reliability.kills", "--runs", "1", "--kills", "4", "--steps", "12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 runs ended with bit-identical tensors" in done.stdout
