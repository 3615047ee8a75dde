"""A kill at any moment of a bulk write leaves every caption old or new, and the history knows which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver needs fork and SIGKILL")
def test_killed_at_any_moment(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.workflow.killed", str(tmp_path), "40"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["killed"] >= 25, found
