"""The webui's lease on a stand-in for `modules` with real ldm modules: every way out, everything as found."""

from __future__ import annotations

import importlib
import random
import re
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from lora_lab.errors import CheckpointError, HostBusyError, Interrupted
from tests.host.fingerprint import differences, fingerprint
from tests.host.webui_stand_in import CrossAttention, Webui, forget_our_webui, no_backward, random_state, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lora_lab.host.base import Host, LoadedModel


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Webui]:
    found = Webui(tmp_path)
    for name, part in found.modules().items():
        monkeypatch.setitem(__import__("sys").modules, name, part)
    forget_our_webui()
    chosen = CrossAttention.forward
    CrossAttention.forward = no_backward
    yield found
    CrossAttention.forward = chosen
    forget_our_webui()


@pytest.fixture
def host(webui: Webui) -> Host:
    made: Host = importlib.import_module("lora_lab.host.webui").WebuiHost()
    made.listen()  # type: ignore[attr-defined]
    return made


def messy(webui: Webui) -> None:
    """The webui as a person leaves it: tiling, a hypernetwork, merged tokens, an engine, Hypertile, hooks, no eval."""
    webui.apply_circular(True)
    webui.parts.shared.loaded_hypernetworks.append("a hypernetwork")
    webui.sd_model.applied_token_merged_ratio = 0.5
    webui.parts.sd_unet.current_unet, webui.parts.sd_unet.current_unet_option = "an engine", "its option"
    unet = webui.sd_model.model.diffusion_model
    tiled = next(m for m in unet.modules() if isinstance(m, CrossAttention))
    vars(tiled)["__webui_hypertile_params"] = object()
    tiled.forward = no_backward.__get__(tiled)
    unet.forward = lambda *_: pytest.fail("an extension's forward was called")  # type: ignore[method-assign]
    unet.register_forward_hook(lambda *_: None)
    webui.sd_model.cond_stage_model.wrapped.transformer.train()
    next(unet.parameters()).requires_grad_(False)


def state(webui: Webui) -> dict[str, str]:
    parts = webui.parts
    return fingerprint(webui.sd_model) | {
        "random": random_state(),
        "hypernetworks": str(parts.shared.loaded_hypernetworks),
        "loras": str(webui.loras.loaded_networks),
        "unet": f"{parts.sd_unet.current_unet} {parts.sd_unet.current_unet_option}",
        "merged": str(webui.sd_model.applied_token_merged_ratio),
        "circular": str(webui.hijack.circular_enabled),
        "options": str(webui.data),
        "in_gpu": str(id(webui.lowvram.module_in_gpu)),
        "nv": str(vars(parts.rng).get("nv_rng")),
    }


def train(model: LoadedModel) -> int:
    """One real step through text encoder and UNet; how many of the trained pieces got a gradient."""
    pieces, handles = [], []
    for root in (model.unet, *model.text_encoders):
        for name, layer in root.named_modules():
            if name.endswith(("to_q", "to_out.0", "v_proj")):
                piece = torch.full((layer.out_features,), 0.1, requires_grad=True)
                handles.append(layer.register_forward_hook(lambda _m, _a, out, piece=piece: out * (1 + piece)))
                pieces.append(piece)
    try:
        states = model.encode_tokens(model.tokenize(["a", "b c"]), clip_skip=1)
        found = model.predict(torch.randn(2, 4, 8, 8), torch.tensor([1, 500]), states)
        found.square().mean().backward()
    finally:
        for handle in handles:
            handle.remove()
    reached = [piece.grad is not None and bool(piece.grad.abs().sum()) for piece in pieces]
    assert len(reached) > 10
    return reached.count(False)


def bits(found: dict[str, str]) -> dict[str, str]:
    """Only the hashes of the weights of a fingerprint."""
    return {key: re.findall("[0-9a-f]{16}", text)[0] for key, text in found.items() if key.endswith("weight")}


WAYS_OUT = [None, ValueError, Interrupted, KeyboardInterrupt, SystemExit, torch.cuda.OutOfMemoryError]


