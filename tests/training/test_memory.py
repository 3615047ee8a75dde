"""Options that save memory: the numbers are those of the plain run where they must be, the model is as it was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import SettingsError, TrainingError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.training.events import Warned  # noqa: E402
from lora_lab.training.memory import dry_run, out_of_memory  # noqa: E402
from lora_lab.training.memory.checkpointing import gradient_checkpointing  # noqa: E402
from lora_lab.training.memory.meter import peak  # noqa: E402
from lora_lab.training.prepare import check_start  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

from .running import MODEL, Training, at_forward, fail_with, fresh_host, same, tensors  # noqa: E402
from .tiny import TinyHost, fingerprint, run_settings  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


def result(host: TinyHost, name: str, **values: Any) -> dict[str, Any]:
    run = Training(host, output_name=name, save_precision="float", **values)
    assert run.ended.error == ""
    assert run.unchanged
    return tensors(run.ended.lora)


@pytest.mark.parametrize("optimizer", ["AdamW", "SGDNesterov"])
def test_updates_within_the_backward_are_those_after_it(host: TinyHost, optimizer: str) -> None:
    values = {"optimizer_type": optimizer, "max_grad_norm": 0, "lr_warmup_steps": 1, "lr_scheduler": "cosine"}
    plain = result(host, "plain", **values)
    fused = result(host, "fused", fused_backward_pass=True, **values)
    assert same(plain, fused)


def test_no_gradient_is_kept_with_updates_in_the_backward(host: TinyHost) -> None:
    from lora_lab.training.learning import fused

    seen: list[int] = []
    real = fused._Step.__call__

    def counting(self: Any, parameter: Any) -> None:
        whole = self._optimizer.param_groups
        seen.append(sum(p.grad is not None for group in whole for p in group["params"]))
        real(self, parameter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused._Step, "__call__", counting)
        result(host, "fused", fused_backward_pass=True, max_grad_norm=0)
    assert len(seen) > 500
    assert max(seen) == 1


def test_a_failure_within_the_backward_leaves_no_hook(host: TinyHost) -> None:
    MODEL.during = at_forward(2, fail_with(RuntimeError("on purpose")))
    run = Training(host, fused_backward_pass=True, max_grad_norm=0)
    assert run.ended.reason == "failed"
    assert run.unchanged


def test_checkpoints_in_the_machines_memory_train_the_same(host: TinyHost) -> None:
    plain = result(host, "plain", gradient_checkpointing=True)
    moved = result(host, "moved", gradient_checkpointing=True, cpu_offload_checkpointing=True)
    assert same(plain, moved)


def test_the_adapter_in_16_bits(host: TinyHost) -> None:
    """It learns nearly the same, and the file says what it was trained in."""
    full = Training(host, full_bf16=True, mixed_precision="bf16", output_name="full", save_precision="float")
    mixed = result(host, "mixed", mixed_precision="bf16")
    assert full.ended.error == ""
    assert full.unchanged
    found = tensors(full.ended.lora)
    assert all(torch.equal(t, t.to(torch.bfloat16).float()) for t in found.values())
    ups = [name for name in found if name.endswith("lora_up.weight")]
    a, b = (torch.cat([held[name].flatten() for name in ups]) for held in (found, mixed))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.7
    assert full.ended.lora is not None
    metadata = files.read(full.ended.lora).metadata
    assert (metadata["ss_mixed_precision"], metadata["ss_full_fp16"]) == ("bf16", "False")


def last_linear(encoder: Any) -> Any:
    """Wherever this version of transformers keeps it."""
    return [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)][-1]


def weights() -> set[Any]:
    """The types that the model's matrices are in now."""
    layers = [m for m in MODEL.unet.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
    return {layer.weight.dtype for layer in layers}


@pytest.mark.parametrize("setting", ["fp8_base", "fp8_base_unet"])
def test_weights_in_8_bits_during_a_turn_and_their_own_bits_after_it(host: TinyHost, setting: str) -> None:
    seen: list[tuple[set[Any], Any]] = []
    text = last_linear(MODEL.text_encoders[0])
    MODEL.during = lambda: seen.append((weights(), text.weight.dtype))
    run = Training(host, mixed_precision="bf16", **{setting: True})
    assert run.ended.error == ""
    assert run.unchanged
    eight, plain = torch.float8_e4m3fn, torch.float32
    assert {frozenset(unet) for unet, _ in seen} == {frozenset({eight})}
    assert {te for _, te in seen} == {eight if setting == "fp8_base" else plain}
    assert weights() == {plain}
    assert run.ended.lora is not None
    metadata = files.read(run.ended.lora).metadata
    assert metadata[f"ss_{setting}"] == "True"
    assert float(run.ended.loss_average) < 10


def test_a_failure_with_weights_in_8_bits_leaves_their_own(host: TinyHost) -> None:
    MODEL.during = at_forward(2, fail_with(RuntimeError("CUDA out of memory")))
    run = Training(host, mixed_precision="bf16", fp8_base=True)
    assert run.ended.reason == "failed"
    assert run.unchanged
    assert weights() == {torch.float32}


def test_what_does_nothing_without_a_card_is_told_and_changes_nothing(host: TinyHost) -> None:
    plain = result(host, "plain")
    run = Training(host, output_name="low", save_precision="float", lowram=True, offload_idle=True, no_half_vae=True)
    assert same(plain, tensors(run.ended.lora))
    told = [event.text for event in run.of(Warned)]
    assert "lowram has no effect without a graphics card." in told
    assert "offload_idle has no effect without a graphics card." in told
    assert run.ended.lora is not None
    assert files.read(run.ended.lora).metadata["ss_lowram"] == "True"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"full_fp16": True, "full_bf16": True}, "both on"),
        ({"full_fp16": True, "mixed_precision": "bf16"}, "full_fp16 needs mixed_precision fp16, it is bf16"),
        ({"full_bf16": True, "mixed_precision": "no"}, "full_bf16 needs mixed_precision bf16, it is no"),
        ({"fp8_base": True}, "a type to compute in, and mixed_precision is auto"),
        ({"cpu_offload_checkpointing": True}, "gradient_checkpointing keeps, which is off"),
        ({"fused_backward_pass": True}, "set max_grad_norm to 0"),
        ({"fused_backward_pass": True, "gradient_accumulation_steps": 2}, "set gradient_accumulation_steps to 1"),
        (
            {"fused_backward_pass": True, "max_grad_norm": 0, "optimizer_type": "Prodigy", "learning_rate": 1},
            "Prodigy may look at all of them together",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(host: TinyHost, values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        check_start(TrainSettings.from_mapping(run_settings(host.folder, **values)), host)


def test_the_live_model_of_a_webui_keeps_its_weights(host: TinyHost) -> None:
    host.kind = "webui"
    settings = TrainSettings.from_mapping(run_settings(host.folder, fp8_base=True, mixed_precision="bf16"))
    with pytest.raises(SettingsError, match="weights that the webui's pictures need.*FP8 weight"):
        check_start(settings, host)


def test_full_precision_that_the_model_does_not_have_is_refused(host: TinyHost) -> None:
    """auto takes the model's, which is only known with the model."""
    run = Training(host, full_bf16=True)
    assert "full_bf16 needs mixed_precision bf16, which is no on this model" in run.ended.error
    assert run.unchanged


# --- what the gradient does not need ---------------------------------------------------------------------


def test_no_graph_is_built_before_the_first_trained_layer(host: TinyHost) -> None:
    """Inputs want no gradient, so conv_in, the time embedding and the first residual block keep nothing; a text
    encoder that is not trained runs without a graph."""
    seen: dict[str, set[bool]] = {}
    watched = {
        "conv_in": MODEL.unet.conv_in, "time": MODEL.unet.time_embedding,
        "first resnet": MODEL.unet.down_blocks[0].resnets[0].conv2,
        "text": last_linear(MODEL.text_encoders[0]),
        "trained": MODEL.unet.down_blocks[0].attentions[0].proj_out,
    }  # fmt: skip
    handles = [
        module.register_forward_hook(lambda m, a, out, name=name: seen.setdefault(name, set()).add(out.requires_grad))
        for name, module in watched.items()
    ]
    try:
        Training(host, network_train_unet_only=True, max_train_epochs=1, shuffle_caption=True)
    finally:
        for handle in handles:
            handle.remove()
    assert seen["trained"] == {True}
    assert {name: flags for name, flags in seen.items() if name != "trained"} == dict.fromkeys(
        ("conv_in", "time", "first resnet", "text"), {False}
    )


# --- measuring ------------------------------------------------------------------------------------------


def test_the_meter_counts_what_is_alive_at_once() -> None:
    with peak(torch.device("cpu")) as found:
        first = torch.empty(1 << 20)  # 4 MiB
        second = torch.empty(1 << 19)  # 2 MiB more
        del first
        third = torch.empty(1 << 18)
        del second, third
    assert found.mb == pytest.approx(6, abs=0.01)


def measured(host: TinyHost, **values: Any) -> dry_run.Estimate:
    before = fingerprint(host.model)
    settings = TrainSettings.from_mapping(run_settings(host.folder, **values))
    found = dry_run.measure(check_start(settings, host), host)
    assert fingerprint(host.model) == before
    assert not list((host.folder / "loras").glob("*"))
    assert not (host.folder / "data" / "latents").exists()
    return found


def test_a_dry_run_measures_and_leaves_nothing(host: TinyHost) -> None:
    plain = measured(host, train_batch_size=2, network_dim=16, network_alpha=1)
    assert (plain.steps, plain.free_mb, plain.fits) == (4, 900.0, True)
    assert 0 < plain.seconds_per_step < 60
    small = measured(host, train_batch_size=1, network_dim=16, network_alpha=1)
    thrifty = measured(host, train_batch_size=2, network_dim=16, network_alpha=1, gradient_checkpointing=True)
    assert small.peak_mb < plain.peak_mb
    assert thrifty.peak_mb < plain.peak_mb
    sites = find_sites(MODEL.unet, MODEL.text_encoders, Family.SD1, "diffusers")
    numbers = sum(16 * (site.in_features + site.out_features) for site in sites)
    adam = numbers * 4 * 3 / 2**20  # itself and Adam's two averages
    assert plain.peak_mb > adam


def test_a_dry_run_without_a_cache_encodes_in_the_step(host: TinyHost) -> None:
    assert measured(host, cache_latents=False).steps == 4


def test_a_dry_run_that_does_not_fit_says_what_would_help(host: TinyHost) -> None:
    MODEL.during = at_forward(1, fail_with(RuntimeError("CUDA out of memory")))
    settings = TrainSettings.from_mapping(run_settings(host.folder))
    before = fingerprint(host.model)
    with pytest.raises(TrainingError, match="not enough for a step.*gradient_checkpointing"):
        dry_run.measure(check_start(settings, host), host)
    assert fingerprint(host.model) == before


def test_checkpointing_saves_what_is_said_of_it() -> None:
    """Counted on the tiny UNet at SD1's 512 pixels, where activations outweigh everything: at least half, and the
    number that is told was counted at full width."""
    model, shares = MODEL, []
    latents, context = torch.randn(1, 4, 64, 64), torch.randn(1, 77, 32)
    adapter = Adapter.create(
        find_sites(model.unet, (), Family.SD1, "diffusers"), sizes=Size(4), generator=torch.Generator().manual_seed(0)
    )
    for enabled in (False, True):
        with adapter.attached(), gradient_checkpointing((model.unet,), enabled), peak(torch.device("cpu")) as found:
            model.unet(latents, torch.tensor([500]), context).sample.square().mean().backward()
        shares.append(found.mb)
    assert 1 - shares[1] / shares[0] > 0.5


def test_savings_stand_in_the_order_of_harm() -> None:
    settings = TrainSettings.from_mapping({
        "train_data_dir": "x", "output_name": "m", "train_batch_size": 4, "network_dim": 128, "max_grad_norm": 0,
        "cache_latents": False, "mixed_precision": "bf16",
    })  # fmt: skip
    found = [str(one) for one in out_of_memory.savings(settings, 75 << 20)]
    words = ["gradient_checkpointing", "cache_latents", "train_batch_size 2 instead of 4 with gradient_accumulation_"
             "steps 2", "fused_backward_pass", "AdamW8bit instead of AdamW", "full_bf16", "fp8_base_unet",
             "resolution 384", "network_dim 64"]  # fmt: skip
    order = [next(i for i, text in enumerate(found) if text.startswith(word)) for word in words]
    assert order == sorted(order)
    # 75 Mi numbers: gradients of 4 bytes; two states of 3 bytes less each; weights, gradients and states of 2 less.
    assert "fused_backward_pass with max_grad_norm 0 (saves up to 300 MB of gradients)" in found
    assert "AdamW8bit instead of AdamW (saves 450 MB on a graphics card)" in found
    assert "full_bf16 (saves 600 MB)" in found
    assert "network_dim 64 instead of 128 (saves 600 MB)" in found
