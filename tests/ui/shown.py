"""A host that shows but lends nothing, and a tab on it whose handlers are called with dicts (no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.errors import HostBusyError
from lora_lab.families import Family
from lora_lab.host.base import CheckpointInfo, Host, HostPaths, LoadedModel, MemoryUse, Purpose
from lora_lab.training.jobs import JobQueue
from lora_lab.ui import tab
from lora_lab.ui.context import UiContext

BUSY = "another program has the model"

SMALL: dict[str, str] = {"resolution": "128", "min_bucket_reso": "64", "max_bucket_reso": "256"}
"""Sizes that fit the pictures."""


class ShowHost(Host):
    """Tells what is loaded and where folders are; whoever takes the model gets an error of the host's own."""

    def __init__(self, folder: Path, roots: tuple[Path, ...] = ()) -> None:
        self.kind = "standalone"
        self.folder = folder
        self.roots = roots
        self.info: CheckpointInfo | None = CheckpointInfo("a<b>.safetensors", "a|1", Family.SD1, "epsilon")

    def current(self) -> CheckpointInfo | None:
        return self.info

    @contextmanager
    def lease(self, purpose: Purpose, expect: str | None = None) -> Iterator[LoadedModel]:
        raise HostBusyError(BUSY)
        yield  # a generator all the same

    def paths(self) -> HostPaths:
        return HostPaths(self.folder / "loras", self.folder / "data", self.roots)

    def default_clip_skip(self) -> int:
        return 2

    def interrupt_requested(self) -> bool:
        return False

    def lora_saved(self, path: Path) -> None:
        raise AssertionError("nothing can be saved here")

    def full_hash(self, info: CheckpointInfo) -> str | None:
        return None

    def memory(self) -> MemoryUse:
        return MemoryUse(1.0, 2.0, 3.0)


class Tab:
    """A tab with its panels, and the values that a browser window would hold."""

    def __init__(self, host: Host, queue: JobQueue | None = None) -> None:
        self.queue = queue or JobQueue()
        self.context = UiContext(host, lambda: self.queue)
        with gr.Blocks() as self.blocks:
            self.panels = tab.lay_out(self.context)
            tab.wire(self.panels, self.context)
        self.values: dict[Any, Any] = {b: getattr(b, "value", None) for b in self.blocks.blocks.values()}

    def train(self, **typed: Any) -> dict[Any, Any]:
        """The values with these settings typed into the panel Train."""
        return self.values | {self.panels.train.fields.widgets[name]: value for name, value in typed.items()}

    def dataset(self, **typed: Any) -> dict[Any, Any]:
        """The values with these settings typed into the panel Dataset."""
        return self.values | {self.panels.dataset.fields.widgets[name]: value for name, value in typed.items()}
