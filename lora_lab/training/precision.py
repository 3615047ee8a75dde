"""Which number format the forward pass runs in, and whether gradients need a scaler."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from lora_lab.errors import SettingsError

NAMES = {torch.float32: "no", torch.float16: "fp16", torch.bfloat16: "bf16"}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "float": torch.float32}


@dataclass(frozen=True)
class Precision:
    """How the steps are computed."""

    name: str
    """no, fp16 or bf16, as it stands in the metadata."""
    autocast: torch.dtype | None
    """Our own autocast; None leaves the forward pass to the host."""
    scaled: bool
    """Gradients of half precision are scaled so that small ones do not vanish."""

    def context(self, device: torch.device) -> AbstractContextManager[Any]:
        """Put around a forward pass."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """A gradient scaler, one that does nothing where none is needed."""
        if hasattr(torch.amp, "GradScaler"):
            return torch.amp.GradScaler(device.type, enabled=self.scaled)
        return torch.cuda.amp.GradScaler(enabled=self.scaled)  # torch before 2.3


def choose(setting: str, device: torch.device, dtype: torch.dtype) -> Precision:
    """What `mixed_precision` means on this model.

    Args:
        setting: auto, no, fp16 or bf16.
        device: of the live model.
        dtype: the live model computes in.

    Raises:
        SettingsError: the device or the live model cannot do what is asked.
    """
    if setting == "auto" or setting == NAMES.get(dtype) == "no":
        return Precision(NAMES.get(dtype, "no"), None, _needs_scaler(dtype, device))
    if setting == "no":
        what = f"mixed_precision no needs a checkpoint in 32 bits, the live one computes in {NAMES[dtype]}"
        raise SettingsError(what, remedy="choose auto, or start the webui with --no-half")
    if setting == "fp16" and device.type == "cpu":
        raise SettingsError("mixed_precision fp16 does not work on a CPU", remedy="choose auto or bf16")
    if setting == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise SettingsError("mixed_precision bf16 is more than this graphics card can do", remedy="choose fp16 or auto")
    return Precision(setting, DTYPES[setting], _needs_scaler(DTYPES[setting], device))


def _needs_scaler(dtype: torch.dtype, device: torch.device) -> bool:
    return dtype == torch.float16 and device.type == "cuda"
