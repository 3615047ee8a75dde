"""The webui's upscalers, those whose files are there. One of the files that know `modules`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modules import call_queue, shared

from lora_lab.host.base import HostUpscaler

if TYPE_CHECKING:
    from PIL import Image

WITHOUT_FILE = frozenset({"None", "Lanczos", "Nearest"})
"""The webui's names for what is no net; Pillow does it here without the webui's queue."""


def upscalers() -> tuple[HostUpscaler, ...]:
    """Nets of the webui; one that it would have to download first is left out."""
    found = [u for u in getattr(shared, "sd_upscalers", ()) if u.name not in WITHOUT_FILE]
    return tuple(WebuiUpscaler(u.name, u) for u in found if u.data_path and os.path.isfile(u.data_path))


@dataclass(frozen=True)
class WebuiUpscaler(HostUpscaler):
    """One of `shared.sd_upscalers`."""

    data: Any = field(repr=False, compare=False)
    """The webui's `UpscalerData`."""

    def enlarge(self, picture: Image.Image, factor: float) -> Image.Image:
        """See `HostUpscaler.enlarge`. The webui runs the net as often as it takes, and trims the result."""
        wanted = (round(picture.width * factor), round(picture.height * factor))
        with call_queue.queue_lock:
            found: Image.Image = self.data.scaler.upscale(picture, factor, self.data.data_path)
        return found if found.size == wanted else found.resize(wanted)
