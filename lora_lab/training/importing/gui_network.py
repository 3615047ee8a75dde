"""The kind of network in a file of the kohya_ss GUI: its names for kinds, and the fields that each passes on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lora_lab.training.importing.found import Reading

_KOHYA = (
    "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "block_dims", "block_alphas",
    "conv_block_dims", "conv_block_alphas", "rank_dropout", "module_dropout",
)  # fmt: skip
_LYCORIS = (
    "conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "rank_dropout_scale", "train_norm", "use_tucker",
)  # fmt: skip
_MORE = {
    "locon": "bypass_mode dora_wd use_scalar", "loha": "bypass_mode dora_wd use_scalar",
    "lokr": "bypass_mode dora_wd use_scalar factor decompose_both", "diag-oft": "constrain rescaled",
    "ia3": "train_on_input", "dylora": "unit",
}  # fmt: skip
_LORAPLUS = ["loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio"]

FIELDS = frozenset((
    *_KOHYA, *_LYCORIS, *_LORAPLUS, *" ".join(_MORE.values()).split(), "LyCORIS_preset", "use_cp", "unit",
    "conv_dims", "conv_alphas",
))  # fmt: skip
"""All fields about the network that go into network_args."""

KINDS = MappingProxyType({
    "Standard": ("networks.lora", ""), "Kohya LoCon": ("networks.lora", ""), "LoRA-FA": ("networks.lora_fa", ""),
    "Kohya DyLoRA": ("networks.dylora", ""), "Kohya LoHa": ("networks.loha", ""), "Kohya LoKr": ("networks.lokr", ""),
    "LoCon": ("lycoris.kohya", "locon"), "LyCORIS/LoCon": ("lycoris.kohya", "locon"),
    "LyCORIS/LoHa": ("lycoris.kohya", "loha"), "LyCORIS/LoKr": ("lycoris.kohya", "lokr"),
    "LyCORIS/DyLoRA": ("lycoris.kohya", "dylora"), "LyCORIS/GLoRA": ("lycoris.kohya", "glora"),
    "LyCORIS/iA3": ("lycoris.kohya", "ia3"), "LyCORIS/Diag-OFT": ("lycoris.kohya", "diag-oft"),
    "LyCORIS/BOFT": ("lycoris.kohya", "boft"), "LyCORIS/Native Fine-Tuning": ("lycoris.kohya", "full"),
})  # fmt: skip
"""LoRA_type -> kohya's module, and LyCORIS's algorithm."""

_RENAMED = {"constrain": "constraint", "unit": "block_size", "LyCORIS_preset": "preset"}


def network(fields: Mapping[str, Any], options: dict[str, Any], reading: Reading) -> None:
    """Turn the fields about the network into network_module and network_args, as the GUI does."""
    for name in FIELDS:
        options.pop(name, None)
    kind = str(fields.get("LoRA_type") or "Standard")
    module, algo = KINDS.get(kind, ("networks.lora", ""))
    if kind not in KINDS:
        reading.refuse("LoRA_type", f"{kind} is no kind of network for SD1, SD2 or SDXL")
    names = _names(kind, module, algo)
    found = {_RENAMED.get(n, n) if algo else n: fields[n] for n in names if not _unset(fields.get(n))}
    if algo:
        found["algo"] = algo
        if not _unset(fields.get("use_cp")):
            found.setdefault("use_tucker", True)
    options["network_module"] = module
    if found:
        options["network_args"] = [f"{name}={_plain(value)}" for name, value in found.items()]


def _names(kind: str, module: str, algo: str) -> list[str]:
    """Fields that this kind passes on."""
    if algo:
        own = _MORE.get(algo, "").split()
        return [*(() if algo == "full" else _LYCORIS), *own, "LyCORIS_preset", "train_norm", *_LORAPLUS]
    conv = ["conv_dim", "conv_alpha"] if kind in ("Kohya LoCon", "Kohya DyLoRA", "Kohya LoHa", "Kohya LoKr") else []
    unit = ["unit"] if module == "networks.dylora" else []
    factor = ["factor", "use_tucker"] if module == "networks.lokr" else []
    return [*conv, *unit, *factor, *_KOHYA, *_LORAPLUS]


def _unset(value: object) -> bool:
    """Empty or 0: not said."""
    return value is None or value is False or str(value).strip() in ("", "0", "0.0", "False", "None")


def _plain(value: object) -> str:
    return "".join(str(value).split())
