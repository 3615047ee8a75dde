"""What a run will need, measured before it: a few steps on the live model, whose adapter is thrown away.

The batch is the largest that the run will have. Where its latents will be cached, zeros stand for them, so that the
VAE has no part in it; the pictures are read, and their captions are encoded, as in the run.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_lab.dataset.dataset import Batch, Dataset
from lora_lab.errors import HostBusyError, TrainingError
from lora_lab.training.memory import out_of_memory
from lora_lab.training.memory.meter import MIB, peak
from lora_lab.training.setup import Session, set_up

if TYPE_CHECKING:
    from lora_lab.host.base import Host, LoadedModel
    from lora_lab.training.events import Event
    from lora_lab.training.prepare import Checked

WARM = 2
"""Steps in which memory is counted; the optimizer's state comes with the first."""


@dataclass(frozen=True)
class Estimate:
    """What was measured."""

    peak_mb: float
    """Above what is loaded: the adapter, its gradients and the optimizer's state, and what a step keeps."""
    free_mb: float
    seconds_per_step: float
    steps: int

    @property
    def seconds(self) -> float:
        """Of all steps; latents, snapshots and pictures come to it."""
        return self.seconds_per_step * self.steps

    @property
    def fits(self) -> bool:
        """Is there room?"""
        return self.peak_mb <= self.free_mb

    @property
    def memory_words(self) -> str:
        """Memory in a few words."""
        return f"about {self.peak_mb:,.0f} MB above what is loaded, of {self.free_mb:,.0f} MB free"


def measure(checked: Checked, host: Host) -> Estimate:
    """Take the model for a few steps.

    Args:
        checked: from `prepare.check_start`.
        host: where the live model is; no run may be under way in it.

    Raises:
        DatasetError, SettingsError, OutputError, HostBusyError: it cannot be trained like this.
        TrainingError: the memory is not enough; what would save how much.
    """
    free = host.memory().free
    session: Session | None = None
    try:
        session = _drained(set_up(checked, host, host.paths().data_dir / "runs"))
        batches = [_largest(session)] * checked.settings.gradient_accumulation_steps
        with session.turns.training() as model:
            found = _steps(session, model, batches)
        return Estimate(found[0] + _adapters(session), free, found[1], session.plan.steps)
    except Exception as error:
        if not out_of_memory.is_out_of_memory(error):
            raise
        parameters = session.stepper.parameters if session else 0
        what = "the memory is not enough for a step of this training"
        raise TrainingError(what, remedy=f"set {out_of_memory.advice(checked.settings, parameters)}") from None
    finally:
        session = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def check_free(active: bool) -> None:
    """Measuring beside a run would measure both.

    Raises:
        HostBusyError: one is under way.
    """
    if active:
        raise HostBusyError("a run is under way", remedy="measure when it has ended")


def _drained(events: Generator[Event, None, Session]) -> Session:
    """What the set-up makes, its events unheard."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            made: Session = end.value
            return made


def _largest(session: Session) -> Batch:
    """The batch with the most pixels, loaded past the run's own caches."""
    report = session.dataset.report
    options = dataclasses.replace(report.options, cache_latents=False, cache_latents_to_disk=False)
    dataset = Dataset(dataclasses.replace(report, options=options))
    list(dataset.prepare(_zeros if report.options.caches else session.turns.encode_pixels, "a dry run"))
    plans = dataset.epoch(1)
    return dataset.load(max(plans, key=lambda plan: len(plan.indices) * _area(dataset.bucket(plan))))


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _zeros(pixels: Tensor) -> Tensor:
    """Latents of the right shape."""
    return torch.zeros(pixels.shape[0], 4, pixels.shape[2] // 8, pixels.shape[3] // 8)


def _steps(session: Session, model: LoadedModel, batches: list[Batch]) -> tuple[float, float]:
    """The peak of the first steps in MiB, and the seconds of the one after them."""
    with peak(model.device) as counted:
        for number in range(1, WARM + 1):
            session.stepper.step(model, batches, number)
    began = time.perf_counter()
    session.stepper.step(model, batches, WARM + 1)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return counted.mb, time.perf_counter() - began


def _adapters(session: Session) -> float:
    """MiB of the adapters, which were there before the counting began."""
    adapters = (session.adapter, *(one.adapter for one in session.turns.beside))
    parameters = [p for adapter in adapters for p in adapter.parameters()]
    return sum(p.numel() * p.element_size() for p in parameters) / MIB
