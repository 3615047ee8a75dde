"""Several runs, each going on with the LoRA of the one before: how they are written, and how one starts the next.

In a settings file of ours they are tables, in the form they are lines; both say only what differs:

    [[stages]]                              max_train_epochs=4 unet_lr=1e-4
    max_train_epochs = 4                    max_train_epochs=2 unet_lr=2e-5 train_data_dir="my best pictures"
    unet_lr = 1e-4

A value with blanks stands in quotation marks as JSON has them, a list in brackets; a line of - alone changes nothing.
No torch here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import LoraLabError, SettingsError
from lora_lab.training.events import Event, RunEnded
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.training.run import Listener, Run

FIXED = re.compile(r"stages|network_weights|dim_from_weights|network_module|algo|.*(dim|alpha)s?")
"""Settings that all stages share: the adapter's kind and size, and what leads from one to the next."""
NOTHING = "-"
"""The line of a stage that changes nothing."""
_NAME = re.compile(r"\s*(\w+)\s*=\s*")


def parse_line(line: str) -> dict[str, Any]:
    """The settings of one line.

    Raises:
        SettingsError: something that is no name=value.
    """
    values: dict[str, Any] = {}
    place = 0
    while line[place:].strip():
        found = _NAME.match(line, place)
        if found is None:
            what = f"stages holds {line[place:].strip()[:40]!r}"
            raise SettingsError(what, remedy="write name=value, such as max_train_epochs=4 unet_lr=5e-5")
        if found[1] in values:
            raise SettingsError(f"stages gives {found[1]} twice in a line", remedy="leave one of them out")
        values[found[1]], place = _value(line, found.end())
    return values


def _value(line: str, place: int) -> tuple[Any, int]:
    """The value that begins at `place`, and where it ends."""
    if line[place : place + 1] in ('"', "["):
        try:
            return json.JSONDecoder().raw_decode(line, place)
        except (ValueError, RecursionError):
            what = f"stages holds {line[place:][:40]!r}, which does not end"
            raise SettingsError(what, remedy='close the quotation mark or the bracket, as in "my pictures"') from None
    end = next((i for i in range(place, len(line)) if line[i].isspace()), len(line))
    return line[place:end], end


def to_lines(tables: Iterable[Any]) -> str:
    """Tables of a settings file as lines.

    Raises:
        SettingsError: one that is no table, or holds more than names and values.
    """
    lines = []
    for table in tables:
        if not isinstance(table, Mapping) or any(isinstance(value, Mapping) for value in table.values()):
            raise SettingsError("stages is no list of tables", remedy="write each as [[stages]] with names and values")
        lines.append(" ".join(f"{name}={_written(value)}" for name, value in table.items()) or NOTHING)
    return "\n".join(lines)


def _written(value: Any) -> str:  # noqa: ANN401 - a plain value
    if isinstance(value, bool):
        return "true" if value else "false"
    plain = not isinstance(value, (str, list)) or (isinstance(value, str) and re.fullmatch(r'[^\s"\[][^\s]*', value))
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def expand(settings: TrainSettings) -> tuple[TrainSettings, ...]:
    """The settings of each stage; from the second on `network_weights` is still that of the first.

    Raises:
        SettingsError: a line that cannot be read, an unknown or shared setting, a name given to two stages.
    """
    lines = [line.strip() for line in settings.stages.splitlines() if line.strip()]
    changes = [{} if line == NOTHING else parse_line(line) for line in lines]
    found = tuple(_stage(settings, number, values) for number, values in enumerate(changes, 1))
    names = [stage.output_name for stage in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"two stages have the output_name {twice}", remedy="give each its own, or none")
    return found


def _stage(settings: TrainSettings, number: int, changes: Mapping[str, Any]) -> TrainSettings:
    """All settings of stage `number` (1-based)."""
    named = {TrainSettings.spec(name).name: value for name, value in changes.items()}
    fixed = next((name for name in named if FIXED.fullmatch(name)), None)
    if fixed is not None:
        what = f"a stage changes {fixed}, which all stages share"
        raise SettingsError(what, remedy=f"set {fixed} above the stages")
    if "max_train_steps" in named:
        named.setdefault("max_train_epochs", None)
    named.setdefault("output_name", f"{settings.output_name}-stage{number}" if settings.output_name else "")
    return settings.replace(**named, stages="")


class Chain:
    """Runs that follow one another. A stage that fails, or is stopped, is the last; what the others made stays."""

    def __init__(self, stages: tuple[TrainSettings, ...], start: Callable[[TrainSettings], Run]) -> None:
        """
        Args:
            stages: from `expand`.
            start: makes and starts a run.
        """
        self._left = list(stages)
        self._start = start
        self._listeners: tuple[Listener, ...] = ()
        self.runs: tuple[Run, ...] = ()
        """Those that were started, the newest last."""
        self.error: LoraLabError | None = None
        """Why the next stage could not be started."""

    def begin(self) -> Run:
        """Start the first stage.

        Raises:
            LoraLabError: it cannot be run like this.
        """
        return self._next(None)

    def listen(self, listener: Listener) -> None:
        """As `Run.listen`, to the newest stage and all that follow."""
        self._listeners = (*self._listeners, listener)
        for run in self.runs[-1:]:
            run.listen(listener)

    def stop(self) -> None:
        """Stop the stage that is under way; none follows."""
        self._left.clear()
        self.last.stop()

    def goes_on(self, ended: RunEnded) -> bool:
        """Does another stage follow the one that has ended so?"""
        return ended.reason == "finished" and ended.lora is not None and bool(self._left)

    @property
    def last(self) -> Run:
        """The newest run: the last one, once it has ended and no other was started."""
        return self.runs[-1]

    def _next(self, lora: Path | None) -> Run:
        settings = self._left.pop(0)
        if lora is not None:
            settings = settings.replace(network_weights=str(lora))
        run = self._start(settings)
        run.chain = self
        self.runs = (*self.runs, run)
        for listener in self._listeners:
            run.listen(listener)
        run.listen(self._heard)
        return run

    def _heard(self, event: Event) -> None:
        """A stage has ended: start the next one, in the thread of the one before, so that no run is lost between."""
        if not isinstance(event, RunEnded) or not self.goes_on(event):
            return
        before = self.last
        try:
            self._next(event.lora)
        except LoraLabError as error:
            self.error = error
            before.warn(f"The next stage was not started: {error}")
