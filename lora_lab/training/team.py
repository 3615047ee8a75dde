"""Several processes that train one LoRA together: each does its items of every batch, and all make the same step.

``accelerate launch`` and ``torchrun`` start the processes and tell each its place by RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT. A batch holds train_batch_size items for each process. Noise is keyed by the item's place in the step, so
that two processes with one item each do what one process does with two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError, TrainingError

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

    from lora_lab.dataset.dataset import BatchPlan

JOIN = timedelta(minutes=10)
"""So long the first process waits for the last one to start."""
PATIENCE = timedelta(hours=1)
"""So long a process waits for the others at a step: the first one also saves, validates and makes pictures. One that
has ended is noticed at once."""
WHY = "lora_lab_why"
"""Key of the store: the sentence of the process that failed first."""


@dataclass(frozen=True)
class Place:
    """Where one process's items of a batch belong in the step."""

    number: int
    """Of the batch in its step, from 0."""
    first: int
    """Place in the step of the first item, which the noise depends on."""
    share: float = 1.0
    """Of the batch, above 0 and at most 1: the weight of these items' mean loss."""


@dataclass(frozen=True)
class Piece:
    """One process's items of a batch."""

    plan: BatchPlan
    """The items; never none."""
    others: tuple[int, ...]
    """The items of the batch that other processes do."""
    place: Place


@dataclass(frozen=True)
class Work:
    """One process's part of a step."""

    places: tuple[Place, ...]
    """Of the batches that it is given."""
    count: int
    """Batches of the whole step."""
    beside: tuple[tuple[str, ...], ...] = ()
    """For each place the captions of its batch that other processes have; none where one process does it all."""
    stop: bool = False
    """This process was asked to stop."""

    @classmethod
    def whole(cls, sizes: Sequence[int]) -> Work:
        """All of a step whose batches have so many items."""
        return cls(tuple(Place(n, sum(sizes[:n])) for n in range(len(sizes))), len(sizes))


