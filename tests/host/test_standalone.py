"""The standalone host on the demo checkpoint: what it lends, what it refuses, and that it leaves no trace."""

from __future__ import annotations

import copy
import hashlib
import pickle
import random
import shutil
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusers import UNet2DConditionModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from lora_lab.demo import assets  # noqa: E402
from lora_lab.errors import CheckpointError, HostBusyError, Interrupted, SettingsError  # noqa: E402
from lora_lab.host import standalone_load  # noqa: E402
from lora_lab.host.base import PreviewRequest  # noqa: E402
from lora_lab.host.choose import standalone_host  # noqa: E402
from lora_lab.host.standalone import StandaloneHost  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
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
    other = standalone_host(save_folder(host, tmp_path / "folder"), data_dir=tmp_path / "data")
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


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """The demo checkpoint's."""
    return dict(load_file(str(assets.checkpoint_path())))


def refused(path: Path, weights: dict[str, torch.Tensor], words: str, **more: Any) -> None:
    """Written to `path`, the weights are refused in one line with these words and a remedy."""
    save_file(weights, str(path))
    with pytest.raises(CheckpointError, match=words) as caught:
        standalone_load.load(path, **more)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_narrow_checkpoint_needs_its_yaml(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    refused(tmp_path / "a.safetensors", weights, "no yaml")
    path = tmp_path / "b.safetensors"
    path.with_suffix(".yaml").write_text("model: {params: {unet_config: {params: {num_heads: 8}}}}")
    refused(path, weights, "no tokenizer of that size")
    assert standalone_load.load(path, assets.tokenizer_dir()).family.value == "sd1"
    path.with_suffix(".yaml").write_text("model: [")
    refused(path, weights, "yaml beside the checkpoint cannot be read")


TEXT = "cond_stage_model.transformer.text_model."
LAST = "model.diffusion_model.output_blocks.11.1.proj_out.weight"
CHANGES = {
    "a UNet that lacks a layer": {LAST: None},
    "a layer of another shape": {LAST: torch.zeros(3, 3, 1, 1)},
    "a text encoder without its table": {f"{TEXT}embeddings.token_embedding.weight": None},
    "a text encoder that lacks a layer": {f"{TEXT}final_layer_norm.bias": None},
    "a VAE that lacks a layer": {"first_stage_model.decoder.conv_out.weight": None},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_incomplete_checkpoints_are_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor], changes: dict[str, torch.Tensor | None]
) -> None:
    assert changes.keys() <= weights.keys()
    merged = {key: tensor for key, tensor in (weights | changes).items() if tensor is not None}
    path = tmp_path / "a.safetensors"
    shutil.copy(assets.config_path(), path.with_suffix(".yaml"))
    refused(path, merged, "text encoder|layout", tokenizer=assets.tokenizer_dir())


def test_an_inpainting_unet_is_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    key = "model.diffusion_model.input_blocks.0.0.weight"
    refused(tmp_path / "a.safetensors", weights | {key: weights[key].repeat(1, 2, 1, 1)}, "inpainting")


