"""The settings about the kind of the adapter. Names are kohya's and LyCORIS's, also of what theirs is an entry of
network_args."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.network.recipe import ALGOS
from lora_lab.training.settings.fields import setting

MODULES = ("networks.lora", "networks.dylora", "networks.lora_fa", "networks.oft", "lycoris.kohya")
"""kohya's network_module values that are understood."""


@dataclass(frozen=True)
class KindFields:
    """Which kind of adapter, which layers get a piece, and the options of the kinds."""

    algo: str = setting(
        "lora",
        "Kind of the adapter. lora is kohya's (with conv_dim also in 3x3 convolutions); dylora is good at every "
        "smaller rank too; lora-fa trains half of it; loha and lokr (LyCORIS) say more with fewer numbers; ia3 only "
        "scales; diag-oft, boft and kohya's oft turn the weights; glora bends them too; full trains whole weights.",
        kind="choice", group="kinds", cost="full is as large as the checkpoint's layers", choices=ALGOS,
    )
    preset: str = setting(
        "",
        "Which layers get a piece: a preset of LyCORIS (full, full-lin, attn-mlp, attn-only, unet-only, "
        "unet-transformer-only, unet-convblock-only, ia3) or the path of a preset TOML. Empty: attention and MLP, with "
        "conv_dim also the residual blocks; ia3 has its own, glora takes linear layers only.",
        kind="text", group="kinds", aliases=("LyCORIS_preset",),
    )
    conv_dim: int | None = setting(
        None,
        "Rank in 3x3 convolutions. Empty: none are trained, or those of the preset with network_dim.",
        kind="int", group="kinds", cost="more layers, slower steps", minimum=1, maximum=1024,
    )
    conv_alpha: float | None = setting(
        None, "Alpha in 3x3 convolutions. Empty: damped as much as network_alpha damps.", kind="float", group="kinds",
        minimum=0, maximum=1024,
    )
    rank_dropout: float = setting(
        0.0,
        "Chance of each rank to be left out of a step, against overfitting; of kinds beside LoRA: chance of each "
        "output of a layer to be left as it is.",
        kind="float", group="kinds", unit="share from 0 to 1", minimum=0, maximum=0.95,
    )
    module_dropout: float = setting(
        0.0, "Chance of each layer's piece to be left out of a step.", kind="float", group="kinds",
        unit="share from 0 to 1", minimum=0, maximum=0.95,
    )
    scale_weight_norms: float | None = setting(
        None,
        "After each step a layer's piece whose norm is above this is shrunk to it: keeps single layers from running "
        "away. 1 is usual, empty is no limit.",
        kind="float", group="kinds", minimum=0.001, maximum=1000,
    )
    dora_wd: bool = setting(
        False, "DoRA: train lengths and directions of the weights apart (lora, locon, loha, lokr).", kind="bool",
        group="kinds", cost="slower steps, since whole weights are worked out",
    )
    wd_on_output: bool = setting(
        False,
        "DoRA's lengths are those of the outputs. Off is the form that the webui reads; LyCORIS itself has it on "
        "since 3.2, and such files are noise in the webui.",
        kind="bool", group="kinds",
    )
    train_norm: bool = setting(
        False, "Train the norms of those layers too (tiny, LyCORIS).", kind="bool", group="kinds"
    )
    rs_lora: bool = setting(
        False, "Damp by alpha / sqrt(dim): large ranks learn as fast as small ones.", kind="bool", group="kinds"
    )
    use_tucker: bool = setting(
        False, "3x3 convolutions in three factors instead of two (locon, loha, lokr): smaller.", kind="bool",
        group="kinds", aliases=("use_cp", "use_conv_cp"),
    )
    use_scalar: bool = setting(
        False, "One more trained factor for each layer's piece, 0 at first (locon, loha, lokr, glora).", kind="bool",
        group="kinds",
    )
    rank_dropout_scale: bool = setting(
        False, "With rank_dropout, make larger what is left (loha, lokr, full).", kind="bool", group="kinds"
    )
    factor: int = setting(
        -1, "lokr: size of the smaller of its two matrices; -1 makes both as square as can be.", kind="int",
        group="kinds", minimum=-1, maximum=4096,
    )
    decompose_both: bool = setting(
        False, "lokr: the smaller matrix in two factors as well.", kind="bool", group="kinds"
    )
    full_matrix: bool = setting(False, "lokr: both matrices whole, without factors.", kind="bool", group="kinds")
    unbalanced_factorization: bool = setting(
        False, "lokr: more of the outputs in the smaller matrix.", kind="bool", group="kinds"
    )
    constraint: float = setting(
        0.0, "diag-oft, boft, oft: how far a layer may turn, times its outputs; 0 is no limit.", kind="float",
        group="kinds", minimum=0, maximum=1000, aliases=("constrain",),
    )
    rescaled: bool = setting(False, "diag-oft, boft: a trained factor for each output.", kind="bool", group="kinds")
    train_on_input: bool = setting(
        False, "ia3: scale inputs instead of outputs, also where its preset does not.", kind="bool", group="kinds"
    )
    block_size: int = setting(
        4, "dylora: ranks that are trained together; it divides network_dim.", kind="int", group="kinds", minimum=1,
        maximum=1024, aliases=("unit",),
    )
    network_module: str | None = setting(
        None,
        "kohya's name of the kind, for settings of its scripts: it is turned into algo and what goes with it.",
        kind="choice", group="kinds", choices=MODULES,
    )
    network_args: tuple[str, ...] = setting(
        (), "kohya's further options as name=value: each is turned into the setting of that name.", kind="list",
        group="kinds",
    )
