"""SD2 and SDXL standalone, from single files and folders, judged by diffusers' own pipelines."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402

from lora_lab.demo import assets  # noqa: E402
from lora_lab.errors import CheckpointError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.host import standalone_load  # noqa: E402
from lora_lab.host.base import Conditioning, PreviewRequest  # noqa: E402
from lora_lab.host.standalone import StandaloneHost  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402

from .originals import write  # noqa: E402

FAMILIES = [Family.SD2, Family.SDXL]
LONG = ", ".join(["red hair"] * 60)
SAID = {Family.SD2: "parameterization: v", Family.SDXL: ""}


def host_of(path: Path, folder: Path, **more: Any) -> StandaloneHost:
    return StandaloneHost(path, data_dir=folder / "data", tokenizer=assets.tokenizer_dir(), **more)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.value)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A host on a single file of the family, and the modules it was made of."""
    folder = tmp_path_factory.mktemp(request.param.value)
    path, parts = write(folder, request.param, yaml_says=SAID[request.param])
    return host_of(path, folder), parts


def pipeline(host: StandaloneHost) -> Any:
    """diffusers' own pipeline on a copy of the host's modules."""
    p = host._parts
    betas = {"beta_start": p.betas[0], "beta_end": p.betas[1], "beta_schedule": "scaled_linear"}
    more = {"steps_offset": 1, "timestep_spacing": "leading", "prediction_type": p.prediction_type}
    scheduler = diffusers.EulerDiscreteScheduler(**betas, **more)
    p.vae.register_to_config(scaling_factor=p.latent_scale, force_upcast=False)
    unet, vae, text = (copy.deepcopy(module) for module in (p.unet, p.vae, p.text_encoder))
    zeros = copy.deepcopy(p.tokenizer)
    zeros.pad_token = zeros.convert_ids_to_tokens(0)
    if p.family is Family.SDXL:
        two = copy.deepcopy(p.text_encoder_2)
        pipe = diffusers.StableDiffusionXLPipeline(
            vae, text, two, p.tokenizer, zeros, unet, scheduler, add_watermarker=False
        )
    else:
        pipe = diffusers.StableDiffusionPipeline(vae, text, zeros, unet, scheduler, None, None, None, False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_single_file_is_read_into_the_modules_it_was_made_of(loaded: Any) -> None:
    host, parts = loaded
    ours = host._parts
    for name, tensor in parts["unet"].state_dict().items():
        assert torch.equal(ours.unet.state_dict()[name], tensor), name
    for name, tensor in parts["text"].state_dict().items():
        assert torch.equal(ours.text_encoders[-1].state_dict()[name], tensor), name
    assert ours.unet.config.attention_head_dim == list(parts["unet"].config.attention_head_dim) or (
        tuple(ours.unet.config.attention_head_dim) == tuple(parts["unet"].config.attention_head_dim)
    )
    info = host.current()
    assert info is not None
    sdxl = info.family is Family.SDXL
    assert info.prediction_type == ("epsilon" if sdxl else "v_prediction")
    assert ours.latent_scale == (0.13025 if sdxl else 0.18215)


@pytest.mark.parametrize("caption", ["1girl, red hair", "", LONG])
def test_the_conditioning_is_that_of_diffusers(loaded: Any, caption: str) -> None:
    host, _ = loaded
    pipe = pipeline(host)
    with torch.no_grad():
        found = pipe.encode_prompt(caption, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    with host.lease("training") as model, torch.no_grad():
        tokens = model.tokenize([caption, "hat"], 75)
        ours = model.encode_tokens(tokens, 2)
        long = model.tokenize([LONG], 225)
        many = model.encode_tokens(long)
    torch.testing.assert_close(ours.context[:1], found[0], rtol=1e-4, atol=1e-5)
    assert many.context.shape[1] == 77 * long.ids[0].shape[1] > 77
    if host.current().family is Family.SDXL:
        torch.testing.assert_close(ours.pooled[:1], found[2], rtol=1e-4, atol=1e-5)
        assert many.pooled.shape == (1, 40)
    else:
        assert ours.pooled is None


def test_the_unet_is_told_the_sizes(loaded: Any) -> None:
    host, _ = loaded
    with host.lease("training") as model, torch.no_grad():
        told = model.encode_tokens(model.tokenize(["hat"]))
        x, when = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([500])
        found = []
        for size in (64, 1024):
            sizes = torch.tensor([[size, size, 0, 0, 64, 64]]) if told.pooled is not None else None
            found.append(model.predict(x, when, Conditioning(told.context, told.pooled, sizes)))
    assert torch.equal(*found) == (told.pooled is None)


def test_pictures_with_and_without_a_lora_are_those_of_diffusers_pipeline(loaded: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    host, _ = loaded
    pipe = pipeline(host)

    def theirs() -> np.ndarray[Any, Any]:
        noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
        found = pipe(
            "1girl, red hair", negative_prompt="hat", latents=noise, height=64, width=64, num_inference_steps=3,
            guidance_scale=4.0,
        )  # fmt: skip
        return np.asarray(found.images[0]).astype(int)

    def ours(model: Any) -> np.ndarray[Any, Any]:
        request = PreviewRequest(
            ("1girl, red hair",), (5,), negative="hat", width=64, height=64, steps=3, cfg_scale=4.0
        )
        return np.asarray(model.generate(request).images[0]).astype(int)

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
    assert np.abs(theirs() - bare).max() <= 2
    pipe.load_lora_weights(str(tmp_path), weight_name="a.safetensors", local_files_only=True)
    assert np.abs(theirs() - changed).max() <= 4
    assert np.abs(bare - changed).max() > 20


def test_an_empty_negative_prompt_is_all_zeros_for_sdxl_as_in_the_webui(loaded: Any) -> None:
    host, _ = loaded
    from lora_lab.host.standalone_pictures import _conditioning

    with host.lease("pictures") as model, torch.no_grad():
        none = _conditioning(model, PreviewRequest(("hat",), (1,), width=96, height=64), 1)
        some = _conditioning(model, PreviewRequest(("hat",), (1,), negative="bow", width=96, height=64), 1)
    zero = not bool(none.context[1].any())
    assert zero == (none.pooled is not None)
    assert bool(some.context[1].any())
    if none.size_ids is not None:
        assert none.size_ids.tolist() == [[64, 96, 0, 0, 64, 96]] * 2


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.value)
def test_a_folder_of_diffusers_is_the_same_model(family: Family, tmp_path: Path) -> None:
    path, _ = write(tmp_path, family, yaml_says=SAID[family])
    host = host_of(path, tmp_path)
    folder = tmp_path / "folder"
    pipeline(host).save_pretrained(folder)
    again = StandaloneHost(folder, data_dir=tmp_path / "data")
    told, there = host.current(), again.current()
    assert told is not None
    assert there is not None
    assert (there.family, there.prediction_type) == (told.family, told.prediction_type)
    request = PreviewRequest(("hat",), (3,), width=64, height=64, steps=2)
    found = []
    for one in (host, again):
        with one.lease("pictures") as model:
            found.append(np.asarray(model.generate(request).images[0]).astype(int))
    assert np.abs(found[0] - found[1]).max() <= 1


def test_what_sd2_predicts_is_asked_and_never_guessed(tmp_path: Path) -> None:
    path, _ = write(tmp_path, Family.SD2)
    tokenizer = assets.tokenizer_dir()
    with pytest.raises(CheckpointError, match="predicts noise or velocity is not known") as caught:
        standalone_load.load(path, tokenizer)
    assert "--prediction-type" in str(caught.value)
    assert standalone_load.load(path, tokenizer, "epsilon").prediction_type == "epsilon"
    assert standalone_load.load(path, tokenizer, "v_prediction").prediction_type == "v_prediction"
    weights = load_file(str(path))
    for metadata, wanted in (
        ({"modelspec.prediction_type": "v"}, "v_prediction"),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction"),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon"),
    ):
        save_file(weights, str(path), metadata)
        assert standalone_load.load(path, tokenizer).prediction_type == wanted
    with pytest.raises(CheckpointError, match="said to predict velocity, its own files say noise"):
        standalone_load.load(path, tokenizer, "v_prediction")


def test_special_checkpoints_are_refused(tmp_path: Path) -> None:
    path, _ = write(tmp_path, Family.SDXL)
    weights, tokenizer = load_file(str(path)), assets.tokenizer_dir()
    first = "model.diffusion_model.input_blocks.0.0.weight"
    wide = weights | {first: torch.zeros(32, 9, 3, 3)}
    lost = {key: tensor for key, tensor in weights.items() if ".embedders.1." not in key}
    alone = lost | {"conditioner.embedders.0.model.ln_final.weight": torch.ones(1)}
    for change, wrong in ((wide, "inpainting"), (lost, "no second text encoder"), (alone, "refiner and turbo")):
        save_file(change, str(path))
        with pytest.raises(CheckpointError, match=wrong) as caught:
            standalone_load.load(path, tokenizer)
        assert caught.value.remedy
    save_file(weights, str(path))
    (tmp_path / "small.json").unlink()
    with pytest.raises(CheckpointError, match="48 wide, and no small.json tells its heads"):
        standalone_load.load(path, tokenizer)
    (tmp_path / "small.json").write_text("{")
    with pytest.raises(CheckpointError, match="description of its text encoder cannot be read"):
        standalone_load.load(path, tokenizer)
