"""``network_module`` and ``network_args`` of kohya's scripts, unpacked into settings, and packed again for export."""

from __future__ import annotations

from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.training.importing.arguments import plain_words
from lora_lab.training.importing.found import Reading
from lora_lab.training.settings import TrainSettings, network_words, own_name
from lora_lab.training.settings.network_args import ALIASES, KOHYAS_OFT, NEEDLESS, folded

PLAIN_MODULES = frozenset({"networks.lora", "network.lora", "lora"})
"""The LoRA that is trained when nothing else is said (the second name is traintrain's)."""

_TABLE = """
algo preset conv_dim conv_alpha conv_block_dims conv_block_alphas block_dims block_alphas down_lr_weight mid_lr_weight
up_lr_weight block_lr_zero_threshold rank_dropout module_dropout rank_dropout_scale loraplus_lr_ratio
loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio use_tucker use_cp use_conv_cp disable_conv_cp use_scalar
train_norm dora_wd wd_on_output bypass_mode rs_lora factor decompose_both full_matrix unbalanced_factorization
constraint rescaled block_size unit train_on_input
"""
NAMES = frozenset(_TABLE.split())
"""Arguments that kohya's networks and LyCORIS read. Another one has no effect there either."""

_NOTHING = frozenset({"", "none", "false", "0", "0.0"})


def unpack(reading: Reading) -> None:
    """Every ``name=value`` of network_args is an option of its own from here on, and the module is an algo."""
    kept = []
    for text in plain_words(reading.values.pop("network_args", [])):
        name, sign, value = text.partition("=")
        if not sign:
            reading.leave(f"network_args {text}", "it is no name=value")
        elif own_name(ALIASES.get(name, name)) is not None or name in NEEDLESS or name in KOHYAS_OFT:
            kept.append(f"{name}={value}")
        elif value.lower() in _NOTHING:
            continue
        elif name in NAMES:
            reading.refuse(f"network_args {name}", "LoRA Lab has no such option of a network")
        else:
            reading.leave(f"network_args {name}", "neither kohya's networks nor LyCORIS have an argument of that name")
    module = reading.values.pop("network_module", None)
    module = None if module is None or str(module) in PLAIN_MODULES else str(module)
    said = {name: reading.values[name] for name in ("network_alpha",) if name in reading.values}
    if not kept and module is None:
        return
    try:
        found = folded({**said, "network_module": module or "networks.lora", "network_args": kept}, own_name)
    except SettingsError as wrong:
        reading.refuse("network_module" if module else "network_args", wrong.what)
        return
    reading.values.update({name: value for name, value in found.items() if name not in said})


def pack(settings: TrainSettings) -> dict[str, Any]:
    """kohya's two options for the kind of network that the settings ask for."""
    told = network_words.arguments(settings)
    others = [spec for spec in TrainSettings.specs() if spec.name in NAMES and spec.group != "kinds"]
    chosen = {spec.name: getattr(settings, spec.name) for spec in others}
    lists = {spec.name for spec in others if spec.kind == "numbers"}  # 0 leaves a block out there
    told |= {
        name: _text(value)
        for name, value in chosen.items()
        if _text(value).lower() not in _NOTHING or (name in lists and value)
    }
    arguments = [f"{name}={value}" for name, value in told.items()]
    return {"network_module": network_words.module(settings)} | ({"network_args": arguments} if arguments else {})


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str("" if value is None else value)
