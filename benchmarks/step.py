"""One training step with our adapter: against no adapter, and against diffusers + peft.

    python -m benchmarks.step [--json] [--rounds N] [--sizes sd15 demo] [--rank 16]

The bare step is forward and backward through the same activations (latents and text states want a gradient in every
candidate); ours and peft's are forward, backward and AdamW over rank-16 adapters at the same 192 sites of the same
weights. SD1.5's real sizes with random weights, 256 px, batch 1, float32 on the CPU; the demo checkpoint's sizes are
reported beside, without a bar. Peak memory is what the resident size grows by during three steps, each candidate in a
process of its own, every tensor from 64 KiB on being a mapping of its own (glibc's MALLOC_MMAP_THRESHOLD_): so it is
what is alive, and not what the heap's order happened to leave over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Figure, interleave, parser, ratios, show
from lora_lab.families import Family
from lora_lab.network.adapter import Adapter
from lora_lab.network.sites import find_sites
from lora_lab.network.sizes import Size

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
"""peft's names of the 192 layers."""


@dataclass(frozen=True)
class Sizes:
    """A UNet of SD1's shape and what goes through it."""

    widths: tuple[int, ...]
    context: int
    latent: int
    batch: int


SIZES = {
    "sd15": Sizes((320, 640, 1280, 1280), 768, 32, 1),
    "demo": Sizes((64, 128, 128, 128), 96, 8, 6),
}

Step = Callable[[], Tensor]


def make_unet(sizes: Sizes) -> nn.Module:
    """diffusers' UNet with random weights of a sensible size, quickly made."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet: nn.Module = UNet2DConditionModel(
            block_out_channels=sizes.widths, cross_attention_dim=sizes.context, attention_head_dim=8
        )
    unet.to_empty(device="cpu")
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    for parameter in unet.parameters():
        parameter.requires_grad_(False)
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 0
        flat = parameter.data.view(-1)
        for start in range(0, flat.numel(), noise.numel()):
            piece = flat[start : start + noise.numel()]
            piece.copy_(noise[: piece.numel()] / fan_in**0.5 if fan_in else torch.ones_like(piece))
    return unet.eval()


def inputs(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, timesteps, text states, target."""
    g = torch.Generator().manual_seed(1)
    latents = torch.randn(sizes.batch, 4, sizes.latent, sizes.latent, generator=g)
    context = torch.randn(sizes.batch, 77, sizes.context, generator=g)
    target = torch.zeros_like(latents)
    return latents.requires_grad_(), torch.full((sizes.batch,), 500), context.requires_grad_(), target


def make_step(unet: nn.Module, sizes: Sizes, trained: list[nn.Parameter]) -> Step:
    """Forward, backward, and the optimizer if something is trained; answers the loss."""
    latents, timesteps, context, target = inputs(sizes)
    optimizer = torch.optim.AdamW(trained, lr=1e-4) if trained else None

    def step() -> Tensor:
        latents.grad = context.grad = None
        loss = nn.functional.mse_loss(unet(latents, timesteps, context).sample, target)
        loss.backward()  # type: ignore[no-untyped-call]
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def our_step(unet: nn.Module, sizes: Sizes, rank: int) -> Step:
    """A step with our adapter, attached for each step as a turn of training does."""
    sites = find_sites(unet, (), Family.SD1, "diffusers")
    adapter = Adapter.create(sites, sizes=Size(rank, rank), generator=torch.Generator().manual_seed(2))
    step = make_step(unet, sizes, adapter.parameters())

    def attached() -> Tensor:
        with adapter.attached(), adapter.training():
            return step()

    return attached


def peft_step(unet: Any, sizes: Sizes, rank: int) -> Step:  # noqa: ANN401 - diffusers' class
    """A step with peft's LoRA at the same sites; changes `unet`."""
    from peft import LoraConfig

    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights=True))
    return make_step(unet, sizes, [p for p in unet.parameters() if p.requires_grad])


def share(unet: Any, sizes: Sizes) -> nn.Module:  # noqa: ANN401 - diffusers' class
    """A second UNet of the very same weights, so that peft can change its modules."""
    with torch.device("meta"):
        other: nn.Module = type(unet)(**dict(unet.config))
    other.load_state_dict(unet.state_dict(), assign=True)
    return other.requires_grad_(False).eval()


def measure_times(name: str, rank: int, rounds: int, clock: str) -> list[Figure]:
    """Seconds and ratios of the three candidates."""
    sizes = SIZES[name]
    unet = make_unet(sizes)
    ours = our_step(unet, sizes, rank)
    theirs = peft_step(share(unet, sizes), sizes, rank)
    candidates = {"bare": make_step(unet, sizes, []), "ours": ours, "peft": theirs}
    seconds = interleave(rounds, candidates, clock=clock)
    bar, peers = (1.20, 1.0) if name == "sd15" else (None, None)
    return [
        Figure(f"{name}: bare forward and backward", tuple(seconds["bare"]), "s"),
        Figure(f"{name}: step of ours / bare", ratios(seconds["ours"], seconds["bare"]), at_most=bar),
        Figure(f"{name}: step of peft / bare", ratios(seconds["peft"], seconds["bare"])),
        Figure(f"{name}: step of ours / of peft", ratios(seconds["ours"], seconds["peft"]), at_most=peers),
    ]


def grown(candidate: str, name: str, rank: int) -> float:
    """MiB by which this process grew over its size before three steps of a candidate; call it once in a process."""
    import resource

    sizes = SIZES[name]
    unet = make_unet(sizes)
    step = our_step(unet, sizes, rank) if candidate == "ours" else peft_step(unet, sizes, rank)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def measure_memory(name: str, rank: int, rounds: int) -> list[Figure]:
    """The peak of ours against peft's; needs Linux."""
    if not sys.platform.startswith("linux"):
        return []
    peaks: dict[str, list[float]] = {"ours": [], "peft": []}
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(64 * 1024)}
    for _ in range(rounds):
        for candidate, values in peaks.items():
            command = [sys.executable, "-m", "benchmarks.step", "--grown", candidate, "--sizes", name]
            command += ["--rank", str(rank)]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment)
            values.append(float(json.loads(done.stdout.splitlines()[-1])))
    bar = 1.0 if name == "sd15" else None
    return [
        Figure(f"{name}: peak of a step of ours", tuple(peaks["ours"]), "MiB"),
        Figure(f"{name}: peak of ours / of peft", ratios(peaks["ours"], peaks["peft"]), at_most=bar),
    ]


def main() -> int:
    """The command line."""
    options = parser(__doc__ or "", rounds=5)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    options.add_argument("--rank", type=int, default=16)
    options.add_argument("--grown", choices=["ours", "peft"], help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.grown:
        print(json.dumps(grown(asked.grown, asked.sizes[0], asked.rank)))
        return 0
    figures = [
        figure
        for name in asked.sizes
        for figure in (
            *measure_times(name, asked.rank, asked.rounds, asked.clock),
            *measure_memory(name, asked.rank, min(3, asked.rounds)),
        )
    ]
    return show("step", figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
