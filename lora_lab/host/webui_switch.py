"""Other checkpoints of the webui's list for a while, loaded as the webui loads a refiner: its choice stays as it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from modules import sd_models, shared

from lora_lab.errors import CheckpointError, LoraLabError
from lora_lab.families import ListedCheckpoint
from lora_lab.host import headers, webui_restore
from lora_lab.host.webui_checkpoint import file_identity, live_model

if TYPE_CHECKING:
    from lora_lab.host.base import CheckpointInfo
    from lora_lab.host.webui_types import CheckpointRecord, SdModel

CHOSEN, HASH = "sd_model_checkpoint", "sd_checkpoint_hash"
"""Options: which checkpoint the person has chosen, and the hash of the one loaded last."""

log = logging.getLogger(__name__)


def listed(name: str, live: CheckpointInfo | None) -> ListedCheckpoint:
    """A checkpoint by any name that the webui knows it by.

    Args:
        name: as in the webui's dropdown.
        live: what is loaded.

    Raises:
        CheckpointError: it is not in the list, its file is gone, or is none that can be told by its header.
    """
    found = sd_models.checkpoint_aliases.get(name)
    if found is None:
        raise CheckpointError("this checkpoint is not in the webui's list", file=name, remedy="refresh the list")
    path = Path(found.filename)
    if live is not None and live.path == path:
        return ListedCheckpoint(live.name, live.identity, live.family, path, live.short_hash)
    return ListedCheckpoint(path.name, file_identity(str(path)), headers.family_of_file(path), path, found.hash)


def record(path: Path) -> CheckpointRecord:
    """The line of the webui's list for a file.

    Raises:
        CheckpointError: there is none any more.
    """
    for found in sd_models.checkpoints_list.values():
        if Path(found.filename) == path:
            return cast("CheckpointRecord", found)
    raise CheckpointError("this checkpoint is not in the webui's list", file=path, remedy="refresh the list")


def chosen(instead: CheckpointRecord | None = None) -> CheckpointRecord:
    """What the person has chosen, which the webui loads before the next picture; `instead` if that is not listed."""
    found = sd_models.checkpoint_aliases.get(shared.opts.data.get(CHOSEN)) or instead
    return cast("CheckpointRecord", found or sd_models.select_checkpoint())


def load(wanted: CheckpointRecord) -> SdModel:
    """Make it the live one. The queue is the caller's.

    Raises:
        CheckpointError: the webui cannot load it; the one before is live.
    """
    data, model = shared.opts.data, live_model()
    told, before = data.get(HASH), None if model is None else model.sd_checkpoint_info
    try:
        with webui_restore.random_states(), sd_models.SkipWritingToConfig():
            return cast("SdModel", sd_models.reload_model_weights(info=wanted))
    except LoraLabError:
        raise
    except Exception as error:  # whatever the webui's loading of a file may raise
        _whole_again(before)
        what = f"the webui cannot load it ({type(error).__name__}: {str(error)[:200]})"
        raise CheckpointError(what, file=wanted.name, remedy="choose another checkpoint") from error
    finally:
        if chosen(wanted).filename != wanted.filename:
            data[HASH] = told


def _whole_again(before: CheckpointRecord | None) -> None:
    """After a failed load. The webui leaves the model without its wrappers, on the CPU, and takes it for loaded."""
    try:
        with webui_restore.random_states(), sd_models.SkipWritingToConfig():
            sd_models.reload_model_weights(info=before, forced_reload=True)
    except Exception:  # the first error is the one to tell
        log.exception("the checkpoint before cannot be loaded again")
