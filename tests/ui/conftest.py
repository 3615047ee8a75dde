"""Fixtures of the tab's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")

import gradio as gr  # noqa: E402
from PIL import Image  # noqa: E402

from tests.ui.shown import ShowHost, Tab  # noqa: E402


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures of one concept with captions, in two shapes."""
    folder = tmp_path / "train" / "3_mika"
    folder.mkdir(parents=True)
    for index in range(4):
        Image.new("RGB", (128, 128) if index % 2 else (64, 256), (index * 60, 90, 120)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text("mika, red hair, hat", encoding="utf-8")
    return folder.parent


@pytest.fixture
def shown(tmp_path: Path) -> Tab:
    """A tab on a host that lends nothing."""
    return Tab(ShowHost(tmp_path))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that the page would show."""
    sentences: list[str] = []
    monkeypatch.setattr(gr, "Warning", sentences.append)
    return sentences
