"""Runs in threads: the queue, status, events, what is refused before the start, and what is in the run's folder."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import (  # noqa: E402
    DatasetError,
    HostBusyError,
    LoraLabError,
    OutputError,
    SettingsError,
)
from lora_lab.host.base import HostPaths  # noqa: E402
from lora_lab.training import jobs  # noqa: E402
from lora_lab.training.events import Event, RunEnded, RunStarted, StepDone  # noqa: E402
from lora_lab.training.jobs import JobQueue  # noqa: E402
from lora_lab.training.run import Run  # noqa: E402
from lora_lab.training.settings import TrainSettings, settings_file  # noqa: E402

from .tiny import TinyHost, TinyModel, fingerprint, run_settings, write_pictures  # noqa: E402

MODEL = TinyModel()
LONG = 120.0
"""Seconds to wait on a busy machine before a test is hung."""


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    MODEL.during = lambda: None
    MODEL.forwards = 0
    write_pictures(tmp_path / "train" / "1_mika", 4)
    return TinyHost(tmp_path, MODEL)


@pytest.fixture
def line() -> Iterator[JobQueue]:
    """A queue of the test's own, whose runs are over when the test is."""
    made = JobQueue()
    yield made
    made.stop_all()
    assert all(not run.wait(LONG).active for run in made.runs())


def settings(host: TinyHost, **values: Any) -> TrainSettings:
    return TrainSettings.from_mapping(run_settings(host.folder, **values))


def hold(at: int) -> tuple[Callable[[], None], threading.Event, threading.Event]:
    """A forward that waits: what to put on the model, `reached`, and `go`."""
    reached, go = threading.Event(), threading.Event()

    def during() -> None:
        if MODEL.forwards == at:
            reached.set()
            assert go.wait(LONG)

    return during, reached, go


def test_a_run_in_a_thread(host: TinyHost, line: JobQueue) -> None:
    before = fingerprint(MODEL)
    seen: list[Event] = []
    run = line.start(settings(host), host)
    run.listen(seen.append)
    status = run.wait(LONG)
    assert fingerprint(MODEL) == before
    assert (status.state, status.step, status.steps, status.share) == ("finished", 4, 4, 1.0)
    assert [p.step for p in status.losses] == [1, 2, 3, 4]
    assert status.ended is not None
    assert status.ended.lora == status.snapshots[-1].path
    assert line.find(run.id) is run is line.current()
    assert [type(e) for e in run.events()][-1] is RunEnded
    assert list(run.events())[-len(seen) :] == seen


