"""Small checkpoints and adapters with the real names of every family, for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from lora_lab.families import Family
from lora_lab.network.header import spec_of
from lora_lab.surgery import places

WIDTH, CONTEXT = 8, 12


def _linear(state: dict[str, Tensor], path: str, out: int, width: int, g: torch.Generator, bias: bool = True) -> None:
    state[f"{path}.weight"] = 0.1 * torch.randn(out, width, generator=g)
    if bias:
        state[f"{path}.bias"] = 0.1 * torch.randn(out, generator=g)


def _conv(state: dict[str, Tensor], path: str, out: int, width: int, k: int, g: torch.Generator) -> None:
    state[f"{path}.weight"] = 0.1 * torch.randn(out, width, k, k, generator=g)
    state[f"{path}.bias"] = 0.1 * torch.randn(out, generator=g)


def _norm(state: dict[str, Tensor], path: str, width: int, g: torch.Generator) -> None:
    state[f"{path}.weight"] = 1 + 0.1 * torch.randn(width, generator=g)
    state[f"{path}.bias"] = 0.1 * torch.randn(width, generator=g)


def _resnet(state: dict[str, Tensor], path: str, width: int, out: int, g: torch.Generator) -> None:
    _norm(state, f"{path}.in_layers.0", width, g)
    _conv(state, f"{path}.in_layers.2", out, width, 3, g)
    _linear(state, f"{path}.emb_layers.1", out, 4 * WIDTH, g)
    _norm(state, f"{path}.out_layers.0", out, g)
    _conv(state, f"{path}.out_layers.3", out, out, 3, g)
    if width != out:
        _conv(state, f"{path}.skip_connection", out, width, 1, g)


def _transformer(state: dict[str, Tensor], path: str, w: int, depth: int, flat: bool, g: torch.Generator) -> None:
    _norm(state, f"{path}.norm", w, g)
    for name in ("proj_in", "proj_out"):
        _linear(state, f"{path}.{name}", w, w, g) if flat else _conv(state, f"{path}.{name}", w, w, 1, g)
    for n in range(depth):
        block = f"{path}.transformer_blocks.{n}"
        for attn, context in (("attn1", w), ("attn2", CONTEXT)):
            for name, width in (("to_q", w), ("to_k", context), ("to_v", context)):
                _linear(state, f"{block}.{attn}.{name}", w, width, g, bias=False)
            _linear(state, f"{block}.{attn}.to_out.0", w, w, g)
        _linear(state, f"{block}.ff.net.0.proj", 8 * w, w, g)
        _linear(state, f"{block}.ff.net.2", w, 4 * w, g)
        for n_norm in (1, 2, 3):
            _norm(state, f"{block}.norm{n_norm}", w, g)


def _unet(family: Family, channels: int, g: torch.Generator) -> dict[str, Tensor]:
    """A UNet of one width in ldm's layout, with SDXL's depths 0, 1, 2 in the place of 0, 2, 10."""
    depths = (0, 1, 2) if family is Family.SDXL else (1, 1, 1, 0)
    flat, top = family is not Family.SD1, len(depths) - 1
    state: dict[str, Tensor] = {}
    _conv(state, "input_blocks.0.0", WIDTH, channels, 3, g)
    _linear(state, "time_embed.0", 4 * WIDTH, WIDTH, g)
    _linear(state, "time_embed.2", 4 * WIDTH, 4 * WIDTH, g)
    for level, depth in enumerate(depths):
        for j in range(2):
            path = f"input_blocks.{3 * level + j + 1}"
            _resnet(state, f"{path}.0", WIDTH, WIDTH, g)
            if depth:
                _transformer(state, f"{path}.1", WIDTH, depth, flat, g)
        if level < top:
            _conv(state, f"input_blocks.{3 * level + 3}.0.op", WIDTH, WIDTH, 3, g)
    _resnet(state, "middle_block.0", WIDTH, WIDTH, g)
    _transformer(state, "middle_block.1", WIDTH, max(depths[-1], 1), flat, g)
    _resnet(state, "middle_block.2", WIDTH, WIDTH, g)
    for level, depth in enumerate(reversed(depths)):
        for j in range(3):
            path = f"output_blocks.{3 * level + j}"
            _resnet(state, f"{path}.0", 2 * WIDTH, WIDTH, g)
            if depth:
                _transformer(state, f"{path}.1", WIDTH, depth, flat, g)
        if level < top:
            _conv(state, f"output_blocks.{3 * level + 2}.{2 if depth else 1}.conv", WIDTH, WIDTH, 3, g)
    _norm(state, "out.0", WIDTH, g)
    _conv(state, "out.2", 4, WIDTH, 3, g)
    return {f"model.diffusion_model.{key}": tensor for key, tensor in state.items()}


def _clip(prefix: str, layers: int, g: torch.Generator) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {"embeddings.token_embedding.weight": torch.randn(20, CONTEXT, generator=g)}
    for n in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _linear(state, f"encoder.layers.{n}.self_attn.{name}", CONTEXT, CONTEXT, g)
        _linear(state, f"encoder.layers.{n}.mlp.fc1", 4 * CONTEXT, CONTEXT, g)
        _linear(state, f"encoder.layers.{n}.mlp.fc2", CONTEXT, 4 * CONTEXT, g)
        _norm(state, f"encoder.layers.{n}.layer_norm1", CONTEXT, g)
        _norm(state, f"encoder.layers.{n}.layer_norm2", CONTEXT, g)
    return {f"{prefix}text_model.{key}": tensor for key, tensor in state.items()}


def _openclip(prefix: str, layers: int, g: torch.Generator) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for n in range(layers):
        path = f"transformer.resblocks.{n}"
        state[f"{path}.attn.in_proj_weight"] = 0.1 * torch.randn(3 * CONTEXT, CONTEXT, generator=g)
        state[f"{path}.attn.in_proj_bias"] = 0.1 * torch.randn(3 * CONTEXT, generator=g)
        _linear(state, f"{path}.attn.out_proj", CONTEXT, CONTEXT, g)
        _linear(state, f"{path}.mlp.c_fc", 4 * CONTEXT, CONTEXT, g)
        _linear(state, f"{path}.mlp.c_proj", CONTEXT, 4 * CONTEXT, g)
        _norm(state, f"{path}.ln_1", CONTEXT, g)
        _norm(state, f"{path}.ln_2", CONTEXT, g)
    return {f"{prefix}model.{key}": tensor for key, tensor in state.items()}


def checkpoint(family: Family, seed: int = 0, channels: int = 4) -> dict[str, Tensor]:
    """A random checkpoint in the original layout, float32."""
    g = torch.Generator().manual_seed(seed)
    state = _unet(family, channels, g)
    if family is Family.SD1:
        state |= _clip("cond_stage_model.transformer.", 2, g)
    elif family is Family.SD2:
        state |= _openclip("cond_stage_model.", 3, g)
    else:
        state |= _clip("conditioner.embedders.0.transformer.", 2, g)
        state |= _openclip("conditioner.embedders.1.", 2, g)
    _conv(state, "first_stage_model.decoder.conv_in", WIDTH, 4, 3, g)
    state["alphas_cumprod"] = torch.linspace(1, 0, 10)
    return state


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file, by the library."""
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
    return path


