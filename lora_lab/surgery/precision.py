"""The number formats that files are saved in, and rounding to them without surprises."""

from __future__ import annotations

import math

import torch

from lora_lab.errors import OutputError, SettingsError

PRECISIONS: dict[str, torch.dtype] = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""kohya's names of what a file may be saved in."""


def precision(name: str) -> torch.dtype:
    """The dtype of a name.

    Raises:
        SettingsError: none of `float`, `fp16`, `bf16`.
    """
    if name not in PRECISIONS:
        raise SettingsError(f"'{name}' is no precision", remedy=f"choose one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether no number is NaN or infinite: one sum, which is then neither. Many times faster than asking each."""
    return math.isfinite(float(tensor.float().sum(dtype=torch.float64)))


def rounded(tensor: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """The tensor in another dtype.

    Raises:
        OutputError: a number is NaN or infinite, or is too large for the dtype.
    """
    new = tensor.to(dtype)
    if dtype.is_floating_point and not all_finite(new):
        if all_finite(tensor):
            raise OutputError(f"{name} is too large for {str(dtype)[6:]}", remedy="save as bf16 or float")
        raise OutputError(f"{name} holds NaN or infinite numbers", remedy="inspect the inputs; one of them is broken")
    return new
