"""The pictures of a run: settings to dataset options, and what the plan and the metadata want to know of the scan."""

from __future__ import annotations
