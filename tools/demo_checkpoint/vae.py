"""Train the demo checkpoint's VAE: vae.py SCRATCH MINUTES

f8, four channels, every width a multiple of 32 (ldm's group norms), attention in its middle. L1, a perceptual term from the
demo tagger's features once `tagger.pt` is there, a very small KL term. Once `latents.pt` is there only the decoder learns:
the UNet has learnt on what the encoder gave.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from tagger import TAGS, Tagger
from torch.nn import functional as F  # noqa: N812
from world_data import pictures


def fresh() -> AutoencoderKL:
    """Random weights; ldm's ddconfig for it: ch 32, ch_mult [1, 1, 2, 4], num_res_blocks 1."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 64, 128), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=32,
    )  # fmt: skip


def critic(scratch: Path) -> Tagger | None:
    """The tagger as it is by now, frozen."""
    if not (scratch / "tagger.pt").is_file():
        return None
    net = Tagger(len(TAGS)).eval().requires_grad_(False)
    net.load_state_dict(torch.load(scratch / "tagger.pt"))
    return net


def main() -> None:
    scratch, minutes = Path(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    pixels = torch.from_numpy(pictures(scratch, "base", 24000).pixels)
    vae = torch.load(scratch / "vae.pt", weights_only=False) if (scratch / "vae.pt").is_file() else fresh()
    vae.train()
    if frozen := (scratch / "latents.pt").is_file():
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    print(sum(p.numel() for p in vae.parameters()) / 1e6, "M parameters")
    optimizer = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad], 2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    judge, started, step = critic(scratch), time.time(), 0
    while (share := (time.time() - started) / (60 * minutes)) < 1:
        rate = 1.0e-3 * min(1, (step + 20) / 60) * (1 - share) ** 0.7 + 2e-5
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = pixels[torch.randint(0, len(pixels), (8,))].permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.set_grad_enabled(not frozen):
            latent = vae.encode(x).latent_dist
        y = vae.decode(latent.sample()).sample
        loss = F.l1_loss(y, x) + 0.5 * F.mse_loss(y, x) + 2e-6 * latent.kl().mean() / 256
        for side in (4, 8):  # colours of whole regions come late by themselves
            loss = loss + 2 * F.mse_loss(F.avg_pool2d(y, side), F.avg_pool2d(x, side))
        if judge is not None:
            with torch.no_grad():
                wanted = judge.features(x)
            loss = loss + 0.15 * sum(F.l1_loss(a, b) for a, b in zip(judge.features(y), wanted, strict=True))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(step, f"loss {loss.item():.4f} l1 {F.l1_loss(y, x).item():.4f} std {latent.mean.std().item():.2f} {time.time() - started:.0f}s", flush=True)
            torch.save(vae, scratch / "vae.part")
            (scratch / "vae.part").replace(scratch / "vae.pt")
            judge = critic(scratch) or judge
    torch.save(vae, scratch / "vae.pt")


if __name__ == "__main__":
    main()
