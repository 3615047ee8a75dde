"""Where a run writes: the names of its LoRA files, and whether there is a place for them. No torch here."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lora_lab.errors import AdapterFileError, OutputError
from lora_lab.training.plan import Plan
from lora_lab.training.settings import TrainSettings

ENDING = ".safetensors"
BYTES = {"float": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class Outputs:
    """Names as kohya's: `name-000003` after the third epoch, `name-step00000012` when stopped, `name` at the end."""

    folder: Path
    name: str

    @property
    def final(self) -> Path:
        """The finished LoRA."""
        return self.folder / f"{self.name}{ENDING}"

    def snapshot(self, epoch: int) -> Path:
        """After `epoch` (1-based)."""
        return self.folder / f"{self.name}-{epoch:06d}{ENDING}"

    def at_step(self, step: int) -> Path:
        """Of `save_every_n_steps`."""
        return self.folder / f"{self.name}-step{step:08d}{ENDING}"

    def stopped(self, step: int) -> Path:
        """What is kept of a run that ended early; another number is put behind when a file has that name."""
        path = self.at_step(step)
        count = 2
        while path.exists():
            path = self.folder / f"{self.name}-step{step:08d}-{count}{ENDING}"
            count += 1
        return path


def outputs_of(settings: TrainSettings, lora_dir: Path) -> Outputs:
    """The output folder of the settings, or else the host's."""
    return Outputs(Path(settings.output_dir) if settings.output_dir else lora_dir, settings.output_name)


def check_outputs(outputs: Outputs, plan: Plan | None = None, own: int | None = None) -> None:
    """Refuse before the training what could not be saved after it.

    Args:
        outputs: to be looked at; the folder is made if it is not there.
        plan: when known, its snapshots' names are looked at as well.
        own: session id of a run that goes on: its own files may be there, and are written over.

    Raises:
        OutputError: the folder cannot be made or written to, or a LoRA of that name is there already.
    """
    check_writable(outputs.folder)
    paths = [outputs.final]
    if plan is not None:
        paths += [outputs.snapshot(epoch) for epoch in plan.snapshot_epochs]
        paths += [outputs.at_step(step) for step in plan.snapshot_steps]
    for path in paths:
        if path.exists() and not is_of(path, own):
            raise OutputError("a LoRA of that name is there already", file=path, remedy="choose another output_name")


def is_of(path: Path, session_id: int | None) -> bool:
    """Was this LoRA written by the run with that session id?"""
    if session_id is None:
        return False
    from lora_lab.network.streams import TensorFile

    try:
        with TensorFile(path) as file:
            return file.metadata.get("ss_session_id") == str(session_id)
    except AdapterFileError:
        return False


def check_writable(folder: Path) -> None:
    """Write a small file there and take it away again.

    Raises:
        OutputError: it cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".lora_lab_"):
            pass
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        remedy = "choose another folder, or allow writing to it"
        raise OutputError(f"the folder cannot be written to, {reason}", file=folder, remedy=remedy) from error


def check_space(outputs: Outputs, settings: TrainSettings, plan: Plan, parameters: int) -> None:
    """Is there room on the disk for all the run's files?

    Args:
        outputs: where they go.
        settings: for the number format.
        plan: for the number of snapshots.
        parameters: numbers in each file.

    Raises:
        OutputError: there is not.
    """
    needed = (len(plan.snapshot_epochs) + len(plan.snapshot_steps) + 1) * parameters * BYTES[settings.save_precision]
    try:
        free = shutil.disk_usage(outputs.folder).free
    except OSError:
        return
    if free < needed:
        what = f"the files need {needed / 2**20:.0f} MB and the disk has {free / 2**20:.0f} MB left"
        remedy = "free some space, or choose larger save_every_n_epochs and _steps"
        raise OutputError(what, file=outputs.folder, remedy=remedy)
