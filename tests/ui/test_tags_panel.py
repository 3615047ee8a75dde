"""The panel Tags: its handlers called with what a page would hold, on real captions and the demo tagger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lora_lab.demo import drawing, world
from lora_lab.errors import DatasetError, LoraLabError, OutputError, SettingsError
from lora_lab.host.base import HostCaptioner
from lora_lab.tagging.choose import Choice
from lora_lab.tagging.operations import OPERATIONS
from lora_lab.ui import autotag_panel, describe_part, tags_data, tags_files, tags_panel, tags_view
from lora_lab.ui.tags_acts import ACTS, Place
from lora_lab.ui.tags_view import Page, Thumb
from lora_lab.workflow.tasks import tasks
from tests.ui.shown import ShowHost, Tab

NUMBER = count(1)
LINES = ["1girl, red hair, hat", "mika, 1girl, red hair", "mika, 1girl, red hair, watermark", ""]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four drawn pictures of one concept, one without a caption."""
    tags_data.opened.cache_clear()
    place = tmp_path / "train" / "3_mika"
    place.mkdir(parents=True)
    for n, line in enumerate(LINES):
        drawing.draw(world.Attributes(hair="red"), n, 64).save(place / f"{n}.png")
        if line:
            (place / f"{n}.txt").write_text(line, encoding="utf-8")
    return place.parent


class Window:
    """The panel in one browser window: values of its components, changed by what handlers return."""

    def __init__(self, shown: Tab) -> None:
        self.w, self.context = shown.panels.tags, shown.context
        self.values: dict[Any, Any] = {c: c.value for c in (*self.w.autotag.form, self.w.autotag.taggers)}
        self.values |= {c: c.value for c in (self.w.operation, self.w.scope, self.w.extension, *self.w.slots)}
        self.values |= {self.w.folder: "", self.w.filter: "", self.w.message: "[]", self.w.place: Place()}

    def call(self, handler: Any, *more: Any) -> dict[Any, Any]:
        changes: dict[Any, Any] = handler(self.values, *(more or (self.w, self.context)))
        for component, value in changes.items():
            plain = not (isinstance(value, dict) and "__type__" in value)
            if plain or "value" in value:
                self.values[component] = value if plain else value["value"]
        return changes

    def open(self, folder: Path) -> Window:
        self.values[self.w.folder] = str(folder)
        self.call(tags_panel.open_folder)
        return self

    def act(self, act: str, value: str = "") -> dict[Any, Any]:
        self.values[self.w.message] = json.dumps([{"n": next(NUMBER), "act": act, "value": value}])
        return self.call(tags_panel.act)

    @property
    def place(self) -> Place:
        found: Place = self.values[self.w.place]
        return found

    def html(self, name: str) -> str:
        return str(self.values[getattr(self.w, name)])


@pytest.fixture
def window(shown: Tab, folder: Path) -> Window:
    return Window(shown).open(folder)


def read(folder: Path) -> list[str]:
    found = [folder / "3_mika" / f"{n}.txt" for n in range(len(LINES))]
    return [path.read_text(encoding="utf-8").strip() if path.is_file() else "" for path in found]


def test_opening_shows_table_gallery_editor_and_suggestions_and_writes_nothing(window: Window, folder: Path) -> None:
    assert ">1girl</button>" in window.html("table")
    assert window.html("gallery").count("lora-lab-thumb") >= 4
    assert 'data-tag="red hair"' in window.html("editor")
    assert "Trigger &#x27;mika&#x27; first" in window.html("cards")
    assert read(folder) == LINES


def test_a_suggestion_is_taken_by_a_click_and_taken_back(window: Window, folder: Path) -> None:
    window.act("take", "0:0")
    assert read(folder) == ["mika, 1girl, red hair, hat", LINES[1], LINES[2], "mika"]
    assert "Trigger" in window.html("history")
    window.act("undo")
    assert read(folder) == LINES
    assert not (folder / "3_mika" / "3.txt").exists()
    window.act("redo")
    assert read(folder)[3] == "mika"
    window.act("restore", "0")
    assert read(folder) == LINES


