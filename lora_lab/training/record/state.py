"""The state of a run on disk: what a killed run needs to go on as if nothing had been.

Noise, dropout, the order of pictures and captions are all drawn from generators keyed by seed, step and item, so no
random state is among it: adapter, optimizer, scaler, and where the run stands. One safetensors file, never a pickle,
written beside the one before it and renamed over it once it is whole and on the disk; its bytes are hashed, and the
hash is checked when it is read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_lab.errors import TrainingError
from lora_lab.network.header import spec_of
from lora_lab.network.streams import TensorFile, TensorWriter
from lora_lab.training.record.folder_lock import sync_folder
from lora_lab.training.record.packing import pack, unpack

FILE = "state.safetensors"
FORMAT = "1"


@dataclass(frozen=True)
class Standing:
    """Where a run stands, in plain values."""

    session_id: int
    started_at: float
    """Seconds since 1970."""
    seed: int
    step: int
    """Optimizer steps done."""
    steps: int
    """Of the whole run."""
    epochs_done: int
    """Epochs whose snapshot, validation and pictures are done too."""
    steps_per_epoch: int
    dataset: str
    """Changes with the pictures, their captions and their buckets."""
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    """name, family and short_hash of what is trained on."""
    losses: tuple[float, ...] = ()
    """The window of the loss average."""
    validations: tuple[float, ...] = ()


@dataclass(frozen=True)
class State:
    """A whole state."""

    standing: Standing
    adapter: tuple[Tensor, ...]
    """The trained parameters in the adapter's order."""
    learning: Mapping[str, Any]
    """state_dict of `optimizer` and `scaler`."""


def write(folder: Path, state: State) -> None:
    """Write the state into the run's folder, whole or not at all; the one before it stays until then.

    Raises:
        OutputError: no room, or no right to write; the last state is untouched.
        TrainingError: the optimizer keeps something that is no number.
    """
    trees, tensors = pack({"adapter": tuple(state.adapter), "learning": dict(state.learning)})
    metadata = {
        "lora_lab_state": FORMAT,
        "standing": json.dumps(asdict(state.standing), ensure_ascii=False),
        "tree": json.dumps(trees),
    }
    specs = {name: spec_of(tensor) for name, tensor in tensors.items()}
    with TensorWriter(folder / FILE, specs, metadata, force=True, hashes=True) as writer:
        for name, tensor in tensors.items():
            writer.put(name, tensor)
    sync_folder(folder)


def read(folder: Path) -> State:
    """The state of a run's folder.

    Raises:
        TrainingError: there is none, it is damaged, or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        what = "this run has no state to go on from: it has ended, or was broken off before its first"
        raise TrainingError(what, file=folder, remedy="start it anew with its settings.json")
    try:
        with TensorFile(path) as file:
            metadata = dict(file.metadata)
            if metadata.get("sshs_model_hash") != file.data_hash():
                raise ValueError("its bytes are not those that were written")
            if metadata.get("lora_lab_state") != FORMAT:
                raise ValueError(f"its format is {metadata.get('lora_lab_state')!r}, this version reads {FORMAT}")
            tensors = {name: file.read(name) for name in file}
        found = unpack(json.loads(metadata["tree"]), tensors)
        return State(_standing(json.loads(metadata["standing"])), tuple(found["adapter"]), found["learning"])
    except Exception as error:  # whatever is wrong with it, it is one thing to the person
        raise _damaged(path, str(error).rstrip(".")) from error


def standing(folder: Path) -> Standing | None:
    """Where the run of a folder stands, from the head of its state alone; None when it has none that can be read."""
    try:
        with TensorFile(folder / FILE) as file:
            return _standing(json.loads(file.metadata["standing"]))
    except Exception:  # whatever is wrong with it: it cannot be gone on from
        return None


def remove(folder: Path) -> None:
    """The run has come to its end and needs it no more. Harmless when there is none."""
    (folder / FILE).unlink(missing_ok=True)


def _standing(values: Mapping[str, Any]) -> Standing:
    made = Standing(**values)
    tuples = {"losses": tuple(map(float, made.losses)), "validations": tuple(map(float, made.validations))}
    return Standing(**{**asdict(made), **tuples})


def _damaged(path: Path, reason: str) -> TrainingError:
    remedy = "go on from its last snapshot with network_weights, or start anew"
    return TrainingError(f"the state of the run is damaged, {reason}", file=path, remedy=remedy)


class StateWriter:
    """Writes states in a thread of its own, the newest one when several wait; what fails is told, and tried again.

    A run's own thread only copies tensors: the disk never holds up a step.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        """
        Args:
            folder: of the run.
            tell: called, in the writing thread, with a sentence when writing begins to fail, and when it works again.
        """
        self._folder = folder
        self._tell = tell
        self._changed = threading.Condition()
        self._next: State | None = None
        self._busy = False
        self._closed = False
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="lora-lab state", daemon=True)

    def put(self, state: State) -> None:
        """Have it written soon; returns at once."""
        with self._changed:
            self._next = state
            self._changed.notify_all()
        if not self._thread.is_alive() and not self._thread.ident:
            self._thread.start()

    def flush(self) -> None:
        """Wait until what was put is on the disk, or could not be written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and (self._next is None or not self._thread.ident))

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closed)
                state, self._next = self._next, None
                if state is None:
                    return
                self._busy = True
            try:
                self._write(state)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _write(self, state: State) -> None:
        """The edge of the thread: a full disk must not end the run."""
        try:
            write(self._folder, state)
        except BaseException as error:  # were the thread to end, a later `flush` would wait for it for ever
            if not self._failing:
                self._tell(f"The state of the run cannot be written, it goes on without: {error}")
            self._failing = True
            return
        if self._failing:
            self._tell("The state of the run can be written again.")
        self._failing = False