@pytest.mark.parametrize("way_out", WAYS_OUT)
@pytest.mark.parametrize("purpose", ["training", "pictures"])
def test_every_way_out_leaves_everything_as_found(webui: Webui, host: Host, purpose: Any, way_out: Any) -> None:
    messy(webui)
    before = state(webui)
    try:
        with host.lease(purpose) as model:
            torch.rand(1), random.random(), np.random.rand()
            if purpose == "training":
                assert train(model) == 0
            if way_out is not None:
                raise way_out("on purpose")
    except BaseException as error:
        assert way_out is not None
        assert type(error) is way_out  # noqa: PT017 - KeyboardInterrupt too
    assert differences(before, state(webui)) == []
    assert webui.lock.acquire(False)


def test_inside(webui: Webui, host: Host) -> None:
    messy(webui)
    with host.lease("training") as model:
        assert not any(p.requires_grad for p in webui.sd_model.parameters())
        assert not any(m.training for m in webui.sd_model.modules())
        assert {m.padding_mode for m in model.unet.modules() if hasattr(m, "padding_mode")} == {"zeros"}
        assert webui.parts.shared.loaded_hypernetworks == []
        assert webui.sd_model.applied_token_merged_ratio == 0
        assert webui.parts.sd_unet.current_unet is None
        assert not webui.lock.acquire(False)
        assert host.current() == model.info


def test_pictures_keep_the_persons_attention_and_flags(webui: Webui, host: Host) -> None:
    before = fingerprint(webui.sd_model)
    with host.lease("pictures"):
        assert differences(before, fingerprint(webui.sd_model)) == []


@pytest.mark.parametrize("name", ["sdp", "sdp-no-mem"])
def test_a_differentiable_attention_is_kept(webui: Webui, host: Host, name: str) -> None:
    webui.parts.sd_hijack.current_optimizer.name = name
    with host.lease("training"):
        assert CrossAttention.forward is no_backward


def test_a_failure_on_the_way_in_gives_back_too(webui: Webui, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    messy(webui)
    before = state(webui)
    restore = importlib.import_module("lora_lab.host.webui_restore")

    def fails(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(restore, "frozen", fails)
    with pytest.raises(RuntimeError, match="no room"), host.lease("training"):
        pytest.fail("was lent")
    assert differences(before, state(webui)) == []
    assert webui.lock.acquire(False)


@pytest.mark.parametrize("purpose", ["training", "pictures"])
def test_a_prompts_lora_is_out_and_comes_back_by_itself(webui: Webui, host: Host, purpose: Any) -> None:
    clean = fingerprint(webui.sd_model)
    layer = webui.sd_model.model.diffusion_model.out[-1]
    webui.loras.loaded_networks.append("style")
    webui.loras.write_into(layer, "style")
    assert differences(clean, fingerprint(webui.sd_model)) != []
    found = webui.loras.loaded_networks
    with host.lease(purpose):
        assert webui.loras.loaded_networks == []
        assert bits(fingerprint(webui.sd_model)) == bits(clean)
        webui.loras.write_into(layer, "of a picture of ours")
    assert webui.loras.loaded_networks is found
    assert found == ["style"]
    assert layer.network_current_names == (), "so that the next picture writes it in again"
    assert differences(clean, fingerprint(webui.sd_model)) == []


def test_medvram(webui: Webui, host: Host) -> None:
    webui.lowvram.set_up(webui.sd_model)
    before = fingerprint(webui.sd_model)
    with host.lease("training") as model:
        assert train(model) == 0
        assert webui.lowvram.module_in_gpu is None
    assert differences(before, fingerprint(webui.sd_model)) == []
    assert webui.lowvram.module_in_gpu is webui.sd_model.model, "the UNet stays, in the webui's own book"
    with host.lease("pictures"):
        assert webui.lowvram.module_in_gpu is webui.sd_model.model


def test_another_checkpoint_in_the_same_object(webui: Webui, host: Host) -> None:
    first = host.current()
    assert first is not None
    (webui.folder / "second.safetensors").write_bytes(b"another")
    webui.load(webui.folder / "second.safetensors")
    second = host.current()
    assert second is not None
    assert (second.name, second.identity != first.identity) == ("second.safetensors", True)
    webui.data["sd_model_checkpoint"] = "second.safetensors"
    webui.parts.shared.opts.sd_model_checkpoint = "second.safetensors"
    with pytest.raises(HostBusyError, match="Another checkpoint is live now: second") as caught:
        host.lease("training", expect=first.identity).__enter__()
    assert caught.value.remedy == "load first.safetensors again to go on"
    assert webui.lock.acquire(False)


def test_the_chosen_checkpoint_is_taken_back_after_a_refiner(webui: Webui, host: Host) -> None:
    first = host.current()
    assert first is not None
    (webui.folder / "refiner.safetensors").write_bytes(b"another")
    webui.load(webui.folder / "refiner.safetensors")
    with host.lease("training", expect=first.identity) as model:
        assert model.info == first
    assert webui.reloads == 1


def test_a_file_overwritten_later_is_not_what_is_live(webui: Webui, host: Host) -> None:
    first = host.current()
    (webui.folder / "first.safetensors").write_bytes(b"longer than before")
    assert host.current() == first


def test_nothing_loaded(webui: Webui, host: Host) -> None:
    webui.parts.sd_models.model_data.sd_model = webui.parts.shared.sd_model = None
    assert host.current() is None
    with pytest.raises(HostBusyError, match="No checkpoint is loaded in the webui"):
        host.lease("training").__enter__()
    assert webui.lock.acquire(False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: setattr(m, "conditioner", SimpleNamespace(embedders=[1])), "a refiner or turbo checkpoint"),
        (lambda m: setattr(m.model.diffusion_model, "num_classes", 7), "an unCLIP checkpoint"),
        (lambda m: setattr(m.cond_stage_model, "wrapped", torch.nn.Module()), "of an unknown family"),
        (lambda m: setattr(m.model.diffusion_model, "in_channels", 9), "an inpainting checkpoint"),
        (lambda m: setattr(m, "parameterization", "x0"), "predicts 'x0'"),
    ],
)
def test_kinds_that_are_not_supported(webui: Webui, host: Host, change: Any, sentence: str) -> None:
    change(webui.sd_model)
    with pytest.raises(CheckpointError, match=sentence):
        host.lease("training").__enter__()
    assert webui.lock.acquire(False)


