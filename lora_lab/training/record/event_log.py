"""A run's events as lines of its `events.jsonl`, and back, so that a run that goes on shows its whole chart."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lora_lab.training.events import (
    Event,
    LossBins,
    Norms,
    PreviewMade,
    Progress,
    RunEnded,
    RunStarted,
    SnapshotSaved,
    StepDone,
    Validated,
    Warned,
)
from lora_lab.training.status import RunStatus, after

if TYPE_CHECKING:
    from lora_lab.training.record.unfinished import Unfinished

FILE = "events.jsonl"
KINDS: Mapping[str, type[Event]] = MappingProxyType(
    {k.__name__: k for k in (RunStarted, Progress, StepDone, Validated, LossBins, Norms, PreviewMade, SnapshotSaved,
                               Warned, RunEnded)}
)


def to_json(event: Event) -> dict[str, Any]:
    """An event as one line of events.jsonl: its kind, then its fields."""
    values = dataclasses.asdict(event)
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    if isinstance(event, RunEnded):
        plain["previews"] = [str(path) for path in event.previews]
    return {"event": type(event).__name__, "time": round(time.time(), 3), **plain}


def from_json(values: Mapping[str, Any]) -> Event | None:
    """The inverse of `to_json`; None for a line of another version, or that was cut off when the run was killed."""
    kind = KINDS.get(str(values.get("event")))
    if kind is None:
        return None
    known = {f.name for f in dataclasses.fields(kind)}
    inner = {name: value for name, value in values.items() if name in known}
    for name in ("path", "lora"):
        if isinstance(inner.get(name), str):
            inner[name] = Path(inner[name])
    try:
        return kind(**inner)
    except TypeError:
        return None


def read(folder: Path) -> Iterator[Event]:
    """The events of a run's folder, as far as they can be read; none when there is no log."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        event = from_json(values) if isinstance(values, dict) else None
        if event is not None:
            yield event


def told_before(status: RunStatus, again: Unfinished | None) -> RunStatus:
    """The status of a run that goes on: what it had told up to its last state, its end and its warnings left out."""
    if again is None:
        return status
    for event in read(again.folder):
        if isinstance(event, (RunEnded, Warned, Progress, RunStarted)):
            continue
        if event.step <= again.standing.step and not (isinstance(event, PreviewMade) and not event.path.is_file()):
            status = after(status, event)
    return dataclasses.replace(status, state="waiting")
