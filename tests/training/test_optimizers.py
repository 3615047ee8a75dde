"""Optimizers and schedules against the packages that they come from: the rate of every step, and every number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lora_lab.errors import SettingsError  # noqa: E402
from lora_lab.training.learning import optimizer_kinds, optimizers  # noqa: E402
from lora_lab.training.learning.schedule_classes import Rates, foreseen  # noqa: E402
from lora_lab.training.learning.schedules import parse_rules  # noqa: E402
from lora_lab.training.plan import make_plan, scheduler_of  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

STEPS = 25
Params = list[Any]


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.from_mapping({"train_data_dir": "x", "output_name": "m", "max_train_steps": STEPS, **values})


def numbers(count: int = 2) -> Params:
    made = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(4, 6, generator=made)) for _ in range(count)]


def pull(parameters: Params, step: int) -> None:
    """Gradients that depend on the weights and on the step, of another size for each parameter."""
    for index, p in enumerate(parameters):
        noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + index))
        p.grad = (10.0**-index) * (p.detach() - 1 + 0.1 * noise)


def drive(s: TrainSettings, groups: list[dict[str, Any]], steps: int = STEPS) -> list[dict[str, float]]:
    """Our optimizer and schedule over a run: the rates of each step."""
    made = optimizers.build(s.optimizer_type, groups, s.optimizer_args)
    rates = Rates(s, make_plan(s, 10), made)
    found = []
    for step in range(steps):
        rates.set(step)
        optimizers.settle(made, averaged=False)
        pull([p for g in groups for p in g["params"]], step)
        with optimizers.in_units(made):
            made.step()
        found.append(optimizers.rates(made))
    optimizers.settle(made, averaged=True)
    return found


def judged(
    make: Callable[[Params], Any], schedule: Callable[[Any], Any] | None, parameters: Params
) -> list[float]:
    """The package's optimizer with the package's schedule, as kohya's loop drives them: rates of each step."""
    judge = make(parameters)
    follow = schedule(judge) if schedule else None
    if hasattr(judge, "train"):
        judge.train()
    found = []
    for step in range(STEPS):
        pull(parameters, step)
        group = judge.param_groups[0]
        before = group["lr"]
        judge.step()
        if group["lr"] is None or group.get("relative_step"):
            found.append(float(judge._get_lr(group, judge.state[parameters[0]])))
        else:
            found.append(float(group.get("d", 1.0) * before))
        if follow is not None:
            follow.step()
    if hasattr(judge, "eval"):
        judge.eval()
    return found


def of(module: str, name: str, **values: Any) -> Callable[[Params], Any]:
    return lambda p: getattr(pytest.importorskip(module, reason=f"{module} is not installed"), name)(p, **values)


def cosine(optimizer: Any) -> Any:
    found = pytest.importorskip("transformers.optimization", reason="transformers is not installed")
    return found.get_cosine_schedule_with_warmup(optimizer, 5, STEPS)


