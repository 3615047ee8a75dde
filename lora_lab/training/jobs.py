"""Runs as jobs: one thread each, one at a time, watched from anywhere. No torch until a run begins.

    run = queue().start(settings, host)
    run.status()            a frozen snapshot for the tab
    for event in run.events(): ...
    run.stop(); run.wait()

The queue belongs to this module, which the webui's 'Reload UI' does not import again: a run goes on and is found.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from lora_lab.errors import HostBusyError, SettingsError
from lora_lab.training.chain import Chain
from lora_lab.training.checks import check
from lora_lab.training.events import Event, RunEnded
from lora_lab.training.line import WaitingLine
from lora_lab.training.prepare import Checked, check_start
from lora_lab.training.record.unfinished import Unfinished, check_checkpoint, check_settings, find
from lora_lab.training.run import Run
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.stages import expand
from lora_lab.training.team import ALONE, Team

if TYPE_CHECKING:
    from lora_lab.host.base import Host


class JobQueue:
    """All runs of this process: at most one trains, the others wait their turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._numbers = itertools.count(1)
        self._line = WaitingLine()
        self._filled = False
        self._when_empty: Callable[[], None] = lambda: None

    def start(self, settings: TrainSettings, host: Host, team: Team = ALONE) -> Run:
        """Check the settings and start a run in a thread of its own; it waits while another one trains.

        Args:
            settings: of the run.
            host: where the live model is.
            team: the first of the processes that train together; the others call `team.help_train`.

        Raises:
            SettingsError, DatasetError, CheckpointError, HostBusyError, OutputError: it cannot be run like this;
                nothing was started.
        """
        if settings.stages.strip():
            return self._start_stages(settings, host, team)
        return self._begin(check_start(settings, host), host, team=team)

    def resume(self, run_id: str, host: Host, settings: TrainSettings | None = None) -> Run:
        """Go on with a broken-off run from its last state, in its own folder.

        Args:
            run_id: the name of its folder.
            host: with the checkpoint that it trains on.
            settings: what the person believes it to have; None takes its own.

        Raises:
            SettingsError: there is no such run, or the settings are others.
            TrainingError: it has no state to go on from.
            HostBusyError: it is under way, or another checkpoint is loaded.
            DatasetError, CheckpointError, OutputError: it cannot be run any more.
        """
        again = find(host.paths().data_dir, run_id)
        check_settings(again, settings)
        checked = check_start(again.settings, host, own=again.standing.session_id)
        check_checkpoint(again, checked.checkpoint)
        return self._begin(checked, host, again)

    def _begin(self, checked: Checked, host: Host, again: Unfinished | None = None, team: Team = ALONE) -> Run:
        with self._lock:
            taken = {run.checked.outputs.final for run in self._runs if run.status().active}
            if checked.outputs.final in taken:
                what = f"a run named {checked.outputs.name} is under way or waiting"
                raise HostBusyError(what, remedy="choose another output_name")
            run = Run(checked, host, next(self._numbers), self._line, again, team)
            run.listen(self._hear)
            run.begin()
            self._runs.append(run)
            self._filled = True
        return run

    def when_empty(self, act: Callable[[], None]) -> None:
        """Call `act`, in a thread, each time the last run has ended by itself; not when a person stopped it."""
        with self._lock:
            self._when_empty = act

    def _hear(self, event: Event) -> None:
        """A run has ended: was it the last?"""
        if not isinstance(event, RunEnded):
            return
        with self._lock:
            chains = (run.chain for run in self._runs if run.chain is not None and run.chain.last is run)
            more = any(run.status().active for run in self._runs) or any(chain.goes_on(event) for chain in chains)
            last = self._filled and not more
            self._filled = self._filled and not last
        if last and event.reason in ("finished", "failed"):
            threading.Thread(target=self._when_empty, name="lora-lab at the end", daemon=False).start()

    def _start_stages(self, settings: TrainSettings, host: Host, team: Team) -> Run:
        """Start the first stage; the others follow by themselves. All are looked at before."""
        if not team.alone:
            what = "several processes train one run, not stages"
            raise SettingsError(what, remedy="start each stage by itself, with network_weights")
        check(settings)
        stages = expand(settings)
        for stage in stages:
            check_start(stage, host)
        return Chain(stages, lambda stage: self.start(stage, host)).begin()

    def runs(self) -> tuple[Run, ...]:
        """All runs since the start of the program, the newest last."""
        with self._lock:
            return tuple(self._runs)

    def find(self, run_id: str) -> Run | None:
        """The run with this id; the newest, as one that was resumed has the id of the one that was broken off."""
        return next((run for run in reversed(self.runs()) if run.id == run_id), None)

    def current(self) -> Run | None:
        """The run that is under way, else the next one that waits, else the last one that had its turn."""
        runs = self.runs()
        active = [run for run in runs if run.status().active]
        under_way = [run for run in active if run.status().state != "waiting"]
        had_turn = [run for run in runs if run.had_turn]
        return next(iter(under_way or active or had_turn[-1:] or runs[-1:]), None)

    def cancel(self, run_id: str) -> None:
        """Take one run out of the waiting line; the one under way and the others go on.

        Raises:
            HostBusyError: it does not wait any more: it has begun, or has ended.
        """
        run = self.find(run_id)
        if run is None or not run.cancel():
            name = run.status().name if run else "this run"
            raise HostBusyError(f"{name} does not wait any more", remedy="use Stop and keep while it trains")

    def waiting(self) -> tuple[Run, ...]:
        """The runs that wait for their turn, the next one first."""
        places = {run_id: place for place, run_id in enumerate(self._line.order())}
        found = [run for run in self.runs() if run.id in places and not run.had_turn and not run.status().stopping]
        return tuple(sorted(found, key=lambda run: places[run.id]))

    def move(self, run_id: str, by: int) -> None:
        """Let a run that waits come earlier (`by` below 0) or later.

        Raises:
            HostBusyError: it does not wait any more.
        """
        if not self._line.move(run_id, by):
            raise HostBusyError("this run does not wait any more", remedy="choose one of those that wait")

    def stop_all(self) -> None:
        """Ask every run to stop and keep what it has."""
        for run in self.runs():
            run.stop()

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs())


def check_all(wanted: Sequence[TrainSettings], host: Host) -> None:
    """Look at runs that are to come one after another before the first begins.

    Raises:
        LoraLabError: as `JobQueue.start`, for the first that cannot be run.
        SettingsError: two of them would write the same LoRA.
    """
    finals = [check_start(settings, host).outputs.final for settings in wanted]
    twice = next((path for path in finals if finals.count(path) > 1), None)
    if twice is not None:
        raise SettingsError("two of the runs would write this LoRA", file=twice, remedy="give each an output_name")


@lru_cache(maxsize=1)
def queue() -> JobQueue:
    """The one queue of this process."""
    return JobQueue()
