"""kohya's own functions for benchmarks.surgery, taken out of a checkout of sd-scripts: its modules import a trainer."""

from __future__ import annotations

import ast
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Resize = Callable[[Tensor, int], object]
Extract = Callable[[Tensor, Tensor, int], "tuple[Tensor, Tensor] | None"]


def resize(folder: Path | None) -> tuple[str, Resize]:
    """`extract_linear` of networks/resize_lora.py; without a checkout the full SVD that it calls."""
    if folder is None:
        return "torch.linalg.svd (full)", lambda matrix, rank: torch.linalg.svd(matrix)
    wanted = {"extract_linear", "rank_resize", "index_sv_ratio", "index_sv_cumulative", "index_sv_fro"}
    scope = _taken(folder / "networks" / "resize_lora.py", wanted, {"torch": torch})
    return "kohya's extract_linear", lambda matrix, rank: scope["extract_linear"](matrix, rank, None, None, "cpu")


def extract(folder: Path | None) -> tuple[str, Extract]:
    """`svd` of networks/extract_lora_from_models.py from difference to rounded factors.

    Loading the models and saving the LoRA are replaced by nothing, which is to the peer's advantage.
    """
    if folder is None:
        return "torch.linalg.svd (full, as kohya's)", _svd_alone
    scope = _taken(folder / "networks" / "extract_lora_from_models.py", {"svd", "save_to_file"}, _scope())

    def run(base: Tensor, tuned: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        models = scope["models"]
        models[:] = [base, tuned]
        scope["svd"]("org", "tuned", "out.safetensors", rank, v2=False, sdxl=False, save_precision="fp16",
                     no_metadata=True)  # fmt: skip
        found = scope["found"]
        return found["site.lora_up.weight"], found["site.lora_down.weight"]

    return "kohya's svd", run


def _svd_alone(base: Tensor, tuned: Tensor, rank: int) -> None:
    torch.linalg.svd(tuned - base)


def _scope() -> dict[str, Any]:
    """What kohya's function finds in place of its modules: two models of one layer."""
    models: list[Tensor] = []
    found: dict[str, Tensor] = {}
    silent = logging.getLogger("peer")
    silent.setLevel(logging.ERROR)

    def network(*_: object, **__: object) -> SimpleNamespace:
        module = SimpleNamespace(weight=models.pop(0))
        return SimpleNamespace(text_encoder_loras=[], unet_loras=[SimpleNamespace(lora_name="site", org_module=module)])

    def loaded(*_: object, weights_sd: dict[str, Tensor], **__: object) -> tuple[SimpleNamespace, dict[str, Tensor]]:
        found.clear()
        found.update(weights_sd)
        nothing = SimpleNamespace(
            apply_to=lambda *_: None, load_state_dict=lambda *_: "", save_weights=lambda *_: None
        )  # fmt: skip
        return nothing, weights_sd

    util = SimpleNamespace(
        load_models_from_stable_diffusion_checkpoint=lambda *_: (None, None, None),
        get_model_version_str_for_sd1_sd2=lambda *_: "",
    )
    lora = SimpleNamespace(create_network=network, create_network_from_weights=loaded)
    args = SimpleNamespace(device=None)
    return {
        "torch": torch, "json": json, "os": os, "time": time, "logger": silent, "tqdm": lambda x: x, "args": args,
        "model_util": util, "lora": lora, "models": models, "found": found,
    }  # fmt: skip


def _taken(path: Path, names: set[str], scope: dict[str, Any]) -> dict[str, Any]:
    """Functions of a file by name, and its constant MIN_SV, run in a scope of ours."""
    nodes = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if (isinstance(node, ast.FunctionDef) and node.name in names)
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MIN_SV")
    ]
    exec(compile(ast.Module(nodes, []), path.name, "exec"), scope)
    return scope