COSINE = {"lr_scheduler": "cosine", "lr_warmup_steps": 5}
JUDGES: dict[str, tuple[dict[str, Any], float, Callable[[Params], Any], Callable[[Any], Any] | None]] = {
    "AdamW": (COSINE, 1e-2, of("torch.optim", "AdamW", lr=1e-2), cosine),
    "Adam": (COSINE, 1e-2, of("torch.optim", "Adam", lr=1e-2), cosine),
    "torch.optim.RAdam": (COSINE, 1e-2, of("torch.optim", "RAdam", lr=1e-2), cosine),
    "SGDNesterov": (COSINE, 1e-2, of("torch.optim", "SGD", lr=1e-2, momentum=0.9, nesterov=True), cosine),
    "Lion": (COSINE, 1e-3, of("lion_pytorch", "Lion", lr=1e-3), cosine),
    "Prodigy": (COSINE, 1.0, of("prodigyopt", "Prodigy", lr=1.0), cosine),
    "DAdaptation": (COSINE, 1.0, of("dadaptation.experimental", "DAdaptAdamPreprint", lr=1.0), cosine),
    "DAdaptAdaGrad": (COSINE, 1.0, of("dadaptation", "DAdaptAdaGrad", lr=1.0), cosine),
    "DAdaptAdam": (COSINE, 1.0, of("dadaptation", "DAdaptAdam", lr=1.0), cosine),
    "DAdaptAdan": (COSINE, 1.0, of("dadaptation", "DAdaptAdan", lr=1.0), cosine),
    "DAdaptAdanIP": (COSINE, 1.0, of("dadaptation.experimental", "DAdaptAdanIP", lr=1.0), cosine),
    "DAdaptLion": (COSINE, 1.0, of("dadaptation", "DAdaptLion", lr=1.0), cosine),
    "DAdaptSGD": ({"lr_scheduler": "constant"}, 1.0, of("dadaptation", "DAdaptSGD", lr=1.0), None),
    "Adafactor": ({}, 1e-4, of("transformers.optimization", "Adafactor", lr=None, relative_step=True), None),
    "RAdamScheduleFree": ({}, 1e-2, of("schedulefree", "RAdamScheduleFree", lr=1e-2), None),
    "AdamWScheduleFree": ({}, 1e-2, of("schedulefree", "AdamWScheduleFree", lr=1e-2), None),
    "SGDScheduleFree": ({}, 1e-2, of("schedulefree", "SGDScheduleFree", lr=1e-2), None),
    "pytorch_optimizer.CAME": (COSINE, 1e-3, of("pytorch_optimizer", "CAME", lr=1e-3), cosine),
}


@pytest.mark.parametrize("name", list(JUDGES))
def test_rates_and_weights_are_the_packages_own_at_every_step(name: str) -> None:
    values, rate, make, schedule = JUDGES[name]
    theirs = numbers()
    wanted = judged(make, schedule, theirs)
    ours = numbers()
    found = drive(settings(optimizer_type=name, **values), [{"name": "unet", "params": ours, "lr": rate}])
    assert [rates["unet"] for rates in found] == pytest.approx(wanted, rel=1e-6)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-8)


def test_each_optimizer_that_can_be_had_here_is_judged() -> None:
    eight_bit = {name for name in optimizers.KINDS if name.startswith("Paged") or name.endswith("8bit")}
    assert set(optimizers.KINDS) - eight_bit - {"DAdaptAdamPreprint"} <= set(JUDGES), "DAdaptation is the same class"


def test_adafactor_with_rates_of_its_own_choice_scales_by_the_weights() -> None:
    make = of("transformers.optimization", "Adafactor", lr=1e-2, relative_step=False)
    theirs, ours = numbers(), numbers()
    judged(make, cosine, theirs)
    s = settings(optimizer_type="Adafactor", optimizer_args=["relative_step=False"], **COSINE)
    found = drive(s, [{"name": "unet", "params": ours, "lr": 1e-2}])
    assert found[5]["unet"] == pytest.approx(1e-2)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


# --- schedules ---------------------------------------------------------------------------------------------


def test_piecewise_constant_is_diffusers() -> None:
    optimization = pytest.importorskip("diffusers.optimization", reason="diffusers is not installed")
    rules = "1:7,0.5:12,0.1:20,0.05"
    judge = torch.optim.SGD(numbers(1), lr=1.0)
    follow = optimization.get_piecewise_constant_schedule(judge, rules)
    s = settings(optimizer_type="SGD", lr_scheduler="piecewise_constant", lr_scheduler_args=[f"step_rules={rules}"])
    wanted = []
    for _ in range(STEPS):
        wanted.append(judge.param_groups[0]["lr"])
        judge.step()
        follow.step()
    found = drive(s, [{"name": "unet", "params": numbers(1), "lr": 1.0}])
    assert [rates["unet"] for rates in found] == wanted


