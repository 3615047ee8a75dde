"""Shared by all tests: what this machine lacks is counted and printed once, at the end."""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest

try:
    from hypothesis import settings
except ImportError:  # the tests that need it say so
    pass
else:
    # How long an example takes says more of what else the machine does than of the code.
    settings.register_profile("lora_lab", deadline=None)
    settings.load_profile("lora_lab")


@pytest.fixture(autouse=True, scope="session")
def a_data_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What verbs keep beside the place they are started from goes where the tests are."""
    os.environ["LORA_LAB_DATA"] = str(tmp_path_factory.mktemp("lora-lab-data"))


@pytest.fixture(autouse=True)
def a_queue_of_its_own() -> None:
    """The process has one queue of runs and one list of tasks: each test begins with empty ones."""
    for name, kept in (("lora_lab.training.jobs", "queue"), ("lora_lab.workflow.tasks", "tasks")):
        if name in sys.modules:
            getattr(sys.modules[name], kept).cache_clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, and for want of what."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
