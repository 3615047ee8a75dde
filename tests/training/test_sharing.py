"""What a run does between its turns: it pauses when asked from anywhere, and gives way to pictures."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.cli import main  # noqa: E402
from lora_lab.errors import HostBusyError  # noqa: E402
from lora_lab.training import sharing  # noqa: E402
from lora_lab.training.events import StepDone, Warned  # noqa: E402
from lora_lab.training.jobs import JobQueue  # noqa: E402
from lora_lab.training.record import state, wish  # noqa: E402
from lora_lab.training.run import Run  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402
from lora_lab.workflow.run_list import list_runs  # noqa: E402

from .running import MODEL, Training, fresh_host, same, tensors  # noqa: E402
from .tiny import TinyHost, run_settings  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyHost:
    monkeypatch.setattr(sharing, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(wish, "EVERY", 0.0)
    return fresh_host(tmp_path)


def until(what: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def long_run(host: TinyHost, queue: JobQueue | None = None, **values: Any) -> Run:
    queue = queue or JobQueue()
    return queue.start(TrainSettings.from_mapping(run_settings(host.folder, max_train_epochs=400, **values)), host)


def ask(host: TinyHost, *words: str) -> int:
    """As a person types it."""
    return main(["runs", *words, "--out", str(host.paths().data_dir)])


def test_a_run_pauses_goes_on_and_stops_when_asked_from_the_command_line(host: TinyHost) -> None:
    run = long_run(host)
    until(lambda: run.status().step >= 2)
    assert ask(host, "pause", "mika") == 0
    until(lambda: run.status().paused)
    assert [one.state for one in list_runs(host.paths().data_dir / "runs")] == ["paused"]
    until(lambda: state.standing(run.folder) is not None)  # a paused run is written down
    step, forwards = run.status().step, MODEL.forwards
    time.sleep(0.3)
    assert (run.status().step, MODEL.forwards) == (step, forwards)
    assert ask(host, "resume", run.id) == 0
    until(lambda: run.status().step > step)
    assert ask(host, "stop", "mika") == 0
    status = run.wait(30)
    assert status.state == "stopped"
    assert status.ended is not None
    assert status.ended.lora is not None
    assert not (run.folder / wish.FILE).exists()


def test_a_run_in_another_process_hears_it(host: TinyHost, tmp_path: Path) -> None:
    """The one who asks is another process than the one that trains."""
    run = long_run(host)
    until(lambda: run.status().step >= 1)
    command = [sys.executable, "-m", "lora_lab", "runs", "stop", run.id, "--out", str(host.paths().data_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert run.wait(30).state == "stopped"


def test_a_stop_is_heard_in_a_pause_and_in_the_waiting_line(host: TinyHost) -> None:
    queue = JobQueue()
    run = long_run(host, queue)
    waiting = long_run(host, queue, output_name="second")
    run.pause()
    until(lambda: run.status().paused)
    assert ask(host, "stop", waiting.id) == 0
    assert waiting.wait(10).state == "stopped"
    assert waiting.status().step == 0
    run.stop()
    assert run.wait(10).state == "stopped"


def test_what_cannot_be_asked_is_refused(host: TinyHost, capsys: pytest.CaptureFixture[str]) -> None:
    run = long_run(host)
    run.stop()
    run.wait(30)
    with pytest.raises(HostBusyError, match="not under way"):
        wish.put(run.folder, "pause")
    assert ask(host, "resume", run.id) != 0
    assert f"lora-lab train --resume {run.id}" in capsys.readouterr().err
    assert ask(host, "stop", "nobody") == 2
    assert ask(host, "stop") == 2
    assert main(["runs", "explode", "x"]) == 2


def test_a_word_that_is_none_does_nothing(host: TinyHost) -> None:
    (host.folder / wish.FILE).write_bytes(b"\xff" * 5000)
    assert wish.read(host.folder) == "go"
    (host.folder / wish.FILE).unlink()
    (host.folder / wish.FILE).mkdir()
    assert wish.read(host.folder) == "go"


def test_the_word_of_an_earlier_run_is_forgotten(host: TinyHost) -> None:
    folder = host.paths().data_dir / "runs"
    run = long_run(host)
    run.pause()
    run.stop()
    run.wait(30)
    assert not list(folder.glob("*/wish"))


@pytest.mark.parametrize(("mode", "gives_way"), [("pictures_first", True), ("training_first", False), ("share", False)])
def test_who_comes_first(host: TinyHost, monkeypatch: pytest.MonkeyPatch, mode: str, gives_way: bool) -> None:
    monkeypatch.setattr(sharing, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr(sharing, "LONG_TURN_SECONDS", 0.0)
    wanted = threading.Event()
    host.pictures_wanted = wanted.is_set  # type: ignore[method-assign]
    run = long_run(host, sharing=mode)
    try:
        until(lambda: run.status().step >= 2)
        wanted.set()
        time.sleep(0.5)  # a step that had begun is done
        step = run.status().step
        if gives_way:
            time.sleep(0.5)
            assert run.status().step == step
            wanted.clear()
        until(lambda: run.status().step > step + 1)
        last = run.status().last
        assert last is not None
        assert last.share < 0.97 if gives_way else last.share > 0
    finally:
        run.stop()
        assert run.wait(30).state == "stopped"


def test_waiting_for_pictures_changes_no_number(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Training(host, output_name="plain")
    monkeypatch.setattr(sharing, "QUIET_SECONDS", 0.01)
    turns = iter(range(1000))
    host.pictures_wanted = lambda: next(turns) % 3 == 0  # type: ignore[method-assign]
    shared = Training(host, output_name="shared", sharing="pictures_first")
    assert same(tensors(plain.ended.lora), tensors(shared.ended.lora))
    assert [e.loss for e in plain.of(StepDone)] == [e.loss for e in shared.of(StepDone)]


def test_it_says_when_there_is_hardly_any_memory_for_a_picture(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_lab.host.base import MemoryUse

    monkeypatch.setattr(host, "memory", lambda: MemoryUse(7600, 400, 8000))
    said = [w.text for w in Training(host).of(Warned) if "memory" in w.text]
    assert len(said) == 1
    assert said[0].startswith("Only 400 MiB of memory are free beside this run")


def test_turns_last_as_the_switch_says() -> None:
    lengths = [sharing.turn_seconds(m, slow_to_enter=False) for m in ("pictures_first", "share", "training_first")]
    assert lengths == sorted(lengths)
    assert sharing.turn_seconds("pictures_first", slow_to_enter=True) == sharing.LONG_TURN_SECONDS
