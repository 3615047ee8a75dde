"""Train the demo checkpoint's UNet from nothing: unet.py SCRATCH MINUTES [THREADS]

Needs `vae.pt` and `text.pt` in the scratch folder; goes on from `unet.pt` if that is there. Latents and text states are
computed once; eps-prediction, min-SNR weighting (arXiv 2303.09556, gamma 5), moving average of the weights in `ema`.
"""

from __future__ import annotations

import math
import random
import sys
import time
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from text import PLACES, WIDTH, Speller
from torch import Tensor
from world_data import TAGS, pictures

COUNT = 12000
VARIANTS = 2
BATCH = 32
SCALE = 0.18215


def fresh() -> UNet2DConditionModel:
    """Random weights; in ldm's words model_channels 64, channel_mult [1, 2, 2, 2], num_heads 8."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(64, 128, 128, 128), layers_per_block=2,
        cross_attention_dim=WIDTH, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip


@torch.no_grad()
def latents(scratch: Path) -> Tensor:
    """Means of all pictures' latents (n, 4, 8, 8), divided by their standard deviation, which is kept in `spread.pt`."""
    file = scratch / "latents.pt"
    if not file.is_file():
        vae = torch.load(scratch / "vae.pt", weights_only=False).eval()
        pixels = torch.from_numpy(pictures(scratch, "base", COUNT).pixels)
        parts = [vae.encode(p.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean for p in pixels.split(100)]
        found = torch.cat(parts)
        torch.save({"latents": found / found.std(), "spread": found.std()}, file)
    return torch.load(file)["latents"]


@torch.no_grad()
def text_states(scratch: Path) -> Tensor:
    """Half precision states (VARIANTS, n, PLACES, WIDTH) of random subsets of each picture's tags; some captions are empty."""
    file = scratch / "states.pt"
    if not file.is_file():
        model = torch.load(scratch / "text.pt", weights_only=False).eval()
        speller, r = Speller(scratch / "clip"), random.Random(1)
        truth = pictures(scratch, "base", COUNT).truth
        out = torch.empty(VARIANTS, COUNT, PLACES, WIDTH, dtype=torch.float16)
        for variant in range(VARIANTS):
            for i in range(0, COUNT, 200):
                rows = [speller.caption(subset([TAGS[j] for j in row.nonzero()[0]], r))[0] for row in truth[i : i + 200]]
                out[variant, i : i + 200] = model(input_ids=torch.tensor(rows)).last_hidden_state.half()
        torch.save(out, file)
    return torch.load(file)


def subset(tags: list[str], r: random.Random) -> list[str]:
    """A shuffled part of the tags: all, four to nine of them, or (one in nine) none, for guidance without a prompt."""
    r.shuffle(tags)
    kind = r.random()
    if kind < 0.11:
        return []
    return tags if kind < 0.4 else tags[: r.randint(4, 9)]


def padding(batch: int) -> Tensor:
    """(batch, PLACES), a mask whose last position stands for all the padding behind it.

    diffusers turns a mask m into a bias of (1 - m) * -10000 on the attention's logits: the logarithm of their number counts the
    last padding as often as it comes in the 77 positions. Same numbers, a tenth less time.
    """
    mask = torch.ones(batch, PLACES)
    mask[:, -1] = 1 + math.log(77 - PLACES + 1) / 10000
    return mask


def main() -> None:
    scratch, minutes = Path(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    z, states = latents(scratch), text_states(scratch)
    print("latents and states are there", flush=True)
    unet, ema = fresh().train(), fresh().requires_grad_(False)
    done = 0
    if (scratch / "unet.pt").is_file():
        kept = torch.load(scratch / "unet.pt")
        unet.load_state_dict(kept["unet"])
        ema.load_state_dict(kept["ema"])
        done = kept["steps"]
    else:
        ema.load_state_dict(unet.state_dict())
    noise = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
    snr = noise.alphas_cumprod / (1 - noise.alphas_cumprod)
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    started, saved, mean, mask = time.time(), time.time(), 0.0, padding(BATCH)
    while (share := (time.time() - started) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (done + 1) / 150) * min(1, 1.6 * (1 - share)) + 1e-5
        rows = torch.randint(0, COUNT, (BATCH,))
        x, t, e = z[rows], torch.randint(0, 1000, (BATCH,)), torch.randn(BATCH, 4, 8, 8)
        text = states[done % VARIANTS, rows].float()
        out = unet(noise.add_noise(x, e, t), t, text, encoder_attention_mask=mask).sample
        weight = snr[t].clamp(max=5) / snr[t]
        loss = ((out - e).pow(2).mean((1, 2, 3)) * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        done += 1
        decay = min(0.999, (1 + done) / (10 + done))
        torch._foreach_lerp_(list(ema.parameters()), list(unet.parameters()), 1 - decay)
        mean = 0.99 * mean + 0.01 * loss.item() if done > 1 else loss.item()
        if done % 50 == 0:
            print(done, f"loss {mean:.4f} {time.time() - started:.0f}s", flush=True)
        if time.time() - saved > 120 or share > 0.999:
            save(scratch, unet, ema, done)
            saved = time.time()
    save(scratch, unet, ema, done)


def save(scratch: Path, unet: UNet2DConditionModel, ema: UNet2DConditionModel, done: int) -> None:
    torch.save({"unet": unet.state_dict(), "ema": ema.state_dict(), "steps": done}, scratch / "unet.part")
    (scratch / "unet.part").replace(scratch / "unet.pt")


if __name__ == "__main__":
    main()
