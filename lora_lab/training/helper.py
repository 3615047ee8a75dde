"""A process that helps another one to train: the same run without files, pictures, validation or words."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.training.events import RunEnded
from lora_lab.training.prepare import check_start
from lora_lab.training.settings import TrainSettings
from lora_lab.training.team import Team

if TYPE_CHECKING:
    from lora_lab.host.base import Host


def help_train(settings: TrainSettings, host: Host, team: Team, stop: Callable[[], bool]) -> RunEnded:
    """Do this process's part of a run until it ends. Nothing is left on the disk but latents, where they are asked for.

    Args:
        settings: as the first process has them.
        host: this process's own, with the same checkpoint.
        team: not the first of it.
        stop: asked at each step; a yes ends all processes after that step.

    Raises:
        LoraLabError: why it failed.
    """
    from lora_lab.training.loop import Trainer

    with tempfile.TemporaryDirectory(prefix="lora_lab_") as folder:
        quiet = {"output_dir": folder, "validation_data_dir": "", "sample_prompts": "", "logging_dir": ""}
        trainer = Trainer(check_start(settings.replace(**quiet), host), host, Path(folder), stop, team=team)
        ended = None
        for event in trainer.events():
            if isinstance(event, RunEnded):
                ended = event
    if trainer.error is not None:
        raise trainer.error
    assert ended is not None
    return ended
