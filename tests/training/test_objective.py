"""The mathematics of the loss against diffusers, the schedules against transformers, the noise against itself."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lora_lab.training import objective  # noqa: E402
from lora_lab.training.schedules import SCHEDULES, Shape, schedule  # noqa: E402

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
T = torch.tensor([0, 10, 500, 999])


def some(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scheduler(kind: str) -> object:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return diffusers.DDPMScheduler(**betas, prediction_type=kind, num_train_timesteps=1000)


def test_noise_is_added_as_diffusers_adds_it() -> None:
    x, noise = some(1, 4, 4, 8, 8), some(2, 4, 4, 8, 8)
    judge = scheduler("epsilon").add_noise(x, noise, T)  # type: ignore[attr-defined]
    torch.testing.assert_close(objective.add_noise(x, noise, T, ALPHAS), judge, rtol=1e-5, atol=1e-6)


def test_velocity_is_diffusers() -> None:
    x, noise = some(1, 4, 4, 8, 8), some(2, 4, 4, 8, 8)
    judge = scheduler("v_prediction").get_velocity(x, noise, T)  # type: ignore[attr-defined]
    torch.testing.assert_close(objective.target("v_prediction", x, noise, T, ALPHAS), judge, rtol=1e-5, atol=1e-6)
    assert objective.target("epsilon", x, noise, T, ALPHAS) is noise


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_is_the_papers(gamma: float) -> None:
    utils = pytest.importorskip("diffusers.training_utils", reason="diffusers is not installed")
    snr = utils.compute_snr(scheduler("epsilon"), T)
    least = torch.minimum(snr, torch.full_like(snr, gamma))
    eps = objective.min_snr_weight(T, ALPHAS, gamma, "epsilon")
    torch.testing.assert_close(eps, least / snr, rtol=1e-4, atol=1e-7)
    v = objective.min_snr_weight(T, ALPHAS, gamma, "v_prediction")
    torch.testing.assert_close(v, least / (snr + 1), rtol=1e-4, atol=1e-7)


def test_the_order_of_the_weights_is_kohyas() -> None:
    losses, weights, snr = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.5, 1.0]), torch.tensor([1.0, 1.0, 0.25])
    assert float(objective.combine(losses, weights, snr)) == pytest.approx((1 + 1 + 1) / 3)
    assert float(objective.combine(losses, weights)) == pytest.approx((1 + 1 + 4) / 3)
    x = some(3, 2, 4, 2, 2)
    torch.testing.assert_close(objective.item_losses(x, x + 2), torch.tensor([4.0, 4.0]))


def test_half_precision_predictions_are_compared_in_32_bits() -> None:
    x = torch.full((1, 4, 2, 2), 300.0, dtype=torch.float16)
    assert float(objective.item_losses(x, torch.zeros(1, 4, 2, 2))) == 90_000


@given(st.integers(0, 2**32 - 1), st.integers(1, 10**6), st.integers(0, 64))
@settings(max_examples=30)
def test_noise_depends_on_seed_step_and_position_alone(seed: int, step: int, first: int) -> None:
    shape = torch.Size((3, 4, 4, 4))
    whole = objective.draw(shape, seed, step, first)
    torch.manual_seed(step)
    part = objective.draw(torch.Size((1, 4, 4, 4)), seed, step, first + 2)
    assert torch.equal(whole.noise[2:], part.noise)
    assert torch.equal(whole.timesteps[2:], part.timesteps)
    other = objective.draw(shape, seed, step + 1, first)
    assert not torch.equal(whole.noise, other.noise)
    assert not torch.equal(whole.noise[0], whole.noise[1])


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    objective.draw(torch.Size((2, 4, 8, 8)), 1, 1, 0, 0.1)
    assert torch.equal(torch.get_rng_state(), before)


def test_timesteps_are_uniform_and_noise_is_normal() -> None:
    draws = [objective.draw(torch.Size((4, 4, 4, 4)), 7, step, 0) for step in range(1, 501)]
    t = torch.cat([d.timesteps for d in draws]).double()
    noise = torch.stack([d.noise for d in draws])
    assert (int(t.min()), int(t.max())) >= (0, 980)
    assert abs(float(t.mean()) - 499.5) < 4 * 1000 / math.sqrt(12 * len(t))
    assert abs(float(noise.mean())) < 4 / math.sqrt(noise.numel())
    assert abs(float(noise.var()) - 1) < 0.02


def test_the_noise_offset_shifts_whole_channels() -> None:
    shape = torch.Size((1, 4, 8, 8))
    plain, shifted = objective.draw(shape, 1, 1, 0), objective.draw(shape, 1, 1, 0, 0.5)
    difference = shifted.noise - plain.noise
    assert torch.equal(plain.timesteps, shifted.timesteps)
    torch.testing.assert_close(difference, difference[..., :1, :1].expand_as(difference), rtol=0, atol=1e-6)
    pairs = ((objective.draw(shape, 1, s, 0, 0.5).noise, objective.draw(shape, 1, s, 0).noise) for s in range(200))
    offsets = torch.stack([a - b for a, b in pairs])
    assert float(offsets[..., 0, 0].std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize(("warmup", "cycles"), [(0, 1), (7, 1), (5, 3)])
def test_schedules_are_those_of_transformers(name: str, warmup: int, cycles: int) -> None:
    optimization = pytest.importorskip("transformers.optimization", reason="transformers is not installed")
    total = 40
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    judges = {
        "constant": lambda: optimization.get_constant_schedule(optimizer),
        "constant_with_warmup": lambda: optimization.get_constant_schedule_with_warmup(optimizer, warmup),
        "cosine": lambda: optimization.get_cosine_schedule_with_warmup(optimizer, warmup, total),
        "cosine_with_restarts": lambda: optimization.get_cosine_with_hard_restarts_schedule_with_warmup(
            optimizer, warmup, total, cycles
        ),
        "linear": lambda: optimization.get_linear_schedule_with_warmup(optimizer, warmup, total),
        "polynomial": lambda: optimization.get_polynomial_decay_schedule_with_warmup(
            optimizer, warmup, total, power=cycles + 0.5
        ),
        "inverse_sqrt": lambda: optimization.get_inverse_sqrt_schedule(optimizer, warmup, timescale),
        "cosine_with_min_lr": lambda: optimization.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, total, cycles / 2, min_lr_rate=0.1
        ),
        "warmup_stable_decay": lambda: optimization.get_wsd_schedule(
            optimizer, warmup, decay, num_stable_steps=total - warmup - decay, num_cycles=cycles / 2, min_lr_ratio=0.1
        ),
    }
    timescale, decay = (None if cycles == 1 else 9), 10
    judge = judges[name]()
    shape = Shape(total, warmup, cycles, cycles + 0.5, 1.0, timescale or 0, 0.1, decay)
    factor = schedule(name, shape)
    for step in range(total + 3):
        assert factor(step) == pytest.approx(judge.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        judge.step()
