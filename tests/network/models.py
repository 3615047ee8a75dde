"""Small real models of SD1's shape: the same weights in both layouts, and a text encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_lab.families import Family, Layout
from lora_lab.network.adapter import Adapter
from lora_lab.network.sites import Site, find_sites
from lora_lab.network.sizes import Size

WIDTHS = (32, 64, 64, 64)
CONTEXT = 24
LATENT = 16
"""At 8 the deepest level is one pixel, where group norm of two numbers makes every comparison rounding."""


def diffusers_unet() -> Any:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=WIDTHS, attention_head_dim=4, cross_attention_dim=CONTEXT, sample_size=LATENT
    )
    return unet.requires_grad_(False).eval()


def ldm_unet() -> nn.Module:
    reason = "stable-diffusion-sdkit is not installed"
    ldm = pytest.importorskip("ldm.modules.diffusionmodules.openaimodel", reason=reason)
    torch.manual_seed(0)
    unet: nn.Module = ldm.UNetModel(
        image_size=LATENT,
        in_channels=4,
        out_channels=4,
        model_channels=WIDTHS[0],
        channel_mult=[w // WIDTHS[0] for w in WIDTHS],
        attention_resolutions=[4, 2, 1],
        num_res_blocks=2,
        num_heads=4,
        use_spatial_transformer=True,
        transformer_depth=1,
        context_dim=CONTEXT,
        use_checkpoint=False,
        legacy=False,
    )
    g = torch.Generator().manual_seed(3)
    for parameter in unet.parameters():  # ldm begins with zeros in every output
        if parameter.dim() > 1:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5, generator=g)
        parameter.requires_grad_(False)
    return unet.eval()


def text_encoder(layers: int = 12) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        hidden_size=CONTEXT,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        vocab_size=64,
        bos_token_id=62,
        eos_token_id=63,
        pad_token_id=63,
    )
    encoder: nn.Module = transformers.CLIPTextModel(config)
    return encoder.requires_grad_(False).eval()


@dataclass
class World:
    """A live model in one layout, and how to call it."""

    layout: Layout
    unet: nn.Module
    encoder: nn.Module
    call: Callable[[Tensor, Tensor, Tensor], Tensor]

    def sites(self, **options: Any) -> tuple[Site, ...]:
        return find_sites(self.unet, (self.encoder,), Family.SD1, self.layout, **options)

    def adapter(self, dim: int = 4, alpha: float = 3.0, seed: int = 5, up: float = 0.05, **options: Any) -> Adapter:
        """One whose deltas are not zero."""
        generator = torch.Generator().manual_seed(seed)
        adapter = Adapter.create(self.sites(**options), sizes=Size(dim, alpha), generator=generator)
        for piece in adapter.pieces:
            piece.parameters[1].data.normal_(0, up, generator=generator)
        return adapter

    def predict(self, batch: int = 2) -> Tensor:
        return self.call(*inputs(batch))

    def encode(self, batch: int = 2) -> Tensor:
        """Last states of the text encoder."""
        states: Tensor = self.encoder(tokens(batch)).last_hidden_state
        return states


def inputs(batch: int = 2, grad: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps, text states; each sample another."""
    g = torch.Generator().manual_seed(7)
    latents = torch.randn(batch, 4, LATENT, LATENT, generator=g).requires_grad_(grad)
    context = torch.randn(batch, 7, CONTEXT, generator=g).requires_grad_(grad)
    return latents, torch.tensor([37, 411, 650, 900] * batch)[:batch], context


def tokens(batch: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(8)
    return torch.randint(0, 62, (batch, 77), generator=g)


def make_world(layout: Layout) -> World:
    """Both layouts have the same weights: diffusers' own converter maps ldm's."""
    if layout == "ldm":
        live = ldm_unet()
        return World("ldm", live, text_encoder(), lambda x, t, c: live(x, timesteps=t, context=c))
    unet = diffusers_unet()
    return World("diffusers", unet, text_encoder(), lambda x, t, c: unet(x, t, c).sample)


def same_weights(diffusers_model: Any, ldm_model: nn.Module) -> None:
    """Load ldm's weights into diffusers' module by diffusers' own mapping."""
    convert = pytest.importorskip("diffusers.loaders.single_file_utils").convert_ldm_unet_checkpoint
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in ldm_model.state_dict().items()}
    config = {**diffusers_model.config, "layers_per_block": 2}
    diffusers_model.load_state_dict(convert(state, config=config))
