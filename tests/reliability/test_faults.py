"""A few faults on each test run; `python -m tests.reliability.faults` throws a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from tests.reliability.faults import fault_run  # noqa: E402


@pytest.mark.slow
def test_faults_leave_the_model_as_found(tmp_path: Path) -> None:
    assert fault_run(tmp_path, 5, 7).startswith("5 faults (host 1, dataset 1, files 1, optimizer 1, preview 1)")
