"""Steps with cached text encoder outputs against steps that ask the text encoder each time.

    python -m benchmarks.text_cache [--json] [--rounds N] [--sizes sd15 demo]

The same step of the same UNet adapter on the same batch: once its captions go through the text encoder, once their
states come from the cache. SD1.5's real sizes with random weights, 256 px, batch 1, float32 on the CPU, and the demo
checkpoint. `filling` is what the cache costs before the first step, for each caption.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Figure, interleave, parser, ratios, show
from benchmarks.step import SIZES, make_unet, our_step
from lora_lab.families import Family
from lora_lab.host import clip
from lora_lab.host.base import Conditioning, TokenBatch
from lora_lab.training.settings import TrainSettings
from lora_lab.training.text.conditioning import CaptionEncoder
from lora_lab.training.text.text_cache import TextCache

TEXT = {"sd15": (768, 12, 12, 3072), "demo": (96, 3, 6, 384)}
"""Width, layers, heads, width of the inner layers of the text encoder."""
CAPTIONS = [f"mika, red hair, blue eyes, hat, smile, standing, hill number {number}, sky" for number in range(8)]


class Model:
    """What a caption encoder asks of the live model: a CLIP text encoder with random weights."""

    def __init__(self, size: tuple[int, int, int, int]) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        width, layers, heads, inner = size
        config = CLIPTextConfig(
            vocab_size=49408, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
            num_attention_heads=heads, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
        )  # fmt: skip
        torch.manual_seed(0)
        self.text: nn.Module = CLIPTextModel(config).eval().requires_grad_(False)
        self.device = torch.device("cpu")
        self.info = SimpleNamespace(family=Family.SD1)

    def tokenize(self, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
        """A token for each letter: as many as a caption of that length has is all that matters."""
        rows = [[49406, *(map(ord, caption[:75].ljust(75)))] for caption in captions]
        return TokenBatch((torch.tensor([[row + [49407]] for row in rows]),), tuple(len(c) for c in captions))

    def encode_tokens(self, tokens: TokenBatch, clip_skip: int = 1) -> Conditioning:
        """The text encoder."""
        return Conditioning(clip.encode(self.text, tokens.ids[0], clip_skip))


def encoder(cached: bool) -> CaptionEncoder:
    """With a cache, or one that asks each time."""
    settings = TrainSettings.from_mapping({"train_data_dir": "x", "output_name": "x", "network_train_unet_only": True})
    return CaptionEncoder(settings, 1, learns=False, moving=True, cache=TextCache("") if cached else None)


def measure(name: str, rounds: int, clock: str) -> list[Figure]:
    """Seconds of a step and of the captions alone, each way."""
    sizes = SIZES[name]
    model: Any = Model(TEXT[name])
    step = our_step(make_unet(sizes), sizes, 16)
    kept, asked = encoder(True), encoder(False)
    began = time.perf_counter()
    kept.fill(model, deque(CAPTIONS), lambda: False)
    filling = (time.perf_counter() - began) / len(CAPTIONS)
    batch = CAPTIONS[: sizes.batch]

    def with_step(own: CaptionEncoder) -> Callable[[], Tensor]:
        def both() -> Tensor:
            own(model, batch)
            return step()

        return both

    candidates = {
        "cached": with_step(kept), "asked": with_step(asked),
        "cached alone": lambda: kept(model, batch), "asked alone": lambda: asked(model, batch),
    }  # fmt: skip
    seconds = interleave(rounds, candidates, clock=clock)
    return [
        Figure(f"{name}: step, text encoder asked", tuple(seconds["asked"]), "s"),
        Figure(f"{name}: step with cached states / asked", ratios(seconds["cached"], seconds["asked"])),
        Figure(f"{name}: captions alone, cached / asked", ratios(seconds["cached alone"], seconds["asked alone"])),
        Figure(f"{name}: filling the cache, each caption", (filling,), "s"),
    ]


def main() -> int:
    """The command line."""
    options = parser(__doc__ or "", rounds=5)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    asked = options.parse_args()
    figures = [figure for name in asked.sizes for figure in measure(name, asked.rounds, asked.clock)]
    return show("text_cache", figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
