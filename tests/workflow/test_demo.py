"""The demo end to end on few steps, and the sheet that it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_lab.testing.sheet import CELL, Row, sheet


def test_the_sheet_holds_every_picture() -> None:
    red, blue = (Image.new("RGB", (64, 64), c) for c in ("red", "blue"))
    page = np.asarray(sheet([Row("before", [red, blue]), Row("after", [blue, blue])], ["a", "b, " * 60]))
    assert (page == (255, 0, 0)).all(2).sum() == CELL * CELL
    assert (page == (0, 0, 255)).all(2).sum() == 3 * CELL * CELL


def test_the_demo_trains_scores_and_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    from lora_lab.host.choose import standalone_host
    from lora_lab.training.events import RunEnded, RunStarted
    from lora_lab.workflow import demo

    monkeypatch.setattr(demo, "SCORED", 2)
    host = standalone_host(data_dir=tmp_path / "data", lora_dir=tmp_path)
    events: list[object] = []
    result = demo.run_demo(host, tmp_path, events.append, {"max_train_epochs": 1})
    assert any(isinstance(event, RunEnded) and event.reason == "finished" for event in events)
    assert result.stopped_by is None
    assert any(isinstance(event, RunStarted) and event.sites == 264 for event in events)
    assert result.lora.is_file()
    assert Image.open(result.grid).size[0] > 4 * CELL
    assert result.steps == 3
    assert result.val_loss_first is not None
    assert result.val_loss_last != result.val_loss_first
    assert 0 <= result.concept_before <= 1
    assert demo.free_name(tmp_path, result.lora.stem) == f"{result.lora.stem}_2"