@dataclass(frozen=True)
class Team:
    """This process among the others. Every process must call the same methods in the same order."""

    rank: int = 0
    size: int = 1
    store: Store | None = None
    on_device: bool = False
    """The processes' devices can talk to each other (NCCL); else gradients go through the CPU."""

    @property
    def leads(self) -> bool:
        """The one that writes files, validates, makes pictures and prints."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """There are no others."""
        return self.size == 1

    def pieces(self, plans: Sequence[BatchPlan]) -> list[Piece]:
        """What this process does of a step's batches, which are cut evenly in their order; may be nothing."""
        found, first = [], 0
        for number, plan in enumerate(plans):
            count = len(plan.indices)
            low, high = count * self.rank // self.size, count * (self.rank + 1) // self.size
            if high > low:
                mine, others = plan.indices[low:high], plan.indices[:low] + plan.indices[high:]
                part = replace(plan, indices=mine)
                found.append(Piece(part, others, Place(number, first + low, (high - low) / count)))
            first += count
        return found

    def agree(self, number: int) -> int:
        """The first process's number, for all."""
        if self.alone:
            return number
        return int(self.gather(number)[0])

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401 - any plain value
        """Every process's value, by rank.

        Raises:
            TrainingError: another process has ended.
        """
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise self.lost() from error
        return values

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse to train together on different things.

        Raises:
            SettingsError: a fact differs between the processes; its name.
        """
        if self.alone:
            return
        told = self.gather(dict(facts))
        wrong = [name for name in facts if any(other.get(name) != told[0].get(name) for other in told)]
        if wrong:
            what = f"the processes of this run differ in {', '.join(wrong)}"
            raise SettingsError(what, remedy="start them with the same settings, pictures and checkpoint")

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Each number added up over the processes.

        Raises:
            TrainingError: another process has ended.
        """
        if self.alone:
            return list(numbers)
        import torch

        total = torch.tensor(list(numbers), dtype=torch.float64)
        self._reduce(total)
        return [float(number) for number in total]

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Each parameter's gradient becomes the sum over the processes; None where none of them has one.

        Raises:
            TrainingError: another process has ended.
        """
        if self.alone:
            return
        import torch

        have = self.sum([float(p.grad is not None) for p in parameters])
        learning = [p for p, count in zip(parameters, have, strict=True) if count]
        if not learning:
            return
        flat = torch.cat([torch.zeros(p.numel(), device=p.device) if p.grad is None else p.grad.float().flatten()
                          for p in learning])  # fmt: skip
        total = flat if self.on_device else flat.cpu()
        self._reduce(total)
        for parameter, part in zip(learning, torch.split(total, [p.numel() for p in learning]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.device, parameter.dtype, copy=True)

    def fail(self, text: str) -> None:
        """Tell the others why this process ends; they notice that it has."""
        if self.store is not None and not self.store.check([WHY]):
            self.store.set(WHY, f"process {self.rank + 1} of {self.size}: {text}")

    def lost(self) -> TrainingError:
        """The error of a process whose others do not answer; with the sentence of the one that failed, if it said."""
        why = "another process of this run has ended or does not answer"
        try:
            if self.store is not None and self.store.check([WHY]):
                why = self.store.get(WHY).decode().rstrip(".")
        except RuntimeError:
            pass  # the store was with the process that is gone
        return TrainingError(why, remedy="start all of them again" if why.startswith("another") else "")

    def leave(self) -> None:
        """Let go of the others; for the end, however it comes."""
        if not self.alone:
            import torch.distributed as dist

            dist.destroy_process_group()

    def _reduce(self, tensor: torch.Tensor) -> None:
        import torch.distributed as dist

        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise self.lost() from error


ALONE = Team()


def join(environment: Mapping[str, str]) -> Team:
    """Find the other processes of this run; call it before anything touches a CUDA device.

    Args:
        environment: of this process, as `accelerate launch` or `torchrun` sets it.

    Returns:
        `ALONE` where no launcher has said otherwise.

    Raises:
        SettingsError: the launcher's variables are wrong, or torch cannot talk to other processes.
        TrainingError: the others did not come.
    """
    size = _number(environment, "WORLD_SIZE", 1)
    if "WORLD_SIZE" not in environment and "ACCELERATE_USE_CPU" in environment and environment.get("MASTER_PORT"):
        what = "accelerate starts one process only on a CPU, whatever --num_processes says"
        raise SettingsError(what, remedy="use torchrun --nproc-per-node 2 -m lora_lab train ...")
    if size <= 1:
        return ALONE
    rank = _number(environment, "RANK", -1)
    if not 0 <= rank < size or not environment.get("MASTER_ADDR") or not environment.get("MASTER_PORT"):
        what = f"WORLD_SIZE is {size}, and RANK, MASTER_ADDR or MASTER_PORT is missing or wrong"
        raise SettingsError(what, remedy="start with accelerate launch or torchrun, or unset WORLD_SIZE")
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if not dist.is_available():
        raise SettingsError("this torch cannot talk to other processes", remedy="start one process")
    own = _take_device(environment, torch.cuda.device_count())
    try:
        store, rank, size = next(rendezvous("env://", timeout=JOIN))
        backend = "cpu:gloo,cuda:nccl" if own and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except RuntimeError as error:
        what = f"the {size} processes of this run have not found each other, {str(error).splitlines()[0]}"
        raise TrainingError(what, remedy="check MASTER_ADDR and MASTER_PORT, and start all of them") from error
    return Team(rank, size, PrefixStore("lora_lab", store), on_device=backend != "gloo")


def _take_device(environment: Mapping[str, str], devices: int) -> bool:
    """Leave one CUDA device in sight of this process: the LOCAL_RANK-th. Has it a device of its own?"""
    if not devices:
        return False
    place, here = _number(environment, "LOCAL_RANK", 0), _number(environment, "LOCAL_WORLD_SIZE", 1)
    names = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = names or [str(number) for number in range(devices)]
    os.environ["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]
    return max(here, place + 1) <= len(names)


def _number(environment: Mapping[str, str], name: str, usual: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return usual
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}", remedy="give a whole number, or unset it") from None
