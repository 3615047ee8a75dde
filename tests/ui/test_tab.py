"""The tab as a whole: names, what is saved of it, what is imported to open it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import gradio as gr
import pytest

from lora_lab.errors import LoraLabError
from lora_lab.ui import standalone, tab
from lora_lab.ui.context import UiContext
from tests.ui.shown import ShowHost

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def blocks(tmp_path: Path) -> gr.Blocks:
    return tab.build(UiContext(ShowHost(tmp_path)))


def test_elem_ids_are_ours_and_given_once(blocks: gr.Blocks) -> None:
    ids = Counter(b.elem_id for b in blocks.blocks.values() if getattr(b, "elem_id", None))
    assert all(name.startswith("lora_lab_") for name in ids)
    assert [name for name, times in ids.items() if times > 1] == []


def test_the_webui_saves_no_value_of_ours(blocks: gr.Blocks) -> None:
    assert all(component.do_not_save_to_config for component in blocks.blocks.values())


def test_nothing_runs_by_itself_and_one_poll_serves_all(blocks: gr.Blocks) -> None:
    assert all(not dependency["every"] for dependency in blocks.dependencies)
    asking = [dependency for dependency in blocks.dependencies if dependency["backend_fn"]]
    quick = {blocks.blocks[t].elem_id for d in asking if d["queue"] is False for t in d["targets"]}
    asked_by_javascript = {"lora_lab_live_poll", "lora_lab_train_replan"}
    urgent = {"lora_lab_live_interrupt"}
    urgent |= {f"lora_lab_{part}_stop" for part in ("train", "test", "tools", "sweep")}
    assert quick == asked_by_javascript | urgent, "they never warn: warnings reach the page through the queue only"


def test_our_javascript_and_style_speak_of_elements_that_exist(blocks: gr.Blocks) -> None:
    ids = {b.elem_id for b in blocks.blocks.values() if getattr(b, "elem_id", None)}
    for name in (*(f"javascript/{path.name}" for path in (ROOT / "javascript").glob("*.js")), "style.css"):
        text = (ROOT / name).read_text(encoding="utf-8")
        used = set(re.findall(r"(?:#|(?:byId|getElementById)\(\")(lora_lab_[a-z_]+)", text))
        assert used, name
        assert used - ids <= {"lora_lab_train_group_", "lora_lab_train_"}, name


def test_opening_the_tab_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.ui.shown import ShowHost; "
        "from lora_lab.ui import tab; from lora_lab.ui.context import UiContext; "
        f"tab.build(UiContext(ShowHost(Path({str(tmp_path)!r})))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_page_shows_the_tab_once_with_our_style(tmp_path: Path) -> None:
    page = standalone.page(ShowHost(tmp_path))
    assert page.css is not None
    assert ".lora-lab-live" in page.css
    layout = str(page.get_config_file()["layout"])
    root = next(b for b in page.blocks.values() if getattr(b, "elem_id", None) == "lora_lab_root")
    assert layout.count(f"'id': {root._id},") == 1
    assert any("window.loraLab" in (d["js"] or "") for d in page.dependencies)


def test_a_page_without_our_files_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "ROOT", tmp_path)
    with pytest.raises(LoraLabError, match="style.css"):
        standalone.page(ShowHost(tmp_path))
