"""The adapter, and which part of the checkpoint it is trained on."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.network.reach import Reach
from lora_lab.training import kinds
from lora_lab.training.settings import TrainSettings

RANKED = ("lora", "locon", "loha", "lokr", "dylora", "lora-fa", "glora")
TURNING = ("diag-oft", "boft", "oft")
ACTS_IN: dict[str, tuple[str, ...]] = {
    "network_dim": (*RANKED, *TURNING),
    "network_alpha": RANKED,
    "conv_dim": (*RANKED, "diag-oft", "boft"),
    "conv_alpha": RANKED,
    "scale_weight_norms": ("lora", "locon", "loha", "lokr", "dylora", "lora-fa", *TURNING),
    "rs_lora": RANKED,
    "dora_wd": ("lora", "locon", "loha", "lokr"),
    "use_tucker": ("lora", "locon", "loha", "lokr"),
    "use_scalar": ("lora", "locon", "loha", "lokr", "glora"),
    "factor": ("lokr",),
    "decompose_both": ("lokr",),
    "full_matrix": ("lokr",),
    "unbalanced_factorization": ("lokr",),
    "constraint": TURNING,
    "rescaled": ("diag-oft", "boft"),
    "train_on_input": ("ia3",),
    "block_size": ("dylora",),
}
"""Setting -> the kinds that it changes."""
DROPS_RANKS = ("lora", "locon", "lora-fa", "loha", "lokr", "full")


def check(settings: TrainSettings) -> None:
    """Something must be left to train, and the kind must have what is asked of it."""
    if settings.network_train_unet_only and settings.network_train_text_encoder_only:
        what = "network_train_unet_only and network_train_text_encoder_only leave nothing to train"
        raise SettingsError(what, remedy="switch one of them off")
    reach = kinds.reach_of(settings)
    _check_parts(settings, reach)
    _check_sizes(settings, reach)
    _check_dropout(settings)


def _check_parts(s: TrainSettings, reach: Reach) -> None:
    of_text, of_unet = reach.takes_part("text_encoder"), reach.takes_part("unet")
    named = f"preset {s.preset}" if s.preset else f"algo {s.algo}"
    if s.network_train_text_encoder_only and not of_text:
        what = f"network_train_text_encoder_only leaves nothing to train, since {named} has no text encoder"
        raise SettingsError(what, remedy="switch it off, or choose another preset")
    if s.network_train_unet_only and not of_unet:
        what = f"network_train_unet_only leaves nothing to train, since {named} has no UNet"
        raise SettingsError(what, remedy="switch it off, or choose another preset")


def _check_sizes(s: TrainSettings, reach: Reach) -> None:
    for name in ("conv_dim", "conv_alpha"):
        if getattr(s, name) is not None and not reach.conv:
            because = f"preset {s.preset or s.algo} has no 3x3 convolutions" if s.conv_dim else "conv_dim is empty"
            raise SettingsError(f"{name} has nothing to act on, since {because}", remedy=f"leave {name} empty")
    if s.algo == "dylora":
        for name, dim in (("network_dim", s.network_dim), ("conv_dim", s.conv_dim or s.network_dim)):
            if dim % s.block_size:
                what = f"block_size {s.block_size} does not divide {name} {dim}"
                raise SettingsError(what, remedy="choose one that does, such as 1 or 4")


def _check_dropout(s: TrainSettings) -> None:
    plain = kinds.recipe_of(s).plain or s.algo == "lora-fa"
    kind = f"algo {s.algo}" + (" with dora_wd, use_tucker or use_scalar" if s.algo in ("lora", "locon") else "")
    if s.network_dropout and not plain:
        what = f"{kind} has no network_dropout"
        raise SettingsError(what, remedy="set it to 0, and rank_dropout or module_dropout instead")
    if s.rank_dropout and s.algo not in DROPS_RANKS:
        raise SettingsError(f"{kind} has no rank_dropout", remedy="set it to 0, and module_dropout instead")


def warnings(s: TrainSettings) -> Iterator[str]:
    """Sizes that burn, options that the kind does not have, forms that others do not read."""
    if s.algo in RANKED:
        yield from _alpha_warnings(s)
    for name, algos in ACTS_IN.items():
        if s.algo not in algos and name not in ("network_dim", "network_alpha") and _changed(s, name):
            yield f"{name} has no effect with algo {s.algo}"
    reach = kinds.reach_of(s)
    if s.use_tucker and s.algo in ACTS_IN["use_tucker"] and not reach.conv:
        yield "use_tucker has no effect without 3x3 convolutions (conv_dim)"
    if s.wd_on_output and not s.dora_wd:
        yield "wd_on_output has no effect without dora_wd"
    if s.rank_dropout_scale and (not s.rank_dropout or kinds.recipe_of(s).plain):
        yield f"rank_dropout_scale has no effect {'with a plain LoRA' if s.rank_dropout else 'without rank_dropout'}"
    if s.train_norm and reach.unet.isdisjoint({"Transformer2DModel", "ResnetBlock2D", "BasicTransformerBlock"}):
        yield "train_norm has no effect, since the preset has no norms"
    if s.text_encoder_lr and not reach.takes_part("text_encoder") and not s.network_train_unet_only:
        yield f"text_encoder_lr has no effect, since {s.preset or s.algo} has no text encoder"
    yield from _reader_warnings(s, reach)


def _alpha_warnings(s: TrainSettings) -> Iterator[str]:
    if s.network_alpha > s.network_dim:
        yield f"network_alpha {s.network_alpha:g} is above network_dim {s.network_dim}: pictures burn, use dim or less"
    if s.conv_dim and s.conv_alpha is not None and s.conv_alpha > s.conv_dim:
        yield f"conv_alpha {s.conv_alpha:g} is above conv_dim {s.conv_dim}: pictures burn, use conv_dim or less"


def _reader_warnings(s: TrainSettings, reach: Reach) -> Iterator[str]:
    """What the webui cannot read, and what LyCORIS advises against."""
    if s.dora_wd and s.wd_on_output:
        yield "The webui reads DoRA by inputs only: with wd_on_output its pictures are noise"
    if s.algo == "glora" and s.preset and (reach.conv or reach.conv1x1):
        yield "The webui reads glora in linear layers only: leave preset empty"
    if s.algo == "ia3" and s.preset not in ("", "ia3") and (reach.conv or reach.conv1x1):
        yield "The webui reads ia3 in linear layers only: leave preset empty"
    if s.algo == "boft" and s.network_dim < 10:
        yield f"boft needs a network_dim of 10 or more for the layers of Stable Diffusion, it is {s.network_dim}"


def _changed(s: TrainSettings, name: str) -> bool:
    return bool(getattr(s, name) != TrainSettings.spec(name).default)
