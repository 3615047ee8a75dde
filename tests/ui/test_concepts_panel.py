"""Concepts, single pictures and regularisation pictures: parts of the Dataset panel, called as a page would."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lora_lab.errors import DatasetError, LoraLabError, OutputError, SettingsError
from lora_lab.ui import concepts_panel, dataset_panel, regularisation_panel, tab
from lora_lab.workflow.tasks import tasks
from tests.ui.shown import BUSY, SMALL, Tab


class Window:
    """The Dataset panel's form and this part's."""

    def __init__(self, shown: Tab, folder: Path) -> None:
        self.shown, self.w = shown, shown.panels.concepts
        self.values: dict[Any, Any] = dict(shown.dataset(train_data_dir=str(folder), **SMALL))
        self.values |= {self.w.concept: None, self.w.repeats: 1, self.w.name: "", self.w.picture: None}
        self.values[self.w.reg] = False
        self.values |= {self.w.box: "", self.w.aside: []}
        self.read = partial(tab.settings_of, panels=shown.panels)

    def do(self, act: concepts_panel.Act) -> dict[Any, Any]:
        return concepts_panel.change(self.values, self.w, act, self.read, self.shown.context)

    def fill(self) -> dict[Any, Any]:
        return concepts_panel.fill(self.values, self.w, self.read, self.shown.context)


@pytest.fixture
def window(shown: Tab, pictures: Path) -> Window:
    return Window(shown, pictures)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*") if p.is_file())


def test_the_lists_and_the_arithmetic(window: Window, pictures: Path) -> None:
    changes = window.fill()
    assert changes[window.w.concept]["choices"] == ["3_mika"]
    assert changes[window.w.picture]["choices"] == [f"3_mika/{n}.png" for n in range(4)]
    assert "4 x 3 = 12" in changes[window.w.shares]
    assert "12 items" in changes[window.w.shares]


def test_a_folder_that_is_wrong_is_told_by_the_check_alone(window: Window, tmp_path: Path) -> None:
    window.values |= window.shown.dataset(train_data_dir=str(tmp_path / "gone"), **SMALL)
    assert concepts_panel.follow(window.values, window.w, window.read, window.shown.context) == {}
    with pytest.raises(DatasetError):
        window.fill()


def test_a_concept_is_renamed_and_another_made(window: Window, pictures: Path) -> None:
    window.values |= {window.w.concept: "3_mika", window.w.repeats: 7}
    assert "7_mika" in window.do(concepts_panel.rename)[window.w.told]
    window.values |= {window.w.repeats: 2, window.w.name: "mika dress"}
    create = partial(concepts_panel.create, context=window.shown.context)
    changes = window.do(create)
    assert sorted(p.name for p in pictures.iterdir()) == ["2_mika dress", "7_mika"]
    assert "2_mika dress" in changes[window.w.told]
    with pytest.raises(OutputError, match="of that name"):
        window.do(create)
    window.values[window.w.concept] = "gone"
    with pytest.raises(SettingsError, match="no concept"):
        window.do(concepts_panel.rename)


def test_regularisation_folders_are_made_and_renamed(window: Window, pictures: Path) -> None:
    window.values |= {window.w.repeats: 1, window.w.name: "1girl", window.w.reg: True}
    create = partial(concepts_panel.create, context=window.shown.context)
    root = pictures.with_name(f"{pictures.name}_reg")
    assert str(root) in window.do(create)[window.w.told].replace("&#x27;", "'")
    Image.new("RGB", (64, 64)).save(root / "1_1girl" / "a.png")
    window.values |= window.shown.dataset(train_data_dir=str(pictures), reg_data_dir=str(root), **SMALL)
    window.values |= {window.w.concept: "regularisation: 1_1girl", window.w.repeats: 3, window.w.name: ""}
    changes = window.do(concepts_panel.rename)
    assert changes[window.w.concept]["choices"] == ["3_mika", "regularisation: 3_1girl"]
    assert [p.name for p in root.iterdir()] == ["3_1girl"]
    window.shown.context.host.roots = (pictures,)  # type: ignore[attr-defined]
    window.values |= window.shown.dataset(train_data_dir=str(pictures), **SMALL)
    window.values |= {window.w.name: "1boy", window.w.reg: True}
    with pytest.raises(OutputError, match="outside of those allowed"):
        window.do(create)


def test_a_picture_goes_aside_and_comes_back(window: Window, pictures: Path) -> None:
    before = names(pictures)
    window.values[window.w.picture] = "3_mika/1.png"
    changes = window.do(concepts_panel.put_aside)
    assert changes[window.w.aside]["choices"] == ["3_mika/1.png"]
    assert len(changes[window.w.picture]["choices"]) == 3
    window.values[window.w.aside] = ["3_mika/1.png"]
    window.do(concepts_panel.bring_back)
    assert names(pictures) == before
    window.values[window.w.aside] = []
    with pytest.raises(SettingsError, match="no picture"):
        window.do(concepts_panel.bring_back)


def test_repairs_and_crops_are_new_files(window: Window, pictures: Path) -> None:
    window.values |= {window.w.picture: "3_mika/1.png", window.w.box: "0, 0, 64, 64"}
    for which in concepts_panel.REPAIRS:
        window.do(partial(concepts_panel.repair, which=which))
    window.do(concepts_panel.crop)
    made = {n for n in names(pictures) if n.startswith("3_mika/1_")}
    words = ("flip", "turn90", "flat", "crop")
    assert made == {f"3_mika/1_{word}{ending}" for word in words for ending in (".png", ".txt")}
    window.values[window.w.box] = "left"
    with pytest.raises(SettingsError, match="four numbers"):
        window.do(concepts_panel.crop)


def test_the_crop_that_training_sees_is_shown(window: Window, pictures: Path) -> None:
    window.values[window.w.picture] = "3_mika/0.png"
    changes = concepts_panel.look(window.values, window.w, window.read, window.shown.context)
    assert "64 x 256 pixels" in changes[window.w.lost]
    with Image.open(changes[window.w.view]) as view:
        assert view.size[0] <= view.size[1]
    window.values[window.w.picture] = None
    assert concepts_panel.look(window.values, window.w, window.read, window.shown.context)[window.w.view] is None
    window.values[window.w.picture] = "3_mika/gone.png"
    with pytest.raises(DatasetError, match="no picture is chosen"):
        concepts_panel.look(window.values, window.w, window.read, window.shown.context)


def test_the_checks_on_pixels_come_by_and_by(shown: Tab, pictures: Path) -> None:
    w = shown.panels.dataset
    changes = dataset_panel.check(shown.dataset(train_data_dir=str(pictures), **SMALL), w, shown.context)
    assert "nearly one colour" not in changes[w.problems]
    task = tasks().latest(dataset_panel.KIND)
    assert task is not None
    assert task.wait(60).state == "done"
    later, mark = dataset_panel.refresh(w, str(pictures), "")
    assert "nearly one colour" in later[w.problems]
    assert dataset_panel.refresh(w, str(pictures), mark) == ({}, mark)
    assert dataset_panel.refresh(w, "another folder", "") == ({}, "")


def reg(shown: Tab, pictures: Path, **more: Any) -> dict[Any, Any]:
    w = shown.panels.regularisation
    values: dict[Any, Any] = dict(shown.dataset(train_data_dir=str(pictures), **SMALL))
    values |= {component: component.value for component in w.form}
    return values | {getattr(w, name): value for name, value in more.items()}


def test_regularisation_pictures_are_planned_before_they_are_made(shown: Tab, pictures: Path) -> None:
    w, read = shown.panels.regularisation, partial(tab.settings_of, panels=shown.panels)
    found = regularisation_panel.look(reg(shown, pictures), w, read, shown.context)
    assert "4 pictures in" in found[w.told]
    assert "3_1girl" in found[w.told]
    assert "<code>red hair, hat</code>" in found[w.told]
    easy = list(regularisation_panel.ROUTES)[1]
    values = reg(shown, pictures, route=easy, count=9, prompt="1girl, solo", class_name="girl")
    found = regularisation_panel.look(values, w, read, shown.context)
    assert "9 pictures in" in found[w.told]
    with pytest.raises(OutputError, match="dataset's own"):
        regularisation_panel.look(reg(shown, pictures, out=str(pictures)), w, read, shown.context)
    with pytest.raises(LoraLabError, match="class is named"):
        regularisation_panel.look(reg(shown, pictures, class_name="a/b"), w, read, shown.context)


def test_making_them_runs_in_the_background_and_tells_its_end(shown: Tab, pictures: Path) -> None:
    w, read = shown.panels.regularisation, partial(tab.settings_of, panels=shown.panels)
    regularisation_panel.make(reg(shown, pictures), w, read, shown.context)
    task = tasks().latest(regularisation_panel.KIND)
    assert task is not None
    status = task.wait(60)
    assert status.state == "failed", "this host lends nothing"
    assert BUSY in str(status.error)
    changes, mark = regularisation_panel.refresh(w, "")
    assert BUSY in changes[w.told]
    assert regularisation_panel.refresh(w, mark) == ({}, mark)


def test_their_folder_is_handed_to_training_once_a_picture_is_there(shown: Tab, pictures: Path) -> None:
    w, read = shown.panels.regularisation, partial(tab.settings_of, panels=shown.panels)
    folders = [panel.fields.widgets["reg_data_dir"] for panel in (shown.panels.dataset, shown.panels.train)]
    with pytest.raises(DatasetError, match="no regularisation picture is there yet"):
        regularisation_panel.use(reg(shown, pictures), w, folders, read, shown.context)
    made = pictures.parent / f"{pictures.name}_reg" / "3_1girl" / "0.png"
    made.parent.mkdir(parents=True)
    Image.new("RGB", (128, 128)).save(made)
    changes = regularisation_panel.use(reg(shown, pictures), w, folders, read, shown.context)
    assert [changes[folder] for folder in folders] == [str(made.parent.parent)] * 2
    assert "3 pictures of them still to be made" in changes[w.told]
