"""Out of memory: telling it apart, and saying which setting saves how much."""

from __future__ import annotations

import re

import torch

from lora_lab.training.optimizer_kinds import kind_of
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


def advice(settings: TrainSettings, parameters: int) -> str:
    """What to change, the greatest saving first.

    Args:
        settings: of the run that had no room.
        parameters: trained numbers of its adapter.
    """
    choices = []
    if not settings.gradient_checkpointing:
        choices.append(f"gradient_checkpointing (saves about {CHECKPOINTING_SAVES:.0%} of the steps' memory)")
    batch = settings.train_batch_size
    if batch > 1:
        half = batch // 2
        choices.append(f"train_batch_size {half} instead of {batch} (saves {1 - half / batch:.0%} of it)")
    width, height = settings.resolution
    if min(width, height) >= 384:
        choices.append(f"resolution {width * 3 // 4 // 64 * 64} instead of {width} (saves about 44% of it)")
    kept = (2 + kind_of(settings.optimizer_type).states_per_weight) * 4 * parameters / 2**20
    if settings.network_dim > 4 and kept > 64:
        half = settings.network_dim // 2
        choices.append(f"network_dim {half} instead of {settings.network_dim} (saves {kept / 2:.0f} MB)")
    if settings.optimizer_type == "Prodigy" and kept > 64:
        choices.append(f"AdamW instead of Prodigy (saves {kept / 3:.0f} MB)")
    return ", or ".join(choices) if choices else "close other programs that use the memory"



CHECKPOINTING_SAVES = 0.75
"""Share of what a step keeps for the way back that gradient checkpointing need not keep. Counted on SD1's UNet with
rank 16 at 512 pixels: 4.6 GB of saved tensors in float32 become 0.4 GB, to which the largest block's inside comes."""
