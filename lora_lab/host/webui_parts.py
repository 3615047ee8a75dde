"""The live model's modules and parameters, listed once per loaded checkpoint.

Walking a Stable Diffusion's module tree takes about ten milliseconds, which a lease of a few steps cannot afford;
reading an attribute of each entry of a list takes a tenth of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import nn

    from lora_lab.host.webui_types import SdModel


TILED = "__webui_hypertile_layers"
"""What the Hypertile extension notes at a network whose layers it has wrapped."""


@dataclass(frozen=True)
class LiveParts:
    """What a lease has to look at."""

    modules: tuple[nn.Module, ...]
    """Every module below the model object: UNet, text encoder, VAE, the webui's wrappers. Not the object itself,
    which these lists must not keep alive."""
    parameters: tuple[nn.Parameter, ...]
    """Every parameter, each once."""
    attention: tuple[type[nn.Module], ...]
    """The classes of the UNet's attention layers, whose `forward` the webui swaps."""
    hypertile: tuple[nn.Module, ...]
    """Modules whose `forward` the Hypertile extension has replaced on the instance."""


class PartsCache:
    """Keeps the lists until other weights, or other wrappers, are live. Does not keep a model alive."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[SdModel, tuple[tuple[object, ...], LiveParts]] = WeakKeyDictionary()

    def of(self, sd_model: SdModel, loads: int) -> LiveParts:
        """The parts of `sd_model`.

        Args:
            sd_model: the webui's model object.
            loads: how many times the webui has said that a model was loaded; another number means a new listing.
                A new text encoder wrapper (the webui makes one when the attention option changes) means one too, and
                so do Hypertile's wrappers, which come with the first picture that wants them and then stay.
        """
        tiled = (hasattr(root, TILED) for root in (sd_model.model, sd_model.first_stage_model))
        mark = (loads, id(getattr(sd_model, "cond_stage_model", None)), *tiled)
        known = self._known.get(sd_model)
        if known is None or known[0] != mark:
            known = (mark, list_parts(sd_model))
            self._known[sd_model] = known
        return known[1]


def list_parts(sd_model: SdModel) -> LiveParts:
    """Walk the whole model once."""
    modules = tuple(module for module in sd_model.modules() if module is not sd_model)
    return LiveParts(
        modules=modules,
        parameters=tuple(sd_model.parameters()),
        attention=tuple({type(m) for m in modules if type(m).__name__ == "CrossAttention"}),
        hypertile=tuple(m for m in modules if "__webui_hypertile_params" in m.__dict__),
    )
