"""Write docs/strings.json, every fixed text of the tab: ``python tools/strings.py``. A test holds file and tab together.

The webui translates a page by a dictionary of whole texts: a text node, a title or a placeholder, blanks around it taken
off. A translation is a copy of this file with other values; an empty value would empty the page, so each is the text itself.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import gradio as gr  # noqa: E402
from gradio.blocks import Block  # noqa: E402

from lora_lab.tagging.operations import OPERATIONS  # noqa: E402
from lora_lab.tagging.write_modes import WRITE_MODES  # noqa: E402
from lora_lab.ui import tab  # noqa: E402
from lora_lab.ui.context import UiContext  # noqa: E402
from tests.ui.shown import ShowHost  # noqa: E402

FILE = ROOT / "docs" / "strings.json"
VIEW_CALLS = {"tag", "esc", "act", "_button", "_item"}
"""Functions of lora_lab/ui that make HTML out of a text."""
IN_SCRIPTS = re.compile(r'(?:textContent = |text\("\w+", )"([^"]+)"')
"""Texts that our JavaScript shows."""


class Texts(HTMLParser):
    """Text nodes, titles, placeholders and tooltips of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: set[str] = set()
        self.node = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.flush()
        given = {name: value or "" for name, value in attrs}
        self.found |= {given.get("title", ""), given.get("placeholder", "")}
        self.found |= set(json.loads(given.get("data-hints", "{}")).values())

    def handle_endtag(self, tag: str) -> None:
        self.flush()

    def handle_data(self, data: str) -> None:
        self.node += data

    def flush(self) -> None:
        self.found.add(self.node)
        self.node = ""


def of_html(text: str) -> set[str]:
    """What the webui would look up in this HTML."""
    parser = Texts()
    parser.feed(text)
    parser.close()
    parser.flush()
    return parser.found


def of_component(component: Block) -> Iterator[str]:
    """What gradio shows of a widget; what is typed into it is no text of ours."""
    if isinstance(component, gr.HTML):
        yield from of_html(str(component.value or ""))
        return
    if "lora-lab-hidden" in (getattr(component, "elem_classes", None) or []):
        return
    for name in ("label", "info", "placeholder"):
        yield str(getattr(component, name, None) or "")
    if isinstance(component, (gr.Button, gr.UploadButton)):
        yield str(component.value if isinstance(component, gr.Button) else component.label)
    for choice in getattr(component, "choices", None) or []:
        yield str(choice[0] if isinstance(choice, tuple) else choice)


def of_operations() -> Iterator[str]:
    """What a choice in 'Edit many' and of a way of writing brings up."""
    yield from WRITE_MODES.values()
    for kind in OPERATIONS.values():
        yield kind.about
        for option in kind.options():
            yield from (option.name, option.help)


def of_views() -> Iterator[str]:
    """Fixed texts in the HTML that handlers make."""
    for path in sorted((ROOT / "lora_lab" / "ui").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in VIEW_CALLS:
                named = [word.value for word in node.keywords if word.arg == "title"]
                texts = [*node.args[position(node.func.id) :][:1], *named]
                for text in (constant for given in texts for constant in constants(given)):
                    yield from of_html(text)


def position(call: str) -> int:
    """Which argument of a function of `VIEW_CALLS` is shown."""
    return {"tag": 1, "act": 2}.get(call, 0)


def constants(node: ast.expr) -> list[str]:
    """A text, or both of ``one if x else other``."""
    if isinstance(node, ast.IfExp):
        return constants(node.body) + constants(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def of_scripts() -> Iterator[str]:
    """Texts that our JavaScript puts into the page."""
    for path in sorted((ROOT / "javascript").glob("*.js")):
        yield from IN_SCRIPTS.findall(path.read_text(encoding="utf-8"))


def strings(blocks: gr.Blocks) -> list[str]:
    """All of them, sorted; signs and numbers are no words."""
    found = {text for component in blocks.blocks.values() for text in of_component(component)}
    found |= {*of_operations(), *of_views(), *of_scripts()}
    return sorted({text.strip() for text in found if re.search(r"[A-Za-z]{2}", text)})


def page() -> str:
    """The whole file: of a tab in a webui with no checkpoint and empty folders, which says what it always says."""
    with tempfile.TemporaryDirectory() as folder:
        host = ShowHost(Path(folder))
        host.kind, host.info = "webui", None
        texts = strings(tab.build(UiContext(host)))
    return json.dumps({text: text for text in texts}, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
