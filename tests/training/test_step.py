"""One training step against diffusers + peft on the same weights, adapter and noise: loss and every gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft", reason="peft is not installed")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.training import objective  # noqa: E402
from lora_lab.training.learning.precision import Precision, choose  # noqa: E402
from lora_lab.training.memory.checkpointing import gradient_checkpointing  # noqa: E402
from lora_lab.training.plan import make_plan  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402
from lora_lab.training.step import LossIsNan, Stepper, noise_options  # noqa: E402
from lora_lab.training.text.conditioning import CaptionEncoder  # noqa: E402

from .tiny import TinyHost, TinyModel, fingerprint  # noqa: E402

DIM, ALPHA = 4, 2.0


class Batch:
    """The fields of a dataset's batch that a step reads."""

    masks: Any = None

    def __init__(self, latents: Any, captions: list[str], weights: Any) -> None:
        self.latents, self.captions, self.weights = latents, captions, weights


def batch(count: int = 3, side: int = 16) -> Batch:
    # In the middle block 16x16 becomes 2x2; at 1x1 a group norm over one number has no gradient to compare.
    latents = torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(3))
    return Batch(latents, ["mika, red hair", "mika", "girl"][:count], torch.tensor([1.0, 1.0, 0.5])[:count])


def settings(**values: Any) -> TrainSettings:
    base = {"train_data_dir": "x", "output_name": "m", "seed": 5, "max_train_steps": 4, "network_dim": DIM}
    return TrainSettings.from_mapping({**base, "network_alpha": ALPHA, **values})


def make(model: TinyModel, s: TrainSettings, precision: Precision | None = None) -> tuple[Adapter, Stepper]:
    sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout)
    adapter = Adapter.create(sites, sizes=Size(DIM, ALPHA), generator=objective.generator_for("adapter", 5))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in adapter.parameters():
            if not bool(parameter.any()):  # a fresh up is zero, and the gradient of down with it
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    encoder = CaptionEncoder(s, 1, learns=True)
    precision = precision or choose("auto", model.device, model.dtype)
    return adapter, Stepper(s, make_plan(s, 4), adapter, precision, encoder)


def gradients(model: TinyModel, s: TrainSettings, host: TinyHost, *, checkpointing: bool = False) -> tuple[float, Any]:
    adapter, stepper = make(model, s)
    with host.lease("training"), gradient_checkpointing(model.roots[:2], checkpointing), adapter.attached():
        one = batch()
        encoded = CaptionEncoder(s, 1, learns=True)(model, one.captions)
        loss = stepper.loss(model, one, encoded, step=1, first=0)  # type: ignore[arg-type]
        loss.backward()
    names = [f"{site.name}.{kind}" for site in adapter.sites for kind in ("down", "up")]
    found = dict(zip(names, (p.grad.flatten(1) for p in adapter.parameters()), strict=True))
    return float(loss.detach()), found, adapter


def judged(model: TinyModel, s: TrainSettings, ours: Adapter) -> tuple[float, dict[str, Any]]:
    """The same step as a diffusers + peft script does it."""
    config = {"r": DIM, "lora_alpha": ALPHA, "init_lora_weights": False}
    paths = {part: [x.path for x in ours.sites if x.part == part] for part in ("unet", "text_encoder")}
    unet = peft.get_peft_model(model.unet, peft.LoraConfig(**config, target_modules=paths["unet"]))
    text = peft.get_peft_model(
        model.text_encoders[0], peft.LoraConfig(**config, target_modules=paths["text_encoder"])
    )
    tensors = ours.to_tensors()
    layers = {}
    for site in ours.sites:
        layer = (unet if site.part == "unet" else text).base_model.model.get_submodule(site.path)
        layers[site.name] = layer
        for mine, theirs in (("lora_down", layer.lora_A), ("lora_up", layer.lora_B)):
            theirs["default"].weight.data.copy_(tensors[f"{site.name}.{mine}.weight"])
    scheduler = diffusers.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=model.info.prediction_type
    )
    one = batch()
    chance = objective.draw(one.latents, 5, 1, 0, noise_options(s))
    noisy = scheduler.add_noise(one.latents, chance.noise, chance.timesteps)
    states = text.base_model.model(model.tokenize(one.captions).ids[0][:, 0]).last_hidden_state
    predicted = unet.base_model.model(noisy, chance.timesteps, states).sample
    wanted = chance.noise
    if model.info.prediction_type == "v_prediction":
        wanted = scheduler.get_velocity(one.latents, chance.noise, chance.timesteps)
    losses = torch.nn.functional.mse_loss(predicted, wanted, reduction="none").mean([1, 2, 3]) * one.weights
    if s.min_snr_gamma:
        from diffusers.training_utils import compute_snr

        snr = compute_snr(scheduler, chance.timesteps)
        divide = snr + 1 if model.info.prediction_type == "v_prediction" else snr
        losses = losses * torch.minimum(snr, torch.full_like(snr, s.min_snr_gamma)) / divide
    loss = losses.mean()
    loss.backward()
    found = {}
    for name, layer in layers.items():
        found[f"{name}.down"] = layer.lora_A["default"].weight.grad.flatten(1)
        found[f"{name}.up"] = layer.lora_B["default"].weight.grad.flatten(1)
    return float(loss.detach()), found


