"""The webui's own taggers, with real nets behind a few names of its `modules`."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="torch is not installed")


class Colours(torch.nn.Module):
    """What `modules.deepbooru_model` is for us: RGB in 0..1, NHWC, to probabilities, and the tags' names."""

    tags = ("red_thing", "blue_thing", "rating:safe")

    def forward(self, x: Any) -> Any:
        return x.mean((1, 2))[:, [0, 2, 1]]


class DeepDanbooru:
    """Loads and moves as the webui's does."""

    def __init__(self) -> None:
        self.model: Any = None
        self.on_device = False

    def start(self) -> None:
        self.model = self.model or Colours()
        self.on_device = True

    def stop(self) -> None:
        self.on_device = False


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    interrogator = SimpleNamespace(
        blip_model=None, running_on_cpu=True, load_blip_model=lambda: torch.nn.Linear(2, 2), sent_away=0,
        generate_caption=lambda image: f"a picture in {image.mode}",
    )  # fmt: skip
    interrogator.send_blip_to_ram = lambda: setattr(interrogator, "sent_away", interrogator.sent_away + 1)
    cpu = torch.device("cpu")
    parts = {
        "call_queue": SimpleNamespace(queue_lock=threading.Lock()),
        "devices": SimpleNamespace(
            device=cpu, dtype=torch.float32, autocast=contextlib.nullcontext, device_interrogate=cpu
        ),
        "paths": SimpleNamespace(models_path=str(tmp_path / "models"), extensions_dir=str(tmp_path / "extensions")),
        "shared": SimpleNamespace(
            cmd_opts=SimpleNamespace(no_half=True, onnxtagger_path=str(tmp_path / "onnx")), opts=SimpleNamespace(),
            interrogator=interrogator,
        ),
        "deepbooru": SimpleNamespace(model=DeepDanbooru()),
    }  # fmt: skip
    package = ModuleType("modules")
    for name, part in parts.items():
        setattr(package, name, part)
        monkeypatch.setitem(sys.modules, f"modules.{name}", part)
    monkeypatch.setitem(sys.modules, "modules", package)
    name = "lora_lab.host.webui_interrogate"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield SimpleNamespace(folder=tmp_path, host=importlib.import_module(name), **parts)
    del sys.modules[name]  # it holds our stand-in


def test_only_what_is_there_is_offered(webui: SimpleNamespace) -> None:
    assert webui.host.interrogators() == ()
    for name in ("torch_deepdanbooru/model.pt", "BLIP/model.pth"):
        path = webui.folder / "models" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    tagger, captioner = webui.host.interrogators()
    assert (tagger.name, captioner.name) == ("DeepDanbooru", "BLIP")
    path = webui.folder / "models" / "torch_deepdanbooru" / "model.pt"
    path.write_bytes(b"another")
    assert webui.host.interrogators()[0].identity != tagger.identity


def test_deepdanbooru_says_what_its_net_says_and_is_put_away(webui: SimpleNamespace) -> None:
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    pictures[0, ..., 0] = 255
    pictures[1, ..., 2] = 51
    with webui.host.DeepDanbooru("d", "d").opened() as opened:
        assert webui.deepbooru.model.on_device
        assert not webui.call_queue.queue_lock.locked()  # pictures may be made in between
        assert opened.words == Colours.tags
        np.testing.assert_allclose(opened.run(pictures), [[1, 0, 0], [0, 0.2, 0]], atol=1e-6)
    assert not webui.deepbooru.model.on_device
    with pytest.raises(KeyboardInterrupt), webui.host.DeepDanbooru("d", "d").opened():
        raise KeyboardInterrupt
    assert not webui.deepbooru.model.on_device
    assert not webui.call_queue.queue_lock.locked()


def test_blip_describes_and_is_put_away(webui: SimpleNamespace) -> None:
    with webui.host.Blip("BLIP").opened() as caption:
        assert caption(Image.new("RGBA", (4, 4))) == "a picture in RGB"
        assert webui.shared.interrogator.dtype == torch.float32
    assert webui.shared.interrogator.sent_away == 1


def test_places_of_other_extensions(webui: SimpleNamespace) -> None:
    for name in ("stable-diffusion-webui-wd14-tagger", "sd-dynamic-prompts"):
        (webui.folder / "extensions" / name).mkdir(parents=True)
    webui.shared.opts.tagger_hf_cache_dir = str(webui.folder / "cache")
    assert webui.host.tagger_places() == (
        webui.folder / "models" / "interrogators", webui.folder / "models" / "TaggerOnnx", webui.folder / "onnx",
        webui.folder / "cache", webui.folder / "extensions" / "stable-diffusion-webui-wd14-tagger",
    )  # fmt: skip
