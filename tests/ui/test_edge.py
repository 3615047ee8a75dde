"""Errors at the edge of the page: known ones are told in their own sentence, unknown ones logged whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from lora_lab.errors import DatasetError
from lora_lab.ui.edge import Guarded
from tests.ui.shown import ShowHost, Tab


def known(values: Any) -> dict[Any, Any]:
    raise DatasetError("there is no such folder", file="x", remedy="check the path")


def unknown(values: Any) -> dict[Any, Any]:
    raise KeyError("a slip of ours")


def test_a_known_error_is_told_in_its_own_sentence_and_the_fields_stay(shown: Tab, told: list[str]) -> None:
    changes = Guarded(known, "field", shown.context)({})
    assert told == ["there is no such folder (x): check the path."]
    assert changes == {"field": gr.update()}
    assert not (shown.context.host.paths().data_dir / "errors.txt").exists()


def test_an_unknown_error_is_logged_whole_and_the_log_is_named(shown: Tab, told: list[str]) -> None:
    changes = Guarded(unknown, "field", shown.context)({})
    log = shown.context.host.paths().data_dir / "errors.txt"
    assert str(log) in told[0]
    assert "a slip of ours" in told[0]
    text = log.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "def unknown" in text or "in unknown" in text
    assert changes == {"field": gr.update()}


def test_a_log_that_cannot_be_written_does_no_harm(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    Guarded(unknown, "field", Tab(ShowHost(tmp_path)).context)({})
    assert "The console says more" in told[0]


def test_what_a_handler_changes_comes_through(shown: Tab) -> None:
    assert Guarded(lambda values: {"a": values["b"]}, "field", shown.context)({"b": 2}) == {"a": 2}


@pytest.mark.parametrize("changes", [{}, None])
def test_a_handler_that_changes_nothing_leaves_its_outputs_alone(shown: Tab, changes: Any) -> None:
    assert Guarded(lambda _: changes, "field", shown.context)({}) == {"field": gr.update()}