def test_the_runs_folder_tells_all(host: TinyHost, line: JobQueue) -> None:
    run = line.start(settings(host, sample_prompts="mika"), host)
    run.wait(LONG)
    assert run.folder == host.folder / "data" / "runs" / run.id
    assert settings_file.read(run.folder / "settings.json").settings == settings(host, sample_prompts="mika")
    lines = [json.loads(text) for text in (run.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [x["event"] for x in lines] == [type(e).__name__ for e in run.events()]
    assert lines[-1]["lora"].endswith("mika.safetensors")
    assert [p.name for p in (run.folder / "previews").iterdir()] == ["end_00.png"]
    assert not (run.folder / "log.txt").exists()


def test_an_error_is_in_the_status_and_whole_in_the_log(host: TinyHost, line: JobQueue) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    MODEL.during = fail
    run = line.start(settings(host), host)
    status = run.wait(LONG)
    assert status.state == "failed"
    assert isinstance(run.error, ZeroDivisionError)
    log = (run.folder / "log.txt").read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "ZeroDivisionError: a bug" in log
    assert f"torch {torch.__version__}" in log


def test_one_trains_and_the_other_waits(host: TinyHost, line: JobQueue) -> None:
    during, reached, go = hold(2)
    MODEL.during = during
    first = line.start(settings(host), host)
    assert reached.wait(LONG)
    second = line.start(settings(host, output_name="rin"), host)
    third = line.start(settings(host, output_name="saber"), host)
    assert second.status().state == third.status().state == "waiting"
    assert line.current() is first
    third.stop()
    assert third.wait(LONG).state == "stopped"
    assert not list(host.folder.glob("loras/saber*"))
    go.set()
    assert [first.wait(LONG).state, second.wait(LONG).state] == ["finished", "finished"]
    assert [r.status().name for r in line.runs()] == ["mika", "rin", "saber"]


def test_stop_keeps_what_is_learnt_and_the_queue_goes_on(host: TinyHost, line: JobQueue) -> None:
    during, reached, go = hold(3)
    MODEL.during = during
    first = line.start(settings(host, max_train_epochs=1000), host)
    second = line.start(settings(host, output_name="rin"), host)
    assert reached.wait(LONG)
    first.stop()
    assert first.status().stopping
    go.set()
    ended = first.wait(LONG)
    assert (ended.state, ended.step, ended.stopping) == ("stopped", 3, False)
    assert ended.ended is not None
    assert ended.ended.lora is not None
    assert second.wait(LONG).state == "finished"


def test_a_cancelled_run_does_not_hide_the_one_that_trained(host: TinyHost, line: JobQueue) -> None:
    during, reached, go = hold(2)
    MODEL.during = during
    first = line.start(settings(host), host)
    assert reached.wait(LONG)
    second = line.start(settings(host, output_name="rin"), host)
    with pytest.raises(HostBusyError, match="mika does not wait any more"):
        line.cancel(first.id)
    assert not first.status().stopping
    line.cancel(second.id)
    assert second.wait(LONG).state == "stopped"
    go.set()
    assert first.wait(LONG).state == "finished"
    assert line.current() is first


def test_a_name_that_is_under_way_is_refused(host: TinyHost, line: JobQueue) -> None:
    during, reached, go = hold(1)
    MODEL.during = during
    line.start(settings(host), host)
    assert reached.wait(LONG)
    with pytest.raises(HostBusyError, match="run named mika is under way"):
        line.start(settings(host), host)
    go.set()


def test_a_listener_that_fails_does_no_harm(host: TinyHost, line: JobQueue) -> None:
    def bad(event: Event) -> None:
        raise ValueError("listener")

    during, reached, go = hold(1)
    MODEL.during = during
    run = line.start(settings(host), host)
    assert reached.wait(LONG)
    run.listen(bad)
    go.set()
    assert run.wait(LONG).state == "finished"


def test_events_can_be_followed_while_it_runs(host: TinyHost, line: JobQueue) -> None:
    run = line.start(settings(host), host)
    kinds = [type(event) for event in run.events(timeout=LONG)]
    assert kinds.index(RunStarted) < kinds.index(StepDone) < kinds.index(RunEnded) == len(kinds) - 1


def test_a_full_disk_for_events_does_not_end_the_run(
    host: TinyHost, line: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.open

    def full(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == "events.jsonl":
            raise OSError(28, "No space left on device")
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    assert line.start(settings(host), host).wait(LONG).state == "finished"


def test_a_tensorboard_log_where_it_is_asked_for(host: TinyHost, line: JobQueue) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    run = line.start(settings(host, logging_dir=str(host.folder / "logs")), host)
    losses = [p.loss for p in run.wait(LONG).losses]
    (folder,) = (host.folder / "logs").iterdir()
    log = accumulator.EventAccumulator(str(folder)).Reload()
    assert {"loss/current", "loss/average", "lr/unet", "lr/textencoder"} <= set(log.Tags()["scalars"])
    assert [x.value for x in log.Scalars("loss/current")] == pytest.approx(losses)


def test_without_tensorboard_the_run_says_so_and_goes_on(
    host: TinyHost, line: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    status = line.start(settings(host, logging_dir=str(host.folder / "logs")), host).wait(LONG)
    assert status.state == "finished"
    assert any("pip install tensorboard" in text for text in status.warnings)


# --- refused before the start: one line, nothing started, nothing written -----------------------------------


def refused(line: JobQueue, host: TinyHost, kind: type[LoraLabError], **values: Any) -> str:
    leases = len(host.leases)
    with pytest.raises(kind) as caught:
        line.start(settings(host, **values), host)
    assert line.runs() == ()
    assert len(host.leases) == leases
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_settings_and_folders_are_looked_at_first(host: TinyHost, line: JobQueue) -> None:
    assert "is no folder" in refused(line, host, DatasetError, train_data_dir=str(host.folder / "none"))
    assert "reg_data_dir is no folder" in refused(line, host, DatasetError, reg_data_dir=str(host.folder / "none"))
    assert "learns nothing" in refused(line, host, SettingsError, unet_lr=5)
    (host.folder / "file").write_bytes(b"")
    assert "cannot be written to" in refused(line, host, OutputError, output_dir=str(host.folder / "file" / "x"))


def test_a_data_folder_that_cannot_be_written_to_is_refused(
    host: TinyHost, line: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.folder / "file").write_bytes(b"")
    paths = HostPaths(host.folder / "loras", host.folder / "file")
    monkeypatch.setattr(host, "paths", lambda: paths)
    assert "cannot be written to" in refused(line, host, OutputError)


def test_an_existing_lora_is_refused(host: TinyHost, line: JobQueue) -> None:
    (host.folder / "loras").mkdir()
    (host.folder / "loras" / "mika.safetensors").write_bytes(b"precious")
    assert "there already" in refused(line, host, OutputError)
    assert (host.folder / "loras" / "mika.safetensors").read_bytes() == b"precious"


def test_without_a_checkpoint_nothing_is_started(host: TinyHost, line: JobQueue) -> None:
    info = MODEL.info
    try:
        MODEL.info = None  # type: ignore[assignment]
        assert "no checkpoint is loaded" in refused(line, host, HostBusyError)
    finally:
        MODEL.info = info


def test_folders_outside_the_allowed_ones_are_refused(
    host: TinyHost, line: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = HostPaths(host.folder / "loras", host.folder / "data", (host.folder / "train",))
    monkeypatch.setattr(host, "paths", lambda: paths)
    assert "outside of those allowed" in refused(line, host, OutputError, output_dir=str(host.folder / "elsewhere"))
    sneaky = str(host.folder / "train" / ".." / "reg")
    assert "outside of those allowed" in refused(line, host, OutputError, reg_data_dir=sneaky)
    assert line.start(settings(host), host).wait(LONG).state == "finished"


@pytest.mark.parametrize("pictures", ["none", "broken", "unnamed"])
def test_a_folder_without_a_good_picture_fails_in_one_line(host: TinyHost, line: JobQueue, pictures: str) -> None:
    folder = host.folder / "bad"
    (folder / ("mika" if pictures == "unnamed" else "1_mika")).mkdir(parents=True)
    if pictures == "broken":
        (folder / "1_mika" / "a.png").write_bytes(b"no picture")
    if pictures == "unnamed":
        write_pictures(folder / "mika", 1)
    run = line.start(settings(host, train_data_dir=str(folder)), host)
    status = run.wait(LONG)
    assert status.state == "failed"
    assert isinstance(run.error, DatasetError)
    assert status.ended is not None
    assert "there is no picture to train on" in status.ended.error
    assert host.leases == []


def test_a_snapshot_that_is_there_already_is_seen_before_the_first_step(host: TinyHost, line: JobQueue) -> None:
    (host.folder / "loras").mkdir()
    (host.folder / "loras" / "mika-000001.safetensors").write_bytes(b"precious")
    run = line.start(settings(host, save_every_n_epochs=1), host)
    assert run.wait(LONG).state == "failed"
    assert isinstance(run.error, OutputError)
    assert MODEL.forwards == 0


def test_there_is_one_queue_for_all() -> None:
    assert jobs.queue() is jobs.queue()
    assert isinstance(jobs.queue(), JobQueue)
    assert list(jobs.queue()) == []
    assert Run is not None
