"""A run from start to end, as a generator of events. What it borrows it gives back between turns of a second.

Phases: scan the pictures, put an adapter on the live model, cache latents, then epochs of steps with snapshots,
validation and previews between them, then the final file. However it ends, the last event is `RunEnded`, the live
model is as it was, and what was learnt is kept if it is any good.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lora_lab.errors import HostBusyError, Interrupted, LoraLabError, OutputError
from lora_lab.training import failures
from lora_lab.training.events import (
    Event,
    PreviewMade,
    Progress,
    RunEnded,
    SnapshotSaved,
    StepDone,
    StopReason,
    Validated,
    Warned,
)
from lora_lab.training.record.snapshots import Keeper
from lora_lab.training.record.state_keeper import StateKeeper
from lora_lab.training.record.wish import Wishes
from lora_lab.training.setup import Session, set_up
from lora_lab.training.sharing import Rest
from lora_lab.training.step import LossIsNan, StepResult
from lora_lab.training.team import ALONE, Team

if TYPE_CHECKING:
    from lora_lab.dataset.dataset import BatchPlan
    from lora_lab.host.base import Host, LoadedModel
    from lora_lab.training.prepare import Checked
    from lora_lab.training.record.state import State


class Trainer:
    """One training. Use once: ``for event in Trainer(...).events(): ...``"""

    def __init__(
        self, checked: Checked, host: Host, folder: Path, stop: Callable[[], bool], before: State | None = None,
        team: Team = ALONE,
    ) -> None:  # fmt: skip
        """
        Args:
            checked: from `prepare.check_start`.
            host: where the live model is.
            folder: of the run, for previews.
            stop: asked after each step; when it says yes, the run ends and keeps what it has.
            before: the state of this run from when it was broken off; None begins anew.
            team: this process among those that train together. Only the first saves, validates and makes pictures.
        """
        self._team = team
        self._wish: StopReason = "finished"
        self._checked = checked
        self._host = host
        self._folder = folder
        self._stop = stop
        self._reason: StopReason = "finished"
        self._session: Session | None = None
        self._keeper: Keeper | None = None
        self._before = before
        self._states: StateKeeper | None = None
        self._step = before.standing.step if before else 0
        self._epochs_done = before.standing.epochs_done if before else 0
        self._wishes = Wishes(folder)
        self._rest = Rest(host, self._wishes, checked.settings.sharing, self._must_stop)
        self._broken = False  # within a step: the numbers may be half updated
        self._validations: list[float] = list(before.standing.validations) if before else []
        self._previews: list[Path] = []
        self.error: BaseException | None = None
        """Why it failed, without its frames: they would hold on to tensors."""
        self.trace = ""
        """The whole traceback of that, for the log."""

    def events(self) -> Iterator[Event]:
        """Train. Yields what happens; `RunEnded` comes last, after the model was given back.

        No error leaves this generator: what went wrong is in `RunEnded.error` and `self.error`.
        """
        began = time.monotonic()
        self._host.interrupt_requested()  # a press from before this run is not meant for it
        failure = ""
        try:
            try:
                yield from self._run()
            except GeneratorExit:
                raise
            except BaseException as error:
                failure = self._judge(error)
            kept = yield from self._keep()
            yield from self._close_state()
        finally:
            average = self._session.average.value if self._session and self._step else None
            self._release()
        yield RunEnded(
            reason=self._reason,
            step=self._step,
            seconds=time.monotonic() - began,
            lora=kept,
            loss_average=average,
            val_loss_first=self._validations[0] if self._validations else None,
            val_loss_last=self._validations[-1] if self._validations else None,
            error=failure + (f" Kept: {kept}" if failure and kept else ""),
            previews=tuple(self._previews),
        )

    def _run(self) -> Iterator[Event]:
        yield from (Warned(text) for text in self._checked.warnings)
        try:
            session = yield from self._get_ready()
        except HostBusyError as error:
            raise failures.too_early(error, self._checked) from error
        if self._before is None:
            yield from self._validate()
            if self._checked.settings.sample_at_first:
                yield from self._make_previews("start")
        for epoch in range(self._epochs_done + 1, session.plan.epochs + 1):
            yield from self._epoch(epoch)
            if self._must_stop():
                return
            yield from self._after_epoch(epoch)
            self._epochs_done = epoch
            self._save_state()

    def _get_ready(self) -> Generator[Event, None, Session]:
        """Set-up and latents. Nothing is learnt yet, so a checkpoint that is exchanged meanwhile ends the run."""
        session = yield from set_up(self._checked, self._host, self._folder, self._before, self._team)
        self._session = session
        session.turns.shares = self._rest.shares
        self._keeper = Keeper(self._checked, self._host, session)
        # What several processes have learnt together cannot go on in one of them.
        self._states = StateKeeper(session, self._folder) if self._team.alone else None
        yield session.started()
        yield from session.cache_latents(self._must_stop)
        return session

    def _epoch(self, epoch: int) -> Iterator[Event]:
        """All steps of an epoch, turn by turn; ends early when it must stop."""
        session = self._need_session()
        done_of_it = self._step - (epoch - 1) * session.plan.steps_per_epoch
        pending = deque(session.steps_of(epoch)[: session.plan.steps - self._step + done_of_it][done_of_it:])
        while pending and not self._must_stop():
            yield from self._rested()
            if self._must_stop():
                return
            try:
                done = self._turn(epoch, pending)
            except HostBusyError as error:
                yield from self._rest.busy(error)
                continue
            yield from done
            yield from self._rest.had_turn()
            yield from self._notes(done)
            if pending:
                yield from self._between(epoch)

    def _rested(self) -> Iterator[Event]:
        """Pause and give way, as is wished; a run that is paused is written down first."""
        for event in self._rest():
            self._save_state()
            yield event

    def _turn(self, epoch: int, pending: deque[list[BatchPlan]]) -> list[StepDone]:
        """Take the model, do steps for about a second, give it back."""
        session = self._need_session()
        done: list[StepDone] = []
        with session.turns.training() as model:
            used = 0.0
            while pending:
                began = time.monotonic()
                self._must_stop()
                result = self._one_step(model, pending)
                pending.popleft()
                self._step += 1
                if result is None:
                    continue
                for loss in result.losses:
                    session.average.add(loss)
                if result.stop:
                    self._reason = "stopped" if self._wish == "finished" else self._wish
                session.speed.add(time.monotonic() - began)
                if self._states is not None:
                    self._states.after_step(self._step, self._epochs_done, self._validations)
                used = used or self._host.memory().used
                done.append(
                    StepDone(
                        step=self._step,
                        epoch=epoch,
                        loss=sum(result.losses) / len(result.losses),
                        loss_average=session.average.value,
                        learning_rates=result.learning_rates,
                        seconds_per_step=session.speed.per_step,
                        seconds_left=session.speed.per_step * (session.plan.steps - self._step),
                        memory_mb=used,
                        share=session.turns.shares.training,
                    )
                )
                if session.turns.over or self._must_stop() or self._due_now():
                    break
        return done

    def _due_now(self) -> frozenset[str]:
        """What is asked for every so many steps, and is due: `save`, `validate`, `sample`."""
        s = self._checked.settings
        every = {
            "save": s.save_every_n_steps, "validate": s.validate_every_n_steps,
            "sample": None if s.sample_every_n_epochs else s.sample_every_n_steps,
        }  # fmt: skip
        return frozenset(what for what, steps in every.items() if steps and self._step % steps == 0)

    def _between(self, epoch: int) -> Iterator[Event]:
        """What is due in the middle of an epoch."""
        due = self._due_now()
        if "save" in due:
            self._need_session().stepper.settle()  # by all processes, so that their numbers stay the same
            if self._team.leads:
                self._need_keeper().remember(epoch, self._step)
                yield self._snapshot(epoch, at_step=True)
        if "validate" in due:
            yield from self._validate()
        if "sample" in due:
            yield from self._make_previews(f"step{self._step:08d}")

    def _one_step(self, model: LoadedModel, pending: deque[list[BatchPlan]]) -> StepResult | None:
        """The next step; None when its loss was no number, which single steps are forgiven: nothing was changed."""
        session = self._need_session()
        batches, work = session.work(pending[0], stop=self._wish != "finished")
        try:
            result = session.stepper.step(model, batches, self._step + 1, work)
        except LossIsNan:
            if not self._team.alone or not session.health.skip():
                raise
            return None
        session.health.good()
        return result

    def _notes(self, done: list[StepDone]) -> Iterator[Event]:
        """What there is to say about the steps of a turn, each thing once."""
        session = self._need_session()
        for event in done:
            told = session.health.watch(event.loss_average, session.stepper.sizes(), event.seconds_per_step)
            yield from (Warned(text) for text in told)
        told_more = (session.encoder.take_warning(), session.health.take_skipped(self._step))
        yield from (Warned(text) for text in told_more if text)
        yield from (Warned(text) for text in (self._states.warnings() if self._states else ()))

    def _after_epoch(self, epoch: int) -> Iterator[Event]:
        """What an epoch ends with: save first, then measure, then draw."""
        session, keeper = self._need_session(), self._need_keeper()
        settings, plan = self._checked.settings, session.plan
        last = epoch == plan.epochs
        keeper.remember(epoch, self._step)
        if not self._team.leads:
            self._need_session().stepper.settle()  # as the first process does: the numbers stay the same for all
            return
        yield from session.measured(self._step)
        saves = last or epoch in plan.snapshot_epochs
        if last:
            yield Progress("saving", 0, 1)
            yield SnapshotSaved(self._step, epoch, keeper.save_final(), final=True)
        elif saves:
            yield Progress("saving", 0, 1)
            yield self._snapshot(epoch)
        if last or epoch % settings.validate_every_n_epochs == 0:
            yield from self._validate()
        every = settings.sample_every_n_epochs
        if last or (epoch % every == 0 if every else saves):
            yield from self._make_previews("end" if last else f"{epoch:06d}")

    def _snapshot(self, epoch: int, *, at_step: bool = False) -> Event:
        """A snapshot that cannot be written (the disk is full) is told of; the training goes on to the end."""
        try:
            keeper = self._need_keeper()
            path = keeper.save_at_step() if at_step else keeper.save_snapshot()
            return SnapshotSaved(self._step, epoch, path, final=False)
        except OutputError as error:
            when = f"step {self._step}" if at_step else f"epoch {epoch}"
            return Warned(f"The snapshot of {when} was not saved: {error}")

    def _validate(self) -> Iterator[Event]:
        """The loss on the held-out pictures, in turns; a stop leaves it undone."""
        check = self._need_session().validation
        if check is None or self._must_stop() or not self._team.leads:
            return
        self._need_session().stepper.settle()
        check.begin()
        while not check.finished:
            yield from self._rested()
            try:
                with self._need_session().turns.training() as model:
                    check.turn(model, lambda: self._need_session().turns.over or self._must_stop())
            except HostBusyError as error:
                yield from self._rest.busy(error)
            if self._must_stop():
                return
            yield Progress("validating", check.done, check.total)
        self._validations.append(check.loss)
        yield Validated(self._step, check.loss)

    def _make_previews(self, label: str) -> Iterator[Event]:
        self._need_session().stepper.settle()
        if not self._team.leads:
            return
        for event in self._need_session().previews.make(self._step, label, self._must_stop):
            if isinstance(event, PreviewMade):
                self._previews.append(event.path)
            yield event

    def _must_stop(self) -> bool:
        """Has somebody asked to stop? Remembers who. Processes that train together all stop after the same step."""
        if self._wish == "finished":
            if self._stop() or self._wishes.now == "stop":
                self._wish = "stopped"
            elif self._host.interrupt_requested():
                self._wish = "interrupted"
        if self._team.alone and self._reason == "finished":
            self._reason = self._wish
        return self._reason != "finished"

    def _judge(self, error: BaseException) -> str:
        """Turn what went wrong into a reason and a sentence."""
        self._broken = True
        if isinstance(error, Interrupted) and self._reason != "finished":
            return ""
        if isinstance(error, (KeyboardInterrupt, Interrupted)):
            self._reason = "interrupted"
            return ""
        self._reason = "failed"
        parameters = self._session.stepper.parameters if self._session else 0
        known = failures.known(error, self._checked.settings, self._step + 1, parameters)
        self.error = known or error
        if known is not None and known is not error:
            known.__cause__ = error
        self.trace = "".join(traceback.format_exception(self.error))
        failures.forget_frames(self.error)
        return str(known) if known else f"{type(error).__name__}: {error} (see log.txt in {self._folder})"

    def _keep(self) -> Generator[Event, None, Path | None]:
        """The file of this run: the final one, or what is good of a run that ended early."""
        keeper = self._keeper
        if keeper is None or self._step == 0 or not self._team.leads:
            return None
        if keeper.final is not None:
            if self._reason in ("stopped", "interrupted"):
                self._reason = "finished"  # stopped while it drew the last pictures: nothing is missing
            return keeper.final
        trusted = not isinstance(self._cause(), LossIsNan)
        for folder in (None, self._folder):  # a full or vanished LoRA folder: the run's own may still take it
            try:
                saved = keeper.save_rest(self._step, trust_last=trusted, folder=folder)
            except (LoraLabError, LossIsNan, OSError, RuntimeError) as error:
                yield Warned(f"What was learnt could not be kept: {error}")
                continue
            if saved is not None:
                yield saved
            break
        return keeper.newest

    def _save_state(self) -> None:
        if self._states is not None and self._step:
            self._states.put(self._step, self._epochs_done, self._validations)

    def _close_state(self) -> Iterator[Event]:
        """A finished run needs no state; one that was stopped between two steps keeps that of now, else its last."""
        if self._states is None:
            return
        if self._reason != "finished" and not self._broken:
            self._save_state()
        self._states.close(finished=self._reason == "finished")
        yield from (Warned(text) for text in self._states.warnings())

    def _cause(self) -> BaseException | None:
        return None if self.error is None else self.error.__cause__ or self.error

    def _release(self) -> None:
        """Let go of every tensor of ours, so that the memory is the host's again."""
        self._session = self._keeper = self._states = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _need_session(self) -> Session:
        assert self._session is not None
        return self._session

    def _need_keeper(self) -> Keeper:
        assert self._keeper is not None
        return self._keeper
