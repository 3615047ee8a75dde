"""Hypothesis on a machine that is busy with other things: no deadlines, few examples."""

from __future__ import annotations

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    settings.register_profile("busy", deadline=None, max_examples=40)
    settings.load_profile("busy")
