"""However a run ends, the model is given back as it was, and what was learnt is kept if it is any good."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import HostBusyError, Interrupted, OutputError, TrainingError  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.training.events import (  # noqa: E402
    Event,
    PreviewMade,
    Progress,
    StepDone,
    Validated,
    Warned,
)
from lora_lab.training.loop import Trainer  # noqa: E402
from lora_lab.training.prepare import check_start  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

from .running import MODEL, Training, at_forward, fail_with, fresh_host, same, tensors  # noqa: E402
from .tiny import TinyHost, TinyModel, fingerprint, run_settings, write_pictures  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


def test_a_stop_ends_within_one_step_and_keeps_what_is_learnt(host: TinyHost) -> None:
    run = Training(host, stop=lambda: MODEL.forwards >= 3, max_train_epochs=50)
    assert run.unchanged
    assert (run.ended.reason, run.ended.step) == ("stopped", 3)
    assert run.ended.lora is not None
    assert run.ended.lora.name == "mika-step00000003.safetensors"
    assert files.read(run.ended.lora).metadata["ss_steps"] == "3"
    assert not (host.folder / "loras" / "mika.safetensors").exists()


def test_the_hosts_interrupt_ends_the_run(host: TinyHost) -> None:
    def press() -> None:
        host.interrupts = 1

    MODEL.during = at_forward(2, press)
    run = Training(host, max_train_epochs=50)
    assert run.unchanged
    assert (run.ended.reason, run.ended.step) == ("interrupted", 2)
    assert run.ended.lora is not None


def test_a_press_from_before_the_run_is_not_meant_for_it(host: TinyHost) -> None:
    host.interrupts = 1
    assert Training(host).ended.reason == "finished"


def test_control_c_keeps_what_is_learnt(host: TinyHost) -> None:
    MODEL.during = at_forward(4, fail_with(KeyboardInterrupt()))
    run = Training(host, max_train_epochs=50)
    assert run.unchanged
    assert (run.ended.reason, run.ended.step) == ("interrupted", 3)
    assert run.ended.lora is not None


@pytest.mark.parametrize("when", ["set-up", "latents"])
def test_a_checkpoint_exchanged_before_the_first_step_ends_the_run_in_one_line(
    host: TinyHost, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    encode = MODEL.encode_pixels

    def exchanged(*args: Any) -> Any:
        host.away = 1000
        return encode(*args)

    host.away = 1000 if when == "set-up" else 0
    monkeypatch.setattr(MODEL, "encode_pixels", exchanged)
    on_disk = {"cache_latents_to_disk": True, "vae_batch_size": 1}
    run = Training(host, **on_disk)
    assert run.unchanged
    assert (run.ended.reason, run.ended.step, run.ended.lora) == ("failed", 0, None)
    assert run.ended.error == (
        "the run has ended before its first step, since another checkpoint is live: "
        "load tiny.safetensors and start again with the same settings."
    )
    assert isinstance(run.trainer.error, HostBusyError)
    kept = list((host.folder / "data" / "latents").rglob("*.safetensors"))
    assert len(kept) == (0 if when == "set-up" else 1), "what was encoded is kept"
    assert not list(host.folder.glob("loras/*"))
    host.away = 0
    monkeypatch.undo()
    assert Training(host, **on_disk).ended.reason == "finished"


def test_a_loss_that_stays_no_number_keeps_what_was_good(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = MODEL.predict

    def broken(*args: Any) -> Any:
        return predict(*args) * (float("nan") if MODEL.forwards >= 4 else 1)

    monkeypatch.setattr(MODEL, "predict", broken)
    run = Training(host, max_train_epochs=5)
    assert run.unchanged
    assert (run.ended.reason, run.ended.step) == ("failed", 7)
    assert "not a number any more at step 8" in run.ended.error
    assert "lower unet_lr" in run.ended.error
    assert [event.step for event in run.of(StepDone)] == [1, 2, 3]
    assert run.ended.lora is not None
    assert str(run.ended.lora) in run.ended.error
    assert isinstance(run.trainer.error, TrainingError)
    monkeypatch.undo()
    good = Training(host, output_name="b", max_train_epochs=5, save_every_n_epochs=1)
    assert good.ended.reason == "finished"
    found = tensors(run.ended.lora)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())
    assert any(float(t.abs().max()) > 0 for k, t in found.items() if k.endswith("lora_up.weight"))


def test_one_step_without_a_number_is_left_out(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = MODEL.predict
    monkeypatch.setattr(MODEL, "predict", lambda *a: predict(*a) * (float("nan") if MODEL.forwards == 3 else 1))
    run = Training(host)
    assert (run.ended.reason, run.ended.step) == ("finished", 4)
    assert [event.step for event in run.of(StepDone)] == [1, 2, 4]
    assert sum("left out" in event.text for event in run.of(Warned)) == 1


def test_no_number_in_the_first_epoch_leaves_no_file(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = MODEL.predict
    monkeypatch.setattr(MODEL, "predict", lambda *a: predict(*a) * float("nan"))
    run = Training(host)
    assert run.unchanged
    assert (run.ended.reason, run.ended.lora) == ("failed", None)
    assert list((host.folder / "loras").iterdir()) == []


def test_out_of_memory_gives_the_model_back_and_says_what_saves_how_much(host: TinyHost) -> None:
    error = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    MODEL.during = at_forward(2, fail_with(error))
    run = Training(host)
    assert run.unchanged
    assert run.ended.reason == "failed"
    assert "gradient_checkpointing (saves about 75%" in run.ended.error
    assert "train_batch_size 1 instead of 2 with gradient_accumulation_steps 2 (saves" in run.ended.error
    assert isinstance(run.trainer.error, TrainingError)
    assert run.trainer.error.__cause__ is error
    assert run.ended.lora is not None
    assert run.ended.lora.name == "mika-step00000001.safetensors"


def test_nothing_of_a_failed_run_is_held_in_memory(host: TinyHost) -> None:
    MODEL.during = at_forward(3, fail_with(RuntimeError("CUDA out of memory")))
    run = Training(host)
    assert run.ended.reason == "failed"
    assert "RuntimeError: CUDA out of memory" in run.trainer.trace
    assert [o for o in gc.get_objects() if isinstance(o, Adapter)] == []


def full_for(folder: Path) -> Callable[..., None]:
    write = files.write

    def full(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.parent == folder:
            raise OutputError("the disk is full", file=path)
        write(path, *args, **kwargs)

    return full


def test_a_full_disk_costs_a_snapshot_and_not_the_run(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write", full_for(host.folder / "loras"))
    run = Training(host, save_every_n_epochs=1)
    assert run.unchanged
    assert any("The snapshot of epoch 1 was not saved: the disk is full" in w.text for w in run.of(Warned))
    assert run.ended.reason == "failed"
    assert "the disk is full" in run.ended.error
    assert run.ended.lora is not None
    assert run.ended.lora.parent == host.folder / "run"
    assert files.read(run.ended.lora).metadata["ss_steps"] == "4"


def test_an_error_of_ours_ends_the_run_and_gives_the_model_back(host: TinyHost) -> None:
    MODEL.during = at_forward(2, fail_with(ZeroDivisionError("a bug")))
    run = Training(host)
    assert run.unchanged
    assert run.ended.reason == "failed"
    assert "ZeroDivisionError: a bug" in run.ended.error
    assert isinstance(run.trainer.error, ZeroDivisionError)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("bad sampler"), "bad sampler"),
        (Interrupted("stopped"), "the training goes on"),
        (RuntimeError("CUDA out of memory"), "not enough memory for previews"),
    ],
)
def test_a_preview_that_fails_does_not_end_the_run(host: TinyHost, error: Exception, says: str) -> None:
    MODEL.drawing = fail_with(error)
    run = Training(host, sample_prompts="mika\ngirl", sample_at_first=True)
    assert run.unchanged
    assert run.ended.reason == "finished"
    told = [w.text for w in run.of(Warned) if says in w.text]
    assert len(told) == (1 if "memory" in says else 4)
    assert run.of(PreviewMade) == []


def test_a_run_that_is_left_gives_the_model_back(host: TinyHost) -> None:
    before = fingerprint(MODEL)
    settings = TrainSettings.from_mapping(run_settings(host.folder, max_train_epochs=50))
    events = Trainer(check_start(settings, host), host, host.folder / "run", lambda: False).events()
    for event in events:
        if isinstance(event, StepDone):
            break
    events.close()  # type: ignore[attr-defined]
    assert fingerprint(MODEL) == before


def test_another_checkpoint_in_between_is_waited_out(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_lab.training.sharing.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("lora_lab.training.sharing.TURN_SECONDS", 0.0)

    def exchange() -> None:
        host.away = 3

    plain = Training(host)
    MODEL.forwards = 0
    MODEL.during = at_forward(2, exchange)
    run = Training(host, output_name="again")
    assert run.ended.reason == "finished"
    assert [w.text for w in run.of(Warned)].count("Waiting to go on: another checkpoint is live.") == 1
    assert same(tensors(plain.ended.lora), tensors(run.ended.lora))


def test_another_checkpoint_during_a_check_is_waited_out(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_lab.training.sharing.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("lora_lab.training.sharing.TURN_SECONDS", 0.0)
    held = str(write_pictures(host.folder / "held" / "1_mika", 2).parent)

    def exchange() -> None:
        host.away = 3

    plain = Training(host, validation_data_dir=held, max_train_epochs=1)
    MODEL.forwards = 0
    MODEL.during = at_forward(1, exchange)
    run = Training(host, validation_data_dir=held, max_train_epochs=1, output_name="again")
    assert (run.unchanged, run.ended.reason) == (True, "finished")
    assert [w.text for w in run.of(Warned)].count("Waiting to go on: another checkpoint is live.") == 1
    assert [v.loss for v in run.of(Validated)] == [v.loss for v in plain.of(Validated)]


def test_modules_that_the_host_built_anew_get_the_adapter(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_lab.training.sharing.TURN_SECONDS", 0.0)
    plain = Training(host)
    MODEL.forwards = 0
    twin = TinyModel()
    twin.forwards = 2

    def exchange() -> None:
        host.model = twin

    MODEL.during = at_forward(2, exchange)
    run = Training(host, output_name="again")
    assert run.ended.reason == "finished"
    assert twin.forwards == 4
    assert same(tensors(plain.ended.lora), tensors(run.ended.lora))


def test_turns_are_short_and_the_model_is_free_between_them(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_lab.training.sharing.TURN_SECONDS", 0.0)
    settings = TrainSettings.from_mapping(run_settings(host.folder))
    for event in Trainer(check_start(settings, host), host, host.folder / "run", lambda: False).events():
        with host.lease("pictures"):  # asserts that no lease is held while an event is told
            assert not any(m._forward_hooks for m in MODEL.unet.modules())
        assert isinstance(event, Event)
    assert host.leases.count("training") >= 4


def test_progress_is_told_in_every_stage(host: TinyHost) -> None:
    stages = {p.stage for p in Training(host, sample_prompts="mika").of(Progress)}
    assert {"reading the pictures", "caching latents", "saving", "drawing previews"} <= stages
