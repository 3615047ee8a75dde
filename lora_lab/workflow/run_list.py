"""What the runs' folders tell: for the list of all runs, also of those of another process. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_lab.errors import LoraLabError


@dataclass(frozen=True)
class ListedRun:
    """A run as its folder tells it."""

    id: str
    name: str
    state: str
    """finished, stopped, interrupted or failed; under way (or waiting), or paused, in any program; else broken off."""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    val_loss: float | None = None
    seconds: float | None = None
    lora: str | None = None
    error: str | None = None


def list_runs(folder: Path) -> list[ListedRun]:
    """All runs in a folder, the oldest first; what is no run, or cannot be read, is left out."""
    return [_run(path) for path in _folders(folder)]


@dataclass(frozen=True)
class HeldOut:
    """Held-out losses of LoRAs as they were saved."""

    losses: Mapping[Path, float]
    """By LoRA; those alone of which a run tells one."""
    runs: frozenset[Path]
    """Folders of the runs that saved them."""

    @property
    def comparable(self) -> Mapping[Path, float]:
        """The losses of snapshots of one run; nothing if they are of several, whose held-out pictures may differ."""
        return self.losses if len(self.runs) == 1 else {}


def held_out(folder: Path, loras: Collection[Path]) -> HeldOut:
    """The held-out loss that was measured when each of these LoRAs was saved.

    Args:
        folder: of all runs.
        loras: files, as they were saved by a run; the newest run that saved one counts.
    """
    wanted = {lora.resolve(): lora for lora in loras}
    found: dict[Path, tuple[Path, float | None]] = {}
    for run in _folders(folder):
        events = list(_lines(run / "events.jsonl"))
        measured = {e.get("step"): _number(e.get("loss")) for e in events if e.get("event") == "Validated"}
        for event in events:
            saved = _word(event.get("path")) if event.get("event") == "SnapshotSaved" else None
            lora = wanted.get(Path(saved).resolve()) if saved else None
            if lora is not None:
                found[lora] = run, measured.get(event.get("step"))
    told = {lora: (run, loss) for lora, (run, loss) in found.items() if loss is not None}
    return HeldOut({lora: loss for lora, (_, loss) in told.items()}, frozenset(run for run, _ in told.values()))


def _folders(folder: Path) -> list[Path]:
    """Of all runs, the oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if (path / "settings.json").is_file())
    except OSError:
        return []


def _run(folder: Path) -> ListedRun:
    from lora_lab.training.record.folder_lock import in_use
    from lora_lab.training.record.wish import read
    from lora_lab.training.settings import settings_file

    try:
        name = settings_file.read(folder / "settings.json").settings.output_name
    except LoraLabError:
        name = ""
    going = "broken off" if not in_use(folder) else "paused" if read(folder) == "pause" else "under way"
    started, last, ended = _events(folder / "events.jsonl")
    return ListedRun(
        id=folder.name, name=name, state=_word(ended.get("reason")) or going,
        step=int(_number(ended.get("step")) or _number(last.get("step")) or 0),
        steps=int(_number(started.get("steps")) or 0),
        loss=_number(ended.get("loss_average", last.get("loss_average"))),
        val_loss=_number(ended.get("val_loss_last")), seconds=_number(ended.get("seconds")),
        lora=_word(ended.get("lora")), error=_word(ended.get("error")),
    )  # fmt: skip


def _number(value: object) -> float | None:
    """A number of the log, which a crash or a hand may have spoilt."""
    good = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if good and isinstance(value, (int, float)) else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _events(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The newest start, step and end; a run that went on after it had ended has an end before its newest start."""
    found: dict[str, dict[str, Any]] = {}
    for event in _lines(path):
        found[str(event.get("event"))] = event
        if event.get("event") == "RunStarted":
            found.pop("RunEnded", None)
    return found.get("RunStarted", {}), found.get("StepDone", {}), found.get("RunEnded", {})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file; none of one that cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue  # cut off by a crash
                if isinstance(event, dict):
                    yield event
    except OSError:
        return
