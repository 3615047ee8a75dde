"""Peak memory of a training step above the resident weights, by option, and what each option costs in time.

    python -m benchmarks.memory [--json] [--rounds N] [--full] [--rank 16]

The bare step is forward and backward to latents and text states through the same weights without an adapter. The others
are forward, backward and AdamW over a LoRA at the UNet's 192 sites: plain, with gradient checkpointing, with the update
within the backward (fused_backward_pass), and with the adapter in bfloat16 under autocast (full_bf16). Peaks are
counted by torch's profiler from every allocation and release during two steps (`training.meter`), the optimizer's
state among them; what was there before a candidate's first step, the weights and its adapter, is not, so the adapter's
own size is added. Times and peaks are taken in the same rounds. The small sizes are the demo checkpoint's; --full
takes SD1.5's real ones at 256 px, with random weights. float32 on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor, nn

from benchmarks.harness import CLOCKS, Figure, parser, ratios, show
from benchmarks.step import SIZES, Sizes, inputs, make_unet
from lora_lab.families import Family
from lora_lab.network.adapter import Adapter
from lora_lab.network.sites import find_sites
from lora_lab.network.sizes import Size
from lora_lab.training.learning.fused import FusedUpdate
from lora_lab.training.memory.checkpointing import gradient_checkpointing
from lora_lab.training.memory.meter import MIB, peak

NAMES = ("bare", "plain", "gradient_checkpointing", "fused_backward_pass", "full_bf16")


class Candidate:
    """One way to do a step."""

    def __init__(self, name: str, unet: nn.Module, sizes: Sizes, rank: int) -> None:
        self.name = name
        self._unet = unet
        self._inputs = inputs(sizes)
        self.adapter = None
        if name != "bare":
            sites = find_sites(unet, (), Family.SD1, "diffusers")
            generator = torch.Generator().manual_seed(2)
            self.adapter = Adapter.create(sites, sizes=Size(rank, rank), generator=generator)
            for parameter in self.adapter.parameters():
                parameter.data = parameter.data.to(torch.bfloat16 if name == "full_bf16" else torch.float32)
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def own_mb(self) -> float:
        """Size of the adapter."""
        held = self.adapter.parameters() if self.adapter else []
        return sum(p.numel() * p.element_size() for p in held) / MIB

    def forget(self) -> None:
        """The optimizer is new at the next step, so that its state is counted."""
        self._optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=1e-4) if self.adapter else None

    def step(self) -> None:
        """Forward, backward and update."""
        fused = FusedUpdate(self._optimizer) if self.name == "fused_backward_pass" and self._optimizer else None
        with ExitStack() as stack:
            for context in self._contexts():
                stack.enter_context(context)
            with torch.autocast("cpu", torch.bfloat16) if self.name == "full_bf16" else nullcontext():
                loss = self._loss()
            with fused.updating() if fused else nullcontext():
                loss.backward()  # type: ignore[no-untyped-call]
        if self._optimizer is not None and fused is None:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def _contexts(self) -> list[AbstractContextManager[object]]:
        found: list[AbstractContextManager[object]] = []
        if self.name == "gradient_checkpointing":
            found.append(gradient_checkpointing((self._unet,), True))
        if self.adapter is not None:
            found += [self.adapter.attached(), self.adapter.training()]
        return found

    def _loss(self) -> Tensor:
        latents, timesteps, context, target = self._inputs
        latents.grad = context.grad = None
        return nn.functional.mse_loss(self._unet(latents, timesteps, context).sample.float(), target)


def counted(candidate: Candidate) -> float:
    """MiB at the peak of the first two steps, the adapter's own among them."""
    candidate.forget()
    with peak(torch.device("cpu")) as found:
        candidate.step()
        candidate.step()
    return found.mb + candidate.own_mb


def measure(size: str, rank: int, rounds: int, clock: str) -> list[Figure]:
    """Peaks and times of all candidates, in turning order."""
    sizes, now = SIZES[size], CLOCKS[clock]
    unet = make_unet(sizes)
    peaks: dict[str, list[float]] = {name: [] for name in NAMES}
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(rounds):
        first = number % len(NAMES)
        for name in NAMES[first:] + NAMES[:first]:
            candidate = Candidate(name, unet, sizes, rank)
            peaks[name].append(counted(candidate))
            seconds[name].append(timed(candidate.step, now))
    figures = [Figure(f"{size}: peak of the bare step", tuple(peaks["bare"]), "MiB")]
    for name in NAMES[1:]:
        figures.append(Figure(f"{size}: peak of {name} / bare", ratios(peaks[name], peaks["bare"])))
    for name in NAMES[1:]:
        figures.append(Figure(f"{size}: time of {name} / bare", ratios(seconds[name], seconds["bare"])))
    return figures


def timed(act: Callable[[], None], now: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, after those that were counted have warmed it up."""
    began = now()
    act()
    return now() - began


def main() -> int:
    """The command line."""
    options = parser(__doc__ or "", rounds=3)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--full", action="store_true", help="SD1.5's sizes")
    options.add_argument("--rank", type=int, default=16)
    asked = options.parse_args()
    return show("memory", measure("sd15" if asked.full else "demo", asked.rank, asked.rounds, asked.clock), asked.json)


if __name__ == "__main__":
    sys.exit(main())
