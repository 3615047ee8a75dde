"""Runs on one tiny model for the tests: a host, a run and what came of it, and ways to make it fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.network import files  # noqa: E402
from lora_lab.training.events import (  # noqa: E402
    Event,
    RunEnded,
)
from lora_lab.training.loop import Trainer  # noqa: E402
from lora_lab.training.prepare import check_start  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

from .tiny import TinyHost, TinyModel, fingerprint, run_settings, write_pictures  # noqa: E402

MODEL = TinyModel()


def fresh_host(tmp_path: Path) -> TinyHost:
    """A host on one shared model, which every test must leave as it found it."""
    MODEL.during = MODEL.drawing = lambda: None
    MODEL.forwards = 0
    write_pictures(tmp_path / "train" / "1_mika", 4, captions=("mika, red hair", "mika, hat", "mika, tail, hat"))
    return TinyHost(tmp_path, MODEL)


class Training:
    """A run and what came of it."""

    def __init__(self, host: TinyHost, stop: Callable[[], bool] = lambda: False, **values: Any) -> None:
        settings = TrainSettings.from_mapping(run_settings(host.folder, **values))
        before = fingerprint(host.model)
        self.trainer = Trainer(check_start(settings, host), host, host.folder / "run", stop)
        self.events: list[Event] = list(self.trainer.events())
        self.unchanged = fingerprint(host.model) == before
        self.ended = self.events[-1]
        assert isinstance(self.ended, RunEnded)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def at_forward(number: int, act: Callable[[], None]) -> Callable[[], None]:
    """Do something at the model's n-th forward of the run."""

    def during() -> None:
        if MODEL.forwards == number:
            act()

    return during


def fail_with(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def tensors(path: Path | None) -> dict[str, Any]:
    assert path is not None
    return dict(files.read(path).tensors)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
