"""docs/strings.json holds what the tab says, as the webui's translation looks it up."""

from __future__ import annotations

import html
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from lora_lab.ui import tab
from lora_lab.ui.context import UiContext
from tests.ui.shown import ShowHost

ROOT = Path(__file__).resolve().parents[2]
EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u2600-\u27bf\u2934-\u2b55\U0001f000-\U0001faff]"
)
"""Texts with one of these the webui does not look up."""


@pytest.fixture(scope="module")
def strings() -> dict[str, str]:
    return json.loads((ROOT / "docs" / "strings.json").read_text(encoding="utf-8"))


def test_the_file_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "strings.py"))["page"]()
    assert (ROOT / "docs" / "strings.json").read_text(encoding="utf-8") == page, "run python tools/strings.py"


def test_the_webui_would_find_each(strings: dict[str, str]) -> None:
    for text, same in strings.items():
        assert text == text.strip(), repr(text)
        assert same == text, "an empty or other value would change the English page"
        assert not re.fullmatch(r"[.\d]+", text), text
        assert not EMOJI.search(text), text
    assert list(strings) == sorted(strings)


def test_nothing_of_a_machine_is_in_it(strings: dict[str, str]) -> None:
    assert not [text for text in strings if re.search(r"(^|\s)(/[a-z]+/|[A-Z]:\\)|safetensors\b.*/", text)]


@pytest.mark.parametrize("kind", ["standalone", "webui"])
def test_every_text_of_the_page_is_in_it(strings: dict[str, str], kind: str, tmp_path: Path) -> None:
    host = ShowHost(tmp_path)
    host.kind, host.info = kind, None  # type: ignore[assignment]
    config = tab.build(UiContext(host)).get_config_file()
    texts = {text for component in config["components"] for text in said(component)}
    assert len(texts) > 800
    assert sorted(text for text in texts if text not in strings and re.search("[A-Za-z]{2}", text)) == []


def said(component: dict[str, Any]) -> set[str]:
    """What gradio's page is told to show; HTML is cut at its tags, in another way than the tool does."""
    props, kind = component["props"], component["type"]
    if "lora-lab-hidden" in (props.get("elem_classes") or []) and kind != "html":
        return set()
    found = {props.get("label"), props.get("info"), props.get("placeholder")}
    found |= {choice[0] if isinstance(choice, (list, tuple)) else choice for choice in props.get("choices") or []}
    if kind == "button":
        found.add(props["value"])
    if kind == "html":
        text = props.get("value") or ""
        found |= {html.unescape(piece) for piece in re.split(r"<[^<>]*>", text)}
        found |= {html.unescape(title) for title in re.findall(r' title="([^"]*)"', text)}
        for hints in re.findall(r'data-hints="([^"]*)"', text):
            found |= set(json.loads(html.unescape(hints)).values())
    return {str(text).strip() for text in found if text}
