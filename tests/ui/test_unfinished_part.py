"""The line of broken-off runs, its handlers called with what a page would hold."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from lora_lab.errors import LoraLabError  # noqa: E402
from lora_lab.training.record import state  # noqa: E402
from lora_lab.training.record.state import Standing, State  # noqa: E402
from lora_lab.training.settings import TrainSettings, settings_file  # noqa: E402
from lora_lab.ui import unfinished_part  # noqa: E402
from tests.ui.shown import Tab  # noqa: E402


def broken_off(shown: Tab, name: str, step: int) -> Path:
    folder = shown.context.host.paths().data_dir / "runs" / f"20261124-{step:03d}-{name}"
    folder.mkdir(parents=True)
    settings_file.write(TrainSettings(train_data_dir="x", output_name=name), folder / "settings.json")
    stood = Standing(1, 0.0, 7, step, 600, 0, 60, "x", {"name": "other", "family": "sd2", "short_hash": "1"})
    state.write(folder, State(stood, (torch.zeros(1),), {}))
    return folder


def test_the_line_is_hidden_until_a_run_was_broken_off(shown: Tab) -> None:
    w = shown.panels.unfinished
    changes, seen = unfinished_part.refresh(1, False, "", w, shown.context)
    assert changes[w.group]["visible"] is False
    assert unfinished_part.refresh(2, False, seen, w, shown.context) == ({}, seen)
    broken_off(shown, "<mika>", 120)
    changes, seen = unfinished_part.refresh(5, False, seen, w, shown.context)
    assert changes[w.group]["visible"] is True
    assert "&lt;mika&gt;, step 120 of 600" in changes[w.told]
    assert unfinished_part.refresh(10, False, seen, w, shown.context) == ({}, seen)


def test_forgetting_a_run_keeps_its_folder(shown: Tab) -> None:
    w = shown.panels.unfinished
    folder = broken_off(shown, "mika", 120)
    newer = broken_off(shown, "zuli", 130)
    changes = unfinished_part.show(w, shown.context)
    assert [unfinished_part.id_of(text) for text in changes[w.choice]["choices"]] == [newer.name, folder.name]
    changes = unfinished_part.forget_it({w.choice: changes[w.choice]["value"]}, w, shown.context)
    assert changes[w.choice]["value"] == f"{folder.name}: step 120 of 600"
    assert (newer / "settings.json").is_file()
    assert not (newer / state.FILE).exists()


def test_what_cannot_go_on_is_told(shown: Tab) -> None:
    w = shown.panels.unfinished
    broken_off(shown, "mika", 120)
    with pytest.raises(LoraLabError):
        unfinished_part.resume({w.choice: "nobody"}, w, shown.context)
    with pytest.raises(LoraLabError):
        unfinished_part.resume({w.choice: "mika"}, w, shown.context)
