"""Optimizers, plan, names of files, averages, checkpointing, precision, memory, status: each by itself."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from lora_lab.errors import OutputError, SettingsError  # noqa: E402
from lora_lab.training.events import RunEnded, StepDone  # noqa: E402
from lora_lab.training.learning import optimizers, precision  # noqa: E402
from lora_lab.training.learning.averages import LossAverage, Speed  # noqa: E402
from lora_lab.training.memory import out_of_memory  # noqa: E402
from lora_lab.training.memory.checkpointing import gradient_checkpointing  # noqa: E402
from lora_lab.training.plan import make_plan, options_of  # noqa: E402
from lora_lab.training.record import outputs  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402
from lora_lab.training.status import POINTS, RunStatus, after  # noqa: E402


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.from_mapping({"train_data_dir": "x", "output_name": "mika", **values})


# --- plan -------------------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.integers(1, 16), st.integers(1, 50))
def test_steps_of_epochs_are_kohyas(batches: int, accumulation: int, epochs: int) -> None:
    plan = make_plan(settings(gradient_accumulation_steps=accumulation, max_train_epochs=epochs), batches)
    assert plan.steps_per_epoch == math.ceil(batches / accumulation)
    assert plan.steps == epochs * plan.steps_per_epoch
    assert plan.epochs == epochs


@given(st.integers(1, 500), st.integers(1, 5000))
def test_epochs_of_steps_are_kohyas(batches: int, steps: int) -> None:
    plan = make_plan(settings(max_train_steps=steps), batches)
    assert plan.steps == steps
    assert (plan.epochs - 1) * batches < steps <= plan.epochs * batches


def test_epochs_win_over_steps_and_nothing_said_is_ten_epochs() -> None:
    assert make_plan(settings(max_train_steps=3, max_train_epochs=2), 5).steps == 10
    assert make_plan(settings(), 5).steps == 50


@pytest.mark.parametrize(("warmup", "expected"), [(0, 0), (0.1, 10), (7, 7), (0.999, 99), (1, 1)])
def test_warmup_is_steps_or_a_share(warmup: float, expected: int) -> None:
    assert make_plan(settings(max_train_steps=100, lr_warmup_steps=warmup), 10).warmup_steps == expected


def test_snapshots_leave_the_last_epoch_to_the_final_file() -> None:
    assert make_plan(settings(max_train_epochs=6, save_every_n_epochs=2), 3).snapshot_epochs == (2, 4)
    assert make_plan(settings(max_train_epochs=6), 3).snapshot_epochs == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"text_encoder": 5e-5, "unet": 1e-4}),
        ({"learning_rate": 3e-4}, {"text_encoder": 3e-4, "unet": 3e-4}),
        ({"learning_rate": 3e-4, "unet_lr": 1e-3}, {"text_encoder": 3e-4, "unet": 1e-3}),
        ({"text_encoder_lr": 0}, {"unet": 1e-4}),
        ({"network_train_unet_only": True, "text_encoder_lr": 1e-3}, {"unet": 1e-4}),
        ({"network_train_text_encoder_only": True}, {"text_encoder": 5e-5}),
        ({"optimizer_type": "Prodigy"}, {"text_encoder": 1, "unet": 1}),
    ],
)
def test_rates_fall_back_as_kohyas(values: dict[str, Any], expected: dict[str, float]) -> None:
    plan = make_plan(settings(**values), 1)
    assert {g.name: g.learning_rate for g in plan.groups} == expected
    assert ("unet" in plan.parts) == ("unet" in expected)
    assert ("text_encoder" in plan.parts) == ("text_encoder" in expected)


def test_every_option_of_the_dataset_is_a_setting_of_the_same_name() -> None:
    found = options_of(settings(resolution="64,128", keep_tokens=3, flip_aug=True, caption_prefix="a"), seed=4)
    assert found.resolution == (64, 128)
    assert (found.keep_tokens, found.flip_aug, found.caption_prefix, found.seed) == (3, True, "a", 4)
    names = {field.name for field in dataclasses.fields(found)} - {"seed"}
    assert names <= {spec.name for spec in TrainSettings.specs()}


def test_the_seed_of_the_settings_wins() -> None:
    assert make_plan(settings(seed=0), 1, seed=9).seed == 0
    assert make_plan(settings(), 1, seed=9).seed == 9


# --- optimizers -------------------------------------------------------------------------------------------


def groups(*rates: float) -> optimizers.ParamGroups:
    names = ("text_encoder", "unet")
    return [{"name": n, "params": [nn.Parameter(torch.ones(3))], "lr": r} for n, r in zip(names, rates, strict=False)]


def test_every_choice_is_in_the_registry() -> None:
    assert set(TrainSettings.spec("optimizer_type").choices) == set(optimizers.KINDS)


def test_adamw_gets_its_options_and_its_rates() -> None:
    made = optimizers.build("AdamW", groups(1e-4, 2e-4), ("weight_decay=0.5", "betas=0.8,0.9"))
    assert isinstance(made, torch.optim.AdamW)
    assert [g["weight_decay"] for g in made.param_groups] == [0.5, 0.5]
    assert made.param_groups[0]["betas"] == (0.8, 0.9)
    assert optimizers.rates(made) == {"text_encoder": 1e-4, "unet": 2e-4}


def test_prodigy_reports_d_times_lr() -> None:
    pytest.importorskip("prodigyopt", reason="prodigyopt is not installed")
    made = optimizers.build("Prodigy", groups(0.5, 0.5), ("d_coef=2", "safeguard_warmup=True"))
    assert optimizers.rates(made) == pytest.approx({"text_encoder": 0.5e-6, "unet": 0.5e-6})
    for _ in range(30):
        for group in made.param_groups:
            group["params"][0].grad = torch.ones(3)
        made.step()
    d = made.param_groups[0]["d"]
    assert d > 1e-5
    assert optimizers.rates(made)["unet"] == pytest.approx(0.5 * d)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("AdamW", ("d_coef=2",), "AdamW has no option 'd_coef'"),
        ("AdamW", ("betas=2,3",), "refuses its options"),
        ("AdamW", ("eps=1", "eps=2"), "gives eps twice"),
        ("AdamW", ("eps=1+",), "optimizer_args holds 'eps=1\\+'"),
        ("Prodigy", ("d0=0",), "refuses its options"),
    ],
)
def test_wrong_options_are_refused(name: str, arguments: tuple[str, ...], says: str) -> None:
    if name == "Prodigy":
        pytest.importorskip("prodigyopt", reason="prodigyopt is not installed")
    with pytest.raises(SettingsError, match=says):
        optimizers.build(name, groups(1.0), arguments)


@given(st.text(max_size=20))
def test_no_optimizer_argument_is_ever_run(text: str) -> None:
    try:
        found = optimizers.parse_args([text])
    except SettingsError:
        return
    literals = (int, float, complex, str, bytes, tuple, list, dict, set, type(None), type(...))
    assert all(isinstance(value, literals) for value in found.values())


# --- outputs ----------------------------------------------------------------------------------------------


def test_files_are_named_as_kohyas(tmp_path: Path) -> None:
    out = outputs.outputs_of(settings(), tmp_path)
    assert out.final.name == "mika.safetensors"
    assert out.snapshot(3).name == "mika-000003.safetensors"
    assert out.stopped(12).name == "mika-step00000012.safetensors"
    out.stopped(12).write_bytes(b"")
    assert out.stopped(12).name == "mika-step00000012-2.safetensors"
    assert outputs.outputs_of(settings(output_dir=str(tmp_path / "own")), tmp_path).final.parent == tmp_path / "own"


def test_a_lora_of_that_name_is_never_overwritten(tmp_path: Path) -> None:
    plan = make_plan(settings(max_train_epochs=4, save_every_n_epochs=2), 1)
    out = outputs.outputs_of(settings(), tmp_path)
    outputs.check_outputs(out, plan)
    out.snapshot(2).write_bytes(b"old")
    with pytest.raises(OutputError, match="there already.*mika-000002"):
        outputs.check_outputs(out, plan)
    out.final.write_bytes(b"old")
    with pytest.raises(OutputError, match="choose another output_name"):
        outputs.check_outputs(out)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written to"):
        outputs.check_writable(tmp_path / "file" / "below")
    outputs.check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_full_disk_is_seen_before_the_training(tmp_path: Path) -> None:
    out, plan = outputs.outputs_of(settings(), tmp_path), make_plan(settings(), 1)
    outputs.check_space(out, settings(), plan, 1000)
    with pytest.raises(OutputError, match="the disk has"):
        outputs.check_space(out, settings(), plan, 10**15)


# --- averages ---------------------------------------------------------------------------------------------


class KohyasRecorder:
    """The rule as trainers.md words it: an epoch's worth of losses, each replaced one epoch later."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def add(self, epoch: int, step: int, loss: float) -> float:
        if epoch == 0:
            self.losses.append(loss)
        else:
            self.losses[step] = loss
        return sum(self.losses) / len(self.losses)