@given(st.text(max_size=20) | st.from_regex(r"[0-9.]{1,3}:[0-9]{1,3},[0-9.]{1,3}", fullmatch=True))
def test_stairs_are_read_or_refused(text: str) -> None:
    try:
        stairs, last = parse_rules(text)
    except SettingsError:
        return
    assert last >= 0
    assert [until for until, _ in stairs] == sorted({until for until, _ in stairs})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("StepLR", ["step_size=5", "gamma=0.5"]),
        ("CosineAnnealingWarmRestarts", ["T_0=7", "T_mult=2"]),
        ("OneCycleLR", ["max_lr=[0.1,0.2]", f"total_steps={STEPS}"]),
        ("torch.optim.lr_scheduler.ExponentialLR", ["gamma=0.9"]),
    ],
)
def test_any_class_is_a_schedule_and_is_foreseen(name: str, arguments: list[str]) -> None:
    s = settings(lr_scheduler_type=name, lr_scheduler_args=arguments)
    groups = [{"name": n, "params": numbers(1), "lr": r} for n, r in (("text_encoder", 0.1), ("unet", 0.2))]
    found = drive(s, groups)
    judge = torch.optim.AdamW([{"params": g["params"], "lr": g["lr"]} for g in groups])
    values = optimizer_kinds.parse_args(arguments, "lr_scheduler_args")
    follow = getattr(torch.optim.lr_scheduler, name.rpartition(".")[2])(judge, **values)
    ahead = foreseen(s, [0.1, 0.2], STEPS)
    for step in range(STEPS):
        wanted = [g["lr"] for g in judge.param_groups]
        assert list(found[step].values()) == pytest.approx(wanted, rel=1e-12)
        assert list(ahead[step]) == pytest.approx(wanted, rel=1e-12)
        judge.step()
        follow.step()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lr_scheduler_type": "CosinAnnealingLR"}, "no schedule 'CosinAnnealingLR': did you mean CosineAnnealingLR"),
        ({"lr_scheduler_type": "nothing.there.Schedule"}, "pip install nothing"),
        ({"lr_scheduler_type": "StepLR", "lr_scheduler_args": ["size=3"]}, "StepLR has no option 'size'"),
        ({"lr_scheduler_type": "StepLR"}, "StepLR refuses its options"),
        ({"lr_scheduler_type": "ReduceLROnPlateau"}, "wants metrics after each step"),
        ({"lr_scheduler_type": "StepLR", "lr_scheduler_args": ["step_size=open('x')"]}, "lr_scheduler_args holds"),
    ],
)
def test_schedules_that_are_none_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        foreseen(settings(**values), [1e-4], 3)


def test_an_optimizer_with_its_own_schedule_keeps_it() -> None:
    assert scheduler_of(settings(optimizer_type="adafactor", lr_scheduler="linear")) == "adafactor"
    assert scheduler_of(settings(optimizer_type="SGDScheduleFree", lr_scheduler="linear")) == "constant"
    own = settings(optimizer_type="Adafactor", lr_scheduler="linear", optimizer_args=["relative_step=False"])
    assert scheduler_of(own) == "linear"


