"""Out of memory: telling it apart, and saying which setting saves how much."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lora_lab.training.learning.optimizer_kinds import KINDS, kind_of
from lora_lab.training.plan import groups_of
from lora_lab.training.settings import TrainSettings

WORDS = re.compile(r"out of memory|not enough memory|can't allocate memory|alloc_cpu|CUBLAS_STATUS_ALLOC_FAILED", re.I)


def is_out_of_memory(error: BaseException) -> bool:
    """Does the error mean that the device (or the machine) has no memory left?"""
    if isinstance(error, MemoryError):
        return True
    cuda = getattr(torch.cuda, "OutOfMemoryError", None)
    if cuda is not None and isinstance(error, cuda):
        return True
    return isinstance(error, RuntimeError) and bool(WORDS.search(str(error)))


@dataclass(frozen=True)
class Saving:
    """A change of one setting, and what it saves."""

    change: str
    saves: str

    def __str__(self) -> str:
        return f"{self.change} ({self.saves})"


def savings(settings: TrainSettings, parameters: int) -> list[Saving]:
    """What would need less memory, in the order of harm: first what costs only time, last what learns less.

    Args:
        settings: of the run that had no room.
        parameters: trained numbers of its adapter.
    """
    return [*_harmless(settings), *_of_the_adapter(settings, parameters), *_harmful(settings, parameters)]


def advice(settings: TrainSettings, parameters: int) -> str:
    """`savings` as the end of a sentence."""
    found = savings(settings, parameters)
    return ", or ".join(map(str, found)) if found else "close other programs that use the memory"


def _harmless(s: TrainSettings) -> Iterator[Saving]:
    """The same numbers, for more time or a place on the disk."""
    if not s.gradient_checkpointing:
        yield Saving("gradient_checkpointing", f"saves about {CHECKPOINTING_SAVES:.0%} of the steps' memory")
    if not (s.cache_latents or s.cache_latents_to_disk or s.random_crop):
        yield Saving("cache_latents", "the VAE then works before the steps and not between them")
    if not s.cache_text_encoder_outputs and not _trains_text(s):
        yield Saving("cache_text_encoder_outputs", "the text encoder then works before the steps")
    batch = s.train_batch_size
    if batch > 1:
        half = batch // 2
        more = f" with gradient_accumulation_steps {s.gradient_accumulation_steps * batch // half}"
        change = f"train_batch_size {half} instead of {batch}{'' if s.fused_backward_pass else more}"
        yield Saving(change, f"saves {1 - half / batch:.0%} of it")


def _of_the_adapter(s: TrainSettings, parameters: int) -> Iterator[Saving]:
    """Gradients and the optimizer's state: 4 bytes a number, or 1 in bitsandbytes' 8-bit optimizers."""
    states, unit = kind_of(s.optimizer_type).states_per_weight, parameters / 2**20
    plain = not kind_of(s.optimizer_type).adaptive
    if plain and not s.fused_backward_pass and s.gradient_accumulation_steps == 1 and unit * 4 >= WORTH:
        yield Saving("fused_backward_pass with max_grad_norm 0", f"saves up to {unit * 4:.0f} MB of gradients")
    if f"{s.optimizer_type}8bit" in KINDS and unit * states * 3 >= WORTH:
        change = f"{s.optimizer_type}8bit instead of {s.optimizer_type}"
        yield Saving(change, f"saves {unit * states * 3:.0f} MB on a graphics card")
    if s.optimizer_type == "Prodigy" and unit * (states - 2) * 4 >= WORTH:
        yield Saving("AdamW instead of Prodigy", f"saves {unit * (states - 2) * 4:.0f} MB")
    if s.mixed_precision == "bf16" and not s.full_bf16 and unit * (2 + states) * 2 >= WORTH:
        yield Saving("full_bf16", f"saves {unit * (2 + states) * 2:.0f} MB")


def _harmful(s: TrainSettings, parameters: int) -> Iterator[Saving]:
    """Less exact weights, smaller pictures, a smaller adapter."""
    if not s.fp8_base and not s.fp8_base_unet:
        yield Saving("fp8_base_unet without a webui", "saves half of the UNet's weights in 16 bits")
    width, height = s.resolution
    if min(width, height) >= 384:
        yield Saving(f"resolution {width * 3 // 4 // 64 * 64} instead of {width}", "saves about 44% of it")
    kept = (2 + kind_of(s.optimizer_type).states_per_weight) * 4 * parameters / 2**20
    if s.network_dim > 4 and kept / 2 >= WORTH:
        half = s.network_dim // 2
        yield Saving(f"network_dim {half} instead of {s.network_dim}", f"saves {kept / 2:.0f} MB")


def _trains_text(s: TrainSettings) -> bool:
    return any(group.name == "text_encoder" for group in groups_of(s))


WORTH = 16.0
"""MB below which a change is not named."""
CHECKPOINTING_SAVES = 0.75
"""Share of what a step keeps for the way back that gradient checkpointing need not keep. Counted on SD1's UNet with
rank 16 at 512 pixels: 4.6 GB of saved tensors in float32 become 0.4 GB, to which the largest block's inside comes."""
