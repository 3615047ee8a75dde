"""Which number format the forward pass runs in, and whether gradients need a scaler."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings

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
    full: bool = False
    """The adapter and its gradients are in `autocast`'s, or the model's, half precision too."""

    @property
    def adapter(self) -> torch.dtype:
        """Of the adapter's numbers and their gradients."""
        return DTYPES[self.name] if self.full else torch.float32

    def context(self, device: torch.device) -> AbstractContextManager[Any]:
        """Put around a forward pass."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """A gradient scaler, one that does nothing where none is needed."""
        if hasattr(torch.amp, "GradScaler"):
            made = torch.amp.GradScaler(device.type, enabled=self.scaled)
        else:
            made = torch.cuda.amp.GradScaler(enabled=self.scaled)  # torch before 2.3
        if self.full:
            # torch refuses to divide gradients of 16 bits by the scale unless it is told that they are meant to be so.
            vars(made)["_unscale_grads_"] = partial(_unscale, made._unscale_grads_)
        return made


def _unscale(unscale: Callable[..., Any], optimizer: Any, inv: Any, found: Any, allow_fp16: bool) -> Any:  # noqa: ANN401
    return unscale(optimizer, inv, found, True)


def full(chosen: Precision, settings: TrainSettings) -> Precision:
    """`chosen`, with the adapter in half precision if the settings ask for that.

    Raises:
        SettingsError: the steps are computed in another one.
    """
    for wanted, asked in (("fp16", settings.full_fp16), ("bf16", settings.full_bf16)):
        if asked and chosen.name != wanted:
            what = f"full_{wanted} needs mixed_precision {wanted}, which is {chosen.name} on this model"
            raise SettingsError(what, remedy=f"set mixed_precision to {wanted}, or switch full_{wanted} off")
    return dataclasses.replace(chosen, full=settings.full_fp16 or settings.full_bf16)


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
