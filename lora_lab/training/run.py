"""One run: its thread, its folder, its events, its status. No torch until it begins."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from lora_lab import __version__
from lora_lab.errors import HostBusyError, LoraLabError, TrainingError
from lora_lab.training.events import Event, RunEnded, Warned
from lora_lab.training.learning.optimizer_kinds import kind_of
from lora_lab.training.line import WaitingLine
from lora_lab.training.prepare import Checked
from lora_lab.training.record import report, wish
from lora_lab.training.record.board import open_board
from lora_lab.training.record.event_log import to_json, told_before
from lora_lab.training.record.folder_lock import FolderLock, sweep
from lora_lab.training.record.outputs import check_writable
from lora_lab.training.settings import settings_file
from lora_lab.training.status import RunStatus, after
from lora_lab.training.team import ALONE, Team

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.training.chain import Chain
    from lora_lab.training.record.unfinished import Unfinished

Listener = Callable[[Event], None]

LOG = logging.getLogger("lora_lab")


class Run:
    """A training in a thread of its own. Made by `JobQueue.start`."""

    def __init__(
        self, checked: Checked, host: Host, number: int, line: WaitingLine, again: Unfinished | None = None,
        team: Team = ALONE,
    ) -> None:  # fmt: skip
        """
        Args:
            checked: what may start.
            host: where it trains.
            number: of the run in this process.
            line: in which it waits.
            again: the broken-off run that is to go on; None begins a new one.
            team: the first of the processes that train together.
        """
        self.checked = checked
        fresh = f"{time.strftime('%Y%m%d-%H%M%S')}-{number:03d}-{checked.outputs.name}"
        self.id = again.id if again else fresh
        self.folder = again.folder if again else host.paths().data_dir / "runs" / self.id
        self._again = again
        self._lock = FolderLock(self.folder)
        self.error: BaseException | None = None
        """Why it failed; a `LoraLabError` has its exit status."""
        self.chain: Chain | None = None
        """The stages that it is one of."""
        self.had_turn = False
        """It has left the waiting line for its turn: it trains, or has tried to."""
        self._host = host
        self._line = line
        self._team = team
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._listeners: tuple[Listener, ...] = ()
        self._status = told_before(RunStatus(self.id, checked.outputs.name, self.folder), again)
        self._thread = threading.Thread(target=self._work, name=f"lora-lab {self.id}", daemon=True)

    def begin(self) -> None:
        """Make the folder and start the thread.

        Raises:
            OutputError: the folder cannot be made; no thread was started.
            HostBusyError: another process trains in it.
        """
        check_writable(self.folder)
        if not self._lock.take():
            what = "this run is under way in another process"
            raise HostBusyError(what, file=self.folder, remedy="stop it there first")
        wish.clear(self.folder)
        sweep(self.folder, "state.safetensors")
        if self._again:
            sweep(self.checked.outputs.folder, self.checked.outputs.final.name)
        settings_file.write(self.checked.settings, self.folder / "settings.json")
        self._line.join(self.id)
        self._thread.start()

    def cancel(self) -> bool:
        """End it while it waits for its turn; False, and nothing happens, when it waits no more."""
        given_up = self._line.give_up(self.id)
        if given_up:
            self.stop()
        return given_up

    def stop(self) -> None:
        """Ask it to stop within one step and keep what it has; returns at once."""
        with self._changed:
            if self._status.active:
                self._status = dataclasses.replace(self._status, stopping=True, revision=self._status.revision + 1)
        self._stop.set()
        self._line.give_up(self.id)

    def pause(self, *, pause: bool = True) -> None:
        """Ask it to pause after its turn, or to go on; a stop is heard in a pause too.

        Raises:
            HostBusyError: it has ended.
            OutputError: its folder cannot be written to.
        """
        wish.put(self.folder, "pause" if pause else "go")

    def status(self) -> RunStatus:
        """The run as it is now; cheap."""
        with self._changed:
            return self._status

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each event from now on, in the run's thread."""
        with self._changed:
            self._listeners = (*self._listeners, listener)

    def warn(self, text: str) -> None:
        """Add a remark, also when it has ended."""
        self._tell(Warned(text))

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """All events from the first, as they come, until the run has ended.

        Args:
            timeout: seconds to wait for the next one before giving up; None waits.
        """
        seen = 0
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: len(self._events) > seen, timeout):  # noqa: B023 - called here
                    return
                new = self._events[seen:]
            for event in new:
                yield event
                if isinstance(event, RunEnded):
                    return
            seen += len(new)

    def told(self, since: int = 0) -> tuple[Event, ...]:
        """The events from number `since` on (0 is the first), as many as there are by now."""
        with self._changed:
            return tuple(self._events[since:])

    def wait(self, timeout: float | None = None) -> RunStatus:
        """Until it has ended (or `timeout` seconds); the status then."""
        self._thread.join(timeout)
        return self.status()

    def _work(self) -> None:
        """The thread: wait for the turn, train, tell."""
        began = time.monotonic()
        try:
            if not self._line.wait(self.id, lambda: wish.read(self.folder) == "stop"):
                self._tell(RunEnded("stopped", 0, time.monotonic() - began, None, None))
                return
            self.had_turn = True
            try:
                self._train()
            finally:
                self._line.leave(self.id)
        except BaseException as error:
            # The edge of the thread: whatever it was, it is told and logged, never lost.
            self._fail(error, began)
        finally:
            with suppress(OSError):
                wish.clear(self.folder)
            report.write(self.folder)
            self._lock.release()

    def _train(self) -> None:
        from lora_lab.training.loop import Trainer
        from lora_lab.training.record import state

        settings = self.checked.settings
        board, excuse = open_board(settings, kind_of(settings.optimizer_type).adaptive)
        if excuse:
            self._tell(Warned(excuse))
        before = state.read(self.folder) if self._again else None
        trainer = Trainer(self.checked, self._host, self.folder, self._stop.is_set, before, self._team)
        try:
            for event in trainer.events():
                if trainer.error is not None and self.error is None:
                    self._keep_error(trainer.error, trainer.trace)
                self._tell(event)
                if board is not None:
                    board.tell(event)
        finally:
            if board is not None:
                board.close()

    def _fail(self, error: BaseException, began: float) -> None:
        self._keep_error(error, "".join(traceback.format_exception(error)))
        if self.status().active:
            text = str(error) if isinstance(error, LoraLabError) else str(self._unexpected(error))
            step = self.status().step
            self._tell(RunEnded("failed", step, time.monotonic() - began, None, None, error=text))

    def _unexpected(self, error: BaseException) -> TrainingError:
        what = f"the run ended by an error of ours, {type(error).__name__}: {error}"
        return TrainingError(what, file=self.folder / "log.txt", remedy="send us that file")

    def _keep_error(self, error: BaseException, trace: str) -> None:
        """Traceback, versions and the last step go to the log in the run's folder."""
        self.error = error
        lines = [
            f"lora_lab {__version__}, Python {sys.version.split()[0]}, {platform.platform()}",
            *(f"{name} {getattr(sys.modules.get(name), '__version__', '-')}" for name in ("torch", "transformers")),
            f"step {self.status().step} of {self.status().steps}",
            trace,
        ]
        self._append("log.txt", "\n".join(lines) + "\n")
        LOG.debug("run %s failed: %s", self.id, error)

    def _tell(self, event: Event) -> None:
        """Into the status, the file and to the listeners; a listener that fails is logged and does no harm."""
        with self._changed:
            self._events.append(event)
            self._status = after(self._status, event)
            if self._stop.is_set() and self._status.active:
                self._status = dataclasses.replace(self._status, stopping=True)
            listeners = self._listeners
            self._changed.notify_all()
        self._append("events.jsonl", json.dumps(to_json(event), ensure_ascii=False) + "\n")
        for listener in listeners:
            try:
                listener(event)
            except Exception:
                LOG.exception("a listener of run %s failed", self.id)

    def _append(self, name: str, text: str) -> None:
        """A full disk must not end the run whose LoRA may still fit."""
        try:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            LOG.warning("%s of run %s cannot be written: %s", name, self.id, error)
