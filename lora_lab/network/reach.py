"""How far an adapter reaches into a model: kohya's LierLa and C3Lier, and LyCORIS's presets. Pure strings, no torch.

A reach names classes, as LyCORIS's presets do: every layer below a module of such a class is taken. The classes are
those of diffusers and transformers; which of them a layer lies in follows from its path, in whatever layout.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from lora_lab.families import Family, Part
from lora_lab.network import names

TRANSFORMER = frozenset({"Transformer2DModel"})
CONV_BLOCKS = frozenset({"ResnetBlock2D", "Downsample2D", "Upsample2D"})
TEXT = frozenset({"CLIPAttention", "CLIPMLP"})
OPEN_CLIP: Mapping[Family, Part] = MappingProxyType({Family.SD2: "text_encoder", Family.SDXL: "text_encoder_2"})
"""The text encoder that is open_clip's in the webui."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
_OUTSIDE = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")

_CLASSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"down_blocks\.\d+\.", ("CrossAttnDownBlock2D", "DownBlock2D")),
    (r"mid_block\.", ("UNetMidBlock2DCrossAttn",)),
    (r"up_blocks\.\d+\.", ("CrossAttnUpBlock2D", "UpBlock2D")),
    (r".*\battentions\.\d+\.", ("Transformer2DModel",)),
    (r".*\btransformer_blocks\.\d+\.", ("BasicTransformerBlock",)),
    (r".*\battn[12]\.", ("Attention", "CrossAttention")),
    (r".*\bff\.", ("FeedForward",)),
    (r".*\bresnets\.\d+\.", ("ResnetBlock2D",)),
    (r".*\bdownsamplers\.\d+\.", ("Downsample2D",)),
    (r".*\bupsamplers\.\d+\.", ("Upsample2D",)),
    (r".*\blayers\.\d+\.", ("CLIPEncoderLayer",)),
    (r".*\bself_attn\.", ("CLIPAttention", "CLIPSdpaAttention")),
    (r".*\bmlp\.", ("CLIPMLP",)),
)
"""What a diffusers path begins with -> the classes of the module there."""


@dataclass(frozen=True)
class Reach:
    """Which layers take a piece."""

    unet: frozenset[str] = frozenset()
    """Classes of modules of the UNet below which every layer is taken."""
    text: frozenset[str] = frozenset()
    """The same of the text encoders."""
    unet_names: tuple[str, ...] = ()
    """Layers of the UNet by their paths (in the words of names on disk): regular expressions that fit from the
    beginning, as LyCORIS has them, or patterns with ``*`` if `wildcards` is set."""
    text_names: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Paths that are left out, spelt the same way."""
    wildcards: bool = False
    conv1x1: bool = True
    conv: bool = False
    """Convolutions with a larger kernel too?"""
    norms: bool = False
    """LyCORIS's train_norm: the norms among those layers too?"""

    def takes_part(self, part: Part) -> bool:
        """Can any layer of this network be taken?"""
        return bool(self.unet or self.unet_names) if part == "unet" else bool(self.text or self.text_names)

    def takes(self, name: str, part: Part, family: Family, kind: str) -> bool:
        """Is the layer with this name on disk taken?

        Args:
            kind: `linear`, `conv1x1`, `conv` or `norm`.
        """
        if not {"conv1x1": self.conv1x1, "conv": self.conv, "norm": self.norms}.get(kind, True):
            return False
        there = names.module_path(name, family, names.disk_layout(family))
        same = names.module_path(name, family, "diffusers")
        if there is None or same is None:
            return False
        return any(self._takes_path(own, other, part) for own, other in _whole(there[1], same[1], part, family))

    def _takes_path(self, there: str, same: str, part: Part) -> bool:
        if self._named(there, self.exclude):
            return False
        classes, listed = (self.unet, self.unet_names) if part == "unet" else (self.text, self.text_names)
        return not classes.isdisjoint(classes_of(same)) or self._named(there, listed)

    def _named(self, path: str, patterns: tuple[str, ...]) -> bool:
        if self.wildcards:
            return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
        return any(re.match(pattern, path) for pattern in patterns)


def _whole(there: str, same: str, part: Part, family: Family) -> list[tuple[str, str]]:
    """A layer's two paths; in an attention of open_clip those of all its four layers: the webui adds to it only where a
    file has all of them."""
    head, _, last = same.rpartition(".")
    if part != OPEN_CLIP.get(family) or not head.endswith("self_attn"):
        return [(there, same)]
    return [(there.removesuffix(last) + place, f"{head}.{place}") for place in ATTENTION]


def classes_of(path: str) -> frozenset[str]:
    """The classes of the modules that a layer lies in, by its diffusers path."""
    return frozenset(name for pattern, found in _CLASSES if re.match(pattern, path) for name in found)


LIERLA = Reach(TRANSFORMER, TEXT)
"""kohya's LoRA: the transformers' linear layers and 1x1 convolutions, the text encoders' attention and MLP."""
C3LIER = Reach(TRANSFORMER | CONV_BLOCKS, TEXT, conv=True)
"""kohya's LoRA with conv_dim: also all layers of residual blocks and of the down- and upsamplers."""

PRESETS: Mapping[str, Reach] = MappingProxyType(
    {
        "full": Reach(TRANSFORMER | CONV_BLOCKS, TEXT, _OUTSIDE, conv=True),
        "full-lin": Reach(TRANSFORMER | {"ResnetBlock2D"}, TEXT, _OUTSIDE[2:]),
        "attn-mlp": LIERLA,
        "attn-only": Reach(frozenset({"CrossAttention"}), frozenset({"CLIPAttention"})),
        "unet-only": Reach(TRANSFORMER | CONV_BLOCKS, unet_names=_OUTSIDE, conv=True),
        "unet-transformer-only": Reach(TRANSFORMER),
        "unet-convblock-only": Reach(CONV_BLOCKS, unet_names=_OUTSIDE[:2], conv=True),
        "ia3": Reach(
            unet_names=(r".*\.to_[kv]$", r".*\.ff\.net\.2$"),
            text_names=(r".*\.[kv]_proj$", r".*\.mlp\.fc2$"),
        ),
    }
)
"""LyCORIS's presets. Its own ia3 finds no layer (its names are matched from the beginning); here it takes those that
it means."""

WIDEST = replace(PRESETS["full"], norms=True)
"""Every layer that any kind of adapter can hang on: for files, which say themselves which of them they have."""
