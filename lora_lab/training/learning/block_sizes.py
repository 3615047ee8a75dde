"""The size of the piece at each site, as block_dims, block_alphas and the rates by block say."""

from __future__ import annotations

from lora_lab.families import Family
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size, Sizes
from lora_lab.training.learning.block_rules import dim_list, place_of
from lora_lab.training.learning.groups import site_share
from lora_lab.training.settings import TrainSettings

CONV_ALPHA = 1.0
"""kohya's conv_alpha where none is given."""


def block_sizes(settings: TrainSettings, family: Family, usual: Sizes | Size) -> Sizes:
    """kohya's rules about blocks laid over the usual sizes: a share or a rank of 0 makes no piece.

    As in kohya's scripts, alphas by block act only beside ranks or rates by block; without ranks by block each rank
    is the usual one, and without alphas by block each alpha.

    Args:
        settings: with lists that can be read.
        family: decides the places in the lists.
        usual: what a site gets where nothing is said of its block.

    Raises:
        SettingsError: a list of the wrong length.
    """
    ask: Sizes = (lambda _: usual) if isinstance(usual, Size) else usual
    active = bool(settings.block_dims) or any(
        (settings.down_lr_weight, settings.mid_lr_weight, settings.up_lr_weight)
    )
    given = {
        "block_dims": settings.block_dims, "block_alphas": settings.block_alphas,
        "conv_block_dims": settings.conv_block_dims, "conv_block_alphas": settings.conv_block_alphas,
    }  # fmt: skip
    tables = {name: dim_list(name, text, family) for name, text in given.items() if active and text}

    def size(site: Site) -> Size | None:
        if not site_share(site, settings, family):
            return None
        place = place_of(site.name, site.block, family) if site.part == "unet" else None
        found = ask(site)
        if place is None or not tables:
            return found
        if site.kind == "conv":
            return _conv(tables, place, found, settings)
        dims, alphas = tables.get("block_dims"), tables.get("block_alphas")
        if found is None:
            return None
        dim = found.dim if dims is None else int(dims[place])
        return Size(dim, found.alpha if alphas is None else alphas[place]) if dim else None

    return size


def _conv(
    tables: dict[str, tuple[float, ...]], place: int, usual: Size | None, settings: TrainSettings
) -> Size | None:
    """A kernel larger than 1x1: its alphas by block act only beside its ranks by block."""
    dims, alphas = tables.get("conv_block_dims"), tables.get("conv_block_alphas")
    if dims is None:
        return usual
    given = getattr(settings, "conv_alpha", None)
    fallback = usual.alpha if usual is not None else CONV_ALPHA if given is None else float(given)
    dim = int(dims[place])
    return Size(dim, fallback if alphas is None else alphas[place]) if dim else None
