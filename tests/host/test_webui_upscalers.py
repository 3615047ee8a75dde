"""The webui's upscalers, with a real filter behind a few names of its `modules`."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image


class Scaler:
    """Enlarges as the webui's does: to a multiple of eight."""

    def __init__(self) -> None:
        self.lock: Any = None
        self.asked: list[tuple[float, str]] = []

    def upscale(self, picture: Image.Image, scale: float, selected_model: str) -> Image.Image:
        assert self.lock.locked()
        self.asked.append((scale, selected_model))
        return picture.resize((int(picture.width * scale) // 8 * 8, int(picture.height * scale) // 8 * 8))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    lock, scaler = threading.Lock(), Scaler()
    scaler.lock = lock
    (tmp_path / "net.pth").write_bytes(b"x")
    known = [("None", None), ("Lanczos", None), ("There", str(tmp_path / "net.pth")), ("Away", "https://x/net.pth")]
    upscalers = [SimpleNamespace(name=name, data_path=path, scaler=scaler) for name, path in known]
    package = ModuleType("modules")
    for name, part in {
        "call_queue": SimpleNamespace(queue_lock=lock), "shared": SimpleNamespace(sd_upscalers=upscalers)
    }.items():
        setattr(package, name, part)
        monkeypatch.setitem(sys.modules, f"modules.{name}", part)
    monkeypatch.setitem(sys.modules, "modules", package)
    name = "lora_lab.host.webui_upscalers"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield SimpleNamespace(module=importlib.import_module(name), scaler=scaler, lock=lock, folder=tmp_path)
    del sys.modules[name]  # it holds our stand-in


def test_nets_that_are_there_enlarge_exactly_and_the_queue_is_given_back(host: SimpleNamespace) -> None:
    (one,) = host.module.upscalers()
    assert one.name == "There"
    assert one.enlarge(Image.new("RGB", (50, 30)), 1.5).size == (75, 45)
    assert host.scaler.asked == [(1.5, str(host.folder / "net.pth"))]
    assert not host.lock.locked()