def load(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, by the library."""
    return safetensors.torch.load_file(path)


def site_shapes(state: dict[str, Tensor], family: Family, conv: bool = False) -> dict[str, tuple[int, ...]]:
    """The layers that a LoRA has sites at, with the shapes of their weights."""
    found = places.places({k: spec_of(v) for k, v in state.items()}, family)
    take = [s for s in found if places.is_lierla(s) or (conv and places.is_resnet_or_sampler(s))]
    return {site: found[site].shape for site in take if len(found[site].shape) > 1}


def lora(
    state: dict[str, Tensor], family: Family, rank: int, *, seed: int = 1, conv: bool = False, size: float = 0.05
) -> dict[str, Tensor]:
    """A random LoRA (or LoCon) for a checkpoint, alpha half the rank."""
    g = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for site, shape in site_shapes(state, family, conv).items():
        ones = (1,) * (len(shape) - 2)
        tensors[f"{site}.lora_up.weight"] = size * torch.randn(shape[0], rank, *ones, generator=g)
        tensors[f"{site}.lora_down.weight"] = torch.randn(rank, *shape[1:], generator=g)
        tensors[f"{site}.alpha"] = torch.tensor(rank / 2)
    return tensors


def dense(tensors: dict[str, Tensor], site: str) -> Tensor:
    """A LoRA site's delta in the plainest way, flat."""
    up, down = tensors[f"{site}.lora_up.weight"].double(), tensors[f"{site}.lora_down.weight"].double()
    alpha = tensors.get(f"{site}.alpha")
    scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
    return scale * up.flatten(1) @ down.flatten(1)


def sites(tensors: dict[str, Tensor]) -> set[str]:
    """The names of the sites in a file."""
    return {key.split(".")[0] for key in tensors}
