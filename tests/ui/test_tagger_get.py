"""Getting taggers in the tab: size, download in the background, a folder of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lora_lab.demo import assets
from lora_lab.errors import DatasetError, SettingsError
from lora_lab.tagging import hub
from lora_lab.tagging.tags import TaggerError
from lora_lab.ui import tagger_get
from lora_lab.workflow import tagging
from lora_lab.workflow.tasks import tasks
from tests.ui.shown import Tab


@pytest.fixture
def widgets(shown: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Any, Any, Any]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))
    autotag = shown.panels.tags.autotag
    return autotag.get, autotag.taggers, shown.context


def test_the_size_first_then_the_download(widgets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    w, taggers, context = widgets
    wanted = hub.Download("SmilingWolf/wd-vit-tagger-v3", ("model.onnx", "selected_tags.csv"), 400_000_000)

    def download(wanted: hub.Download, folder: Path, *, listen: Any, stop: Any) -> Path:
        listen(100_000_000, wanted.size)
        return shutil.copytree(assets.tagger_dir(), folder / wanted.name)

    monkeypatch.setattr(hub, "look_up", lambda repository, stop=None: wanted)
    monkeypatch.setattr(hub, "download", download)
    choice = next(c for c in w.which.choices if "wd-vit-tagger-v3" in str(c))
    values = {w.which: choice[0] if isinstance(choice, tuple) else choice, taggers: ["demo"]}
    assert "400 MB" in tagger_get.sized(values, w)[w.told]
    tagger_get.get(values, w, context)
    task = tasks().latest(tagger_get.KIND)
    assert task is not None
    assert task.wait(10).state == "done"
    assert task.status().total == 400
    changes = tagger_get.again(values, w, taggers, context)
    assert "wd-vit-tagger-v3" in str(changes[taggers]["choices"])
    assert changes[taggers]["value"] == ["demo"]


def test_a_folder_of_ones_own_stays_in_the_list(widgets: Any, tmp_path: Path) -> None:
    w, taggers, context = widgets
    mine = shutil.copytree(assets.tagger_dir(), tmp_path / "mine")
    changes = tagger_get.add({w.folder: f'"{mine}"', taggers: ["demo"]}, w, taggers, context)
    assert changes[taggers]["value"] == ["demo", "mine"]
    assert "mine" in [tagger.name for tagger in tagging.all_taggers(context.host)]
    with pytest.raises(DatasetError, match="no such folder"):
        tagger_get.add({w.folder: str(tmp_path / "nowhere"), taggers: []}, w, taggers, context)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaggerError):
        tagger_get.add({w.folder: str(tmp_path / "empty"), taggers: []}, w, taggers, context)


def test_nothing_chosen_is_said(widgets: Any) -> None:
    w, _, context = widgets
    with pytest.raises(SettingsError, match="no tagger is chosen"):
        tagger_get.get({w.which: None}, w, context)
