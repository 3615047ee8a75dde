"""The standalone host on the demo checkpoint: what it lends, what it refuses, and that it leaves no trace."""

from __future__ import annotations

import pickle
import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402

from lora_lab.demo import assets  # noqa: E402
from lora_lab.errors import CheckpointError, HostBusyError, Interrupted, SettingsError  # noqa: E402
from lora_lab.host.base import PreviewRequest  # noqa: E402
from lora_lab.host.choose import standalone_host  # noqa: E402
from lora_lab.host.standalone import StandaloneHost  # noqa: E402
from tests.host.fingerprint import fingerprint  # noqa: E402


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> StandaloneHost:
    found = standalone_host(data_dir=tmp_path_factory.mktemp("data"))
    assert isinstance(found, StandaloneHost)
    return found


def request(*prompts: str, **more: object) -> PreviewRequest:
    seeds = tuple(range(5, 5 + len(prompts)))
    return PreviewRequest(prompts, seeds, width=64, height=64, **({"steps": 3} | more))


def test_what_is_loaded_is_told(host: StandaloneHost) -> None:
    info = host.current()
    assert info is not None
    assert (info.name, info.family.value, info.prediction_type) == ("demo.safetensors", "sd1", "epsilon")
    assert info.short_hash is not None
    assert len(info.short_hash) == 8
    with host.lease("training") as model:
        assert model.alphas_cumprod.shape == (1000,)
        assert model.alphas_cumprod[0] == pytest.approx(1 - 0.00085, abs=1e-6)
        assert len(model.text_encoders) == 1


def test_pixels_and_latents_there_and_back(host: StandaloneHost) -> None:
    pixels = torch.rand(2, 3, 64, 128) * 2 - 1
    with host.lease("training") as model:
        latents = model.encode_pixels(pixels)
        again = model.encode_pixels(pixels)
        noisy = model.encode_pixels(pixels, torch.Generator().manual_seed(1))
        decoded = model.decode_latents(latents)
    assert latents.shape == (2, 4, 8, 16)
    assert torch.equal(latents, again)
    assert not torch.equal(latents, noisy)
    assert decoded.shape == pixels.shape
    assert decoded.abs().max() <= 1


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DDIM", "DPM++ 2M", "UniPC"])
def test_a_picture_does_not_depend_on_its_batch_mates(host: StandaloneHost, sampler: str) -> None:
    with host.lease("pictures") as model:
        pair = model.generate(request("1girl, red hair", "1boy, crown", sampler=sampler)).images
        alone = model.generate(request("1girl, red hair", sampler=sampler)).images
        again = model.generate(request("1girl, red hair", sampler=sampler)).images
    assert alone[0].tobytes() == again[0].tobytes()
    far = np.abs(np.asarray(pair[0]).astype(int) - np.asarray(alone[0]).astype(int)).max()
    assert far <= 2
    assert pair[0].tobytes() != pair[1].tobytes()


def test_the_infotext_is_the_webuis(host: StandaloneHost) -> None:
    with host.lease("pictures") as model:
        text = model.generate(request("a, (b)", negative="c", cfg_scale=5)).infotexts[0]
    last = "Steps: 3, Sampler: Euler, CFG scale: 5, Seed: 5, Size: 64x64, Model: demo"
    assert text == f"a, (b)\nNegative prompt: c\n{last}"


def test_brackets_are_only_text(host: StandaloneHost) -> None:
    with host.lease("training") as model:
        tokens = model.tokenize(["saber (fate)", "a BREAK b AND c", "<lora:x:1>"])
        ids = tokens.ids[0]
    assert ids.shape == (3, 1, 77)
    assert tokens.lengths[0] > 4
    assert not any(tokens.cut)


def test_long_captions_take_more_chunks_and_are_cut(host: StandaloneHost) -> None:
    long = ", ".join(["red hair"] * 60)  # 3 tokens each, without the last comma
    with host.lease("training") as model, torch.no_grad():
        for room, chunks in ((75, 1), (150, 2), (225, 3)):
            tokens = model.tokenize([long, "short"], room)
            assert tokens.ids[0].shape == (2, chunks, 77)
            assert tokens.lengths[0] == 179
            assert tokens.cut == (room < 179, False)
            assert model.encode_tokens(tokens).context.shape == (2, chunks * 77, 96)


