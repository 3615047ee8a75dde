"""Whole runs on tiny real modules: what is written, what is given back, however it ends."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import Interrupted, OutputError, TrainingError  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.training import loop  # noqa: E402
from lora_lab.training.events import (  # noqa: E402
    Event,
    PreviewMade,
    Progress,
    RunEnded,
    RunStarted,
    SnapshotSaved,
    StepDone,
    Validated,
    Warned,
)
from lora_lab.training.loop import Trainer  # noqa: E402
from lora_lab.training.prepare import check_start  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

from .tiny import TinyHost, TinyModel, fingerprint, run_settings, write_pictures  # noqa: E402

MODEL = TinyModel()


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    """A host on one shared model, which every test must leave as it found it."""
    MODEL.during = MODEL.drawing = lambda: None
    MODEL.forwards = 0
    write_pictures(tmp_path / "train" / "1_mika", 4, captions=("mika, red hair", "mika, hat", "mika, tail, hat"))
    return TinyHost(tmp_path, MODEL)


class Training:
    """A run and what came of it."""

    def __init__(self, host: TinyHost, stop: Callable[[], bool] = lambda: False, **values: Any) -> None:
        settings = TrainSettings.from_mapping(run_settings(host.folder, **values))
        before = fingerprint(host.model)
        self.trainer = Trainer(check_start(settings, host), host, host.folder / "run", stop)
        self.events: list[Event] = list(self.trainer.events())
        self.unchanged = fingerprint(host.model) == before
        self.ended = self.events[-1]
        assert isinstance(self.ended, RunEnded)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def at_forward(number: int, act: Callable[[], None]) -> Callable[[], None]:
    """Do something at the model's n-th forward of the run."""

    def during() -> None:
        if MODEL.forwards == number:
            act()

    return during


