"""Whole runs on tiny real modules: what is trained, told and written."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import SettingsError  # noqa: E402
from lora_lab.training.events import (  # noqa: E402
    LossBins,
    PreviewMade,
    RunEnded,
    RunStarted,
    SnapshotSaved,
    StepDone,
    Validated,
)

from .running import Training, fresh_host, same, tensors  # noqa: E402
from .tiny import TinyHost, write_pictures  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


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


def test_options_of_noise_and_loss_run_and_change_what_is_learnt(host: TinyHost) -> None:
    plain = tensors(Training(host, max_train_epochs=1).ended.lora)
    for number, more in enumerate(
        (
            {"noise_offset": 0.1, "noise_offset_random_strength": True, "adaptive_noise_scale": 0.05},
            {"multires_noise_iterations": 4, "loss_type": "huber"},
            {"ip_noise_gamma": 0.1, "loss_type": "smooth_l1", "huber_schedule": "exponential"},
            {"min_timestep": 200, "max_timestep": 600, "loss_type": "l1"},
            {"debiased_estimation_loss": True, "min_snr_gamma": 0},
        )
    ):
        run = Training(host, max_train_epochs=1, output_name=f"noise{number}", **more)
        assert run.unchanged
        assert run.ended.error == ""
        found = tensors(run.ended.lora)
        assert any(not torch.equal(plain[key], found[key]) for key in plain), more


def test_a_loss_for_the_other_kind_of_checkpoint_is_refused(host: TinyHost) -> None:
    kind = host.current().prediction_type
    wrong = {"scale_v_pred_loss_like_noise_pred": True} if kind == "epsilon" else {"v_pred_like_loss": 1.0}
    with pytest.raises(SettingsError, match="checkpoints, the loaded one predicts"):
        Training(host, **wrong)


def test_checkpointing_trains_the_same(host: TinyHost) -> None:
    plain, checked = Training(host), Training(host, output_name="checked", gradient_checkpointing=True)
    a, b = tensors(plain.ended.lora), tensors(checked.ended.lora)
    for key, tensor in a.items():
        torch.testing.assert_close(tensor, b[key], rtol=5e-3, atol=1e-3)


def test_snapshots_and_pictures_every_so_many_steps(host: TinyHost) -> None:
    run = Training(host, max_train_epochs=3, train_batch_size=1, save_every_n_steps=3, sample_every_n_steps=6,
                   sample_prompts="mika")  # fmt: skip
    names = [s.path.name for s in run.of(SnapshotSaved)]
    # 4 steps an epoch: after 3, 6 and 9; 12 is the end
    assert names == [f"mika-step{n:08d}.safetensors" for n in (3, 6, 9)] + ["mika.safetensors"]
    assert [p.path.name for p in run.of(PreviewMade)] == ["step00000006_00.png", "end_00.png"]
    plain = Training(host, max_train_epochs=3, train_batch_size=1, output_name="plain")
    assert same(tensors(run.ended.lora), tensors(plain.ended.lora))


def test_the_loss_of_every_item_is_told_by_its_timestep(host: TinyHost) -> None:
    """Two epochs of two steps of two items: as many are binned as were trained, and their mean is the steps' mean."""
    run = Training(host, min_snr_gamma=0)
    told, steps = run.of(LossBins), run.of(StepDone)
    assert [event.step for event in told] == [2, 4]
    assert sum(sum(event.counts.values()) for event in told) == 8
    whole = sum(loss * event.counts[name] for event in told for name, loss in event.losses.items()) / 8
    assert whole == pytest.approx(sum(event.loss for event in steps) / 4, rel=1e-5)
