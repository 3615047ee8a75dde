"""Runs that were broken off, by a crash or by hand, and can go on: found by the state in their folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.errors import HostBusyError, LoraLabError, SettingsError, TrainingError
from lora_lab.training.record.folder_lock import in_use
from lora_lab.training.record.wish import folder_named
from lora_lab.training.settings import TrainSettings, settings_file

if TYPE_CHECKING:
    from lora_lab.host.base import CheckpointInfo
    from lora_lab.training.record.state import Standing

RUNS = "runs"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Unfinished:
    """A broken-off run."""

    id: str
    folder: Path
    settings: TrainSettings
    standing: Standing

    @property
    def name(self) -> str:
        """Of its LoRA."""
        return self.settings.output_name


def unfinished(data_dir: Path) -> tuple[Unfinished, ...]:
    """All runs of a data folder that can go on, the newest first. Those under way anywhere are left out."""
    folders = sorted((data_dir / RUNS).glob("*/state.safetensors"), reverse=True)
    found = (_look(path.parent) for path in folders if not in_use(path.parent))
    return tuple(run for run in found if run is not None)


def find(data_dir: Path, run_id: str) -> Unfinished:
    """The broken-off run of that id (a folder's name, or a part of it that only one has).

    Raises:
        SettingsError: there is none, or more than one.
        TrainingError: it has no state to go on from.
    """
    try:
        folder = folder_named(data_dir / RUNS, run_id)
    except SettingsError as error:
        known = ", ".join(run.id for run in unfinished(data_dir)[:5])
        remedy = f"choose one of {known}" if known else "start it anew"
        raise SettingsError(error.what, file=data_dir / RUNS, remedy=remedy) from None
    found = _look(folder)
    if found is None:
        from lora_lab.training.record import state

        state.read(folder)  # says what is wrong with it
        raise TrainingError("the settings of this run cannot be read", file=folder)
    return found


def forget(run: Unfinished) -> None:
    """Take its state away: it cannot go on any more. Its folder, snapshots and pictures stay.

    Raises:
        HostBusyError: it is under way again.
    """
    from lora_lab.training.record import state

    if in_use(run.folder):
        raise HostBusyError("this run is under way", file=run.folder, remedy="stop it first")
    state.remove(run.folder)


def _look(folder: Path) -> Unfinished | None:
    from lora_lab.training.record import state

    stood = state.standing(folder)
    if stood is None:
        return None
    try:
        settings = settings_file.read(folder / SETTINGS).settings
    except LoraLabError:
        return None
    return Unfinished(folder.name, folder, settings, stood)


def check_settings(again: Unfinished, settings: TrainSettings | None) -> None:
    """A run goes on with its own settings.

    Raises:
        SettingsError: others were given; the first that differs is named.
    """
    if settings is None or settings == again.settings:
        return
    mine, theirs = again.settings.to_mapping(), settings.to_mapping()
    name = next(n for n in mine if mine[n] != theirs[n])
    what = f"the run {again.id} has {name} {mine[name]!r}, the settings say {theirs[name]!r}"
    raise SettingsError(what, remedy="go on without a settings file, or start a new run from its last snapshot")


def check_checkpoint(again: Unfinished, info: CheckpointInfo) -> None:
    """A run goes on with its own checkpoint: the same bytes, wherever they lie now.

    Raises:
        HostBusyError: another one is loaded.
    """
    wanted = again.standing.checkpoint
    same = info.family.value == wanted["family"] and info.short_hash == wanted["short_hash"]
    if not same or (info.short_hash is None and info.name != wanted["name"]):
        what = f"the run {again.id} trains on {wanted['name']}, and {info.name} is loaded"
        raise HostBusyError(what, remedy=f"load {wanted['name']}, then resume it")
