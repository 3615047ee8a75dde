"""Which checkpoint is live, and whether LoRA Lab can train on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from modules import hashes, sd_models, sd_vae

from lora_lab.errors import CheckpointError
from lora_lab.families import Family, PredictionType
from lora_lab.host.base import CheckpointInfo
from lora_lab.host.webui_text import wrappers

if TYPE_CHECKING:
    from lora_lab.host.webui_types import CheckpointRecord, SdModel

PREDICTIONS: dict[str, PredictionType] = {"eps": "epsilon", "v": "v_prediction"}
"""The webui's word for what the UNet predicts, and ours."""


def live_model() -> SdModel | None:
    """The webui's model object, or None; unlike `shared.sd_model`, asking for it loads none."""
    return cast("SdModel | None", sd_models.model_data.sd_model)


def family_of(sd_model: SdModel) -> Family | None:
    """Told by the model's parts, since not every webui sets its flags; None for what is no SD1, SD2 or SDXL."""
    if getattr(sd_model, "is_sd3", False) or not hasattr(sd_model.model, "diffusion_model"):
        return None
    if hasattr(sd_model, "conditioner"):
        return Family.SDXL
    wrapped = getattr(getattr(sd_model, "cond_stage_model", None), "wrapped", None)
    if hasattr(wrapped, "transformer"):
        return Family.SD1
    return Family.SD2 if hasattr(wrapped, "model") else None


def check_supported(sd_model: SdModel) -> None:
    """See that we can train on this model.

    Raises:
        CheckpointError: another family, or a UNet with other inputs or outputs than plain text to image.
    """
    name = sd_model.sd_checkpoint_info.name
    family = family_of(sd_model)
    remedy = "load a Stable Diffusion 1, 2 or XL checkpoint for text to image"
    if family is None:
        raise CheckpointError(f"{name} is of an unknown family, which is not supported", remedy=remedy)
    special = _special(sd_model, family)
    if special:
        raise CheckpointError(f"{name} is {special} checkpoint, which is not supported", remedy=remedy)
    if sd_model.parameterization not in PREDICTIONS:
        raise CheckpointError(f"{name} predicts '{sd_model.parameterization}', which is not supported", remedy=remedy)


def _special(sd_model: SdModel, family: Family) -> str:
    """What kind of checkpoint it is that wants more than text and noise; empty if it wants no more."""
    unet = sd_model.model.diffusion_model
    if unet.in_channels != 4:
        return {9: "an inpainting", 8: "an edit", 5: "a depth"}.get(unet.in_channels, "a special")
    if family is Family.SDXL:
        return "" if len(wrappers(sd_model)) == 2 else "a refiner or turbo"
    if getattr(unet, "num_classes", None) is not None:
        return "an unCLIP"
    layer = getattr(sd_model.cond_stage_model.wrapped, "layer_idx", 1)
    return "a Stable Diffusion 2 (last text layer)" if family is Family.SD2 and layer != 1 else ""


class CheckpointReader:
    """Tells what is live, without reading a file twice: the tab asks every second."""

    def __init__(self) -> None:
        self._seen: tuple[CheckpointRecord, int] | None = None
        self._identity = ""

    def read(self, sd_model: SdModel | None, loads: int) -> CheckpointInfo | None:
        """What is live.

        Args:
            sd_model: from `live_model`, may be None.
            loads: how many models were loaded so far. The identity of a file is that of the moment when it was
                loaded: a file overwritten later does not change what is live.
        """
        if sd_model is None or (family := family_of(sd_model)) is None:
            return None
        found = sd_model.sd_checkpoint_info
        if self._seen is None or self._seen[0] is not found or self._seen[1] != loads:
            self._identity = file_identity(found.filename)
            self._seen = (found, loads)
        return CheckpointInfo(
            name=Path(found.filename).name,
            identity=self._identity,
            family=family,
            prediction_type=PREDICTIONS.get(getattr(sd_model, "parameterization", "eps"), "epsilon"),
            path=Path(found.filename),
            sha256=found.sha256,
            short_hash=found.hash,
            vae_name=sd_vae.get_loaded_vae_name(),
        )


def file_identity(filename: str) -> str:
    """Path, size and time of a file; the path alone when it is gone."""
    path = Path(filename)
    try:
        stat = path.stat()
    except OSError:
        return str(path)
    return f"{path}|{stat.st_size}|{stat.st_mtime_ns}"


def known_hash(info: CheckpointInfo) -> str | None:
    """The sha256 of the whole file, if the webui has computed it; never reads the file."""
    if info.path is None:
        return None
    live = live_model()
    found = None if live is None else live.sd_checkpoint_info
    name = found.name if found is not None and Path(found.filename) == info.path else info.path.name
    known: str | None = hashes.sha256_from_cache(str(info.path), f"checkpoint/{name}")
    return known or info.sha256