def fail_with(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def tensors(path: Path | None) -> dict[str, Any]:
    assert path is not None
    return dict(files.read(path).tensors)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_from_pictures_to_file(host: TinyHost) -> None:
    run = Training(host, save_every_n_epochs=1, max_train_epochs=3)
    assert run.unchanged
    assert (run.ended.reason, run.ended.step, run.ended.error) == ("finished", 6, "")
    started = run.of(RunStarted)[0]
    assert (started.steps, started.epochs, started.steps_per_epoch, started.sites) == (6, 3, 2, 204)
    steps = run.of(StepDone)
    assert [s.step for s in steps] == [1, 2, 3, 4, 5, 6]
    assert [s.epoch for s in steps] == [1, 1, 2, 2, 3, 3]
    assert steps[0].learning_rates == {"text_encoder": 1e-3, "unet": 1e-3}
    names = [s.path.name for s in run.of(SnapshotSaved)]
    assert names == ["mika-000001.safetensors", "mika-000002.safetensors", "mika.safetensors"]
    assert host.saved == [s.path for s in run.of(SnapshotSaved)]
    assert run.ended.lora == host.folder / "loras" / "mika.safetensors"
    found = tensors(run.ended.lora)
    assert len(found) == 204 * 3
    assert any(float(t.abs().max()) > 0 for k, t in found.items() if k.endswith("lora_up.weight"))
    assert all(t.dtype == torch.float16 for k, t in found.items() if k.endswith("weight"))
    assert "training" in host.leases
    assert isinstance(run.events[-1], RunEnded)


def test_equal_runs_give_equal_files_whatever_happens_between_steps(host: TinyHost) -> None:
    plain = Training(host, network_dropout=0.1, flip_aug=True)
    write_pictures(host.folder / "held" / "1_mika", 2)
    torch.manual_seed(99)
    busy = Training(
        host, network_dropout=0.1, flip_aug=True, output_name="again", save_every_n_epochs=1, sample_prompts="mika",
        sample_at_first=True, validation_data_dir=str(host.folder / "held"),
    )
    other = Training(host, network_dropout=0.1, flip_aug=True, output_name="other", seed=8)
    assert busy.unchanged
    assert [p.path.name for p in busy.of(PreviewMade)] == ["start_00.png", "000001_00.png", "end_00.png"]
    assert all(p.path.is_file() for p in busy.of(PreviewMade))
    assert same(tensors(plain.ended.lora), tensors(busy.ended.lora))
    assert not same(tensors(plain.ended.lora), tensors(other.ended.lora))


def test_the_loss_of_equal_runs_is_equal_and_the_average_is_its_mean(host: TinyHost) -> None:
    first, second = Training(host), Training(host, output_name="again")
    losses = [s.loss for s in first.of(StepDone)]
    assert losses == [s.loss for s in second.of(StepDone)]
    assert first.of(StepDone)[1].loss_average == pytest.approx(sum(losses[:2]) / 2)
    assert first.ended.loss_average == pytest.approx(sum(losses[2:]) / 2)


def test_held_out_pictures_are_measured_at_fixed_noise(host: TinyHost) -> None:
    held = str(write_pictures(host.folder / "held" / "1_mika", 3).parent)
    run = Training(host, validation_data_dir=held, validate_every_n_epochs=2, max_train_epochs=3)
    again = Training(host, validation_data_dir=held, output_name="again", seed=1, learning_rate=1e-9)
    measured = run.of(Validated)
    assert [v.step for v in measured] == [0, 4, 6]
    assert run.ended.val_loss_first == measured[0].loss == again.of(Validated)[0].loss
    assert run.ended.val_loss_last == measured[-1].loss != measured[0].loss
    assert again.ended.val_loss_last == pytest.approx(again.ended.val_loss_first, rel=1e-3)


def test_only_the_part_that_is_asked_for_is_trained_and_saved(host: TinyHost) -> None:
    unet = Training(host, network_train_unet_only=True, shuffle_caption=False, max_train_epochs=1)
    assert {k.split("_")[1] for k in tensors(unet.ended.lora)} == {"unet"}
    text = Training(host, unet_lr=0, output_name="text", max_train_epochs=1)
    assert {k.split("_")[1] for k in tensors(text.ended.lora)} == {"te"}


def test_accumulation_and_prodigy_and_checkpointing_run(host: TinyHost) -> None:
    pytest.importorskip("prodigyopt", reason="prodigyopt is not installed")
    run = Training(
        host, gradient_accumulation_steps=2, optimizer_type="Prodigy", learning_rate=1, lr_scheduler="constant",
        gradient_checkpointing=True, max_train_steps=3, train_batch_size=1, max_train_epochs=None,
    )
    assert run.unchanged
    assert [s.step for s in run.of(StepDone)] == [1, 2, 3]
    rates = [s.learning_rates["unet"] for s in run.of(StepDone)]
    assert 0 < rates[0] <= rates[-1] < 1


def test_checkpointing_trains_the_same(host: TinyHost) -> None:
    plain, checked = Training(host), Training(host, output_name="checked", gradient_checkpointing=True)
    a, b = tensors(plain.ended.lora), tensors(checked.ended.lora)
    for key, tensor in a.items():
        torch.testing.assert_close(tensor, b[key], rtol=5e-3, atol=1e-3)


# --- endings ----------------------------------------------------------------------------------------------


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


def test_a_loss_that_is_no_number_keeps_the_last_good_epoch(host: TinyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = MODEL.predict

    def broken(*args: Any) -> Any:
        return predict(*args) * (float("nan") if MODEL.forwards >= 4 else 1)

    monkeypatch.setattr(MODEL, "predict", broken)
    run = Training(host, max_train_epochs=4)
    assert run.unchanged
    assert (run.ended.reason, run.ended.step) == ("failed", 4 - 1)
    assert "not a number any more at step 4" in run.ended.error
    assert "lower unet_lr" in run.ended.error
    assert run.ended.lora is not None
    assert run.ended.lora.name == "mika-000001.safetensors"
    assert str(run.ended.lora) in run.ended.error
    assert isinstance(run.trainer.error, TrainingError)
    monkeypatch.undo()
    good = Training(host, output_name="b", max_train_epochs=4, save_every_n_epochs=1)
    assert same(tensors(run.ended.lora), tensors(good.of(SnapshotSaved)[0].path))


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
    assert "train_batch_size 1 instead of 2 (saves 50%" in run.ended.error
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
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr("lora_lab.training.turns.TURN_SECONDS", 0.0)

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
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr("lora_lab.training.turns.TURN_SECONDS", 0.0)
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
    monkeypatch.setattr("lora_lab.training.turns.TURN_SECONDS", 0.0)
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
    monkeypatch.setattr("lora_lab.training.turns.TURN_SECONDS", 0.0)
    settings = TrainSettings.from_mapping(run_settings(host.folder))
    for event in Trainer(check_start(settings, host), host, host.folder / "run", lambda: False).events():
        with host.lease("pictures"):  # asserts that no lease is held while an event is told
            assert not any(m._forward_hooks for m in MODEL.unet.modules())
        assert isinstance(event, Event)
    assert host.leases.count("training") >= 4


def test_progress_is_told_in_every_stage(host: TinyHost) -> None:
    stages = {p.stage for p in Training(host, sample_prompts="mika").of(Progress)}
    assert {"reading the pictures", "caching latents", "saving", "drawing previews"} <= stages


# --- metadata ---------------------------------------------------------------------------------------------

MAY_DIFFER = {
    "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "modelspec.date", "sshs_legacy_hash",
}


def test_metadata_of_equal_runs_differs_in_id_times_and_date_only(host: TinyHost) -> None:
    first = Training(host, output_dir=str(host.folder / "a"))
    second = Training(host, output_dir=str(host.folder / "b"))
    assert first.ended.lora is not None
    assert second.ended.lora is not None
    a, b = (dict(files.read(run.ended.lora).metadata) for run in (first, second))
    assert a.keys() == b.keys()
    assert {k for k in a if a[k] != b[k]} <= MAY_DIFFER
    assert a["sshs_model_hash"] == b["sshs_model_hash"] == files.model_hash(first.ended.lora)


KOHYAS = """
session_id training_started_at training_finished_at output_name training_comment seed sd_model_name
sd_model_hash new_sd_model_hash sd_scripts_commit_hash v2 base_model_version network_module network_dim
network_alpha network_dropout learning_rate unet_lr text_encoder_lr optimizer lr_scheduler lr_warmup_steps
max_grad_norm num_train_images num_reg_images num_validation_images num_batches_per_epoch num_epochs epoch
steps max_train_steps gradient_checkpointing gradient_accumulation_steps mixed_precision full_fp16 fp8_base
fp8_base_unet lowram cache_latents clip_skip max_token_length caption_dropout_rate
caption_dropout_every_n_epochs caption_tag_dropout_rate face_crop_aug_range noise_offset
noise_offset_random_strength adaptive_noise_scale multires_noise_iterations multires_noise_discount
ip_noise_gamma ip_noise_gamma_random_strength zero_terminal_snr min_snr_gamma debiased_estimation loss_type
huber_schedule huber_scale huber_c prior_loss_weight scale_weight_norms validation_seed validation_split
max_validation_steps validate_every_n_epochs validate_every_n_steps resize_interpolation tag_frequency
dataset_dirs batch_size_per_device total_batch_size resolution color_aug flip_aug random_crop shuffle_caption
enable_bucket bucket_no_upscale min_bucket_reso max_bucket_reso keep_tokens reg_dataset_dirs bucket_info
"""


def test_metadata_is_complete_and_true(host: TinyHost) -> None:
    write_pictures(host.folder / "train" / "2_rin", 1, captions=("Rin, Blue Sky",))
    write_pictures(host.folder / "reg" / "1_girl", 2, captions=("girl",))
    run = Training(
        host, reg_data_dir=str(host.folder / "reg"), training_comment="first try", unet_lr=2e-3, max_train_epochs=1,
        optimizer_args="weight_decay=0.1", min_snr_gamma=0, clip_skip=2,
    )
    assert run.ended.lora is not None
    found = files.read(run.ended.lora).metadata
    assert {f"ss_{name}" for name in KOHYAS.split()} <= found.keys()
    assert json.loads(found["ss_dataset_dirs"]) == {
        "1_mika": {"n_repeats": 1, "img_count": 4},
        "2_rin": {"n_repeats": 2, "img_count": 1},
    }
    assert json.loads(found["ss_reg_dataset_dirs"])["1_girl"]["img_count"] == 2
    tags = json.loads(found["ss_tag_frequency"])
    assert tags["1_mika"] == {"mika": 4, "red hair": 2, "hat": 2, "tail": 1}
    assert tags["2_rin"] == {"rin": 1, "blue sky": 1}
    buckets = json.loads(found["ss_bucket_info"])["buckets"]
    assert [b["resolution"] for b in buckets.values()] == [[64, 64]]
    assert found["ss_num_train_images"] == "6"
    assert found["ss_optimizer"] == "torch.optim.adamw.AdamW(weight_decay=0.1)"
    assert (found["ss_unet_lr"], found["ss_text_encoder_lr"], found["ss_learning_rate"]) == ("0.002", "0.001", "0.001")
    assert (found["ss_sd_model_name"], found["ss_sd_model_hash"]) == ("tiny.safetensors", "0badf00d")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("2", "1.0")
    assert found["ss_network_module"] == "networks.lora"
    assert (found["ss_base_model_version"], found["ss_v2"], found["ss_clip_skip"]) == ("sd_v1", "False", "2")
    assert (found["ss_min_snr_gamma"], found["ss_resolution"], found["ss_seed"]) == ("None", "(64, 64)", "7")
    assert found["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert (found["modelspec.title"], found["modelspec.resolution"]) == ("mika", "64x64")
