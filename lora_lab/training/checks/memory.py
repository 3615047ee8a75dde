"""Options that save memory."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.training.learning.optimizer_kinds import kind_of
from lora_lab.training.settings import TrainSettings

FP8_REMEDY = (
    "switch it off, and the webui's own option FP8 weight on (Settings, Optimizations), with which training works too"
)


def check(settings: TrainSettings) -> None:
    """Each in the precision that it needs, and updates on the way only where every tensor is a step of its own."""
    _check_precision(settings)
    if settings.cpu_offload_checkpointing and not settings.gradient_checkpointing:
        what = "cpu_offload_checkpointing moves what gradient_checkpointing keeps, which is off"
        raise SettingsError(what, remedy="switch gradient_checkpointing on too")
    if settings.fused_backward_pass:
        _check_fused(settings)


def check_host(settings: TrainSettings, kind: str) -> None:
    """What a host's live model allows.

    Raises:
        SettingsError: other weights, where pictures need the checkpoint's own.
    """
    if kind == "webui" and (settings.fp8_base or settings.fp8_base_unet):
        what = "fp8_base would change weights that the webui's pictures need as they are"
        raise SettingsError(what, remedy=FP8_REMEDY)


def _check_precision(settings: TrainSettings) -> None:
    if settings.full_fp16 and settings.full_bf16:
        raise SettingsError("full_fp16 and full_bf16 are both on", remedy="switch one of them off")
    for name, wanted in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if getattr(settings, name) and settings.mixed_precision not in (wanted, "auto"):
            what = f"{name} needs mixed_precision {wanted}, it is {settings.mixed_precision}"
            raise SettingsError(what, remedy=f"set mixed_precision to {wanted}")
    if (settings.fp8_base or settings.fp8_base_unet) and settings.mixed_precision not in ("fp16", "bf16"):
        what = f"fp8_base needs a type to compute in, and mixed_precision is {settings.mixed_precision}"
        raise SettingsError(what, remedy="set mixed_precision to fp16 or bf16")


def _check_fused(settings: TrainSettings) -> None:
    if settings.gradient_accumulation_steps > 1:
        what = "fused_backward_pass keeps no gradient that others could be added to"
        raise SettingsError(what, remedy="set gradient_accumulation_steps to 1")
    if settings.max_grad_norm:
        what = "fused_backward_pass never has all gradients at once, so they cannot be clipped together"
        raise SettingsError(what, remedy="set max_grad_norm to 0")
    name = settings.optimizer_type
    foreign = "." in name and not name.startswith(("torch.optim.", "bitsandbytes."))
    if kind_of(name).adaptive or kind_of(name).schedule_free or foreign:
        what = f"fused_backward_pass steps each tensor alone, and {name} may look at all of them together"
        raise SettingsError(what, remedy="choose AdamW or AdamW8bit, or switch it off")


def warnings(s: TrainSettings) -> Iterator[str]:
    """What has no effect."""
    if s.offload_idle and not (s.cache_latents or s.cache_latents_to_disk):
        yield "offload_idle has no effect, since the VAE is needed in each step while latents are not cached"
    if s.fp8_base and s.fp8_base_unet:
        yield "fp8_base holds the text encoder in 8 bits too, whatever fp8_base_unet says"
