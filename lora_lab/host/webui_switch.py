"""Other checkpoints of the webui's list for a while, loaded as the webui loads a refiner: its choice stays as it is."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from modules import call_queue, sd_models, shared

from lora_lab.errors import CheckpointError, LoraLabError
from lora_lab.families import ListedCheckpoint
from lora_lab.host import headers, webui_restore
from lora_lab.host.webui_checkpoint import file_identity, live_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_lab.host.base import CheckpointInfo
    from lora_lab.host.webui_types import CheckpointRecord, SdModel

CHOSEN, HASH = "sd_model_checkpoint", "sd_checkpoint_hash"
"""Options: which checkpoint the person has chosen, and the hash of the one loaded last."""


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


def load(wanted: CheckpointRecord) -> SdModel:
    """Make it the live one. The queue is the caller's.

    Raises:
        CheckpointError: the webui cannot load it.
    """
    data = shared.opts.data
    told = data.get(HASH)
    try:
        with webui_restore.random_states(), sd_models.SkipWritingToConfig():
            return cast("SdModel", sd_models.reload_model_weights(info=wanted))
    except LoraLabError:
        raise
    except Exception as error:  # whatever the webui's loading of a file may raise
        what = f"the webui cannot load it ({type(error).__name__}: {str(error)[:200]})"
        raise CheckpointError(what, file=wanted.name, remedy="choose another checkpoint") from error
    finally:
        data[HASH] = told


@contextmanager
def back_again() -> Iterator[None]:
    """On the way out the checkpoint that was live is loaded again; the chosen one, if the person has chosen since."""
    data, model = shared.opts.data, live_model()
    before, first = data.get(CHOSEN), None if model is None else model.sd_checkpoint_info
    try:
        yield
    finally:
        with call_queue.queue_lock:
            wanted = first if first is not None and data.get(CHOSEN) == before else sd_models.select_checkpoint()
            load(wanted)
