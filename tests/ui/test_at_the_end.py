"""The part 'When runs end', and the waiting runs: earlier, later, their settings at a look."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lora_lab.errors import HostBusyError, SettingsError
from lora_lab.ui import at_the_end, live, train_panel
from tests.ui.shown import SMALL, ShowHost, Tab

torch = pytest.importorskip("torch", reason="torch is not installed")


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert path.exists()


def start(shown: Tab, pictures: Path, name: str) -> None:
    typed = {"train_data_dir": str(pictures), "output_name": name, "train_batch_size": "4", **SMALL}
    train_panel.start(shown.train(**typed), shown.panels.train, shown.context)


def test_the_command_is_kept_and_run_when_the_last_run_has_ended(shown: Tab, pictures: Path, tmp_path: Path) -> None:
    w, mark = shown.panels.end, tmp_path / "mark"
    command = f'"{sys.executable}" -c "open(r\'{mark}\', \'w\')"'
    told = at_the_end.keep({w.command: command, w.on: True}, w, shown.context)[w.told]
    assert "run once" in told
    start(shown, pictures, "mika")  # fails soon: the host lends no model
    wait_for(mark)
    assert not at_the_end.afterwards(shown.context).read().on


def test_it_is_not_run_when_a_person_stopped_the_last_run(shown: Tab, pictures: Path, tmp_path: Path) -> None:
    w, mark = shown.panels.end, tmp_path / "mark"
    command = f'"{sys.executable}" -c "open(r\'{mark}\', \'w\')"'
    at_the_end.keep({w.command: command, w.on: True}, w, shown.context)
    shown.queue._line.join("another run")
    start(shown, pictures, "mika")
    shown.queue.stop_all()
    shown.queue.runs()[0].wait(60)
    time.sleep(0.3)
    assert not mark.exists()
    assert at_the_end.afterwards(shown.context).read().on


def test_a_page_that_is_open_to_a_network_runs_no_command_of_its_own(tmp_path: Path) -> None:
    shown = Tab(ShowHost(tmp_path, roots=(tmp_path,)))
    w = shown.panels.end
    assert not w.command.interactive
    with pytest.raises(SettingsError, match="open to a network"):
        at_the_end.keep({w.command: "true", w.on: True}, w, shown.context)
    assert not (tmp_path / "data" / "at_the_end.json").exists()


def test_waiting_runs_are_moved_and_tell_their_settings(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    shown.queue._line.join("another run")
    for name in ("one", "two", "three", "four"):
        start(shown, pictures, name)
    view = live.look(shown.context)
    assert [run.name for run in view.waiting] == ["two", "three", "four"], "the first is in front"
    assert "train, dim" in view.waiting[0].short
    assert "train_batch_size = 4" in view.waiting[0].settings
    last = shown.queue.runs()[-1].id
    train_panel.cancel({w.chosen: f"up {last}"}, w, shown.context)
    assert [run.name for run in live.look(shown.context).waiting] == ["two", "four", "three"]
    train_panel.cancel({w.chosen: f"down {shown.queue.runs()[1].id}"}, w, shown.context)
    assert [run.name for run in live.look(shown.context).waiting] == ["four", "two", "three"]
    with pytest.raises(HostBusyError, match="does not wait any more"):
        train_panel.cancel({w.chosen: "up none"}, w, shown.context)
    shown.queue.stop_all()
    for run in shown.queue.runs():
        run.wait(60)


def test_another_web_site_is_not_answered(tmp_path: Path) -> None:
    from urllib.request import Request, urlopen

    from lora_lab.ui.standalone import launch

    blocks = launch(ShowHost(tmp_path), wait=False)
    try:
        asked = Request(f"{blocks.local_url}config", headers={"Origin": "http://elsewhere.example"})
        with urlopen(asked, timeout=60) as answer:
            assert answer.headers.get("access-control-allow-origin") is None
    finally:
        blocks.close(verbose=False)