def test_sd2_is_told_by_its_text_encoder(webui: Webui, host: Host) -> None:
    wrapped = webui.sd_model.cond_stage_model.wrapped = torch.nn.Module()
    wrapped.model, wrapped.layer_idx = torch.nn.Linear(1, 1), 1  # type: ignore[assignment]
    webui.sd_model.parameterization = "v"
    with host.lease("training") as model:
        assert (model.info.family.value, model.info.prediction_type) == ("sd2", "v_prediction")
        assert model.text_encoders == (wrapped.model,)
    wrapped.layer_idx = 0  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match="last text layer"):
        host.lease("training").__enter__()


def test_not_reentrant(webui: Webui, host: Host) -> None:
    with host.lease("training"), pytest.raises(HostBusyError, match="lent to this job already"):
        host.lease("pictures").__enter__()
    assert webui.lock.acquire(False)


def test_the_queue_is_waited_for(webui: Webui, host: Host) -> None:
    entered = threading.Event()

    def job() -> None:
        with host.lease("training"):
            entered.set()

    webui.lock.acquire()
    thread = threading.Thread(target=job)
    thread.start()
    assert not entered.wait(0.1)
    webui.lock.release()
    assert entered.wait(10)
    thread.join()


def test_same_numbers_twice(webui: Webui, host: Host) -> None:
    latents, when = torch.ones(1, 4, 8, 8), torch.tensor([10])
    found = []
    for _ in range(2):
        with host.lease("training") as model, torch.no_grad():
            found.append(model.predict(latents, when, model.encode_tokens(model.tokenize(["a"]))))
    assert torch.equal(*found)


