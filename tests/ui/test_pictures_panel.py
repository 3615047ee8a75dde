"""Several pictures at once: the handlers called with what a page would hold, on real pictures."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lora_lab.demo import drawing, world
from lora_lab.errors import DatasetError, LoraLabError, SettingsError
from lora_lab.tagging.operations import from_texts
from lora_lab.tagging.recipe import Recipe
from lora_lab.ui import pictures_panel, tab, tags_data
from lora_lab.workflow import variants
from lora_lab.workflow.tasks import tasks
from tests.ui.shown import SMALL, Tab


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "set"
    for name, few in (("2_mika", 3), ("1_rin", 2)):
        (place / name).mkdir(parents=True)
        for n in range(few):
            drawing.draw(world.Attributes(hair="red"), n, 64).save(place / name / f"{n}.png")
            (place / name / f"{n}.txt").write_text(f"{name[2:]}, (hat)", encoding="utf-8")
    pictures_panel.WAITING.of.clear()
    return place


class Window:
    """The part in one browser window."""

    def __init__(self, shown: Tab, folder: Path) -> None:
        self.w, self.context, self.panels = shown.panels.pictures, shown.context, shown.panels
        self.values = shown.dataset(train_data_dir=str(folder), **SMALL)
        self.values[self.w.message] = "[]"

    def call(self, handler: Any, message: Any = (), **more: Any) -> dict[Any, Any]:
        self.values[self.w.message] = json.dumps(message)
        read = lambda values: tab.settings_of(values, self.panels)  # noqa: E731
        changes: dict[Any, Any] = handler(self.values, w=self.w, read=read, context=self.context, **more)
        return changes

    def end(self) -> dict[Any, Any]:
        """What the poll shows when the work is done."""
        task = tasks().latest(pictures_panel.KIND)
        assert task is not None
        task.wait(60)
        return pictures_panel.refresh(self.w, "")[0]


@pytest.fixture
def window(shown: Tab, folder: Path) -> Window:
    return Window(shown, folder)


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_grid_shows_a_concept_and_keeps_what_is_chosen(window: Window) -> None:
    changes = window.call(pictures_panel.follow)
    grid = changes[window.w.grid]
    assert grid.count("data-picture=") == 5
    assert changes[window.w.concept]["choices"] == ["all", "1_rin", "2_mika"]
    window.values[window.w.concept] = "2_mika"
    grid = window.call(pictures_panel.follow, ["2_mika/1.png"])[window.w.grid]
    assert grid.count("data-picture=") == 3
    assert grid.count("lora-lab-on") == 1
    assert 'data-caption="mika, (hat)"' in grid


def test_repairs_of_all_chosen_are_new_files(window: Window, folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    changes = window.call(
        pictures_panel.each, ["2_mika/0.png", "1_rin/1.png"], act=pictures_panel.REPAIRS["flip"], said="new"
    )
    new = files(folder) - before.keys()
    assert new == {"2_mika/0_flip.png", "2_mika/0_flip.txt", "1_rin/1_flip.png", "1_rin/1_flip.txt"}
    assert all((folder / name).read_bytes() == data for name, data in before.items())
    assert "0_flip.png" in changes[window.w.grid]


def test_put_aside(window: Window, folder: Path) -> None:
    changes = window.call(pictures_panel.put_aside, ["2_mika/0.png", "2_mika/1.png"])
    assert changes[window.w.grid].count("data-picture=") == 3
    assert ".aside/2_mika/0.png" in files(folder)


def test_put_aside_stands_in_the_history_as_what_it_was(window: Window, folder: Path) -> None:
    one = tags_data.opened(folder.resolve(), window.context.host.paths().data_dir, ".txt")
    one.project.apply(one.project.preview(Recipe.of(from_texts("add", {"tags": "x"}))), "add x")
    window.call(pictures_panel.put_aside, ["2_mika/0.png"])
    assert [(p.label, p.files) for p in one.project.history()][:2] == [("put aside", 1), ("add x", 5)]


def test_upscaling_by_a_host_is_a_new_file(window: Window, folder: Path) -> None:
    window.values[window.w.upscaler], window.values[window.w.factor] = "Lanczos", 2
    window.call(pictures_panel.upscale, ["1_rin/0.png"])
    assert "1 picture upscaled" in window.end()[window.w.told]
    with Image.open(folder / "1_rin/0_large.png") as large:
        assert large.size == (128, 128)
    assert (folder / "1_rin/0_large.txt").read_text(encoding="utf-8") == "rin, (hat)"


def test_variants_are_kept_or_dropped_one_by_one(
    window: Window, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(host: Any, picture: Any, options: Any, settings: Any, listen: Any) -> list[Path]:
        made = [tmp_path / "out" / f"{picture.path.stem}{variants.MARK}{n}.png" for n in range(settings.count)]
        for number, path in enumerate(made, 1):
            variants.save_picture(Image.new("RGB", (64, 64), "red"), path, "a note", "mika, (hat)")
            listen("variants", number, len(made))
        return made

    monkeypatch.setattr(variants, "make_variants", make)
    window.values[window.w.form["count"]] = 3
    window.call(pictures_panel.make, ["2_mika/2.png"])
    shown = window.end()[window.w.made]
    assert shown.count("data-variant=\"keep\"") == 3
    first, second, third = pictures_panel.WAITING.of
    changes = window.call(pictures_panel.judge, {"act": "keep", "path": str(first)})
    assert "2_generated_0.png" in {Path(name).name for name in files(folder)}
    assert changes[window.w.made].count("data-variant=\"keep\"") == 2
    window.call(pictures_panel.judge, {"act": "drop", "path": str(second)})
    assert not second.exists()
    assert window.call(pictures_panel.judge, {"act": "drop-all", "path": ""})[window.w.made] == ""
    assert not third.exists()
    window.call(pictures_panel.judge, {"act": "drop", "path": str(folder / "2_mika/2.png")})
    assert (folder / "2_mika/2.png").exists(), "only variants can be dropped"
    assert window.call(pictures_panel.judge, "nonsense") == {}


def test_results_of_img2img_come_back_with_the_caption(window: Window, folder: Path) -> None:
    note, data = PngInfo(), io.BytesIO()
    note.add_text("parameters", "mika\nSteps: 20")
    Image.new("RGB", (64, 64), "blue").save(data, "PNG", pnginfo=note)
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    message = {"picture": "2_mika/1.png", "results": [url, url], "chosen": ["1_rin/0.png"]}
    changes = window.call(pictures_panel.take_back, message)
    assert changes[window.w.grid].count("lora-lab-on") == 1, "what waits to be sent next stays chosen"
    assert "2_mika/1.png: 1_generated_1.png, 1_generated_2.png." in changes[window.w.told]
    made = folder / "2_mika/1_generated_1.png"
    assert made.with_suffix(".txt").read_text(encoding="utf-8") == "mika, (hat)"
    with Image.open(made) as file:
        assert file.info["parameters"] == "mika\nSteps: 20"
    assert ">generated<" in changes[window.w.grid]


@pytest.mark.parametrize(
    ("handler", "message", "says"),
    [
        (pictures_panel.upscale, [], "no picture is chosen"),
        (pictures_panel.make, ["2_mika/9.png"], "no picture is chosen"),
        (pictures_panel.put_aside, {"a": 1}, "no picture is chosen"),
        (pictures_panel.take_back, {"picture": "", "results": []}, "no picture of this dataset was sent"),
        (pictures_panel.take_back, {"picture": "../x.png", "results": []}, "no picture of this dataset was sent"),
        (pictures_panel.take_back, {"picture": "2_mika/1.png", "results": []}, "no picture to take back"),
        (pictures_panel.take_back, {"picture": "2_mika/1.png", "results": ["x"]}, "is no picture"),
        (pictures_panel.take_back, {"picture": "2_mika/1.png", "results": ["a,!!!!"]}, "is no picture"),
    ],
)
def test_mistakes_are_told_and_change_nothing(
    window: Window, folder: Path, handler: Any, message: Any, says: str
) -> None:
    before = files(folder)
    with pytest.raises(LoraLabError, match=says):
        window.call(handler, message)
    assert files(folder) == before


def test_numbers_out_of_range_are_refused(window: Window) -> None:
    window.values[window.w.factor] = 1
    with pytest.raises(SettingsError, match="upscaling 1 times"):
        window.call(pictures_panel.upscale, ["1_rin/0.png"])
    window.values[window.w.form["count"]] = 0
    with pytest.raises(SettingsError, match="count is 0"):
        window.call(pictures_panel.make, ["1_rin/0.png"])


def test_only_a_webui_has_img2img(window: Window) -> None:
    assert window.w.send == {}
    assert window.w.take is None
    with pytest.raises(DatasetError):
        window.call(pictures_panel.take_back, {})