@pytest.mark.parametrize(
    ("kind", "values"),
    [("epsilon", {"min_snr_gamma": 0}), ("epsilon", {"noise_offset": 0.1}), ("v_prediction", {})],
    ids=["plain", "min-snr and noise offset", "v with min-snr"],
)
def test_loss_and_gradients_are_those_of_diffusers_and_peft(tmp_path: Path, kind: Any, values: dict[str, Any]) -> None:
    model = TinyModel(kind)
    s = settings(**values)
    loss, found, adapter = gradients(model, s, TinyHost(tmp_path, model))
    expected, wanted = judged(model, s, adapter)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert found.keys() == wanted.keys()
    assert len(found) == 2 * (192 + 12)
    for name, gradient in found.items():
        length = float(wanted[name].norm())
        assert length > 0, name
        assert float((gradient - wanted[name]).norm()) < 1e-4 * length, name


def test_gradient_checkpointing_gives_the_same_gradients_and_leaves_no_trace(tmp_path: Path) -> None:
    model = TinyModel()
    host = TinyHost(tmp_path, model)
    before = fingerprint(model)
    loss, plain, _ = gradients(model, settings(), host)
    again, checked, _ = gradients(model, settings(), host, checkpointing=True)
    assert fingerprint(model) == before
    assert again == loss
    for name, gradient in plain.items():
        torch.testing.assert_close(checked[name], gradient, rtol=1e-5, atol=1e-8)


def test_a_step_moves_every_parameter_and_reports_the_scheduled_rate(tmp_path: Path) -> None:
    model = TinyModel()
    adapter, stepper = make(model, settings(unet_lr=1e-3, text_encoder_lr=5e-4, lr_warmup_steps=2))
    old = [p.detach().clone() for p in adapter.parameters()]
    with TinyHost(tmp_path, model).lease("training"), adapter.attached():
        first = stepper.step(model, [batch()], 1)  # type: ignore[list-item]
        assert all(torch.equal(a, b) for a, b in zip(old, adapter.parameters(), strict=True))
        second = stepper.step(model, [batch(), batch()], 2)  # type: ignore[list-item]
    assert first.learning_rates == {"text_encoder": 0.0, "unet": 0.0}
    assert second.learning_rates == pytest.approx({"text_encoder": 2.5e-4, "unet": 5e-4})
    assert (len(first.losses), len(second.losses)) == (1, 2)
    assert all(not torch.equal(a, b) for a, b in zip(old, adapter.parameters(), strict=True))
    assert all(p.grad is None for p in adapter.parameters())


