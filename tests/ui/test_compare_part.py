"""The runs of a project side by side, handlers called with what a page would hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.errors import LoraLabError, SettingsError
from lora_lab.ui import compare_part
from tests.ui.shown import Tab
from tests.workflow.test_compare_runs import write_run


@pytest.fixture
def dataset(shown: Tab) -> Path:
    data = shown.context.host.paths().data_dir
    folder = data.parent / "set"
    folder.mkdir()
    write_run(data / "runs", "1-<b>first", folder, 0.10)
    write_run(data / "runs", "2-second", folder, 0.08, network_dim=16, reg_data_dir=str(data / "set_reg"))
    return folder


def test_the_table_shows_changes_and_takes_stars(shown: Tab, dataset: Path) -> None:
    w, train = shown.panels.compare, shown.panels.train
    values = shown.train(train_data_dir=str(dataset))
    table = compare_part.look(values, w, train, shown.context)[w.table]
    assert "network_dim 32 → 16" in table
    assert "reg_data_dir empty → set_reg" in table, "a folder by its name"
    assert "&lt;b&gt;first" in table
    assert table.index("2-second") < table.index("first")
    four = values | {w.message: json.dumps({"act": "stars-4", "path": "1-<b>first"})}
    table = compare_part.star(four, w, train, shown.context)[w.table]
    assert table.count("★") == 4
    for wrong in ("", "{", '{"act": "stars-9", "path": "1"}', '{"act": "keep", "path": "../x"}'):
        compare_part.star(values | {w.message: wrong}, w, train, shown.context)
    assert compare_part.look(values, w, train, shown.context)[w.table] == table


def test_what_cannot_be_scored_is_told(shown: Tab, dataset: Path) -> None:
    w, train = shown.panels.compare, shown.panels.train
    with pytest.raises(LoraLabError):
        compare_part.look(shown.train(train_data_dir=""), w, train, shown.context)
    with pytest.raises(SettingsError, match="train another one"):
        compare_part.score(shown.train(train_data_dir=str(dataset)), w, train, shown.context)


def test_a_dataset_without_runs(shown: Tab, tmp_path: Path) -> None:
    w, train = shown.panels.compare, shown.panels.train
    changes = compare_part.look(shown.train(train_data_dir=str(tmp_path)), w, train, shown.context)
    assert "No run has trained" in changes[w.table]
