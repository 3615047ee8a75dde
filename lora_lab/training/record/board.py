"""A TensorBoard log of a run, where the package is installed and logging_dir asks for one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.training.events import Event, StepDone, Validated

if TYPE_CHECKING:
    from lora_lab.training.settings import TrainSettings

LABELS = {"unet": "unet", "text_encoder": "textencoder", "text_encoder_2": "textencoder2"}
"""kohya's names of the groups in its charts."""


class Board:
    """Writes kohya's charts: loss/current, loss/average, lr/unet, lr/textencoder, lr/d*lr/..., loss/validation."""

    def __init__(self, writer: Any, adaptive: bool) -> None:  # noqa: ANN401 - tensorboard has no types
        self._writer = writer
        self._prefix = "lr/d*lr/" if adaptive else "lr/"

    def tell(self, event: Event) -> None:
        """Write what belongs into a chart."""
        if isinstance(event, StepDone):
            self._writer.add_scalar("loss/current", event.loss, event.step)
            self._writer.add_scalar("loss/average", event.loss_average, event.step)
            for name, rate in event.learning_rates.items():
                self._writer.add_scalar(f"{self._prefix}{LABELS.get(name, name)}", rate, event.step)
        elif isinstance(event, Validated):
            self._writer.add_scalar("loss/validation", event.loss, event.step)

    def close(self) -> None:
        """Write the rest."""
        self._writer.close()


def open_board(settings: TrainSettings, adaptive: bool) -> tuple[Board | None, str]:
    """The log that the settings ask for, in ``logging_dir/<date and time>``.

    Returns:
        The log (None when there is to be none, or it cannot be had), and a sentence of why it cannot.
    """
    if not settings.logging_dir:
        return None, ""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None, "No TensorBoard log is written: install the package for it (pip install tensorboard)."
    try:
        folder = Path(settings.logging_dir) / time.strftime("%Y%m%d%H%M%S")
        return Board(SummaryWriter(str(folder)), adaptive), ""
    except OSError as error:
        return None, f"No TensorBoard log is written: {settings.logging_dir} cannot be written to ({error.strerror})."
