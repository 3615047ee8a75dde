"""The mathematics of the loss against diffusers, the schedules against transformers, the noise against itself."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lora_lab.training import objective  # noqa: E402
from lora_lab.training.learning.schedules import SCHEDULES, Shape, schedule  # noqa: E402
from lora_lab.training.objective.loss import LossOptions, huber_c, item_losses, snr_weights  # noqa: E402
from lora_lab.training.objective.noise import NoiseOptions  # noqa: E402

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
    how = LossOptions(min_snr_gamma=gamma)
    eps = snr_weights(T, ALPHAS, how, "epsilon")
    torch.testing.assert_close(eps, least / snr, rtol=1e-4, atol=1e-7)
    v = snr_weights(T, ALPHAS, how, "v_prediction")
    torch.testing.assert_close(v, least / (snr + 1), rtol=1e-4, atol=1e-7)


def test_the_order_of_the_weights_is_kohyas() -> None:
    losses, weights, snr = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.5, 1.0]), torch.tensor([1.0, 1.0, 0.25])
    assert float(objective.combine(losses, weights, snr)) == pytest.approx((1 + 1 + 1) / 3)
    assert float(objective.combine(losses, weights)) == pytest.approx((1 + 1 + 4) / 3)
    x = some(3, 2, 4, 2, 2)
    torch.testing.assert_close(item_losses(x, x + 2, LossOptions()), torch.tensor([4.0, 4.0]))


def test_half_precision_predictions_are_compared_in_32_bits() -> None:
    x = torch.full((1, 4, 2, 2), 300.0, dtype=torch.float16)
    assert float(item_losses(x, torch.zeros(1, 4, 2, 2), LossOptions())) == 90_000


@given(st.integers(0, 2**32 - 1), st.integers(1, 10**6), st.integers(0, 64))
@settings(max_examples=30)
def test_noise_depends_on_seed_step_and_position_alone(seed: int, step: int, first: int) -> None:
    latents = torch.zeros(3, 4, 4, 4)
    whole = objective.draw(latents, seed, step, first)
    torch.manual_seed(step)
    part = objective.draw(latents[:1], seed, step, first + 2)
    assert torch.equal(whole.noise[2:], part.noise)
    assert torch.equal(whole.timesteps[2:], part.timesteps)
    other = objective.draw(latents, seed, step + 1, first)
    assert not torch.equal(whole.noise, other.noise)
    assert not torch.equal(whole.noise[0], whole.noise[1])


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    objective.draw(torch.zeros(2, 4, 8, 8), 1, 1, 0, NoiseOptions(noise_offset=0.1))
    assert torch.equal(torch.get_rng_state(), before)


def test_timesteps_are_uniform_and_noise_is_normal() -> None:
    draws = [objective.draw(torch.zeros(4, 4, 4, 4), 7, step, 0) for step in range(1, 501)]
    t = torch.cat([d.timesteps for d in draws]).double()
    noise = torch.stack([d.noise for d in draws])
    assert (int(t.min()), int(t.max())) >= (0, 980)
    assert abs(float(t.mean()) - 499.5) < 4 * 1000 / math.sqrt(12 * len(t))
    assert abs(float(noise.mean())) < 4 / math.sqrt(noise.numel())
    assert abs(float(noise.var()) - 1) < 0.02


def test_the_noise_offset_shifts_whole_channels() -> None:
    latents, half = torch.zeros(1, 4, 8, 8), NoiseOptions(noise_offset=0.5)
    plain, shifted = objective.draw(latents, 1, 1, 0), objective.draw(latents, 1, 1, 0, half)
    difference = shifted.noise - plain.noise
    assert torch.equal(plain.timesteps, shifted.timesteps)
    torch.testing.assert_close(difference, difference[..., :1, :1].expand_as(difference), rtol=0, atol=1e-6)
    pairs = ((objective.draw(latents, 1, s, 0, half).noise, objective.draw(latents, 1, s, 0).noise) for s in range(200))
    offsets = torch.stack([a - b for a, b in pairs])
    assert float(offsets[..., 0, 0].std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("piecewise_constant", "adafactor")])
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
    try:
        judge = judges[name]()
    except (AttributeError, TypeError, ZeroDivisionError) as error:  # transformers of the webui's time
        pytest.skip(f"this transformers has no such schedule: {error}")
    shape = Shape(total, warmup, cycles, cycles + 0.5, 1.0, timescale or 0, 0.1, decay)
    factor = schedule(name, shape)
    for step in range(total + 3):
        assert factor(step) == pytest.approx(judge.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        judge.step()


def drawn(options: NoiseOptions, latents: torch.Tensor | None = None, step: int = 1) -> objective.Draw:
    return objective.draw(torch.zeros(6, 4, 16, 16) if latents is None else latents, 3, step, 0, options)


def test_options_leave_the_plain_chance_as_it_is() -> None:
    plain = drawn(NoiseOptions())
    for options in (
        NoiseOptions(noise_offset=0.1), NoiseOptions(multires_noise_iterations=4), NoiseOptions(ip_noise_gamma=0.1)
    ):  # fmt: skip
        assert torch.equal(drawn(options).timesteps, plain.timesteps)
    disturbed = drawn(NoiseOptions(ip_noise_gamma=0.1))
    assert torch.equal(disturbed.noise, plain.noise), "the target is not disturbed"
    assert disturbed.perturbation is not None
    assert float(disturbed.perturbation.std()) == pytest.approx(0.1, rel=0.05)
    weaker = drawn(NoiseOptions(ip_noise_gamma=0.1, ip_noise_gamma_random_strength=True)).perturbation
    assert weaker is not None
    factors = (weaker / disturbed.perturbation)[:, 0, 0, 0]
    assert 0 <= float(factors.min()) < float(factors.max()) <= 1, "a strength for each item"


def test_an_offset_that_adapts_follows_each_channels_mean() -> None:
    latents = torch.zeros(6, 4, 16, 16)
    latents[:, 1], latents[:, 2] = 2.0, -3.0
    plain = drawn(NoiseOptions(), latents).noise
    fixed = drawn(NoiseOptions(noise_offset=0.1), latents).noise - plain
    adapted = drawn(NoiseOptions(noise_offset=0.1, adaptive_noise_scale=0.05), latents).noise - plain
    ratio = (adapted / fixed).mean(dim=(0, 2, 3))
    torch.testing.assert_close(ratio, torch.tensor([1.0, 2.0, 2.5, 1.0]), rtol=1e-3, atol=1e-3)
    never = drawn(NoiseOptions(noise_offset=0.1, adaptive_noise_scale=-1.0), latents).noise - plain
    assert float(never[:, 1:3].abs().max()) == 0, "never below 0"


def test_several_resolutions_are_smoother_and_as_strong() -> None:
    plain, coarse = drawn(NoiseOptions()).noise, drawn(NoiseOptions(multires_noise_iterations=6)).noise
    torch.testing.assert_close(coarse.std(dim=(1, 2, 3)), torch.ones(6), rtol=1e-4, atol=1e-4)

    def neighbours(noise: torch.Tensor) -> float:
        return float((noise[..., 1:] * noise[..., :-1]).mean())

    strong = drawn(NoiseOptions(multires_noise_iterations=6, multires_noise_discount=0.8)).noise
    assert neighbours(plain) < 0.1 < neighbours(strong)
    assert neighbours(plain) < neighbours(coarse) < neighbours(strong)


def test_timesteps_stay_in_their_range() -> None:
    t = torch.cat([drawn(NoiseOptions(min_timestep=300, max_timestep=310), step=s).timesteps for s in range(1, 40)])
    assert (int(t.min()), int(t.max())) == (300, 309)


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
@pytest.mark.parametrize("plan", ["snr", "exponential", "constant"])
def test_huber_is_a_parabola_near_zero_and_a_line_far_off(kind: str, plan: str) -> None:
    how = LossOptions(loss_type=kind, huber_schedule=plan, huber_c=0.2, huber_scale=1.0 if plan == "snr" else 0.5)  # type: ignore[arg-type]
    c = huber_c(T, ALPHAS, how)
    sigma = ((1 - ALPHAS[T]) / ALPHAS[T]).sqrt()
    judges = {"constant": torch.full((4,), 0.1), "exponential": 0.2 ** (T / 1000) * 0.5}
    judge = judges.get(plan, 0.8 / (1 + sigma) ** 2 + 0.2)
    torch.testing.assert_close(c, judge.float())
    zeros = torch.zeros(4, 4, 2, 2)
    small = item_losses(zeros + 1e-3 * c.view(-1, 1, 1, 1), zeros, how, c)
    unit = c**2 if kind == "huber" else c
    torch.testing.assert_close(small / unit, torch.full((4,), 1e-6), rtol=0.1, atol=1e-8)  # 2 (sqrt(1 + x^2) - 1) = x^2
    large = item_losses(zeros + 1e3 * c.view(-1, 1, 1, 1), zeros, how, c)
    torch.testing.assert_close(large / unit, torch.full((4,), 2 * 999.0), rtol=1e-3, atol=0)
    assert float(item_losses(zeros + 3, zeros, LossOptions(loss_type="l1"))[0]) == 3


def test_the_other_weights_are_their_papers() -> None:
    snr = (ALPHAS / (1 - ALPHAS))[T].clamp(max=1000)
    cases = [
        (LossOptions(debiased_estimation_loss=True), "epsilon", 1 / snr.sqrt()),
        (LossOptions(debiased_estimation_loss=True), "v_prediction", 1 / (snr + 1)),
        (LossOptions(scale_v_pred_loss_like_noise_pred=True), "v_prediction", snr / (snr + 1)),
        (LossOptions(v_pred_like_loss=0.5), "epsilon", 1 + 0.5 * (snr + 1) / snr),
    ]
    for how, kind, judge in cases:
        torch.testing.assert_close(snr_weights(T, ALPHAS, how, kind), judge, rtol=1e-4, atol=1e-7)  # type: ignore[arg-type]
    assert snr_weights(T, ALPHAS, LossOptions(), "epsilon") is None


def test_a_schedule_without_signal_at_its_end_is_diffusers() -> None:
    module = pytest.importorskip("diffusers.schedulers.scheduling_ddpm", reason="diffusers is not installed")
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    judge = torch.cumprod(1 - module.rescale_zero_terminal_snr(betas), 0)
    before = torch.cumprod(1 - betas, 0)
    kept = before.clone()
    found = objective.zero_terminal(before)
    torch.testing.assert_close(found[:-1], judge[:-1], rtol=1e-6, atol=1e-12)
    assert float(found[-1]) == 0
    assert float(found[0]) == pytest.approx(float(before[0]))
    assert torch.equal(before, kept), "the live schedule is not touched"
    weights = snr_weights(torch.tensor([0, 999]), found, LossOptions(min_snr_gamma=5.0), "v_prediction")
    snr = float(found[0] / (1 - found[0]))
    assert weights is not None
    assert weights.tolist() == pytest.approx([5 / (snr + 1), 0.0], rel=1e-3)
    assert snr_weights(torch.tensor([999]), found, LossOptions(min_snr_gamma=5.0), "epsilon") is None


def test_masks_weigh_each_place_as_a_loop_does() -> None:
    x, y = some(5, 2, 4, 3, 5), some(6, 2, 4, 3, 5)
    masks = torch.rand(2, 1, 3, 5, generator=torch.Generator().manual_seed(1))
    for kind in ("l2", "l1", "huber"):
        how = LossOptions(loss_type=kind)  # type: ignore[arg-type]
        c = torch.tensor([0.2, 0.3])
        judge, normal = [], []
        for item in range(2):
            total = 0.0
            for channel in range(4):
                for row in range(3):
                    for column in range(5):
                        e = float(x[item, channel, row, column] - y[item, channel, row, column])
                        edge = float(c[item])
                        huber = 2 * edge * (math.sqrt(e * e + edge * edge) - edge)
                        total += {"l2": e * e, "l1": abs(e), "huber": huber}[kind] * float(masks[item, 0, row, column])
            judge.append(total / 60)
            normal.append(total / 60 / float(masks[item].mean()))
        assert item_losses(x, y, how, c, masks).tolist() == pytest.approx(judge, rel=1e-4)
        whole = LossOptions(loss_type=kind, masked_loss_normalize=True)  # type: ignore[arg-type]
        assert item_losses(x, y, whole, c, masks).tolist() == pytest.approx(normal, rel=1e-4)
    assert item_losses(x, y, LossOptions(masked_loss_normalize=True), None, masks * 0).tolist() == [0, 0]
