"""Gradient checkpointing on the webui's own UNet class, whose own checkpointing would lose an adapter's gradients."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

torch = pytest.importorskip("torch")
openaimodel = pytest.importorskip(
    "ldm.modules.diffusionmodules.openaimodel", reason="ldm (stable-diffusion-sdkit) is not installed"
)

from lora_lab.families import Family  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.training.memory.checkpointing import gradient_checkpointing  # noqa: E402


def ldm_unet(use_checkpoint: bool) -> Any:
    torch.manual_seed(0)
    unet = openaimodel.UNetModel(
        image_size=8, in_channels=4, out_channels=4, model_channels=32, attention_resolutions=[4, 2, 1],
        num_res_blocks=2, channel_mult=[1, 1, 2, 2], num_heads=2, use_spatial_transformer=True, transformer_depth=1,
        context_dim=32, use_checkpoint=use_checkpoint, legacy=False,
    )
    for parameter in unet.parameters():
        if not bool(parameter.any()):  # ldm begins with zeroed last layers, behind which there is no gradient
            torch.nn.init.normal_(parameter, std=0.05)
    return unet.eval().requires_grad_(False)


def gradients(unet: Any, around: Any) -> list[Any]:
    adapter = Adapter.create(
        find_sites(unet, (), Family.SD1, "ldm"), sizes=Size(2, 2), generator=torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(2)
    for parameter in adapter.parameters():
        parameter.data = parameter.data + 0.02 * torch.randn(parameter.shape, generator=generator)
    x, context = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 77, 32, generator=generator)
    with around, adapter.attached():
        unet(x, torch.tensor([10, 900]), context=context).square().mean().backward()
    return [parameter.grad for parameter in adapter.parameters()]


def state(unet: Any) -> list[dict[str, Any]]:
    return [{k: id(v) for k, v in module.__dict__.items()} for module in unet.modules()]


@pytest.mark.parametrize("enabled", [False, True])
def test_every_site_gets_the_right_gradient_and_all_flags_are_back(enabled: bool) -> None:
    wanted = gradients(ldm_unet(use_checkpoint=False), nullcontext())
    assert len(wanted) == 2 * 192
    assert all(float(g.abs().max()) > 0 for g in wanted)
    unet = ldm_unet(use_checkpoint=True)
    before = state(unet)
    found = gradients(unet, gradient_checkpointing([unet], enabled))
    assert state(unet) == before
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)
