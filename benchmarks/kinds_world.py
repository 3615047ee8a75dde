"""SD1.5's real sizes with random weights that all candidates of `benchmarks.kinds` share through one file on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LATENT = 32
"""A picture of 256 px."""


@dataclass(frozen=True)
class Inputs:
    """What goes through UNet and text encoder."""

    ids: Tensor
    """(b, 77) token numbers."""
    latents: Tensor
    """(b, 4, 32, 32)"""
    timesteps: Tensor
    """(b,)"""
    target: Tensor
    """(b, 4, 32, 32)"""


def make_inputs(batch: int) -> Inputs:
    """The same for every candidate."""
    g = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, LATENT, LATENT, generator=g)
    ids = torch.randint(0, 49406, (batch, 77), generator=g)
    return Inputs(ids, latents, torch.full((batch,), 500), torch.zeros_like(latents))


def text_config() -> dict[str, Any]:
    """SD1's text encoder."""
    return {
        "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 768,
    }  # fmt: skip


def write_weights(path: Path) -> None:
    """Enough random numbers (float32, about 4 GB) for both networks: small ones, so that nothing explodes."""
    block = (torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)) * 0.02).numpy().tobytes()
    with path.open("wb") as file:
        for _ in range((1 << 30) // (1 << 22)):
            file.write(block)


def give_weights(path: Path, *networks: nn.Module) -> None:
    """Lay the parameters of `networks` (made on the meta device) over the file, one behind the other, and touch them.

    The pages are shared by all candidates, and are there before anything is measured.
    """
    numbers = path.stat().st_size // 4
    flat = torch.from_file(str(path), shared=False, size=numbers, dtype=torch.float32)
    at = 0
    for network in networks:
        for module in network.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is None:
                    continue
                count = parameter.numel()
                piece = flat[at : at + count].view(parameter.shape)
                at += count
                if parameter.dim() == 1 and name == "weight":
                    piece = torch.ones(count)  # of a norm
                piece.sum()
                module._parameters[name] = nn.Parameter(piece, requires_grad=False)
            for name, buffer in list(module._buffers.items()):
                if buffer is not None and buffer.is_meta:
                    module._buffers[name] = torch.arange(buffer.numel()).view(buffer.shape)  # position ids
        network.eval()
