"""The kind of an adapter in kohya's words, for the metadata of its file: module and network_args. No torch."""

from __future__ import annotations

from lora_lab.training.settings import TrainSettings

OF_KOHYA = {"lora": "networks.lora", "dylora": "networks.dylora", "lora-fa": "networks.lora_fa", "oft": "networks.oft"}
LYCORIS_ONLY = ("preset", "use_tucker", "use_scalar", "dora_wd", "train_norm", "rs_lora")
"""Settings that kohya's own networks do not know: with one of them, the module is LyCORIS's."""
OPTIONS = (
    "rank_dropout", "module_dropout", "preset", "use_tucker", "use_scalar", "dora_wd", "wd_on_output", "train_norm",
    "rs_lora", "rank_dropout_scale", "factor", "decompose_both", "full_matrix", "unbalanced_factorization",
    "constraint", "rescaled", "train_on_input",
)  # fmt: skip


def module(s: TrainSettings) -> str:
    """kohya's network_module."""
    plain = not any(getattr(s, name) for name in LYCORIS_ONLY)
    return OF_KOHYA[s.algo] if plain and s.algo in OF_KOHYA else "lycoris.kohya"


def arguments(s: TrainSettings) -> dict[str, str]:
    """kohya's network_args: what is not as usual, all as texts."""
    name = module(s)
    found: dict[str, object] = {}
    if name == "lycoris.kohya":
        found["algo"] = {"lora-fa": "lora", "oft": "diag-oft"}.get(s.algo, s.algo)
        if not s.preset and s.algo not in ("ia3", "glora"):
            found["preset"] = "full" if s.conv_dim else "attn-mlp"  # LyCORIS's own default has convolutions
    if name == "networks.oft":
        found["enable_all_linear"] = True  # its default is attention alone
        found["constraint"] = s.constraint
    if s.conv_dim is not None:
        found["conv_dim"] = s.conv_dim
        alpha = s.network_alpha * s.conv_dim / s.network_dim if s.conv_alpha is None else s.conv_alpha
        found["conv_alpha"] = float(alpha or s.conv_dim)
    if s.algo == "dylora":
        found["block_size" if name == "lycoris.kohya" else "unit"] = s.block_size
    if name == "lycoris.kohya" and s.network_dropout:
        found["dropout"] = s.network_dropout
    changed = [option for option in OPTIONS if getattr(s, option) != TrainSettings.spec(option).default]
    if s.dora_wd:
        changed = [*changed, *(["wd_on_output"] if "wd_on_output" not in changed else [])]  # LyCORIS's default is on
    return {**{key: str(value) for key, value in found.items()}, **{key: str(getattr(s, key)) for key in changed}}
