"""From the settings to what the network room builds: which layers, which kind, which sizes. No torch at import."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lora_lab.errors import SettingsError
from lora_lab.network.reach import C3LIER, LIERLA, PRESETS, Reach
from lora_lab.network.recipe import Recipe
from lora_lab.network.sizes import Size, Sizes, by_kernel
from lora_lab.training.settings import preset_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lora_lab.network.sites import Site
    from lora_lab.training.settings import TrainSettings

IA3_INPUTS = ("mlp_fc2", "ff_net_2")
"""Layers whose inputs IA3 scales (LyCORIS's preset of that name): what the MLP's first half puts out."""


def reach_of(s: TrainSettings) -> Reach:
    """Which layers get a piece.

    Raises:
        SettingsError: a preset that does not exist, or a preset file that cannot be read.
    """
    if s.preset:
        reach = PRESETS[s.preset] if s.preset in PRESETS else preset_file.read(s.preset).reach
    elif s.algo == "ia3":
        reach = PRESETS["ia3"]
    elif s.algo == "glora":
        reach = dataclasses.replace(LIERLA, conv1x1=False)  # the webui reads it in linear layers only
    else:
        reach = C3LIER if s.conv_dim or s.conv_block_dims else LIERLA
    if s.algo == "oft":  # kohya's has no text encoder
        reach = dataclasses.replace(reach, text=frozenset(), text_names=())
    return dataclasses.replace(reach, norms=s.train_norm)


def recipe_of(s: TrainSettings) -> Recipe:
    """The kind and its options."""
    return Recipe(
        algo=s.algo,
        dropout=s.network_dropout,
        rank_dropout=s.rank_dropout,
        module_dropout=s.module_dropout,
        rank_dropout_scale=s.rank_dropout_scale,
        rs_lora=s.rs_lora,
        use_tucker=s.use_tucker,
        use_scalar=s.use_scalar,
        dora_wd=s.dora_wd,
        wd_on_output=s.wd_on_output,
        decompose_both=s.decompose_both,
        factor=s.factor,
        full_matrix=s.full_matrix,
        unbalanced_factorization=s.unbalanced_factorization,
        constraint=s.constraint,
        rescaled=s.rescaled,
        train_on_input=s.train_on_input,
        block_size=s.block_size,
    )


def recipes_of(s: TrainSettings) -> Callable[[Site], Recipe]:
    """The recipe of each site: IA3 and preset files tell some apart."""
    usual = recipe_of(s)
    table = preset_file.read(s.preset).overrides if s.preset and s.preset not in PRESETS else ()

    def recipe(site: Site) -> Recipe:
        found = usual
        if usual.algo == "ia3" and s.preset in ("", "ia3") and site.name.endswith(IA3_INPUTS):
            found = dataclasses.replace(usual, train_on_input=True)
        return preset_file.recipe(found, table, site)

    return recipe


def sizes_of(s: TrainSettings) -> Sizes:
    """The size of each site: conv_dim and conv_alpha for larger kernels, network_dim and network_alpha for the rest."""
    usual = Size(s.network_dim, s.network_alpha)
    same = by_kernel(usual, conv_size(s))
    table = preset_file.read(s.preset).overrides if s.preset and s.preset not in PRESETS else ()
    return preset_file.sizes(same, table)


def conv_size(s: TrainSettings) -> Size:
    """Of 3x3 convolutions, where the reach has any."""
    dim = s.conv_dim or s.network_dim
    return Size(dim, s.network_alpha * dim / s.network_dim if s.conv_alpha is None else s.conv_alpha)


def size_warnings(sites: Sequence[Site], sizes: Sizes, algo: str) -> Iterator[str]:
    """A rank that is larger than a layer holds no more than the layer itself."""
    if algo in ("ia3", "full", "diag-oft", "boft", "oft"):
        return
    small = [
        (site, size.dim)
        for site in sites
        if site.kind != "norm" and (size := sizes(site)) and size.dim > min(site.in_features, site.out_features)
    ]
    if small:
        site, dim = small[0]
        width = min(site.in_features, site.out_features)
        yield f"A rank of {dim} is more than {len(small)} layers are wide, such as {site.name} with {width}."


def trains_text(s: TrainSettings) -> bool:
    """Does the reach take text encoders at all? An unreadable preset is told of elsewhere."""
    try:
        reach = reach_of(s)
    except SettingsError:
        return True
    return reach.takes_part("text_encoder")