def test_dismissed_suggestions_stay_away_for_the_next_window_too(window: Window, shown: Tab, folder: Path) -> None:
    (first, *_) = tags_data.suggestions(tags_panel.dataset(window.place, window.context))
    window.act("dismiss", first.id)
    assert first.title not in window.html("cards").replace("&#x27;", "'")
    tags_data.opened.cache_clear()
    assert first.title not in Window(shown).open(folder).html("cards").replace("&#x27;", "'")


def test_chips_save_one_caption(window: Window, folder: Path) -> None:
    file = "3_mika/0.txt"
    window.act("open", file)
    window.act("caption", json.dumps({"file": file, "tags": ["mika", "hat", "1girl"]}))
    assert read(folder)[0] == "mika, hat, 1girl"
    assert read(folder)[1:] == LINES[1:]
    assert "edited" in window.html("gallery")


def test_keys_go_from_picture_to_picture_within_the_filter(window: Window) -> None:
    window.act("tag", "watermark")
    assert window.place.where == '"watermark"'
    window.act("step", "1")
    assert window.place.current == "3_mika/2.txt"
    window.act("tag", "watermark")
    assert window.place.where == ""
    window.act("step", "1")
    window.act("step", "1")
    assert window.place.current == "3_mika/3.txt"
    assert "1 of 4" not in window.html("gallery")


def test_selection_by_click_range_and_all(window: Window) -> None:
    window.act("open", "3_mika/0.txt")
    window.act("range", "3_mika/2.txt")
    assert len(window.place.selected) == 3
    window.act("toggle", "3_mika/0.txt")
    assert window.place.selected == {"3_mika/1.txt", "3_mika/2.txt"}
    window.act("select-all")
    assert len(window.place.selected) == 4
    window.act("select-none")
    assert not window.place.selected


def test_a_bulk_edit_is_shown_then_applied_to_its_scope(window: Window, folder: Path) -> None:
    window.act("toggle", "3_mika/2.txt")
    window.values[window.w.operation] = f"{OPERATIONS['remove'].title} (remove)"
    window.call(tags_panel.chosen, window.w)
    window.values[window.w.slots[0]] = "watermark, red hair"
    window.values[window.w.scope] = "selected pictures"
    window.call(tags_panel.previewed)
    assert "1 of 4 captions would change" in window.html("pending")
    assert "<del>watermark</del>" in window.html("pending")
    assert read(folder) == LINES
    window.call(tags_panel.applied)
    assert read(folder) == [LINES[0], LINES[1], "mika, 1girl", ""]
    assert window.place.pending is None


def test_a_filter_scopes_and_a_wrong_one_is_told(window: Window, folder: Path) -> None:
    window.values[window.w.operation] = f"{OPERATIONS['add'].title} (add)"
    window.values[window.w.slots[0]] = "outdoors"
    for slot in window.w.slots[1:]:
        window.values[slot] = ""
    window.values[window.w.scope] = "those found by the filter"
    window.values[window.w.filter] = "hat OR watermark"
    window.call(tags_panel.previewed)
    assert [change.file for change in window.place.pending or ()] == ["3_mika/0.txt", "3_mika/2.txt"]
    window.call(tags_panel.discarded)
    assert window.place.pending is None
    window.values[window.w.filter] = "(hat"
    with pytest.raises(LoraLabError):
        window.call(tags_panel.narrowed)


def test_another_programs_edit_is_not_overwritten(window: Window, folder: Path, told: list[str]) -> None:
    window.values[window.w.operation] = f"{OPERATIONS['add'].title} (add)"
    window.values[window.w.slots[0]] = "outdoors"
    for slot in window.w.slots[1:]:
        window.values[slot] = ""
    window.call(tags_panel.previewed)
    (folder / "3_mika" / "1.txt").write_text("mine, now", encoding="utf-8")
    with pytest.raises(LoraLabError):
        window.call(tags_panel.applied)
    assert read(folder)[1] == "mine, now"
    assert read(folder)[0] == LINES[0]


def test_every_operation_has_its_boxes(window: Window) -> None:
    for name, kind in OPERATIONS.items():
        window.values[window.w.operation] = f"{kind.title} ({name})"
        changes = window.call(tags_panel.chosen, window.w)
        seen = [changes[slot]["visible"] for slot in window.w.slots]
        assert sum(seen) == len(kind.options()), name
        assert kind.about.split(".")[0] in changes[window.w.about].replace("&#x27;", "'").replace("&quot;", '"')


