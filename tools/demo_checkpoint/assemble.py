"""Put the trained parts together: assemble.py SCRATCH OUT

Writes OUT/demo.safetensors (float16, ldm's key layout), OUT/demo.yaml, OUT/clip and OUT/tagger. The VAE's latents are scaled so
that SD1's factor 0.18215 gives them the spread that the UNet was trained with. Needs ldm's classes only for the names of their
weights (stable-diffusion-sdkit carries them).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
import yaml
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from ldm.modules.diffusionmodules.model import Decoder, Encoder
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from safetensors.torch import save_file
from torch import Tensor, nn
from unet import SCALE, fresh
from vae import fresh as fresh_vae

UNET = {
    "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 64, "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2, "channel_mult": [1, 2, 2, 2], "num_heads": 8, "use_spatial_transformer": True,
    "transformer_depth": 1, "context_dim": 96, "use_checkpoint": True, "legacy": False,
}  # fmt: skip
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1, 2, 4],
    "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


def config() -> dict[str, object]:
    """The yaml of the checkpoint, SD1's with other widths."""
    identity = {"target": "torch.nn.Identity"}
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": {
        "linear_start": 0.00085, "linear_end": 0.012, "num_timesteps_cond": 1, "log_every_t": 200, "timesteps": 1000,
        "first_stage_key": "jpg", "cond_stage_key": "txt", "image_size": 8, "channels": 4, "cond_stage_trainable": False,
        "conditioning_key": "crossattn", "monitor": "val/loss_simple_ema", "scale_factor": SCALE, "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": UNET},
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": {
            "embed_dim": 4, "monitor": "val/rec_loss", "ddconfig": VAE, "lossconfig": identity}},
        "cond_stage_config": {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder", "params": {"version": "clip"}},
    }}}  # fmt: skip


class LdmVae(nn.Module):
    """Names and shapes of ldm's AutoencoderKL."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(**VAE), Decoder(**VAE)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)


def numbered(module: nn.Module) -> dict[str, Tensor]:
    """Each weight replaced by numbers that are nowhere else, so that a converter tells where it puts them."""
    out, start = {}, 0
    for name, tensor in module.state_dict().items():
        out[name] = torch.arange(start, start + tensor.numel(), dtype=torch.float64).view(tensor.shape)
        start += tensor.numel()
    return out


def back(ldm: nn.Module, converted: dict[str, Tensor], trained: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights in diffusers' names to ldm's, by following `numbered` through diffusers' own converter."""
    flat = torch.empty(sum(t.numel() for t in ldm.state_dict().values()))
    seen = 0
    for name, places in converted.items():
        flat[places.flatten().long()] = trained[name].float().flatten()
        seen += places.numel()
    assert seen == flat.numel(), (seen, flat.numel())
    out, start = {}, 0
    for name, tensor in ldm.state_dict().items():
        out[prefix + name] = flat[start : start + tensor.numel()].view(tensor.shape).half().contiguous()
        start += tensor.numel()
    return out


@torch.no_grad()
def scaled_vae(scratch: Path) -> dict[str, Tensor]:
    """The VAE whose latents, times SD1's factor, are those that the UNet knows."""
    vae = torch.load(scratch / "vae.pt", weights_only=False).eval()
    spread = float(torch.load(scratch / "latents.pt")["spread"]) if (scratch / "latents.pt").is_file() else 1.0
    factor = 1 / (spread * SCALE)
    vae.quant_conv.weight[:4] *= factor
    vae.quant_conv.bias[:4] *= factor
    # The other four channels are log variances.
    vae.quant_conv.bias[4:] += 2 * torch.log(torch.tensor(factor))
    vae.post_quant_conv.weight /= factor
    return dict(vae.state_dict())


def text_weights(scratch: Path) -> dict[str, Tensor]:
    model = torch.load(scratch / "text.pt", weights_only=False)
    weights = {}
    for name, tensor in model.state_dict().items():
        if "position_ids" in name:
            continue
        weights["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = tensor.half().contiguous()
    return weights


def main() -> None:
    scratch, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    unet = torch.load(scratch / "unet.pt")["ema"] if (scratch / "unet.pt").is_file() else fresh().state_dict()
    ldm_unet, ldm_vae = UNetModel(**UNET), LdmVae()
    named = {"model.diffusion_model." + k: v for k, v in numbered(ldm_unet).items()}
    weights = back(ldm_unet, convert_ldm_unet_checkpoint(named, dict(fresh().config)), unet, "model.diffusion_model.")
    named = {"first_stage_model." + k: v for k, v in numbered(ldm_vae).items()}
    weights |= back(ldm_vae, convert_ldm_vae_checkpoint(named, dict(fresh_vae().config)), scaled_vae(scratch), "first_stage_model.")
    weights |= text_weights(scratch)
    part = out / "demo.part"
    save_file(weights, str(part), {"modelspec.title": "LoRA Lab demo", "modelspec.architecture": "stable-diffusion-v1"})
    part.replace(out / "demo.safetensors")
    (out / "demo.yaml").write_text(yaml.safe_dump(config()), encoding="utf-8")
    shutil.copytree(scratch / "clip", out / "clip", dirs_exist_ok=True)
    if (scratch / "tagger").is_dir():  # `disassemble.py` has none
        shutil.copytree(scratch / "tagger", out / "tagger", dirs_exist_ok=True)
    total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{total / 1e6:.2f} MB, {sum(t.numel() for t in weights.values()) / 1e6:.1f} M numbers")


if __name__ == "__main__":
    main()
