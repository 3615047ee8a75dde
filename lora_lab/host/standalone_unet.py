"""A checkpoint file's UNet and VAE, built as diffusers' from its keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family
from lora_lab.host.headers import UNET

VAE = "first_stage_model."
STOCK_WIDTH = 320
"""Of the first level of every family's full-size UNet."""


def heads(weights: Mapping[str, Tensor], config: Mapping[str, Any], family: Family, path: Path) -> tuple[int, ...]:
    """Heads of each level's attention: shapes do not show them, so another width than the full one needs its yaml.

    Args:
        weights: of the file.
        config: the yaml's parameters of the UNet, maybe empty.
        family: SD1 has eight everywhere, the others 64 channels a head.
        path: for the error.

    Raises:
        CheckpointError: nothing tells them.
    """
    widths = _widths(weights)
    count, channels = config.get("num_heads"), config.get("num_head_channels")
    if not _told(count) and not _told(channels):
        first = weights.get(UNET + "input_blocks.0.0.weight")
        if first is not None and first.shape[0] != STOCK_WIDTH:
            what = f"its UNet is {first.shape[0]} channels wide where the full size has {STOCK_WIDTH}, and no yaml "
            what += "tells its heads"
            raise CheckpointError(what, file=path, remedy="put its yaml beside it, under the same name")
        count, channels = (8, None) if family is Family.SD1 else (None, 64)
    if _told(channels):
        return tuple(width // int(channels) for width in widths)  # type: ignore[arg-type]
    return (int(count),) * len(widths)  # type: ignore[arg-type]


def _told(number: object) -> bool:
    return isinstance(number, int) and number > 0


def _widths(weights: Mapping[str, Tensor]) -> list[int]:
    levels = 1 + sum(bool(re.fullmatch(UNET + r"input_blocks\.\d+\.0\.op\.weight", key)) for key in weights)
    return [weights[f"{UNET}input_blocks.{3 * i + 1}.0.out_layers.3.weight"].shape[0] for i in range(levels)]


def build_unet(weights: Mapping[str, Tensor], heads_of: tuple[int, ...], family: Family) -> nn.Module:
    """diffusers' UNet with the file's weights in float32."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    widths = _widths(weights)
    depths = [_depth(weights, 3 * i + 1) for i in range(len(widths))]
    first = next(3 * i + 1 for i, depth in enumerate(depths) if depth)
    block = f"{UNET}input_blocks.{first}.1."
    more: dict[str, Any] = {}
    if UNET + "label_emb.0.0.weight" in weights:
        told = weights[UNET + "label_emb.0.0.weight"].shape[1]
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": told}  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=64, in_channels=4, out_channels=4, block_out_channels=tuple(widths), layers_per_block=2,
        cross_attention_dim=weights[block + "transformer_blocks.0.attn2.to_k.weight"].shape[1],
        attention_head_dim=heads_of, transformer_layers_per_block=tuple(max(1, depth) for depth in depths),
        use_linear_projection=weights[block + "proj_in.weight"].dim() == 2, upcast_attention=family is Family.SD2,
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)), **more,
    )  # fmt: skip
    part = {key: tensor.float() for key, tensor in weights.items() if key.startswith(UNET)}
    unet.load_state_dict(convert_ldm_unet_checkpoint(part, dict(unet.config)))
    module: nn.Module = unet
    return module


def _depth(weights: Mapping[str, Tensor], block: int) -> int:
    """Transformer blocks of an input block, 0 for one without attention."""
    pattern = re.compile(UNET + rf"input_blocks\.{block}\.1\.transformer_blocks\.(\d+)\.")
    return len({found[1] for key in weights if (found := pattern.match(key))})


def build_vae(weights: Mapping[str, Tensor]) -> nn.Module:
    """diffusers' VAE with the file's weights in float32."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = {int(m[1]) for key in weights if (m := re.match(VAE + r"encoder\.down\.(\d+)\.block", key))}
    layers = {int(m[1]) for key in weights if (m := re.match(VAE + r"encoder\.down\.0\.block\.(\d+)", key))}
    last = max(layers)
    widths = [weights[f"{VAE}encoder.down.{i}.block.{last}.conv2.weight"].shape[0] for i in sorted(levels)]
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=tuple(widths), layers_per_block=last + 1,
        down_block_types=("DownEncoderBlock2D",) * len(widths), up_block_types=("UpDecoderBlock2D",) * len(widths),
    )  # fmt: skip
    part = {key: tensor.float() for key, tensor in weights.items() if key.startswith(VAE)}
    vae.load_state_dict(convert_ldm_vae_checkpoint(part, dict(vae.config)))
    module: nn.Module = vae
    return module