def test_the_state_is_a_copy_that_later_steps_leave_alone(tmp_path: Path) -> None:
    """It is written in a thread while training goes on: of a live tensor it would hold half of the next step."""
    model = TinyModel()
    adapter, stepper = make(model, settings())
    with TinyHost(tmp_path, model).lease("training"), adapter.attached():
        stepper.step(model, [batch()], 1)  # type: ignore[list-item]
        state = stepper.state()
        before = {i: one["exp_avg"].clone() for i, one in state["optimizer"]["state"].items()}
        stepper.step(model, [batch()], 2)  # type: ignore[list-item]
    now = stepper.state()["optimizer"]["state"]
    assert all(torch.equal(state["optimizer"]["state"][i]["exp_avg"], kept) for i, kept in before.items())
    assert not any(torch.equal(now[i]["exp_avg"], kept) for i, kept in before.items())


def test_a_loss_that_is_no_number_updates_nothing(tmp_path: Path) -> None:
    model = TinyModel()
    adapter, stepper = make(model, settings())
    old = [p.detach().clone() for p in adapter.parameters()]
    bad = batch()
    bad.latents[0, 0, 0, 0] = float("nan")
    with TinyHost(tmp_path, model).lease("training"), adapter.attached(), pytest.raises(LossIsNan):
        stepper.step(model, [batch(), bad], 1)  # type: ignore[list-item]
    assert all(torch.equal(a, b) for a, b in zip(old, adapter.parameters(), strict=True))
    assert all(p.grad is None for p in adapter.parameters())


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    model = TinyModel()
    whole, s = batch(), settings(max_grad_norm=0, optimizer_args="eps=1.0")
    parts = [Batch(whole.latents[i : i + 1], whole.captions[i : i + 1], whole.weights[i : i + 1]) for i in range(3)]
    found = []
    for batches in ([whole], parts):
        adapter, stepper = make(model, s)
        with TinyHost(tmp_path, model).lease("training"), adapter.attached():
            result = stepper.step(model, batches, 1)  # type: ignore[arg-type]
        found.append((sum(result.losses) / len(result.losses), adapter.to_tensors()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for name, tensor in found[0][1].items():
        torch.testing.assert_close(tensor, found[1][1][name], rtol=1e-4, atol=1e-7)


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="torch before 2.3 scales gradients on a GPU only")
def test_scaled_gradients_train_the_same_and_endless_overflow_is_told(tmp_path: Path) -> None:
    model, s = TinyModel(), settings(max_train_steps=100)
    found = []
    for scaled in (False, True):
        adapter, stepper = make(model, s, Precision("no", None, scaled))
        with TinyHost(tmp_path, model).lease("training"), adapter.attached():
            stepper.step(model, [batch()], 1)  # type: ignore[list-item]
        found.append(adapter.to_tensors())
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-4, atol=1e-6)
    old = adapter.to_tensors()
    adapter.parameters()[0].register_hook(lambda gradient: gradient * float("inf"))

    def many_steps() -> None:
        with TinyHost(tmp_path, model).lease("training"), adapter.attached():
            for step in range(2, 60):
                stepper.step(model, [batch(1, 8)], step)  # type: ignore[list-item]

    with pytest.raises(LossIsNan):
        many_steps()
    assert all(torch.equal(tensor, adapter.to_tensors()[name]) for name, tensor in old.items())


def test_fixed_captions_are_encoded_once_and_alone(tmp_path: Path) -> None:
    model = TinyModel()
    calls: list[int] = []
    encode = model.encode_tokens
    model.encode_tokens = lambda tokens, skip=1: (calls.append(len(tokens.lengths)), encode(tokens, skip))[1]  # type: ignore[method-assign]
    fixed = CaptionEncoder(settings(shuffle_caption=False), 1, learns=False)
    alone = fixed(model, ["a cat"]).context
    both = fixed(model, ["a dog", "a cat"]).context
    assert calls == [1, 1]
    assert torch.equal(both[1:], alone)
    assert not both.requires_grad
    CaptionEncoder(settings(), 1, learns=False)(model, ["a dog", "a cat"])
    assert calls == [1, 1, 2]


def test_a_caption_that_is_cut_is_told_once() -> None:
    model = TinyModel()
    encoder = CaptionEncoder(settings(), 1, learns=False)
    encoder(model, ["short"])
    assert encoder.take_warning() is None
    encoder(model, ["word " * 80])
    assert "max_token_length 75" in str(encoder.take_warning())
    assert encoder.take_warning() is None