def test_vae(webui: Webui, host: Host) -> None:
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    with host.lease("training") as model:
        mean = model.encode_pixels(pixels)
        drawn = [model.encode_pixels(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
        back = model.decode_latents(mean)
    assert mean.shape == (2, 4, 4, 4)
    assert back.shape == pixels.shape
    assert back.abs().max() <= 1
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(mean, webui.sd_model.first_stage_model.encode(pixels).mean.detach() * 0.18215)


def test_a_vae_that_gives_nan_in_half_precision_is_asked_in_float32(webui: Webui, host: Host) -> None:
    vae = webui.sd_model.first_stage_model
    vae.half()
    webui.parts.devices.dtype_vae = torch.float16
    real = vae.encode

    def encode(x: torch.Tensor) -> Any:
        found = real(x.float() if x.dtype == torch.float32 else x)
        if x.dtype == torch.float16:
            found.mean = found.mean * float("nan")
        return found

    vae.encode = encode  # type: ignore[method-assign]
    before = fingerprint(webui.sd_model)
    with host.lease("training") as model:
        assert model.encode_pixels(torch.zeros(1, 3, 32, 32)).isfinite().all()
    assert differences(before, fingerprint(webui.sd_model)) == []


def test_a_borrower_may_want_the_vae_in_32_bits(webui: Webui, host: Host) -> None:
    vae = webui.sd_model.first_stage_model
    vae.half()
    webui.parts.devices.dtype_vae = torch.float16
    real, seen = vae.encode, []
    vae.encode = lambda x: (seen.append(x.dtype), real(x))[1]  # type: ignore[method-assign, func-returns-value]
    before = fingerprint(webui.sd_model)
    with host.lease("training") as model:
        model.full_vae = True
        assert model.vae is vae
        assert model.encode_pixels(torch.zeros(1, 3, 32, 32)).isfinite().all()
    assert seen == [torch.float32]
    assert differences(before, fingerprint(webui.sd_model)) == []


def test_pictures_need_their_own_lease(webui: Webui, host: Host) -> None:
    from lora_lab.host.base import PreviewRequest

    with host.lease("training") as model, pytest.raises(RuntimeError, match="in a lease for `pictures`"):
        model.generate(PreviewRequest(("a",), (1,)))


def test_leases_hold_no_model_alive(webui: Webui, host: Host) -> None:
    import gc
    import weakref

    with host.lease("training"):
        pass
    gone = weakref.ref(webui.sd_model)
    webui.parts.sd_models.model_data.sd_model = webui.parts.shared.sd_model = None
    del webui.sd_model
    gc.collect()
    assert gone() is None


def test_paths_and_settings(webui: Webui, host: Host) -> None:
    paths = host.paths()
    assert paths.lora_dir == webui.folder / "Lora"
    assert paths.data_dir == webui.folder / "lora-lab"
    assert paths.allowed_roots == ()
    webui.parts.shared.cmd_opts.webui_is_non_local = True
    webui.parts.shared.cmd_opts.gradio_allowed_path = [str(webui.folder / "pictures")]
    assert host.paths().allowed_roots == (paths.data_dir, paths.lora_dir, webui.folder / "pictures")
    assert host.default_clip_skip() == 2
    info = host.current()
    assert info is not None
    assert host.full_hash(info) == "checkpoint/first.safetensors of first.safetensors"
    assert info.short_hash == "12345678"
    memory = host.memory()
    assert 0 < memory.used < memory.total


def test_a_saved_lora_is_listed_and_forgotten(webui: Webui, host: Host) -> None:
    layer = webui.sd_model.model.diffusion_model.out[-1]
    clean = fingerprint(webui.sd_model)
    webui.loras.write_into(layer, "mine")
    webui.loras.networks_in_memory["mine"] = "old weights"
    host.lora_saved(webui.folder / "Lora" / "mine.safetensors")
    assert webui.loras.listed == ["mine"]
    assert webui.loras.networks_in_memory == {}
    assert differences(clean, fingerprint(webui.sd_model)) == []
    assert webui.parts.processing.StableDiffusionProcessingTxt2Img.cached_c[0] is None
    assert webui.lock.acquire(False)
    webui.lock.release()
    with host.lease("training"):
        host.lora_saved(webui.folder / "Lora" / "again.safetensors")
    assert webui.loras.listed == ["mine", "again"]


def test_without_the_lora_extension(webui: Webui, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "networks")
    host.lora_saved(webui.folder / "Lora" / "mine.safetensors")
    with host.lease("training") as model:
        assert model.info.name == "first.safetensors"


def test_record_is_what_the_webui_lists(webui: Webui) -> None:
    assert record(webui.folder / "a.safetensors").title == "a.safetensors"
