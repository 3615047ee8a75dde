"""Independent judges: diffusers and peft load our file and train beside us, on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_lab.network import files
from lora_lab.network.reach import C3LIER
from tests.network.models import World, inputs, make_world, same_weights

peft = pytest.importorskip("peft", reason="peft is not installed")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

UNET = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
def test_diffusers_loads_our_file_and_computes_the_same(tmp_path: Path, layout: Any) -> None:
    """Trained on either layout: diffusers' LoRA loader gives our own adapter's output."""
    live, other = make_world(layout), make_world("diffusers")
    if layout == "ldm":
        same_weights(other.unet, live.unet)
    adapter = live.adapter(dim=4, alpha=3.0)
    with adapter.attached(), torch.no_grad():
        picture, text = live.predict(), live.encode()
    files.write(tmp_path / "a.safetensors", adapter.to_tensors(), {})
    load_like_diffusers(other.unet, other.encoder, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.allclose(other.predict(), picture, atol=1e-5 if layout == "diffusers" else 1e-4)
        assert torch.allclose(other.encode(), text, atol=1e-5)


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
def test_diffusers_loads_our_c3lier(tmp_path: Path, layout: Any) -> None:
    """With its convolutions (conv_dim), down- and upsamplers among them: the same output."""
    live, other = make_world(layout), make_world("diffusers")
    if layout == "ldm":
        same_weights(other.unet, live.unet)
    adapter = live.adapter(dim=4, alpha=3.0, up=0.02, reach=C3LIER)
    convolutions = [p for p in adapter.pieces if p.parameters[0].dim() == 4 and p.parameters[0].shape[-1] == 3]
    assert len(convolutions) > 40
    with torch.no_grad():
        plain = live.predict()
        with adapter.attached():
            picture = live.predict()
    files.write(tmp_path / "a.safetensors", adapter.to_tensors(), {})
    load_like_diffusers(other.unet, other.encoder, tmp_path / "a.safetensors", len(adapter.pieces))
    with torch.no_grad():
        off = (other.predict() - picture).norm() / (picture - plain).norm()
    assert off < 1e-4


def load_like_diffusers(unet: Any, encoder: nn.Module, path: Path, sites: int = 264) -> None:
    """What `StableDiffusionPipeline.load_lora_weights` does with a file, without the rest of a pipeline."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Mixin

    state, alphas = Mixin.lora_state_dict(str(path.parent), weight_name=path.name, local_files_only=True)
    assert len(state) == 2 * sites
    Mixin.load_lora_into_unet(state, alphas, unet=unet)
    Mixin.load_lora_into_text_encoder(state, alphas, text_encoder=encoder, lora_scale=1.0)


def peft_twin(adapter: Any, unet: Any, encoder: nn.Module) -> dict[str, nn.Parameter]:
    """peft's LoRA at the same sites with the same numbers; its parameters by our names."""
    config = {"r": 4, "lora_alpha": 3, "init_lora_weights": False}
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=UNET, **config), unet)
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=TEXT, **config), encoder)
    roots = {"unet": unet, "text_encoder": encoder}
    twin: dict[str, nn.Parameter] = {}
    for piece in adapter.pieces:
        layer = roots[piece.site.part].get_submodule(piece.site.path)
        for half, tensor in (("A", piece.down), ("B", piece.up)):
            parameter = getattr(layer, f"lora_{half}")["default"].weight
            parameter.data.copy_(tensor)
            twin[f"{piece.site.name}.{half}"] = parameter
    return twin


def test_one_training_step_is_pefts() -> None:
    """Loss and every gradient, UNet and text encoder together, relative 1e-4."""
    ours, theirs = make_world("diffusers"), make_world("diffusers")
    adapter = ours.adapter(dim=4, alpha=3.0)
    twin = peft_twin(adapter, theirs.unet, theirs.encoder)
    latents, timesteps, _ = inputs()

    def loss(world: World) -> Tensor:
        return (world.call(latents, timesteps, world.encode()) - 0.3).square().mean()

    with adapter.attached():
        our_loss = loss(ours)
        our_loss.backward()  # type: ignore[no-untyped-call]
    their_loss = loss(theirs)
    their_loss.backward()  # type: ignore[no-untyped-call]
    assert our_loss.item() == pytest.approx(their_loss.item(), rel=1e-4)
    assert len(twin) == 2 * 264
    for piece in adapter.pieces:
        for half, parameter in (("A", piece.parameters[0]), ("B", piece.parameters[1])):
            grad = twin[f"{piece.site.name}.{half}"].grad
            assert grad is not None
            assert parameter.grad is not None
            assert float((parameter.grad - grad).norm()) <= 1e-4 * float(grad.norm()), piece.site.name
