"""Runs that are broken off and go on: the same numbers as without, whatever was between."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from PIL import Image  # noqa: E402

from lora_lab.errors import HostBusyError, LoraLabError, SettingsError, TrainingError  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.training.events import StepDone, Warned  # noqa: E402
from lora_lab.training.jobs import JobQueue  # noqa: E402
from lora_lab.training.record import state  # noqa: E402
from lora_lab.training.record.folder_lock import FolderLock, in_use  # noqa: E402
from lora_lab.training.record.unfinished import unfinished  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

from .running import MODEL, at_forward, fail_with, fresh_host, same, tensors  # noqa: E402
from .tiny import TinyHost, fingerprint, run_settings  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


def settings(host: TinyHost, **values: Any) -> TrainSettings:
    return TrainSettings.from_mapping(
        run_settings(host.folder, save_state_every_n_steps=1, network_dropout=0.1, flip_aug=True, **values)
    )


def broken_off(host: TinyHost, at: int, **values: Any) -> str:
    """A run that fails at its n-th forward; its id."""
    MODEL.forwards = 0
    MODEL.during = at_forward(at, fail_with(RuntimeError("the cable was pulled")))
    run = JobQueue().start(settings(host, **values), host)
    assert run.wait(60).state == "failed"
    MODEL.during = lambda: None
    return run.id


@pytest.mark.parametrize("optimizer", ["AdamW", "Prodigy", "DAdaptAdam", "SGDNesterov"])
def test_a_broken_off_run_ends_with_the_same_numbers(host: TinyHost, optimizer: str) -> None:
    rate = 1.0 if optimizer in ("Prodigy", "DAdaptAdam") else 1e-3
    more = {"optimizer_type": optimizer, "learning_rate": rate, "save_every_n_epochs": 1, "max_train_epochs": 3}
    whole = JobQueue().start(settings(host, output_name="whole", **more), host)
    assert whole.wait(60).state == "finished"
    run_id = broken_off(host, 5, **more)
    assert [run.id for run in unfinished(host.paths().data_dir)] == [run_id]
    before = fingerprint(host.model)
    again = JobQueue().resume(run_id, host)
    status = again.wait(60)
    assert (status.state, status.step) == ("finished", 6)
    assert fingerprint(host.model) == before
    lora = host.paths().lora_dir / "mika.safetensors"
    assert same(tensors(lora), tensors(host.paths().lora_dir / "whole.safetensors"))
    a, b = (files.read(host.paths().lora_dir / f"{n}.safetensors").metadata for n in ("mika", "whole"))
    assert a["sshs_model_hash"] == b["sshs_model_hash"]
    unlike = {key for key in a if a[key] != b[key]}
    assert unlike <= {
        "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "ss_output_name", "modelspec.title",
        "modelspec.date", "sshs_legacy_hash",
    }  # fmt: skip
    assert not unfinished(host.paths().data_dir)
    assert not (again.folder / state.FILE).exists()


@pytest.mark.parametrize("optimizer", ["AdamW", "Prodigy"])
def test_a_state_is_that_of_its_moment_however_late_it_is_written(
    host: TinyHost, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the next steps are done before a state is on the disk."""
    real = state.write

    def late(folder: Path, one: state.State) -> None:
        before, end = MODEL.forwards, time.monotonic() + 0.5
        while MODEL.forwards < before + 2 and time.monotonic() < end:
            time.sleep(0.005)
        real(folder, one)

    more = {"optimizer_type": optimizer, "learning_rate": 1.0 if optimizer == "Prodigy" else 1e-3}
    whole = JobQueue().start(settings(host, output_name="whole", max_train_epochs=4, **more), host)
    assert whole.wait(60).state == "finished"
    monkeypatch.setattr(state, "write", late)
    run_id = broken_off(host, 7, max_train_epochs=4, **more)
    again = JobQueue().resume(run_id, host)
    assert again.wait(60).state == "finished"
    loras = host.paths().lora_dir
    assert same(tensors(loras / "mika.safetensors"), tensors(loras / "whole.safetensors"))


def test_losses_and_chart_go_on_where_they_were(host: TinyHost) -> None:
    whole = JobQueue().start(settings(host, output_name="whole"), host)
    losses = [p.loss for p in whole.wait(60).losses]
    run_id = broken_off(host, 3)
    again = JobQueue().resume(run_id, host)
    status = again.wait(60)
    assert [p.loss for p in status.losses] == losses
    assert [e.step for e in again.events() if isinstance(e, StepDone)] == [3, 4]
    assert status.losses[-1].average == whole.status().losses[-1].average


def test_the_epochs_own_snapshots_may_be_there_and_strangers_may_not(host: TinyHost) -> None:
    more = {"save_every_n_epochs": 1, "max_train_epochs": 3}
    run_id = broken_off(host, 4, **more)
    kept = host.paths().lora_dir / "mika-000001.safetensors"
    assert kept.is_file()
    found = files.read(kept)
    stranger = host.paths().lora_dir / "mika-000002.safetensors"
    files.write(stranger, found.tensors, {**found.metadata, "ss_session_id": "1"})
    run = JobQueue().resume(run_id, host)
    assert run.wait(60).state == "failed"
    assert "there already" in str(run.error)
    stranger.unlink()
    assert JobQueue().resume(run_id, host).wait(60).state == "finished"


def test_a_stopped_run_can_go_on_as_well(host: TinyHost) -> None:
    MODEL.forwards = 0
    queue = JobQueue()
    MODEL.during = at_forward(2, lambda: queue.stop_all())
    run = queue.start(settings(host), host)
    assert run.wait(60).state == "stopped"
    MODEL.during = lambda: None
    whole = JobQueue().start(settings(host, output_name="whole"), host)
    assert whole.wait(60).state == "finished"
    assert JobQueue().resume(run.id, host).wait(60).state == "finished"
    a, b = (tensors(host.paths().lora_dir / f"{name}.safetensors") for name in ("mika", "whole"))
    assert same(a, b)


