"""The webui's own DeepDanbooru and BLIP, and where its extensions keep taggers. One of the files that know `modules`.

The webui downloads a model of its own when it is first asked for; here only those are offered that are there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modules import call_queue, devices, paths, shared

from lora_lab.host.base import HostCaptioner, HostTagger, OpenedTagger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

DEEPDANBOORU, BLIP = "torch_deepdanbooru", "BLIP"
"""Folders below the webui's models."""
SIDE = 512
"""Pictures that DeepDanbooru sees (`modules.deepbooru`)."""
KEPT_BY_OTHERS = ("interrogators", "TaggerOnnx")
"""Folders below the webui's models in which tagger extensions keep theirs."""


def tagger_places() -> tuple[Path, ...]:
    """Where tagger extensions keep models: below the webui's models, in their own folder, where they are told to."""
    models = Path(paths.models_path)
    places = [models / name for name in KEPT_BY_OTHERS]
    told = [getattr(shared.cmd_opts, "onnxtagger_path", None), getattr(shared.opts, "tagger_hf_cache_dir", None)]
    places += [Path(place) for place in told if place]
    extensions = Path(paths.extensions_dir)
    if extensions.is_dir():
        places += [path for path in sorted(extensions.iterdir()) if "tag" in path.name.lower() and path.is_dir()]
    return tuple(places)


def interrogators() -> tuple[HostTagger | HostCaptioner, ...]:
    """Those whose files are there."""
    found: list[HostTagger | HostCaptioner] = []
    if file := _first(DEEPDANBOORU, "*.pt"):
        state = file.stat()
        found.append(DeepDanbooru("DeepDanbooru", f"deepdanbooru {file.name} {state.st_size} {state.st_mtime_ns}", 0.5))
    if _first(BLIP, "*.pth"):
        found.append(Blip("BLIP"))
    return tuple(found)


@dataclass(frozen=True)
class DeepDanbooru(HostTagger):
    """`modules.deepbooru`: a net in torch, with the sigmoid in it, fed with RGB in 0..1."""

    @contextmanager
    def opened(self) -> Iterator[OpenedTagger]:
        """See `HostTagger.opened`."""
        from modules import deepbooru

        with call_queue.queue_lock:
            deepbooru.model.start()
        try:
            yield OpenedTagger(tuple(deepbooru.model.model.tags), SIDE, self._run)
        finally:
            with call_queue.queue_lock:
                deepbooru.model.stop()

    @staticmethod
    def _run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch
        from modules import deepbooru

        with call_queue.queue_lock, torch.no_grad(), devices.autocast():
            pixels = torch.from_numpy(pictures).to(devices.device, devices.dtype) / 255
            found: NDArray[np.float32] = deepbooru.model.model(pixels).float().cpu().numpy()
        return found


@dataclass(frozen=True)
class Blip(HostCaptioner):
    """`modules.interrogate`'s captioner, without the CLIP that it loads beside it."""

    @contextmanager
    def opened(self) -> Iterator[Callable[[Image.Image], str]]:
        """See `HostCaptioner.opened`."""
        interrogator = shared.interrogator
        with call_queue.queue_lock:
            if interrogator.blip_model is None:
                interrogator.blip_model = interrogator.load_blip_model()
            if not shared.cmd_opts.no_half and not interrogator.running_on_cpu:
                interrogator.blip_model = interrogator.blip_model.half()
            interrogator.blip_model = interrogator.blip_model.to(devices.device_interrogate)
            interrogator.dtype = next(interrogator.blip_model.parameters()).dtype
        try:
            yield self._caption
        finally:
            with call_queue.queue_lock:
                interrogator.send_blip_to_ram()

    @staticmethod
    def _caption(picture: Image.Image) -> str:
        with call_queue.queue_lock:
            return str(shared.interrogator.generate_caption(picture.convert("RGB")))


def _first(folder: str, pattern: str) -> Path | None:
    return next(iter(sorted((Path(paths.models_path) / folder).glob(pattern))), None)