@given(st.integers(1, 7), st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_average_is_kohyas(per_epoch: int, losses: list[float]) -> None:
    ours, judge = LossAverage(per_epoch), KohyasRecorder()
    for index, loss in enumerate(losses):
        ours.add(loss)
        assert ours.value == pytest.approx(judge.add(index // per_epoch, index % per_epoch, loss))


def test_speed_looks_at_the_last_steps() -> None:
    speed = Speed(window=2)
    assert speed.per_step == 0
    for seconds in (100.0, 1.0, 3.0):
        speed.add(seconds)
    assert speed.per_step == 2


# --- gradient checkpointing -------------------------------------------------------------------------------


class ResBlock(nn.Module):
    """Named as ldm's."""

    def __init__(self) -> None:
        super().__init__()
        self.use_checkpoint = True
        self.inner = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.tanh(self.inner(x))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(ResBlock(), ResBlock(), nn.Linear(4, 1))


def test_checkpointing_changes_no_gradient_and_leaves_nothing() -> None:
    found = []
    for enabled in (False, True):
        net = network()
        before = [dict(m.__dict__) for m in net.modules()]
        with gradient_checkpointing([net], enabled):
            assert [m.use_checkpoint for m in net[:2]] == [False, False]
            net(torch.ones(2, 4, requires_grad=True)).sum().backward()
        found.append(([p.grad for p in net.parameters()], [m.calls for m in net[:2]]))
        after_ = [dict(m.__dict__) for m in net.modules()]
        for old, new in zip(before, after_, strict=True):
            old.pop("calls", None), new.pop("calls", None)
            assert {k: id(v) for k, v in old.items()} == {k: id(v) for k, v in new.items()}
    assert found[0][1] == [1, 1]
    assert found[1][1] == [2, 2]
    assert all(torch.equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True))


def test_a_forward_of_the_instances_own_is_back_afterwards() -> None:
    net = network()
    own = net[0].forward
    net[0].forward = own

    def fails() -> None:
        with gradient_checkpointing([net], enabled=True):
            assert net[0].forward is not own
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert net[0].__dict__["forward"] is own
    assert "forward" not in net[1].__dict__
    assert net[0].use_checkpoint is True


# --- precision, memory ------------------------------------------------------------------------------------

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("setting", "device", "dtype", "expected"),
    [
        ("auto", CPU, torch.float32, ("no", None, False)),
        ("no", CPU, torch.float32, ("no", None, False)),
        ("auto", CUDA, torch.float16, ("fp16", None, True)),
        ("fp16", CUDA, torch.float32, ("fp16", torch.float16, True)),
        ("bf16", CPU, torch.float32, ("bf16", torch.bfloat16, False)),
        ("auto", CUDA, torch.bfloat16, ("bf16", None, False)),
    ],
)
def test_precision(setting: str, device: Any, dtype: Any, expected: tuple[Any, ...]) -> None:
    assert dataclasses.astuple(precision.choose(setting, device, dtype)) == (*expected, False)


@pytest.mark.parametrize(
    ("setting", "device", "dtype", "says"),
    [("fp16", CPU, torch.float32, "not work on a CPU"), ("no", CUDA, torch.float16, "needs a checkpoint in 32 bits")],
)
def test_precision_that_cannot_be_had_is_refused(setting: str, device: Any, dtype: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        precision.choose(setting, device, dtype)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_apart(error: Exception, expected: bool) -> None:
    assert out_of_memory.is_out_of_memory(error) is expected


def test_the_advice_names_settings_that_are_not_used_yet() -> None:
    text = out_of_memory.advice(settings(train_batch_size=4, optimizer_type="Prodigy", network_dim=128), 75_000_000)
    for words in ("gradient_checkpointing", "batch_size 2 instead of 4", "resolution 384", "network_dim 64", "AdamW"):
        assert words in text
    small = settings(gradient_checkpointing=True, train_batch_size=1, resolution=64, min_bucket_reso=64)
    assert "gradient_checkpointing" not in out_of_memory.advice(small, 1000)


# --- status ---------------------------------------------------------------------------------------------


def step(number: int) -> StepDone:
    return StepDone(number, 1, number / 2, number / 4, {"unet": 1e-4}, 0.1, 1.0, 100.0)


@given(st.integers(1, 2500))
def test_the_loss_series_is_thinned_and_ends_with_the_newest(count: int) -> None:
    status = RunStatus("id", "mika", Path("."))
    for number in range(1, count + 1):
        status = after(status, step(number))
    steps = [point.step for point in status.losses]
    assert len(steps) <= POINTS
    assert steps == sorted(set(steps))
    assert steps[-1] == count
    assert len(steps) >= min(count, POINTS // 2 - 1)
    assert status.revision == count


def test_the_end_is_the_state() -> None:
    status = after(after(RunStatus("id", "mika", Path(".")), step(1)), RunEnded("stopped", 1, 2.0, None, None))
    assert (status.state, status.active, status.share) == ("stopped", False, 1.0)


# Adafactor's and the schedule-free ones' tests are in test_optimizers.py: the first has no rate, the others averages.
PLAIN = [k.name for k in optimizers.KINDS.values() if k.name != "Adafactor" and not k.schedule_free]


@pytest.mark.parametrize("name", PLAIN)
def test_every_optimizer_learns_or_says_what_to_install(name: str) -> None:
    kind = optimizers.KINDS[name]
    target = torch.linspace(-1, 1, 8)
    weights = torch.nn.Parameter(torch.zeros(8))
    rate = 1.0 if kind.adaptive else 0.02
    group = {"name": "unet", "params": [weights], "lr": rate}
    try:
        made = optimizers.build(name, [group], ())
    except SettingsError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(f"{name}: {error.what}")
    first = float(target.square().sum())
    for _ in range(60):
        (weights - target).square().sum().backward()  # type: ignore[no-untyped-call]
        made.step()
        made.zero_grad()
    assert float((weights - target).detach().square().sum()) < first
    rates = optimizers.rates(made)
    assert rates["unet"] > 0
    assert kind.adaptive or rates["unet"] == rate


def test_what_a_name_stands_for_is_given_and_the_rest_may_be_changed() -> None:
    made = optimizers.build("SGDNesterov", groups(1e-4), ("momentum=0.5",))
    assert (made.defaults["nesterov"], made.defaults["momentum"]) == (True, 0.5)
    assert optimizers.build("SGDNesterov", groups(1e-4), ()).defaults["momentum"] == 0.9