# --- names and options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("AdamW", ["d_coef=2"], "AdamW has no option 'd_coef'"),
        ("Adafactor", ["d_coef=2"], "Adafactor has no option 'd_coef'"),
        ("torch.optim.Adamm", [], "torch.optim has no optimizer 'Adamm': did you mean torch.optim.Adam"),
        ("torch.optim.LBFGS", [], "cannot make the steps of a training"),
        ("no_such_package.Adam", [], "pip install no_such_package"),
        ("prodigyplus.ProdigyPlusScheduleFree", [], "pip install prodigy-plus-schedule-free"),
        ("bitsandbytes.optim.AdEMAMix8bit", [], "pip install bitsandbytes"),
        ("AdamW8bit", [], "pip install bitsandbytes"),
        ("lora_lab.errors.SettingsError", [], "refuses its options|has no option|cannot make"),
    ],
)
def test_what_is_wrong_with_an_optimizer_shows_before_the_run(name: str, arguments: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        optimizers.try_out(name, arguments)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_name_is_an_optimizer_or_refused(name: str) -> None:
    try:
        kind = optimizers.kind_of(name)
    except SettingsError:
        return
    assert kind.name.lower() == name.lower() or kind.name == name


def test_names_have_kohyas_rules() -> None:
    assert optimizers.kind_of("adamw").name == "AdamW"
    assert optimizers.kind_of("Adamax").load() is torch.optim.Adamax
    with pytest.raises(SettingsError, match="did you mean Adamax"):
        optimizers.kind_of("adamax")
    assert optimizers.kind_of("prodigyplus.ProdigyPlusScheduleFree").schedule_free
    assert optimizers.kind_of("prodigyplus.ProdigyPlusScheduleFree").adaptive
    assert {optimizers.kind_of(n).name for n in optimizer_kinds.OLD_SWITCHES.values()} == {"AdamW8bit", "Lion"}


# --- one rate for all --------------------------------------------------------------------------------------


def moved(name: str, shares: tuple[float, float], arguments: list[str], *, folded: bool) -> Params:
    """Two groups after a run, their rates given apart, or folded into their units."""
    parameters = numbers()
    groups = [
        {"name": n, "params": [p], "lr": 0.01 * share}
        for n, p, share in zip(("text_encoder", "unet"), parameters, shares, strict=True)
    ]
    made = optimizers.build(name, groups, arguments)
    if folded:
        by_size = name == "SGD"
        for group, share in zip(made.param_groups, shares, strict=True):
            group["lr"], group["unit"] = 0.01, share**0.5 if by_size else share
    for step in range(STEPS):
        pull(parameters, step)
        with optimizers.in_units(made):
            made.step()
    return parameters


@pytest.mark.parametrize(
    ("name", "arguments"), [("AdamW", ["weight_decay=0", "eps=1e-20"]), ("SGD", []), ("RMSprop", ["eps=1e-20"])]
)
@pytest.mark.parametrize("shares", [(0.5, 1.0), (0.3, 1.0), (1.0, 16.0)])
def test_a_folded_ratio_moves_as_a_rate_of_its_own_does(
    name: str, arguments: list[str], shares: tuple[float, float]
) -> None:
    apart, together = (moved(name, shares, arguments, folded=folded) for folded in (False, True))
    for a, b in zip(apart, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    alike = moved(name, (1.0, 1.0), arguments, folded=False)
    assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(alike, together, strict=True))


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam", "DAdaptation", "DAdaptAdan", "DAdaptLion", "DAdaptSGD"])
def test_optimizers_of_one_rate_get_one_and_show_each_groups_own(name: str) -> None:
    pytest.importorskip("prodigyopt" if name == "Prodigy" else "dadaptation")
    text, unet = numbers()
    groups = [{"name": "text_encoder", "params": [text], "lr": 0.25}, {"name": "unet", "params": [unet], "lr": 1.0}]
    made = optimizers.build(name, groups, ())
    assert [group["lr"] for group in made.param_groups] == [1.0, 1.0]
    assert [group["unit"] for group in made.param_groups] == [0.5 if name == "DAdaptSGD" else 0.25, 1.0]
    found = drive(settings(optimizer_type=name, lr_scheduler="constant"), groups)
    for rates in found:
        assert rates["unet"] > 0
        assert rates["text_encoder"] == pytest.approx(0.25 * rates["unet"])


def test_the_estimate_of_d_is_that_of_the_problem_in_its_units() -> None:
    """Prodigy on (w / u, u * g) by itself finds the same d: the fold is one change of units and nothing else."""
    prodigyopt = pytest.importorskip("prodigyopt", reason="prodigyopt is not installed")
    ours = numbers()
    groups = [{"name": n, "params": [p], "lr": r} for n, p, r in zip(("te", "unet"), ours, (0.5, 1.0), strict=True)]
    found = drive(settings(optimizer_type="Prodigy", lr_scheduler="constant"), groups)
    theirs = numbers()
    in_units = [torch.nn.Parameter(p.detach() / u) for p, u in zip(theirs, (0.5, 1.0), strict=True)]
    judge = prodigyopt.Prodigy(in_units, lr=1.0)
    for step in range(STEPS):
        for p, q, u in zip(theirs, in_units, (0.5, 1.0), strict=True):
            p.data.copy_(q.detach() * u)
        pull(theirs, step)
        for p, q, u in zip(theirs, in_units, (0.5, 1.0), strict=True):
            q.grad = p.grad * u
        d = judge.param_groups[0]["d"]
        judge.step()
        assert found[step]["unet"] == pytest.approx(judge.param_groups[0]["d"], rel=1e-5), (step, d)


def test_a_group_that_is_frozen_has_no_rate() -> None:
    parameter = numbers(1)[0]
    made = optimizers.build("AdamW", [{"name": "unet", "params": [parameter], "lr": 1e-4}], ())
    parameter.requires_grad_(False)
    assert optimizers.rates(made) == {"unet": 0.0}
