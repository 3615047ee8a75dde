"""A LoRA's training step and the bare step in one process, in turn, at SD1.5's sizes: nearer than `benchmarks.kinds`.

    OMP_NUM_THREADS=1 python -m benchmarks.kinds_pair --clock cpu [--kind lora] [--rounds 15] [--scratch FOLDER]

The same weights, inputs and steps as there; both have the same heap, so chance in what the system takes back and clears
again falls on both. With GLIBC_TUNABLES=glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184
it takes nothing back: what is left is arithmetic.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness import CLOCKS, Figure, parser, ratios, show
from benchmarks.kinds import BARS
from benchmarks.kinds_step import make_networks, ours, stepper
from benchmarks.kinds_world import make_inputs, write_weights


def bare(unet: nn.Module, text: nn.Module) -> Callable[[], None]:
    """As `kinds_step.bare`, but what it puts on the networks is there for its step only."""
    inputs = make_inputs(1)
    inputs.latents.requires_grad_()
    step = stepper(unet, text, inputs, ())
    embeddings = next(m for n, m in text.named_modules() if n.endswith("embeddings"))

    def wants_gradient(module: nn.Module, given: object, output: Tensor) -> Tensor:
        return output.detach().requires_grad_()

    def stepped() -> None:
        hook = embeddings.register_forward_hook(wants_gradient)
        try:
            step()
        finally:
            hook.remove()
            inputs.latents.grad = None

    return stepped


def main() -> int:
    """The command line."""
    options = parser(__doc__ or "", rounds=15)
    options.add_argument("--kind", choices=["lora", "locon"], default="lora")
    options.add_argument("--rank", type=int, default=16)
    options.add_argument("--scratch", type=Path, help="a folder for 4 GB of weights (default: a temporary one)")
    asked = options.parse_args()
    torch.set_num_threads(1)
    now = CLOCKS[asked.clock]
    with tempfile.TemporaryDirectory() as name:
        weights = (asked.scratch or Path(name)) / "weights.bin"
        if not weights.is_file():
            write_weights(weights)
        unet, text = make_networks(weights)
        steps = {"ours": ours(unet, text, make_inputs(1), asked.kind, asked.rank)[0], "bare": bare(unet, text)}
        seconds: dict[str, list[float]] = {who: [] for who in steps}
        for number in range(-1, asked.rounds):
            for who in list(steps)[:: 1 if number % 2 else -1]:
                began = now()
                steps[who]()
                if number >= 0:
                    seconds[who].append(now() - began)
    figure = Figure(f"{asked.kind}: ours / bare", ratios(seconds["ours"], seconds["bare"]), at_most=BARS[asked.kind])
    return show("a step in one process, SD1.5's sizes, batch 1", [figure], asked.json)


if __name__ == "__main__":
    sys.exit(main())
