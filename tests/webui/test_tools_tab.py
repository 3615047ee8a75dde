"""Every tool of the panel Tools once, in a real webui and a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lora_lab.ui.tools_forms import TOOLS
from tests.webui.test_tab import Page, browser, page  # noqa: F401 - fixtures
from tests.webui.test_tools import CLOSE, far, files  # noqa: F401 - `files` is a fixture

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def fill(page: Page, tool: str, **values: str) -> None:  # noqa: F811
    """Open a tool's form and fill it; dropdowns take what is typed and Enter."""
    title = {one.name: one.title for one in TOOLS}.get(tool, tool.capitalize())
    page.page.locator("#lora_lab_tools_tabs > .tab-nav > button").get_by_text(title, exact=True).click()
    for name, value in values.items():
        box = page.page.locator(f"#lora_lab_tools_{tool}_{name} :is(input, textarea)").first
        box.click()
        box.fill(value)
        if box.evaluate("box => box.tagName") == "INPUT":
            box.press("Enter")
        box.blur()


def test_every_tool_once(
    page: Page, webui: Webui, files: tuple[Path, Path], data: Path  # noqa: F811
) -> None:
    base, lora = files
    before = base.read_bytes(), lora.read_bytes()
    wanted = webui.picture("1girl, hat <lora:probe_lora:0.8>")
    page.panel("Tools")
    page.click("tools_refresh")
    fill(page, "into", base="the loaded checkpoint", uses="probe_lora:0.8", precision="float", out="tab_merged")
    page.click("tools_into_look")
    page.says("tools_into_told", "Nothing is written yet")
    assert not base.with_name("tab_merged.safetensors").exists()
    for tool, values, made in (
        ("into", {}, base.with_name("tab_merged.safetensors")),
        ("undo", {"base": "tab_merged.safetensors", "uses": "probe_lora", "out": "tab_undone"},
         base.with_name("tab_undone.safetensors")),
        ("extract", {"base": "the loaded checkpoint", "tuned": "tab_merged.safetensors", "rank": "4",
                     "precision": "float", "out": "tab_extracted"}, lora.with_name("tab_extracted.safetensors")),
        ("merge", {"uses": "probe_lora:0.5\nprobe_lora:0.3", "method": "concat", "out": "tab_both"},
         lora.with_name("tab_both.safetensors")),
        ("resize", {"source": "tab_both", "rank": "4", "out": "tab_small"}, lora.with_name("tab_small.safetensors")),
        ("bake", {"uses": "probe_lora:0.8", "out": "tab_baked"}, lora.with_name("tab_baked.safetensors")),
        ("convert", {"source": "probe_lora", "layout": "diffusers", "out": "tab_away"},
         lora.with_name("tab_away.safetensors")),
        ("split", {"source": "probe_lora", "ranks": "2", "out": "tab"}, lora.with_name("tab-0002.safetensors")),
    ):  # fmt: skip
        fill(page, tool, **values)
        page.click(f"tools_{tool}_go")
        page.says(f"tools_{tool}_told", "Written")
        assert made.is_file()
    page.click("tools_split_go")
    page.says("tools_split_told", "exists already")
    for name in ("tab_extracted", "tab_both", "tab_small", "tab_baked"):
        assert far(webui.picture(f"1girl, hat <lora:{name}:1>"), wanted) <= CLOSE, name
    fill(page, "inspect", lora="probe_lora")
    page.click("tools_inspect_look")
    page.says("tools_inspect_report", "sites")
    page.page.locator("#lora_lab_tools_inspect_report svg.lora-lab-u").wait_for()
    fill(page, "library", text="tool:resize")
    page.click("tools_library_search")
    page.says("tools_library_found", "tab_small")
    assert (base.read_bytes(), lora.read_bytes()) == before
