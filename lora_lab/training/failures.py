"""What a person is told when a run fails, and what is let go of then."""

from __future__ import annotations

from lora_lab.errors import HostBusyError, LoraLabError, TrainingError
from lora_lab.training.memory import out_of_memory
from lora_lab.training.prepare import Checked
from lora_lab.training.settings import TrainSettings
from lora_lab.training.step import LossIsNan

NAN_REMEDY = (
    "lower unet_lr and text_encoder_lr (to a tenth), add lr_warmup_steps 0.1, or take mixed_precision bf16 or no"
)


def known(error: BaseException, settings: TrainSettings, step: int, parameters: int) -> LoraLabError | None:
    """The error as a person can use it; None for one that nobody has foreseen.

    Args:
        error: what was raised.
        settings: of the run.
        step: that failed, 1-based.
        parameters: trained numbers of the adapter, 0 before there is one.
    """
    if isinstance(error, LoraLabError):
        return error
    if isinstance(error, LossIsNan):
        return TrainingError(f"the loss is not a number any more at step {step}", remedy=NAN_REMEDY)
    if out_of_memory.is_out_of_memory(error):
        what = "the memory is not enough for this training"
        return TrainingError(what, remedy=f"set {out_of_memory.advice(settings, parameters)}")
    return None


def too_early(error: HostBusyError, checked: Checked) -> HostBusyError:
    """The model was not there before the first step: what that means for the run."""
    what = f"the run has ended before its first step, since {error.what[:1].lower()}{error.what[1:]}"
    return HostBusyError(what, remedy=f"load {checked.checkpoint.name} and start again with the same settings")


def forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of a failed step hold: batch, activations, adapter."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