def test_tagging_looks_once_and_thresholds_move_at_once(window: Window, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    w = window.w.autotag
    with pytest.raises(SettingsError, match="Look at the pictures"):
        autotag_panel.preview(window.values, w, window.w.place, lambda place: {}, window.context)
    autotag_panel.run(window.values, w, window.w.place, window.context)
    task = tasks().latest(autotag_panel.KIND)
    assert task is not None
    assert task.wait(60).state == "done"
    changes, mark = autotag_panel.refresh(w, "")
    assert "4 pictures seen, 4 of them now" in changes[w.told]
    assert autotag_panel.refresh(w, mark) == ({}, mark)

    def show(place: Place) -> dict[Any, Any]:
        return tags_panel.show(place, window.w, window.context)

    window.values[w.mode] = "if-empty"
    window.call(autotag_panel.preview, w, window.w.place, show, window.context)
    assert [change.file for change in window.place.pending or ()] == ["3_mika/3.txt"]
    assert "red hair" in (window.place.pending or ())[0].after
    window.values[w.mode] = "append"
    window.values[w.general] = 1.0
    window.call(autotag_panel.moved, w, window.w.place, show, window.context)
    few = sum(len(change.after) for change in window.place.pending or ())
    window.values[w.general] = 0.0
    window.call(autotag_panel.moved, w, window.w.place, show, window.context)
    assert sum(len(change.after) for change in window.place.pending or ()) > few
    window.call(tags_panel.applied)
    assert "red hair" in read(folder)[3]
    assert "The tagger also sees" in window.html("editor") or "probability" in window.html("editor")


def test_every_field_of_a_choice_can_be_chosen(window: Window) -> None:
    w = window.w.autotag
    assert autotag_panel.choice_of(window.values, w) == Choice()
    window.values |= {
        w.general: 0.2, w.character: 0.3, w.card: True, w.mcut: True, w.exclude: "a, b*", w.replace: "c=d; e=",
        w.most: 5, w.underscores: True, w.finer.order: "alphabet", w.finer.ratings: "last", w.finer.min_share: 0.1,
        w.finer.per_tag: "blush=0.6; cat ears = 0.2", w.finer.characters_first: True, w.finer.escape: True,
    }  # fmt: skip
    found, usual = autotag_panel.choice_of(window.values, w), Choice()
    same = [f.name for f in fields(Choice) if getattr(found, f.name) == getattr(usual, f.name)]
    assert same == []
    assert found.per_tag == (("blush", 0.6), ("cat ears", 0.2))
    window.values[w.finer.per_tag] = "blush"
    with pytest.raises(SettingsError, match="no threshold of a tag"):
        autotag_panel.choice_of(window.values, w)


def test_a_new_session_remembers_what_the_tagger_said(window: Window, shown: Tab, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    autotag_panel.run(window.values, window.w.autotag, window.w.place, window.context)
    task = tasks().latest(autotag_panel.KIND)
    assert task is not None
    task.wait(60)
    tags_data.opened.cache_clear()
    again = Window(shown).open(folder)
    assert "The tagger also sees" in again.html("editor")


def test_without_a_dataset_there_is_one_clear_line(shown: Tab) -> None:
    window = Window(shown)
    with pytest.raises(DatasetError, match="no dataset is open"):
        window.call(tags_panel.previewed)
    with pytest.raises(DatasetError, match="no dataset is open"):
        autotag_panel.run(window.values, window.w.autotag, window.w.place, window.context)
    assert window.act("undo")
    window.values[window.w.folder] = "/no/such/folder"
    with pytest.raises(DatasetError, match="no such folder"):
        window.call(tags_panel.open_folder)


def test_nonsense_from_the_page_does_nothing(window: Window, folder: Path) -> None:
    for text in ("", "no json", "{}", '[{"n": 1e18, "act": "format-disk", "value": "c:"}]'):
        window.values[window.w.message] = text
        window.call(tags_panel.act)
    assert read(folder) == LINES


def test_what_the_page_can_tell_is_what_is_understood() -> None:
    script = (Path(tags_panel.__file__).parents[2] / "javascript" / "lora_lab_tags.js").read_text(encoding="utf-8")
    view = Path(tags_view.__file__).read_text(encoding="utf-8")
    for act in ACTS:
        assert f'"{act}"' in script + view, act


def test_a_name_cannot_break_out_of_the_page() -> None:
    evil = '<script>alert("x")</script>'
    page = Page((Thumb(evil, evil, 1, False),), 0, 1, 1, 1)
    pieces = tags_view.gallery(page, frozenset(), "") + tags_view.changes([(evil, [evil], [])], 1)
    pieces += tags_view.tag_table([tags_view.TagRow(evil, 1, 1.0, None, (evil,))], frozenset())
    pieces += tags_view.suggestions([(evil, evil, evil, [(evil, evil)], 1)])
    pieces += tags_view.editor(tags_view.Edited(evil, evil, (evil,), {evil: 1.0}, {}, 3, 75, {evil: evil}))
    assert "<script" not in pieces


def test_two_thousand_captions_are_shown_in_pages(shown: Tab, tmp_path: Path) -> None:
    tags_data.opened.cache_clear()
    place = tmp_path / "many" / "1_mika"
    place.mkdir(parents=True)
    drawing.draw(world.Attributes(), 1, 64).save(place / "0000.png")
    data = (place / "0000.png").read_bytes()
    for n in range(2000):
        (place / f"{n:04}.png").write_bytes(data)
        (place / f"{n:04}.txt").write_text(f"mika, tag{n % 50}", encoding="utf-8")
    window = Window(shown).open(place.parent)
    assert window.html("gallery").count('data-act="open"') == tags_data.PAGE
    assert "1 of 21" in window.html("gallery")
    window.act("page", "20")
    assert "21 of 21" in window.html("gallery")


def test_a_webui_open_to_a_network_keeps_to_its_folders(tmp_path: Path, folder: Path) -> None:
    shown = Tab(ShowHost(tmp_path, roots=(tmp_path / "data",)))
    with pytest.raises(OutputError, match="outside of those allowed"):
        Window(shown).open(folder)


def test_tokens_are_counted_by_the_live_checkpoint(
    shown: Tab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = Window(shown).open(folder)
    assert "of 75 tokens" not in window.values[window.w.editor]
    host, asked = shown.context.host, []

    def count(caption: str) -> int:
        asked.append(caption)
        return 100 if "watermark" in caption else 2

    monkeypatch.setattr(host, "token_counter", lambda: count)
    window.act("step", "1")
    assert "8 of 75 tokens" in window.values[window.w.editor], "mika, 1girl, red hair"
    window.values[window.w.filter] = "over_limit"
    window.call(tags_panel.narrowed)
    assert "1 picture of 4" in window.values[window.w.gallery]
    before = len(asked)
    window.act("step", "1")
    assert len(asked) == before, "what was counted is remembered"

    host.info = replace(host.info, identity="another")  # type: ignore[attr-defined]
    monkeypatch.setattr(host, "token_counter", lambda: lambda word: 9)
    window.values[window.w.filter] = ""
    window.call(tags_panel.narrowed)
    assert re.search(r"(9|18|27|36|45) of 75 tokens", window.values[window.w.editor]), "another checkpoint counts anew"


def call_file(window: Window, shown: Tab, act: Any, file: Path | str = "") -> dict[Any, Any]:
    """A button of 'Recipes and files', as wired."""
    w = window.w
    opens = lambda place: tags_panel.dataset(place, shown.context)  # noqa: E731
    shows = lambda place: tags_panel.show(place, w, shown.context)  # noqa: E731
    form = {w.operation, *w.slots}
    operation = lambda values: tags_panel.operation_of(values, w)  # noqa: E731
    panel = tags_files.Panel(w.place, w.filter, w.shown, shows, opens, form, operation)
    window.values[w.files.file] = str(file)
    return window.call(act, w.files, panel, shown.context)


def test_a_recipe_is_written_step_by_step_and_run_again(shown: Tab, folder: Path, tmp_path: Path) -> None:
    window = Window(shown).open(folder)
    w, recipe = window.w, tmp_path / "clean.json"
    for number, (operation, option, where) in enumerate([("remove", "watermark", ""), ("add", "happy", "hat")], 1):
        window.values[w.operation] = f"x ({operation})"
        window.values[w.slots[0]], window.values[w.filter] = option, where
        told = call_file(window, shown, tags_files.add_step, recipe)[w.files.told]
        assert f"Step {number} of clean.json" in told
    call_file(window, shown, tags_files.run_recipe, recipe)
    assert [change.after for change in window.place.pending or ()] == [
        ("1girl", "red hair", "hat", "happy"), ("mika", "1girl", "red hair"),
    ]  # fmt: skip
    assert window.place.label == "recipe clean.json"
    window.call(tags_panel.applied)
    assert (folder / "3_mika/2.txt").read_text(encoding="utf-8") == "mika, 1girl, red hair"


def test_kohyas_json_there_and_back_in_the_tab(shown: Tab, folder: Path, tmp_path: Path) -> None:
    window = Window(shown).open(folder)
    told = call_file(window, shown, tags_files.write_json, tmp_path / "meta.json")[window.w.files.told]
    assert "3 captions written to meta.json" in told
    (folder / "3_mika/0.txt").write_text("other", encoding="utf-8")
    window.act("step", "1")
    call_file(window, shown, tags_files.read_json, tmp_path / "meta.json")
    assert [change.after for change in window.place.pending or ()] == [("1girl", "red hair", "hat")]
    with pytest.raises(LoraLabError):
        call_file(window, shown, tags_files.write_json, tmp_path / "meta.json")


def test_odd_letters_are_offered_for_conversion(shown: Tab, folder: Path) -> None:
    window = Window(shown).open(folder)
    told = call_file(window, shown, tags_files.convert)[window.w.files.told]
    assert "All are plain UTF-8" in told
    (folder / "3_mika/1.txt").write_bytes(b"b\xe9ret, hat")
    window.act("step", "1")
    told = call_file(window, shown, tags_files.convert)[window.w.files.told]
    assert "1 caption would change. They are Latin-1 now" in told
    window.call(tags_panel.applied)
    assert (folder / "3_mika/1.txt").read_bytes() == "béret, hat".encode()


FILE_ACTS = [tags_files.add_step, tags_files.run_recipe, tags_files.read_json, tags_files.write_json]


@pytest.mark.parametrize("act", FILE_ACTS)
def test_a_file_is_needed_and_must_be_allowed(shown: Tab, folder: Path, tmp_path: Path, act: Any) -> None:
    window = Window(shown).open(folder)
    with pytest.raises(SettingsError, match="no file is given"):
        call_file(window, shown, act)
    shown.context.host.roots = (tmp_path / "data",)  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match="outside of those allowed"):
        call_file(window, shown, act, tmp_path / "away.json")
    assert not (tmp_path / "away.json").exists()


@dataclass(frozen=True)
class Says(HostCaptioner):
    """A captioner that tells the colour of the middle."""

    @contextmanager
    def opened(self) -> Iterator[Callable[[Image.Image], str]]:
        yield lambda picture: f"a drawing of {picture.width} pixels, hat"


def test_a_captioner_of_the_host_describes(shown: Tab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(shown.context.host), "interrogators", lambda self: (Says("BLIP"),))
    window = Window(shown).open(folder)
    w = window.w
    opens = lambda place: tags_panel.dataset(place, shown.context)  # noqa: E731
    shows = lambda place: tags_panel.show(place, w, shown.context)  # noqa: E731
    panel = tags_files.Panel(w.place, w.filter, w.shown, shows, opens, set(), lambda values: None)  # type: ignore[arg-type,return-value]
    window.values |= {w.describe.captioner: "BLIP", w.describe.mode: "if-empty"}
    with pytest.raises(SettingsError, match="not described yet"):
        window.call(describe_part.preview, w.describe, panel)
    window.call(describe_part.run, w.describe, panel, shown.context)
    task = tasks().latest(describe_part.KIND)
    assert task is not None
    task.wait(30)
    assert "4 pictures described" in describe_part.refresh(w.describe, "")[0][w.describe.told]
    window.call(describe_part.preview, w.describe, panel)
    assert [change.after for change in window.place.pending or ()] == [("a drawing of 64 pixels", "hat")]
    window.values[w.describe.captioner] = "none"
    with pytest.raises(SettingsError, match="no captioner"):
        window.call(describe_part.run, w.describe, panel, shown.context)


def test_completing_tells_how_often_a_tag_is_there(shown: Tab, folder: Path) -> None:
    window = Window(shown).open(folder)
    editor = window.values[window.w.editor]
    assert '<option value="red hair" label="3 here">' in editor