def test_what_the_unet_predicts_is_told_or_asked(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    path.with_suffix(".yaml").write_text(assets.config_path().read_text())
    save_file(weights, str(path))
    tokenizer = assets.tokenizer_dir()
    assert standalone_load.load(path, tokenizer).prediction_type == "epsilon"
    assert standalone_load.load(path, tokenizer, "v_prediction").prediction_type == "v_prediction"
    save_file(weights | {"v_pred": torch.zeros(1)}, str(path))
    assert standalone_load.load(path, tokenizer).prediction_type == "v_prediction"
    save_file(weights, str(path))
    config = path.with_suffix(".yaml").read_text()
    path.with_suffix(".yaml").write_text(config.replace("    channels: 4", "    channels: 4\n    parameterization: v"))
    assert standalone_load.load(path, tokenizer).prediction_type == "v_prediction"


def save_folder(host: StandaloneHost, folder: Path, **schedule: Any) -> Path:
    """The host's model in diffusers' layout."""
    from diffusers import DDIMScheduler

    parts = host._parts
    parts.vae.register_to_config(scaling_factor=parts.latent_scale)
    for name in ("unet", "vae", "text_encoder", "tokenizer"):
        getattr(parts, name).save_pretrained(folder / name)
    betas = {"beta_start": parts.betas[0], "beta_end": parts.betas[1], "beta_schedule": "scaled_linear"}
    DDIMScheduler(**(betas | schedule)).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text("{}")
    return folder


def test_folders_that_are_not_for_text_to_image_are_refused(host: StandaloneHost, tmp_path: Path) -> None:
    folder = save_folder(host, tmp_path / "folder", beta_schedule="linear")
    with pytest.raises(CheckpointError, match="noise schedule"):
        standalone_load.load(folder)
    save_folder(host, folder, prediction_type="v_prediction")
    assert standalone_load.load(folder).prediction_type == "v_prediction"
    unet = UNet2DConditionModel(
        in_channels=9, block_out_channels=(32,), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
    )  # fmt: skip
    unet.save_pretrained(folder / "unet")
    with pytest.raises(CheckpointError, match="inpainting"):
        standalone_load.load(folder)
    shutil.rmtree(folder / "vae")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        standalone_load.load(folder)


def pipeline_of(host: StandaloneHost) -> Any:
    """diffusers' own pipeline on a copy of the host's modules."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    parts = host._parts
    scheduler = EulerDiscreteScheduler(
        beta_start=parts.betas[0], beta_end=parts.betas[1], beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading",
    )  # fmt: skip
    parts.vae.register_to_config(scaling_factor=parts.latent_scale)
    unet, vae, text = (copy.deepcopy(m) for m in (parts.unet, parts.vae, parts.text_encoder))
    pipe = StableDiffusionPipeline(vae, text, parts.tokenizer, unet, scheduler, None, None, None, False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_our_picture_is_that_of_diffusers_pipeline_with_and_without_a_lora(
    host: StandaloneHost, tmp_path: Path
) -> None:
    """Their loop, guidance and LoRA loader, our file: the same picture as ours with the adapter attached."""
    pytest.importorskip("peft", reason="peft is not installed")
    pipe = pipeline_of(host)

    def theirs() -> np.ndarray:
        noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
        found = pipe(
            "1girl, red hair", negative_prompt="hat", latents=noise, height=64, width=64, num_inference_steps=5,
            guidance_scale=4.0,
        )  # fmt: skip
        return np.asarray(found.images[0]).astype(int)

    def ours(model: Any) -> np.ndarray:
        made = model.generate(request("1girl, red hair", negative="hat", steps=5, cfg_scale=4.0))
        return np.asarray(made.images[0]).astype(int)

    with host.lease("pictures") as model:
        bare = ours(model)
        sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout)
        adapter = Adapter.create(sites, sizes=Size(4, 4.0), generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            for n, parameter in enumerate(adapter.parameters()):
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n)))
        with adapter.attached():
            changed = ours(model)
        files.write(tmp_path / "a.safetensors", adapter.to_tensors(), {})
    assert np.abs(theirs() - bare).max() <= 1
    pipe.load_lora_weights(str(tmp_path), weight_name="a.safetensors", local_files_only=True)
    assert np.abs(theirs() - changed).max() <= 2
    assert np.abs(bare - changed).max() > 30


def test_the_whole_files_hash_comes_by_and_by(host: StandaloneHost) -> None:
    info = host.current()
    assert info is not None
    end = time.monotonic() + 60
    while (found := host.full_hash(info)) is None and time.monotonic() < end:
        time.sleep(0.01)
    assert found == hashlib.sha256(assets.checkpoint_path().read_bytes()).hexdigest()
    assert host.current() == replace(info, sha256=found)


def test_tokens_are_counted_as_the_text_encoder_reads_them(host: StandaloneHost) -> None:
    count = host.token_counter()
    captions = ["", "saber (fate), long hair", ", ".join(["red hair"] * 60)]
    with host.lease("training") as model:
        assert count is not None
        assert tuple(map(count, captions)) == model.tokenize(captions, 225).lengths
    assert [sum(map(count, text.split())) for text in captions] == list(map(count, captions)), "no token over a blank"
