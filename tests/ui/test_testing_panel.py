"""The panel Test without a browser: the form as a plan, a grid in the making, presets of one's own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("diffusers", reason="diffusers is not installed")

from lora_lab.errors import LoraLabError, SettingsError  # noqa: E402
from lora_lab.network import own_presets  # noqa: E402
from lora_lab.testing import prompt_lists  # noqa: E402
from lora_lab.ui import testing_acts, testing_form, testing_panel, testing_presets, testing_work  # noqa: E402
from lora_lab.ui.context import UiContext  # noqa: E402
from lora_lab.workflow.tasks import tasks  # noqa: E402
from tests.testing.small import host_of, write_lora  # noqa: E402
from tests.training.tiny import TinyHost  # noqa: E402


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> UiContext:
    host: TinyHost = host_of(tmp_path_factory.mktemp("testing"))
    host.paths().lora_dir.mkdir(parents=True, exist_ok=True)
    write_lora(host.paths().lora_dir / "mika.safetensors", host.model)
    return UiContext(host)


@pytest.fixture(scope="module")
def panel(context: UiContext) -> testing_panel.TestingWidgets:
    with gr.Blocks():
        return testing_panel.build(context)


@pytest.fixture
def values(panel: testing_panel.TestingWidgets) -> dict[Any, Any]:
    filled = {box: box.value for box in (*panel.form.all, *panel.presets.form)}
    small = {"width": 64, "height": 64, "steps": 2, "cfg_scale": 2.0, "batch": 8, "x": 0.5, "quick": 0}
    filled |= {panel.form.numbers[name]: value for name, value in small.items()}
    filled |= {panel.form.lora: "mika", panel.form.prompts: "mika, smile\n\nmika", panel.form.seeds: "3, 4"}
    return filled


MODES = [
    (testing_form.PRESETS, "", "", 6), (testing_form.ALONE, "OUT03-OUT05", "", 3),
    (testing_form.WITHOUT, "", "", 26), (testing_form.VALUES, "M00", "0, 1", 2), (testing_form.LAYERS, "", "", 0),
    (testing_form.STRENGTHS, "", "0.5, 1, 2", 3), (testing_form.APART, "", "0.5, 1", 4),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "blocks", "numbers", "rows"), MODES, ids=[m[0] for m in MODES])
def test_the_form_is_a_plan(
    mode: str, blocks: str, numbers: str, rows: int, panel: Any, values: Any, context: UiContext
) -> None:
    form = panel.form
    values |= {form.mode: mode, form.blocks: blocks, form.values: numbers}
    plan = testing_form.plan_of(values, form, context)
    assert len(plan.rows) == rows or (rows == 0 and len(plan.rows) > 1)
    assert plan.columns == (("mika, smile", 3), ("mika, smile", 4), ("mika", 3), ("mika", 4))
    said = testing_panel.plan(values, panel, context)[panel.told]
    assert f"{4 * len(plan.rows) + 4:,} pictures" in said


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("lora", "", "is not chosen"), ("prompts", " \n", "there is no prompt"), ("seeds", "1, x", "seeds are"),
        ("lists", "1,1,1", "3 block weights"), ("lists", "INXX", "there is no preset 'INXX'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(field: str, wrong: str, said: str, panel: Any, values: Any, context: UiContext) -> None:
    values |= {getattr(panel.form, field): wrong}
    with pytest.raises(SettingsError, match=said):
        testing_form.plan_of(values, panel.form, context)


def make_grid(panel: Any, values: Any, context: UiContext) -> Any:
    """A grid of two rows, made; what the page shows then."""
    form = panel.form
    values |= {form.presets: ["INALL", "NONE"], form.seeds: "3", form.prompts: "mika"}
    shown = testing_panel.make(values, panel, context)
    assert shown[panel.grid].count("lora-lab-blank") == 3
    return tasks().latest(testing_work.KIND)


def test_a_grid_comes_in_and_goes_on(panel: Any, values: Any, context: UiContext) -> None:
    model, go_on = context.host.model, threading.Event()  # type: ignore[attr-defined]
    model.drawing = lambda: go_on.wait(60)
    task = make_grid(panel, values, context)
    with pytest.raises(LoraLabError):
        testing_panel.make(values, panel, context)
    go_on.set()
    model.drawing = lambda: None
    assert task.wait(60).state == "done"
    changes, known = testing_panel.refresh(panel, "")
    assert changes[panel.grid].count("data-cell") == 3
    assert "Done." in changes[panel.told]
    assert "lbw=" in changes[panel.grid]
    assert testing_panel.refresh(panel, known) == ({}, known)


def test_presets_of_ones_own(panel: Any, values: Any, context: UiContext) -> None:
    w, form, folder = panel.presets, panel.form, context.host.paths().data_dir
    changes = testing_presets.look({**values, w.which: "OUTX"}, w, context)
    assert changes[w.weights] == ",".join(["1", *["0.5"] * 12, *["1"] * 13])
    assert changes[w.name] == ""
    filled = {**values, w.weights: changes[w.weights], w.name: "My style", w.note: "soft"}
    saved = testing_presets.save(filled, w, form, context)
    assert "My style" in saved[form.presets]["value"]
    assert own_presets.load(folder)[0].note == "soft"
    assert testing_presets.look({**values, w.which: "my style"}, w, context)[w.name] == "My style"
    with pytest.raises(SettingsError):
        testing_presets.look({**values, w.which: "nobody"}, w, context)
    testing_presets.delete({**values, w.name: "My style"}, w, form, context)
    assert own_presets.load(folder) == ()


def test_the_lists_are_read_again(panel: Any, values: Any, context: UiContext) -> None:
    form = panel.form
    path: Path = context.host.paths().lora_dir / "new.safetensors"
    path.write_bytes((path.parent / "mika.safetensors").read_bytes())
    changes = testing_panel.reread({form.lora: "mika", form.others: ["gone"]}, panel, context)
    assert changes[form.lora]["choices"] == ["mika", "new"]
    assert changes[form.others]["value"] == []
    path.unlink()


def test_what_is_liked_goes_into_a_file_and_to_train(shown: Any, context: UiContext, panel: Any, values: Any) -> None:
    w, train = panel.acts, shown.panels.train.fields
    assert make_grid(panel, values, context).wait(60).state == "done"
    changes = testing_acts.send({w.row: "0"}, w, shown.panels.tabs, train, context)  # INALL
    assert changes[train.widgets["down_lr_weight"]] == ""
    assert changes[train.widgets["mid_lr_weight"]] == "0"
    assert changes[train.widgets["up_lr_weight"]] == ",".join(["0"] * 12)
    assert "13 blocks left out" in changes[w.told]
    told = testing_acts.bake({w.row: "0", w.name: "inputs"}, w, context)[w.told]
    assert "inputs.safetensors does at strength 1 what &lt;lora:mika:1:lbw=" in told
    with pytest.raises(LoraLabError, match="exists already"):
        testing_acts.bake({w.row: "0", w.name: "inputs"}, w, context)
    with pytest.raises(SettingsError, match="nothing is left"):
        testing_acts.bake({w.row: "1", w.name: "none"}, w, context)
    with pytest.raises(SettingsError, match="no picture is chosen"):
        testing_acts.bake({w.row: "", w.name: ""}, w, context)
    (context.host.paths().lora_dir / "inputs.safetensors").unlink()
    saved = testing_acts.save({}, w, context)
    assert [Path(name).name for name in saved[w.files]["value"]] == ["grid.png", "grid.html"]
    folder = Path(saved[w.files]["value"][0]).parent
    assert len(list((folder / "pictures").iterdir())) == 3


def test_prompts_are_kept(panel: Any, context: UiContext) -> None:
    form = panel.form
    kept = testing_form.keep_prompts({form.kept: "poses", form.prompts: "mika, sitting"}, form, context)
    assert kept[form.kept]["choices"] == ["poses"]
    assert testing_form.take_prompts({form.kept: "poses", form.prompts: ""}, form, context) == {
        form.prompts: "mika, sitting"
    }
    assert testing_form.take_prompts({form.kept: "new", form.prompts: "x"}, form, context) == {form.prompts: "x"}
    with pytest.raises(SettingsError, match="no name"):
        testing_form.keep_prompts({form.kept: "", form.prompts: "x"}, form, context)
    testing_form.keep_prompts({form.kept: "poses", form.prompts: ""}, form, context)
    path = context.host.paths().data_dir / prompt_lists.FILE
    assert prompt_lists.load(path.parent) == {}
    path.write_text("[]")
    with pytest.raises(SettingsError, match="damaged"):
        prompt_lists.load(path.parent)
    path.unlink()
