"""The list of all runs, its handlers called with what a page would hold; and the report to share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lora_lab.errors import HostBusyError, SettingsError
from lora_lab.training.record import report, wish
from lora_lab.training.record.folder_lock import FolderLock
from lora_lab.training.settings import TrainSettings, settings_file
from lora_lab.ui import runs_part
from tests.ui.shown import Tab

HOME = str(Path.home())


def put_run(shown: Tab, name: str) -> Path:
    folder = shown.context.host.paths().data_dir / "runs" / name
    folder.mkdir(parents=True)
    pictures = shown.context.host.paths().data_dir.parent / "Mika Muster" / "my pictures"
    settings = TrainSettings.from_mapping({"train_data_dir": str(pictures), "output_name": name})
    settings_file.write(settings, folder / "settings.json")
    events = [
        {"event": "RunStarted", "steps": 900, "name": name},
        *({"event": "StepDone", "step": n, "loss": 0.1} for n in range(1, 901)),
        {"event": "Warned", "text": f"{pictures}/1_x/a b.png, {HOME}/secret/x.png and C:\\Users\\Mika\\x.png are gone"},
        {"event": "RunEnded", "reason": "failed", "step": 900, "error": "<b>it</b> failed"},
    ]
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    trace = f'File "{HOME}/webui/extensions/x/lora_lab/training/loop.py", line 3\n'
    trace += f'File "{HOME}/venv/lib/site-packages/torch/x.py", line 4\nRuntimeError: '
    trace += '\\\\nas\\mika\\x and /srv/mika/y\n'
    (folder / "log.txt").write_text(trace, encoding="utf-8")
    return folder


def test_the_list_and_what_is_asked(shown: Tab) -> None:
    w = shown.panels.runs
    folder = put_run(shown, "20261124-001-mika")
    changes = runs_part.look({w.choice: None}, w, shown.context)
    assert changes[w.choice]["value"] == folder.name
    assert "900 of 900" in changes[w.table]
    assert "&lt;b&gt;it&lt;/b&gt;" in changes[w.table]
    with pytest.raises(HostBusyError):
        runs_part.ask({w.choice: folder.name}, "pause", w, shown.context)
    lock = FolderLock(folder)
    assert lock.take()  # as the process that trains
    try:
        (folder / "events.jsonl").unlink()
        assert "paused" in runs_part.ask({w.choice: folder.name}, "pause", w, shown.context)[w.table]
        assert wish.read(folder) == "pause"
        assert "under way" in runs_part.ask({w.choice: folder.name}, "go", w, shown.context)[w.table]
        runs_part.ask({w.choice: folder.name}, "stop", w, shown.context)
        assert wish.read(folder) == "stop"
    finally:
        lock.release()


@pytest.mark.parametrize("name", ["", "../..", "/etc", "nobody"])
def test_a_name_that_is_no_run(shown: Tab, name: str) -> None:
    w = shown.panels.runs
    put_run(shown, "20261124-001-mika")
    with pytest.raises(SettingsError):
        runs_part.tell({w.choice: name}, w, shown.context)


def test_the_report_tells_all_but_a_persons_paths(shown: Tab) -> None:
    w = shown.panels.runs
    folder = put_run(shown, "20261124-001-mika")
    told = runs_part.tell({w.choice: folder.name}, w, shown.context)[w.text]["value"]
    for word in (HOME, "Mika", "Muster", "secret", "nas", "srv", str(folder.parent.parent)):
        assert word not in told, word
    for word in (
        "lora_lab ", "Python ", '"output_name"', "<train_data_dir>", ".../lora_lab/training/loop.py",
        ".../site-packages/torch/x.py", "RuntimeError", "it</b> failed", "x.png",
    ):  # fmt: skip
        assert word in told, word
    assert told.count("StepDone") < 60
    assert report.write(folder) == folder / report.FILE
    os.chmod(folder, 0o500)
    try:
        assert os.geteuid() == 0 or report.write(folder) is None
    finally:
        os.chmod(folder, 0o700)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("loss 1/2 at 3/4 s, see https://x.org/a/b and a/b", "loss 1/2 at 3/4 s, see https://x.org/a/b and a/b"),
        ("(/home/mika/a.png)", "(<path>/a.png)"),
        ('"D:\\\\pics\\\\mika\\\\a.png"', '"<path>/a.png"'),
        ("~/mika/a.png", "<path>/a.png"),
    ],
)
def test_what_is_a_path(text: str, kept: str) -> None:
    assert report.without_paths(text, {}) == kept
