"""Fresh pieces of every kind. Those of LyCORIS get their shapes and first numbers from lycoris-lora's own modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lora_lab.errors import SettingsError
from lora_lab.network.deltas import Kind
from lora_lab.network.dylora import DyloraPiece
from lora_lab.network.formula_piece import FormulaPiece
from lora_lab.network.lora import LoraPiece
from lora_lab.network.piece import Piece
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size

LYCORIS: dict[str, tuple[str, Kind]] = {
    "lora": ("LoConModule", Kind.LORA),
    "locon": ("LoConModule", Kind.LORA),
    "loha": ("LohaModule", Kind.LOHA),
    "lokr": ("LokrModule", Kind.LOKR),
    "ia3": ("IA3Module", Kind.IA3),
    "diag-oft": ("DiagOFTModule", Kind.OFT),
    "boft": ("ButterflyOFTModule", Kind.BOFT),
    "glora": ("GLoRAModule", Kind.GLORA),
}
"""Algo -> the module of lycoris-lora that knows its shapes, and the kind of its tensors."""


def fresh(site: Site, size: Size, how: Recipe, generator: torch.Generator) -> Piece:
    """A new piece on `site`, whose delta is zero.

    Args:
        generator: on the CPU; its numbers are taken in the same way on every device.

    Raises:
        SettingsError: a share of dropout that leaves nothing, sizes that the kind cannot have at this layer, or
            lycoris-lora is not installed.
    """
    for name in ("dropout", "rank_dropout", "module_dropout"):
        if not 0 <= getattr(how, name) < 1:
            what = f"{name} {getattr(how, name):g} is no share"
            raise SettingsError(what, remedy="choose 0 or more, below 1")
    if site.kind == "norm":
        return FormulaPiece(site, Kind.NORM, _norm(site), how)
    if how.plain or how.algo == "lora-fa":
        return LoraPiece.fresh(site, size, how, generator)
    if how.algo == "dylora":
        return DyloraPiece.fresh(site, size, how, generator)
    if how.algo == "full":
        return FormulaPiece(site, Kind.FULL, _full(site), how)
    if how.algo == "oft":
        return FormulaPiece(site, Kind.OFT, _oft(site, size, how), how)
    return FormulaPiece(site, LYCORIS[how.algo][1], _from_lycoris(site, size, how, generator), how)


def _zeros(like: object, site: Site) -> Tensor:
    assert isinstance(like, Tensor)
    return torch.zeros(like.shape, device=site.device)


def _norm(site: Site) -> dict[str, Tensor]:
    return {"w_norm": _zeros(site.module.weight, site), "b_norm": _zeros(site.module.bias, site)}


def _full(site: Site) -> dict[str, Tensor]:
    bias = {} if site.module.bias is None else {"diff_b": _zeros(site.module.bias, site)}
    return {"diff": _zeros(site.module.weight, site), **bias}


def _oft(site: Site, size: Size, how: Recipe) -> dict[str, Tensor]:
    """kohya's networks.oft: dim counts the blocks."""
    side, rest = divmod(site.out_features, size.dim)
    if rest:
        what = f"the {site.out_features} outputs of {site.name} cannot be parted into network_dim {size.dim} blocks"
        raise SettingsError(what, remedy="choose a divisor of all layers' widths, such as 4")
    return {
        "oft_blocks": torch.zeros(size.dim, side, side, device=site.device),
        "alpha": torch.tensor(how.constraint),
    }


def _from_lycoris(site: Site, size: Size, how: Recipe, generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors of a new module of lycoris-lora, made for a layer of this site's shape beside the live one."""
    try:
        from lycoris import modules
    except ImportError as missing:
        remedy = "install it (pip install lycoris-lora), or choose algo lora"
        raise SettingsError(f"algo {how.algo} needs the package lycoris-lora ({missing})", remedy=remedy) from missing
    kind: Callable[..., nn.Module] = getattr(modules, LYCORIS[how.algo][0])
    try:
        made = _seeded(generator, lambda: kind(site.name, _stand_in(site, how), 1.0, **_options(size, how)))
    except ValueError as wrong:
        what = f"{how.algo} with network_dim {size.dim} does not fit {site.name} ({wrong})"
        raise SettingsError(what, remedy="choose another network_dim") from wrong
    found = {name: p.detach().to(site.device, torch.float32) for name, p in made.named_parameters()}
    if how.algo == "ia3":
        return {**found, "on_input": torch.tensor(int(how.train_on_input))}
    if how.algo in ("diag-oft", "boft"):
        return {**found, "alpha": torch.tensor(how.constraint)}
    if how.algo == "glora":
        found = {_OLDER[name]: tensor for name, tensor in found.items()}
    root = size.dim**0.5 if how.rs_lora else 1.0
    return {"alpha": torch.tensor(size.strength * root), **found}


_OLDER = {
    "a1.weight": "a2.weight", "a2.weight": "a1.weight", "b1.weight": "b2.weight", "b2.weight": "b1.weight",
    "scalar": "scalar",
}  # fmt: skip
"""GLoRA's names as LyCORIS had them first, which are those that the webui reads."""


def _stand_in(site: Site, how: Recipe) -> nn.Module:
    """A layer like the live one, without numbers of its own; DoRA reads the live weight's."""
    factory: dict[str, Any] = {"device": "meta"}
    layer: nn.Module
    if site.kind == "linear":
        layer = nn.Linear(site.in_features, site.out_features, bias=False, **factory)
    else:
        layer = nn.Conv2d(site.in_features, site.out_features, site.kernel, bias=False, **factory)
    if how.dora_wd:
        live = site.module.weight
        assert isinstance(live, Tensor)
        layer.weight = nn.Parameter(live.detach().float().cpu(), requires_grad=False)
    return layer


def _options(size: Size, how: Recipe) -> dict[str, Any]:
    """LyCORIS's words for the options; dropouts are ours."""
    names = (
        "use_tucker", "use_scalar", "decompose_both", "factor", "full_matrix", "unbalanced_factorization",
        "constraint", "rescaled", "train_on_input",
    )  # fmt: skip
    return {
        "lora_dim": size.dim, "alpha": size.strength, "weight_decompose": how.dora_wd, "wd_on_out": how.wd_on_output,
        "bypass_mode": False, **{name: getattr(how, name) for name in names},
    }  # fmt: skip


def _seeded(generator: torch.Generator, act: Callable[[], nn.Module]) -> nn.Module:
    """Do something that draws from torch's global CPU generator so that it draws what ours says."""
    seed = int(torch.randint(2**62, (), generator=generator))
    before = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        with torch.device("cpu"):
            return act()
    finally:
        torch.default_generator.set_state(before)
