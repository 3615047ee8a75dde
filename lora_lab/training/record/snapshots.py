"""Saving the adapter: snapshots, the final file, and what is good of a run that ended early."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_lab.training.events import SnapshotSaved
from lora_lab.training.learning.precision import DTYPES
from lora_lab.training.record.outputs import is_of
from lora_lab.training.step import LossIsNan

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.network.adapter import Adapter
    from lora_lab.training.prepare import Checked
    from lora_lab.training.setup import Session


@dataclass(frozen=True)
class Remembered:
    """The adapter as it was at the end of an epoch, on the CPU."""

    epoch: int
    step: int
    tensors: dict[str, Tensor]


class Keeper:
    """Writes the files of a run. Never one with a number that is none."""

    def __init__(self, checked: Checked, host: Host, session: Session) -> None:
        self._outputs = checked.outputs
        self._dtype = DTYPES[checked.settings.save_precision]
        self._host = host
        self._session = session
        self._good: Remembered | None = None
        self._good_is_saved = False
        self.final: Path | None = None
        """The finished LoRA, once written."""
        self.newest: Path | None = None
        """The file written last."""

    def remember(self, epoch: int, step: int) -> None:
        """Keep a copy of the adapter after a good epoch.

        Raises:
            LossIsNan: it holds a number that is none.
        """
        self._good = Remembered(epoch, step, self._tensors())
        self._good_is_saved = False

    def save_snapshot(self) -> Path:
        """Write the remembered epoch as `name-000003`."""
        assert self._good is not None
        return self._write(self._outputs.snapshot(self._good.epoch), self._good)

    def save_at_step(self) -> Path:
        """Write what is remembered of the middle of an epoch as `name-step00000120`."""
        assert self._good is not None
        return self._write(self._outputs.at_step(self._good.step), self._good)

    def save_final(self) -> Path:
        """Write the remembered (last) epoch as `name`."""
        assert self._good is not None
        self.final = self._write(self._outputs.final, self._good)
        return self.final

    def save_rest(self, step: int, *, trust_last: bool, folder: Path | None = None) -> SnapshotSaved | None:
        """Of a run that ended early: the adapter as it is (`trust_last`), else the last good epoch.

        Args:
            step: steps done.
            trust_last: the numbers are good, as far as is known.
            folder: another one than the settings'.

        Returns:
            What was written; None when all that is good is in a file already, or nothing is.
        """
        good = self._good
        outputs = self._outputs if folder is None else dataclasses.replace(self._outputs, folder=folder)
        if trust_last and (good is None or good.step != step):
            epoch = -(-step // max(1, self._session.plan.steps_per_epoch))
            now = Remembered(epoch, step, self._tensors())
            return SnapshotSaved(step, epoch, self._write(outputs.stopped(step), now), final=False)
        if good is None or self._good_is_saved:
            return None
        path = outputs.snapshot(good.epoch)
        if path.exists() or good.step % max(1, self._session.plan.steps_per_epoch):
            path = outputs.stopped(good.step)
        return SnapshotSaved(good.step, good.epoch, self._write(path, good), final=False)

    def _tensors(self) -> dict[str, Tensor]:
        self._session.stepper.settle()
        carried = (one.adapter for one in self._session.turns.beside if one.saved)
        tensors = {name: t for one in (self._session.adapter, *carried) for name, t in self._copied(one)}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise LossIsNan
        return tensors

    def _copied(self, adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
        """Copies in the machine's memory, or with lowram beside the adapter itself."""
        if not self._session.origin.settings.lowram:
            yield from adapter.to_tensors().items()
            return
        for piece in adapter.pieces:
            yield from ((f"{piece.site.name}.{suffix}", t.clone()) for suffix, t in piece.tensors().items())

    def _write(self, path: Path, what: Remembered) -> Path:
        from lora_lab.network import files

        tensors = {name: tensor.to(self._dtype) for name, tensor in what.tensors.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        ours = path.exists() and is_of(path, self._session.origin.run.session_id)  # of this run, before it was killed
        files.write(path, tensors, self._session.metadata(what.epoch, what.step), overwrite=ours)
        self._good_is_saved = self._good_is_saved or what is self._good
        self.newest = path
        self._host.lora_saved(path)
        return path
