"""The panel Tools: its handlers called with what a page would hold, on real files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from lora_lab.errors import AdapterFileError, HostBusyError, LoraLabError, OutputError, SettingsError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.host.base import CheckpointInfo  # noqa: E402
from lora_lab.network.streams import TensorFile  # noqa: E402
from lora_lab.surgery.tokens import TokenChange  # noqa: E402
from lora_lab.ui import inspect_part, library_part, tools_panel, tools_view  # noqa: E402
from lora_lab.ui.tools_files import LOADED, HostFiles  # noqa: E402
from lora_lab.ui.tools_forms import TOOLS  # noqa: E402
from lora_lab.ui.tools_work import MAKERS  # noqa: E402
from lora_lab.ui.u_chart import Cell, u_chart  # noqa: E402
from lora_lab.workflow.tasks import tasks  # noqa: E402
from tests.surgery.test_extract import merged  # noqa: E402
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites  # noqa: E402
from tests.ui.shown import ShowHost, Tab  # noqa: E402

SD1 = Family.SD1


class SavingHost(ShowHost):
    """Remembers what it was told to list."""

    saved: tuple[Path, ...] = ()

    def lora_saved(self, path: Path) -> None:
        self.saved = (*self.saved, path)

    def full_hash(self, info: CheckpointInfo) -> str | None:
        return None


class Window:
    """The panel in a browser window, on a host with two checkpoints and two LoRAs."""

    def __init__(self, folder: Path, roots: tuple[Path, ...] = ()) -> None:
        self.host = host = SavingHost(folder, roots)
        self.loras, self.checkpoints = folder / "loras", folder / "checkpoints"
        self.loras.mkdir()
        self.checkpoints.mkdir()
        state = checkpoint(SD1)
        self.adapter = lora(state, SD1, 4)
        self.base = save(self.checkpoints / "base.safetensors", state)
        save(self.checkpoints / "tuned.safetensors", merged(state, SD1, self.adapter))
        save(self.loras / "a.safetensors", self.adapter, {"ss_sd_model_name": "base.safetensors"})
        save(self.loras / "b.safetensors", lora(state, SD1, 2, seed=7))
        assert host.info is not None
        host.info = replace(host.info, name="base.safetensors", path=self.base)
        self.shown = Tab(host)
        self.w, self.context = self.shown.panels.tools, self.shown.context
        self.seen = ("", "", "")

    def values(self, tool: str, **given: Any) -> tuple[Any, dict[Any, Any]]:
        form = next(form for form in self.w.forms if form.tool.name == tool)
        values = {widget: widget.value for widget in form.all}
        for name, value in given.items():
            values[{"out": form.out, "force": form.force}.get(name) or form.asks[name]] = value
        return form, values

    def run(self, tool: str, dry: bool = False, **given: Any) -> str:
        form, values = self.values(tool, **given)
        tools_panel.begin(values, self.w, form, dry, self.context)
        told: str = self.end(tools_panel.KIND)[form.told]
        return told

    def end(self, kind: str) -> dict[Any, Any]:
        task = tasks().latest(kind)
        assert task is not None
        task.wait(60)
        changes, self.seen = tools_panel.refresh(self.w, self.seen)
        assert tools_panel.refresh(self.w, self.seen)[0] == {}, "told once"
        return changes


@pytest.fixture
def window(tmp_path: Path) -> Window:
    return Window(tmp_path)


RUNS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("extract", {"base": LOADED, "tuned": "tuned.safetensors", "rank": "4", "precision": "float"}, "loras/tuned-lora"),
    ("merge", {"uses": "a:0.5\nb:unet=-1:te=0", "method": "concat"}, "loras/a-merged"),
    ("into", {"base": LOADED, "uses": "a:0.8", "precision": "float"}, "checkpoints/base-merged"),
    ("resize", {"source": "a", "rank": "2", "out": "small"}, "loras/small"),
    ("bake", {"uses": "a:te=0.5:OUT03=0"}, "loras/a-baked"),
    ("convert", {"source": "a", "layout": "diffusers"}, "loras/a-diffusers"),
    ("split", {"source": "a", "ranks": "1"}, "loras/a-0001"),
)


@pytest.mark.parametrize(("tool", "given", "out"), RUNS, ids=[run[0] for run in RUNS])
def test_looks_first_then_does_and_never_overwrites(
    window: Window, tmp_path: Path, tool: str, given: dict[str, Any], out: str
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    told = window.run(tool, dry=True, **given)
    assert "Nothing is written yet" in told
    assert " MB" in told
    assert {*tmp_path.rglob("*.safetensors")} == set(before)
    told = window.run(tool, **given)
    path = tmp_path / f"{out}.safetensors"
    assert f"Written:</span> <code>{path}</code>" in told
    assert f"file={path}" in told
    assert {*tmp_path.rglob("*.safetensors")} == {*before, path}
    assert all(path.read_bytes() == data for path, data in before.items())
    assert window.host.saved == ((path,) if path.parent == window.loras else ())
    assert "exists already" in window.run(tool, **given)
    assert "Written" in window.run(tool, force=True, **given)


def test_what_they_make_is_right(window: Window) -> None:
    window.run("extract", base=LOADED, tuned="tuned.safetensors", rank="4", precision="float")
    got = load(window.loras / "tuned-lora.safetensors")
    for site in sites(window.adapter):
        want = dense(window.adapter, site)
        assert (dense(got, site) - want).norm() <= 1e-4 * want.norm()
    window.run("into", base=LOADED, uses="a", precision="float")
    window.run("undo", base="base-merged.safetensors", uses="a", out="back")
    back, state = load(window.checkpoints / "back.safetensors"), load(window.base)
    assert all(torch.allclose(back[key], state[key], atol=1e-5) for key in state)
    told = window.run("resize", source="a", rank="1, sv_fro=0.9")
    assert told.count("Written") == 2
    assert (window.loras / "a-sv_fro0.9.safetensors").is_file()
    told = window.run("resize", source="a", rank="", max_error="0.5", out="fit", block_rank="")
    assert "thrown away" in told


def test_wrong_values_are_told_and_nothing_begins(window: Window, tmp_path: Path) -> None:
    for tool, given, wrong in (
        ("extract", {"tuned": "tuned.safetensors"}, "a checkpoint is not chosen"),
        ("extract", {"base": LOADED, "tuned": "tuned.safetensors", "max_rank": "many"}, "max_rank is 'many'"),
        ("merge", {}, "no LoRA is chosen"),
        ("merge", {"uses": "a:loud"}, "is no strength"),
        ("resize", {"source": "a", "rank": "big"}, "is no number for fixed"),
        ("resize", {"source": "a", "out": "../out"}, "leads out of the folder"),
        ("split", {"source": "a", "ranks": "x"}, "no list of ranks"),
        ("bake", {"uses": "a\nb", "out": "one"}, "cannot have one name"),
    ):
        form, values = window.values(tool, **given)  # type: ignore[arg-type]
        with pytest.raises(LoraLabError, match=wrong):
            tools_panel.begin(values, window.w, form, False, window.context)
    assert "there is no such file" in window.run("convert", source="gone")
    assert len([*tmp_path.rglob("*.safetensors")]) == 4


def test_a_webui_on_a_network_keeps_to_its_folders(tmp_path: Path) -> None:
    outside = save(tmp_path / "secret.safetensors", {"x": torch.ones(1)})
    window = Window(tmp_path, (tmp_path / "loras", tmp_path / "data"))
    for tool, given in (
        ("convert", {"source": str(outside)}),
        ("convert", {"source": "a", "out": str(tmp_path / "elsewhere.safetensors")}),
        ("convert", {"source": "../secret"}),
        ("into", {"base": LOADED, "uses": "a", "vae": str(outside)}),
    ):
        form, values = window.values(tool, **given)
        with pytest.raises(OutputError, match="outside of those allowed"):
            tools_panel.begin(values, window.w, form, False, window.context)
    assert "Written" in window.run("into", base=LOADED, uses="a"), "the host's own checkpoints are offered, so allowed"


def test_lists_picks_and_stop(window: Window) -> None:
    files = HostFiles(window.context)
    assert files.loras() == ["a", "b"]
    assert files.checkpoints() == [LOADED, "base.safetensors", "tuned.safetensors"]
    save(window.loras / "sub c.safetensors", {"x": torch.ones(1)})
    changes = tools_panel.lists({}, window.w, window.context)
    assert changes[window.w.inspect.lora]["choices"] == ["a", "b", "sub c"]
    form, _ = window.values("merge")
    pick, box = form.picks["uses"], form.asks["uses"]
    assert tools_panel.picked({pick: "b", box: "a:0.5\n"}, pick, box)[box] == "a:0.5\nb:1"
    assert tools_panel.picked({pick: None, box: ""}, pick, box) == {}

    def hold(task: Any) -> None:
        while True:
            task.progress("working", 1, 4)

    task = tasks().start(tools_panel.KIND, "Resize: at work", hold)
    form, values = window.values("resize", source="a", rank="2")
    with pytest.raises(HostBusyError):
        tools_panel.begin(values, window.w, form, False, window.context)
    while not task.status().total:
        pass
    told = tools_panel.refresh(window.w, window.seen)[0][form.told]
    assert "1 of 4" in told
    tools_panel.stop({}, window.w)
    assert "Nothing is written" in window.end(tools_panel.KIND)[form.told]


def test_inspect_compare_and_edit(window: Window, tmp_path: Path) -> None:
    w = window.w.inspect
    values: dict[Any, Any] = {box: "" for box in (*w.metadata.values(), *w.card.values())}
    values |= {w.lora: "a", w.other: "b", w.base: "", w.spectrum: True, w.tokens: False, w.preview: None}
    values[w.force] = False
    changes = inspect_part.look(values, w, window.context)
    assert changes[w.metadata["title"]] == ""
    shown = window.end(inspect_part.KIND)[w.report]
    for words in ("sd1", "M00", "Text encoders by layer", "mean effective rank", "Beside b", "cosine", "trained on",
                  "inspected.csv"):  # fmt: skip
        assert words in shown, words
    table = window.context.host.paths().data_dir / "inspected.csv"
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + len(sites(window.adapter))
    assert str(table) in w.report.temp_files
    with pytest.raises(SettingsError, match="nothing is different"):
        inspect_part.save(values, w, window.context)
    picture = tmp_path / "picture.png"
    Image.new("RGB", (40, 40), "red").save(picture)
    values |= {w.metadata["title"]: "Mika", w.card["trigger"]: "mika girl", w.card["weight"]: "0.8"}
    values[w.preview] = type("Upload", (), {"name": str(picture)})()
    before = load(window.loras / "a.safetensors")
    told = inspect_part.save(values, w, window.context)[w.told]
    assert "a.preview.png" in told
    with TensorFile(window.loras / "a.safetensors", AdapterFileError) as file:
        assert file.metadata["modelspec.title"] == "Mika"
    after = load(window.loras / "a.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)
    card = json.loads((window.loras / "a.json").read_text(encoding="utf-8"))
    assert card == {"activation text": "mika girl", "preferred weight": 0.8}
    changes = inspect_part.look(values, w, window.context)
    assert changes[w.card["trigger"]] == "mika girl"
    window.end(inspect_part.KIND)


def test_inspect_with_the_checkpoint(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_lab.demo import assets
    from lora_lab.host import standalone_clip

    monkeypatch.setattr(standalone_clip, "full_size_folder", assets.tokenizer_dir)
    w = window.w.inspect
    values: dict[Any, Any] = {w.lora: "a", w.other: "", w.base: "", w.spectrum: True, w.tokens: True}
    with pytest.raises(SettingsError, match="tokens need the checkpoint"):
        inspect_part.look(values, w, window.context)
    inspect_part.look(values | {w.base: "the loaded checkpoint"}, w, window.context)
    told = window.end(inspect_part.KIND)[w.report]
    assert "knows 20 tokens, the tokenizer" in told  # this world's own text encoder
    shown = tools_view.tokens([TokenChange(7, "hat ", 0.5), TokenChange(3, "<b>", 0.25)])
    assert shown.index("hat") < shown.index("&lt;b&gt;")
    assert "width:50%" in shown


def test_the_library(window: Window) -> None:
    w = window.w.library
    values: dict[Any, Any] = {w.text: "", w.folder: "", w.loaded: False}
    library_part.begin(values, w, window.context)
    assert "2 of 2 files" in (shown := window.end(library_part.KIND)[w.found])
    assert "library.csv" in shown
    table = window.context.host.paths().data_dir / "library.csv"
    assert [line.split(",")[0] for line in table.read_text(encoding="utf-8").splitlines()] == ["name", "a", "b"]
    library_part.begin(values | {w.loaded: True}, w, window.context)
    shown = window.end(library_part.KIND)[w.found]
    assert "1 of 2 files" in shown
    assert "base.safetensors (by its name)" in shown
    library_part.begin(values | {w.text: "a hat <lora:b:1> <lora:gone:1>"}, w, window.context)
    shown = window.end(library_part.KIND)[w.found]
    assert "1 of 2 files" in shown
    assert "no file is named gone" in shown
    library_part.begin(values | {w.text: "colour:red"}, w, window.context)
    assert "no place to look in" in window.end(library_part.KIND)[w.found]


def test_every_tool_has_its_work_and_asks_once() -> None:
    assert {tool.name for tool in TOOLS} == set(MAKERS)
    for tool in TOOLS:
        names = [ask.name for ask in tool.asks]
        assert len(names) == len(set(names))


def test_the_u() -> None:
    drawn = u_chart({n: Cell(0.5, "1 <", n, 0.2) for n in ("BASE", "IN01", "IN00", "M00", "OUT00", "OUT01")}, "a<b")
    assert drawn.index("IN00") < drawn.index("IN01") < drawn.index("OUT01") < drawn.index("OUT00")
    assert "a&lt;b" in drawn
    assert "1 &lt;" in drawn
    assert drawn.count("lora-lab-lost") == 6
    assert tools_view.percent(0.00012) == "0.012 %"
