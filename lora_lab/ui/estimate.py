"""How long a run will take, measured: the speed of the last run like it. Says nothing where nothing was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALIKE = (
    "resolution", "train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "mixed_precision",
    "network_train_unet_only", "network_train_text_encoder_only", "max_token_length",
)  # fmt: skip
"""Settings that decide a step's time. The adapter's size matters little."""
LOOKED_AT = 20
"""Newest runs that are compared."""
TAIL = 64 * 1024
"""Bytes at the end of a run's events that are read."""


@dataclass(frozen=True)
class Measured:
    """A speed, and which run it comes from."""

    seconds_per_step: float
    run: str


def measured(settings: dict[str, Any], checkpoint: str, runs: Path) -> Measured | None:
    """The speed of the newest run with the same checkpoint and the same settings as far as they matter.

    Args:
        settings: of the run to come, as `TrainSettings.to_mapping`.
        checkpoint: its name.
        runs: folder of all runs.
    """
    if not runs.is_dir():
        return None
    for folder in sorted((p for p in runs.iterdir() if p.is_dir()), reverse=True)[:LOOKED_AT]:
        old = _json(folder / "settings.json")
        if old is None or any(old.get(name, settings.get(name)) != settings.get(name) for name in ALIKE):
            continue
        found = _speed(folder / "events.jsonl", checkpoint)
        if found is not None:
            return Measured(found, folder.name)
    return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _speed(path: Path, checkpoint: str) -> float | None:
    """Seconds per step at the end of a run on this checkpoint."""
    try:
        with path.open("rb") as file:
            start = file.read(TAIL).decode("utf-8", "replace")
            file.seek(max(0, path.stat().st_size - TAIL))
            end = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    names = [event.get("checkpoint") for event in _events(start) if event.get("event") == "RunStarted"]
    speeds = [event["seconds_per_step"] for event in _events(end) if event.get("event") == "StepDone"]
    return float(speeds[-1]) if speeds and names and names[-1] == checkpoint else None


def _events(text: str) -> list[dict[str, Any]]:
    """The whole lines of a piece of events.jsonl."""
    found = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # cut at the piece's edge
        if isinstance(event, dict):
            found.append(event)
    return found
