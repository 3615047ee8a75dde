"""What must be as before after a lease, as a flat dictionary: two of them differ exactly where something was left.

Knows torch only, so that the real webui's process can use it too.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def digest(tensor: Tensor) -> str:
    """Type, shape, place, and a hash of the bits."""
    plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    head = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.device}"
    return f"{head} {hashlib.sha256(plain.tobytes()).hexdigest()[:16]}"


def fingerprint(model: nn.Module) -> dict[str, str]:
    """Every weight, buffer, forward, hook and flag of a model, by path."""
    found: dict[str, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found[f"{path}:flags"] = f"{module.training} {getattr(module, 'padding_mode', '')}"
        found[f"{path}:forward"] = f"{module.__dict__.get('forward')} {id(type(module).forward)}"
        found[f"{path}:hooks"] = str([list(getattr(module, name).items()) for name in hook_books(module)])
    for path, parameter in model.named_parameters(remove_duplicate=False):
        found[path] = f"{digest(parameter)} {parameter.requires_grad} {parameter.grad is None} {id(parameter)}"
    for path, buffer in model.named_buffers(remove_duplicate=False):
        found[path] = digest(buffer)
    return found


def hook_books(module: nn.Module) -> list[str]:
    """Names of the dictionaries in which torch keeps a module's hooks."""
    return sorted(name for name, value in vars(module).items() if name.endswith("_hooks") and hasattr(value, "items"))


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line for each entry that is not as before."""
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