def test_bad_ways_to_resume_are_one_sentence(host: TinyHost) -> None:
    run_id = broken_off(host, 3)
    queue = JobQueue()
    with pytest.raises(SettingsError, match="there is no run 'nobody'"):
        queue.resume("nobody", host)
    with pytest.raises(SettingsError, match="network_dim 2, the settings say 4"):
        queue.resume(run_id, host, settings(host, network_dim=4))
    info = host.model.info
    host.model.info = dataclasses.replace(info, name="other.safetensors", short_hash="12345678")
    try:
        with pytest.raises(HostBusyError, match="load tiny.safetensors"):
            queue.resume(run_id, host)
    finally:
        host.model.info = info
    lock = FolderLock(host.paths().data_dir / "runs" / run_id)
    assert lock.take()
    assert in_use(lock._path.parent)
    with pytest.raises(HostBusyError, match="another process"):
        queue.resume(run_id, host)
    lock.release()
    (host.folder / "train" / "1_mika" / "00.png").unlink()
    (host.folder / "train" / "1_mika" / "01.png").unlink()
    run = queue.resume(run_id, host)
    assert run.wait(60).state == "failed"
    assert "put the pictures back" in str(run.error)


def test_a_changed_caption_is_told_and_trained_on(host: TinyHost) -> None:
    run_id = broken_off(host, 3)
    (host.folder / "train" / "1_mika" / "00.txt").write_text("mika, another hat", encoding="utf-8")
    run = JobQueue().resume(run_id, host)
    assert run.wait(60).state == "finished"
    assert any("changed" in e.text for e in run.events() if isinstance(e, Warned))


def test_a_mask_painted_anew_is_told_and_trained_on(host: TinyHost) -> None:
    masks = host.folder / "masks"
    masks.mkdir()
    pictures = sorted((host.folder / "train").rglob("*.png"))
    for path in pictures:
        with Image.open(path) as picture:
            Image.new("L", picture.size, 255).save(masks / path.name)
    more = {"masked_loss": True, "conditioning_data_dir": str(masks)}
    told = []
    for repaint in (False, True):
        run_id = broken_off(host, 3, output_name=f"masked{repaint}", **more)
        if repaint:
            with Image.open(masks / pictures[0].name) as mask:
                Image.new("L", mask.size, 128).save(masks / pictures[0].name)
        run = JobQueue().resume(run_id, host)
        assert run.wait(60).state == "finished"
        told.append(any("changed" in e.text for e in run.events() if isinstance(e, Warned)))
    assert told == [False, True]


FOLDED = {"optimizer_type": "Prodigy", "unet_lr": 1.0, "text_encoder_lr": 0.5}
GOING_ON = {
    "rates folded into the weights": FOLDED,
    "a class of schedule": {
        "lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": ["T_max=4"], "optimizer_type": "AdamW",
    },
    "free of schedules": {"optimizer_type": "AdamWScheduleFree", "learning_rate": 1e-3},
}  # fmt: skip


@pytest.mark.parametrize("kind", GOING_ON)
def test_what_holds_state_of_its_own_goes_on(host: TinyHost, kind: str) -> None:
    if "Free" in GOING_ON[kind]["optimizer_type"]:
        pytest.importorskip("schedulefree", reason="schedulefree is not installed")
    more = {"max_train_epochs": 3, **GOING_ON[kind]}
    whole = JobQueue().start(settings(host, output_name="whole", **more), host)
    status = whole.wait(60)
    assert status.state == "finished", str(whole.error)
    again = JobQueue().resume(broken_off(host, 5, **more), host).wait(60)
    assert (again.state, again.step) == ("finished", status.step)
    assert [p.loss for p in again.losses] == [p.loss for p in status.losses]
    a, b = (tensors(host.paths().lora_dir / f"{name}.safetensors") for name in ("mika", "whole"))
    assert same(a, b)


def test_a_damaged_state_is_told_with_what_to_do(host: TinyHost, tmp_path: Path) -> None:
    run_id = broken_off(host, 3)
    path = host.paths().data_dir / "runs" / run_id / state.FILE
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(TrainingError, match="damaged"):
        state.read(path.parent)
    path.write_bytes(bytes(data[:100]))
    with pytest.raises(LoraLabError):
        JobQueue().resume(run_id, host)
    with pytest.raises(TrainingError, match="no state"):
        state.read(tmp_path)


def test_a_full_disk_is_told_once_and_the_old_state_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_lab.network import streams

    stood = state.Standing(1, 0.0, 7, 3, 9, 1, 3, "x", {"name": "a", "family": "sd1", "short_hash": None})
    first = state.State(stood, (torch.ones(3),), {"optimizer": {}, "scaler": {}})
    told: list[str] = []
    writer = state.StateWriter(tmp_path, told.append)
    writer.put(first)
    writer.flush()
    usage = streams.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(streams.shutil, "disk_usage", lambda path: usage._replace(free=10))
    for _ in range(2):
        writer.put(dataclasses.replace(first, standing=dataclasses.replace(stood, step=4)))
        writer.flush()
    assert len(told) == 1
    assert "no room on the disk" in told[0]
    assert state.read(tmp_path).standing.step == 3
    monkeypatch.setattr(streams.shutil, "disk_usage", lambda path: usage)
    writer.put(dataclasses.replace(first, standing=dataclasses.replace(stood, step=5)))
    writer.close()
    assert "again" in told[1]
    assert state.read(tmp_path).standing.step == 5
