"""Nested values with tensors in them (an optimizer's state) as plain JSON and a flat table of tensors, and back.

What `torch.save` would pickle, without a pickle: a file of a run's state can be opened by anybody without running
anything of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lora_lab.errors import TrainingError

TENSOR, LIST, TUPLE, DICT = "tensor", "list", "tuple", "dict"


def pack(value: Any, name: str = "") -> tuple[Any, dict[str, Tensor]]:  # noqa: ANN401 - any nested value
    """Split `value` into a tree for JSON and the tensors that it names.

    Args:
        value: None, bool, int, float, str, tensor, or list, tuple, dict of such; dict keys are str or int.
        name: what the tensors' names begin with.

    Returns:
        The tree, and name -> copy of the tensor on the CPU.

    Raises:
        TrainingError: there is something else in it; its type is named.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, name, tensors), tensors


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        key = f"{name}{len(tensors):06d}"
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: key}
    if isinstance(value, (list, tuple)):
        kind = LIST if isinstance(value, list) else TUPLE
        return {kind: [_pack(item, name, tensors) for item in value]}
    if isinstance(value, Mapping) and all(isinstance(key, (str, int)) for key in value):
        return {DICT: [[key, _pack(item, name, tensors)] for key, item in value.items()]}
    if callable(getattr(value, "item", None)):  # a number of numpy's
        return _pack(value.item(), name, tensors)
    raise TrainingError(f"a value of the type {type(value).__name__} cannot be kept in a run's state")


def copied(value: Any) -> Any:  # noqa: ANN401 - any nested value
    """The same with every tensor copied to the CPU: what is live may change while the copy is written elsewhere."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, (list, tuple)):
        items = [copied(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return value


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401
    """The inverse of `pack`.

    Raises:
        ValueError: the tree is none that `pack` makes, or names a tensor that is not there.
    """
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    if not isinstance(tree, dict) or len(tree) != 1:
        raise ValueError(f"no packed value: {str(tree)[:60]}")
    ((kind, inner),) = tree.items()
    if kind == TENSOR and inner in tensors:
        return tensors[inner]
    if kind in (LIST, TUPLE) and isinstance(inner, list):
        items = [unpack(item, tensors) for item in inner]
        return items if kind == LIST else tuple(items)
    if kind == DICT and isinstance(inner, list) and all(isinstance(p, list) and len(p) == 2 for p in inner):
        return {key: unpack(item, tensors) for key, item in inner}
    raise ValueError(f"no packed value: {str(tree)[:60]}")
