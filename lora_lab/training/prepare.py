"""Everything that is looked at before a run begins, so that it fails at once or not at all."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from lora_lab.dataset.metadata_file import named
from lora_lab.errors import DatasetError, HostBusyError, OutputError
from lora_lab.network.reach import PRESETS
from lora_lab.training.checks import check, warnings
from lora_lab.training.checks.blocks import check_blocks
from lora_lab.training.checks.captions import check_text_cache
from lora_lab.training.checks.family import check_family
from lora_lab.training.checks.memory import check_host
from lora_lab.training.checks.noise import check_prediction
from lora_lab.training.checks.output import DEVICES
from lora_lab.training.dataset_config import plain_path, sources_of
from lora_lab.training.record.outputs import Outputs, check_outputs, outputs_of
from lora_lab.training.settings import TrainSettings
from lora_lab.training.start_files import check_start_files, find_file

if TYPE_CHECKING:
    from lora_lab.host.base import CheckpointInfo, Host, HostPaths


@dataclass(frozen=True)
class Checked:
    """A run that may start: nothing of it was too wrong to see in a moment."""

    settings: TrainSettings
    checkpoint: CheckpointInfo
    outputs: Outputs
    warnings: tuple[str, ...]


def check_start(settings: TrainSettings, host: Host, own: int | None = None, *, writes: bool = True) -> Checked:
    """The quick part: settings, checkpoint, folders. Pictures are scanned in the run itself.

    Args:
        settings: of the run.
        host: where it is to train.
        own: session id of a broken-off run that goes on: its own files may be there.
        writes: False for a measurement, which leaves no LoRA: one of that name may be there.

    Raises:
        SettingsError, DatasetError, CheckpointError, HostBusyError, OutputError: what is wrong.
    """
    if settings.preset not in PRESETS:
        check_allowed(settings.preset, host.paths())  # before it is read
    check(settings)
    info = host.current()
    if info is None:
        raise HostBusyError("no checkpoint is loaded", remedy="load one, then start again")
    check_family(settings, info)
    check_host(settings, host.kind)
    check_prediction(settings, info.prediction_type)
    check_blocks(settings, info.family)
    _check_tools(settings)
    paths = host.paths()
    for name in ("train_data_dir", "reg_data_dir", "validation_data_dir", "conditioning_data_dir"):
        _check_folder(name, getattr(settings, name), paths)
    check_sources(settings, paths)
    for name in ("output_dir", "logging_dir"):
        check_allowed(getattr(settings, name), paths)
    for name in (settings.network_weights, *settings.base_weights):
        check_allowed(name and str(find_file(name, paths.lora_dir)), paths)
    check_start_files(settings, info, paths.lora_dir)
    outputs = outputs_of(settings, paths.lora_dir)
    if writes:
        check_outputs(outputs, own=own)
    return Checked(settings, info, outputs, warnings(settings, info.family, info.prediction_type))


def check_sources(settings: TrainSettings, paths: HostPaths) -> None:
    """Subsets that are named one by one: each folder must be there, and be allowed.

    Raises:
        SettingsError, DatasetError, OutputError: what is wrong.
    """
    for value in (settings.dataset_config, settings.in_json):
        check_allowed(plain_path(value), paths)
    config = sources_of(settings)
    for source in () if config is None else config.sources:
        check_text_cache(settings, source.options)
        _check_folder("image_dir", str(source.folder or ""), paths)
        _check_folder("conditioning_data_dir", source.options.conditioning_data_dir, paths)
        if source.metadata is not None:
            check_allowed(str(source.metadata), paths)
            if not source.metadata.is_file():
                raise DatasetError("there is no such metadata file", file=source.metadata, remedy="check its path")
            if paths.allowed_roots:
                for picture in named(source.metadata, source.folder):
                    check_allowed(str(picture), paths)


def _check_tools(settings: TrainSettings) -> None:
    """The optimizer and the schedule can be made: a missing package or a wrong option is told here, not in the run."""
    from lora_lab.training.learning.optimizers import try_out
    from lora_lab.training.learning.schedule_classes import foreseen
    from lora_lab.training.plan import scheduler_of

    try_out(settings.optimizer_type, settings.optimizer_args)
    if settings.lr_scheduler_type and scheduler_of(settings) == settings.lr_scheduler:
        foreseen(settings, (1e-4,), 1)


def _check_folder(name: str, value: str, paths: HostPaths) -> None:
    if not value:
        return
    check_allowed(value, paths)
    if not Path(value).is_dir():
        raise DatasetError(f"{name} is no folder", file=value, remedy="choose the folder that holds your pictures")


def check_allowed(value: str, paths: HostPaths) -> None:
    """A webui that listens to a network lets nobody reach folders outside its own. Links are followed first.

    Raises:
        OutputError: `value` lies below none of the allowed folders, or is no path at all.
    """
    if "\0" in value:
        raise OutputError("a path holds a zero byte", remedy="type it again")
    if not value or not paths.allowed_roots:
        return
    # Both as it is written and as a home folder: the one who opens it may expand it.
    found = [Path(os.path.realpath(value)), Path(os.path.realpath(os.path.expanduser(value)))]
    allowed = [Path(os.path.realpath(root)) for root in paths.allowed_roots]
    if _is_device(value) or not all(any(path.is_relative_to(root) for root in allowed) for path in found):
        roots = ", ".join(str(root) for root in paths.allowed_roots)
        raise OutputError("this folder is outside of those allowed", file=value, remedy=f"use one below {roots}")


def _is_device(value: str) -> bool:
    """Windows opens these wherever they seem to lie: device names, with any ending, and streams behind a colon."""
    parts = PureWindowsPath(value).parts
    names = {part.split(".")[0].split(":")[0].rstrip(" ").upper() for part in parts}
    streams = any(":" in part for part in (parts[1:] if PureWindowsPath(value).drive else parts))
    return sys.platform == "win32" and (bool(names & DEVICES) or streams or value.startswith(("\\\\?", "\\\\.")))