def test_clip_skip_takes_an_earlier_layer_with_the_final_norm(host: StandaloneHost) -> None:
    with host.lease("training") as model, torch.no_grad():
        tokens = model.tokenize(["red hair"])
        one, two = (model.encode_tokens(tokens, n).context for n in (1, 2))
    assert not torch.allclose(one, two)
    assert two.std() == pytest.approx(float(one.std()), rel=0.5)


WAYS_OUT = [None, ValueError("x"), KeyboardInterrupt(), RuntimeError("out of memory")]


@pytest.mark.parametrize("error", WAYS_OUT, ids=lambda e: type(e).__name__)
def test_every_way_out_leaves_the_model_as_it_was(host: StandaloneHost, error: BaseException | None) -> None:
    parts = host._parts
    parts.unet.train()
    next(parts.unet.parameters()).requires_grad_(True)
    modules = (parts.unet, parts.text_encoder, parts.vae)
    before = [fingerprint(m) for m in modules]
    torch.manual_seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    expected = pytest.raises(type(error)) if error else nullcontext()
    with expected, host.lease("training") as model:
        assert not any(p.requires_grad for p in model.unet.parameters())
        assert not model.unet.training
        torch.randn(5), random.random(), np.random.rand()
        if error:
            raise error
    assert [fingerprint(m) for m in modules] == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    parts.unet.eval().requires_grad_(False)


def test_another_checkpoint_is_not_lent(host: StandaloneHost) -> None:
    with pytest.raises(HostBusyError), host.lease("training", expect="something else"):
        pass
    with host.lease("training"):  # the lock is free again
        pass


def test_interrupt_stops_pictures_and_is_answered_once(host: StandaloneHost) -> None:
    host.interrupt()
    with pytest.raises(Interrupted), host.lease("pictures") as model:
        model.generate(request("a"))
    assert host.interrupt_requested()
    assert not host.interrupt_requested()


@pytest.mark.parametrize("wrong", [{"sampler": "Nope"}, {"width": 60}])
def test_impossible_pictures_are_refused(host: StandaloneHost, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError), host.lease("pictures") as model:
        model.generate(PreviewRequest(("a",), (1,), **({"width": 64, "height": 64} | wrong)))


def test_a_diffusers_folder_gives_the_same_model(host: StandaloneHost, tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    parts = host._parts
    folder = tmp_path / "folder"
    parts.unet.save_pretrained(folder / "unet")
    parts.vae.register_to_config(scaling_factor=parts.latent_scale)
    parts.vae.save_pretrained(folder / "vae")
    parts.text_encoder.save_pretrained(folder / "text_encoder")
    parts.tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = DDIMScheduler(beta_start=parts.betas[0], beta_end=parts.betas[1], beta_schedule="scaled_linear")
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text("{}")
    other = standalone_host(folder, data_dir=tmp_path / "data")
    with host.lease("pictures") as model:
        expected = model.generate(request("1girl, red hair")).images[0]
    with other.lease("pictures") as model:
        found = model.generate(request("1girl, red hair")).images[0]
    assert np.abs(np.asarray(expected).astype(int) - np.asarray(found).astype(int)).max() <= 1


def write(path: Path, **keys: torch.Tensor) -> Path:
    save_file({k.replace("__", "."): v for k, v in keys.items()}, str(path))
    return path


def test_files_that_are_no_checkpoint_are_refused_in_one_line(tmp_path: Path) -> None:
    one = torch.zeros(1)
    pickled = tmp_path / "model.ckpt"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    disguised = tmp_path / "model.safetensors"
    disguised.write_bytes(pickle.dumps({"a": 1}))
    short = tmp_path / "short.safetensors"
    short.write_bytes(assets.checkpoint_path().read_bytes()[:5000])
    cases = {
        tmp_path / "gone.safetensors": "no such checkpoint",
        pickled: "pickle",
        disguised: "pickle",
        short: "cannot be read",
        write(tmp_path / "xl.safetensors", conditioner__embedders__0__x=one): "SDXL",
        write(tmp_path / "two.safetensors", cond_stage_model__model__x=one): "Stable Diffusion 2",
        write(tmp_path / "flux.safetensors", double_blocks__0__x=one): "Flux",
        write(tmp_path / "lora.safetensors", lora_unet_x=one): "LoRA",
        write(tmp_path / "other.safetensors", weight=one): "no Stable Diffusion",
        tmp_path: "no checkpoint",
    }
    for path, words in cases.items():
        with pytest.raises(CheckpointError, match=words) as caught:
            standalone_host(path, data_dir=tmp_path / "data")
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
