"""A busy machine is no failure: hypothesis measures no times here."""

from __future__ import annotations

try:
    from hypothesis import settings
except ImportError:
    collect_ignore = ["test_buckets.py", "test_captions.py", "test_damaged.py"]

    def pytest_report_header() -> str:
        """Why files are missing."""
        return "dataset: hypothesis is not installed, its tests are left out"
else:
    settings.register_profile("dataset", deadline=None)
    settings.load_profile("dataset")
