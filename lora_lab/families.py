"""The words that every room shares about kinds of Stable Diffusion. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal


class Family(str, Enum):
    """The generation of Stable Diffusion, which decides sites, key names and text encoders."""

    SD1 = "sd1"
    SD2 = "sd2"
    SDXL = "sdxl"


PredictionType = Literal["epsilon", "v_prediction"]
"""What the UNet predicts: the noise, or the velocity of Salimans and Ho (arXiv 2202.00512)."""

Layout = Literal["ldm", "diffusers"]
"""How the live UNet's modules are named: `input_blocks.1.1...` or `down_blocks.0.attentions.0...`."""

Part = Literal["unet", "text_encoder", "text_encoder_2"]
"""Which network of the checkpoint a site belongs to."""

BASE = "BASE"
"""The block of all text encoder sites."""


@dataclass(frozen=True)
class ListedCheckpoint:
    """A checkpoint that may be loaded, as its file's header tells it."""

    name: str
    """File name with its ending."""
    identity: str
    """What `host.base.CheckpointInfo.identity` is once it is loaded."""
    family: Family
    path: Path
    short_hash: str | None = None
    """As `host.base.CheckpointInfo.short_hash`."""
