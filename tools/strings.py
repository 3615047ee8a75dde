"""Write docs/strings.json, every text of the tab: ``python tools/strings.py``. A test holds file and tab together.

The webui translates a page by a dictionary of whole texts: a text node, a title or a placeholder, blanks around it taken
off. A translation is a copy of this file with other values; an empty value would empty the page, so each is the text itself.
Texts with values in them, ``{0}`` for a number and ``{0*}`` for anything, are looked up by our JavaScript.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import gradio as gr  # noqa: E402
from gradio.blocks import Block  # noqa: E402

from lora_lab.guide.diagnosis import SYMPTOMS  # noqa: E402
from lora_lab.guide.rules import RULES  # noqa: E402
from lora_lab.tagging.operations import OPERATIONS  # noqa: E402
from lora_lab.tagging.write_modes import WRITE_MODES  # noqa: E402
from lora_lab.ui import tab, words  # noqa: E402
from lora_lab.ui.context import UiContext  # noqa: E402
from tests.ui.shown import ShowHost  # noqa: E402
from tools.templates import CUT, NUMBER, VALUE, Module, given, numbered  # noqa: E402

FILE = ROOT / "docs" / "strings.json"
SHOWN = {
    "tag": (1,), "act": (2,), "listed": (0,), "bullets": (0,), "append": (0,), "Mark": (1,), "Curve": (1,), "value_chart": (1,), "u_chart": (1,),
}  # fmt: skip
"""Functions of lora_lab/ui that make HTML out of a text: which arguments."""
SAID: dict[str, dict[int, Callable[[str], str]]] = {
    "Fired": {0: words.sentence, 1: words.sentence}, "Remark": {0: words.sentence}, "Value": {2: words.sentence},
    "Method": {1: words.sentence}, "Progress": {0: str},
    "Change": {0: str, 2: str}, "Problem": {2: "{}.".format, 3: words.sentence},
}  # fmt: skip
"""What the rooms behind the tab find, and how views show it."""
SPEAKING = (
    "guide/recommend.py", "testing/checkpoints.py", "testing/diagnosis.py", "testing/judge.py", "testing/proposal.py",
    "testing/strengths.py", "workflow/compare_runs.py",
)  # fmt: skip
SENTENCE = re.compile(rf"[A-Z{NUMBER}{VALUE}].*[.]")
IN_SCRIPTS = re.compile(r'(?:textContent = |text\("\w+", |"aria-label", )(?:"([^"]+)"|`([^`]+)`)')
"""Texts that our JavaScript shows."""


class Texts(HTMLParser):
    """Text nodes, titles, placeholders, tooltips and names for screen readers of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: set[str] = set()
        self.node = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.flush()
        given = {name: value or "" for name, value in attrs}
        self.found |= {given.get(name, "") for name in ("title", "placeholder", "aria-label")}
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


def modules(*places: str) -> Iterator[Module]:
    """Files of lora_lab, by folder or name."""
    for place in places:
        path = ROOT / "lora_lab" / place
        yield from map(Module, [path] if path.is_file() else sorted(path.glob("*.py")))


def of_views() -> Iterator[str]:
    """What handlers make: HTML, tooltips, names for screen readers; values in it are holes."""
    for module in modules("ui"):
        for call, name, within in module.calls():
            for argument in given(call, {"value"} if name == "update" else SHOWN.get(name, ())):
                yield from of_ways(module.says(argument, within))
        for text, within in (*module.named("title", "aria_label", "label", "placeholder"), *module.markup()):
            yield from of_ways(module.says(text, within))


def of_ways(ways: set[str]) -> Iterator[str]:
    """The texts of a page, in every way that a view makes it."""
    for piece in {piece for way in ways for piece in way.split(CUT)}:
        yield from of_html(piece)


def of_rooms() -> Iterator[str]:
    """What the rooms behind the tab say: rules, remarks, problems, warnings; whole sentences of those that speak so."""
    yield from (text for rule in RULES for text in (words.sentence(rule.why), rule.severity))
    yield from (words.sentence(text) for symptom in SYMPTOMS for text in (symptom.means, symptom.by_hand) if text)
    for module in modules("guide", "guide/rules", "dataset", "dataset/checks", "training"):
        for call, name, within in module.calls():
            for place, shown in SAID.get(name, {}).items():
                for argument in given(call, {place}):
                    yield from map(shown, module.says(argument, within))
    for module in modules("training/checks"):
        yield from (f"{text}." for text in module.yields())
    for module in modules(*SPEAKING):
        yield from (text for text in module.texts() if SENTENCE.fullmatch(text))


def of_scripts() -> Iterator[str]:
    """Texts that our JavaScript puts into the page."""
    for path in sorted((ROOT / "javascript").glob("*.js")):
        for plain, filled in IN_SCRIPTS.findall(path.read_text(encoding="utf-8")):
            yield plain or re.sub(r"\$\{[^}]*\}", VALUE, filled)


def strings(blocks: gr.Blocks) -> list[str]:
    """All of them, sorted; signs and numbers are no words, and two letters say too little of what is around them."""
    found = {text for component in blocks.blocks.values() for text in of_component(component)}
    found |= {*of_operations(), *of_views(), *of_rooms(), *of_scripts()}
    least = {text: 3 if VALUE in text else 2 for text in found}
    return sorted({numbered(text.strip()) for text in found if len(re.findall("[A-Za-z]", text)) >= least[text]})


def page() -> str:
    """The whole file: of a tab in a webui with no checkpoint and empty folders, which says what it always says."""
    with tempfile.TemporaryDirectory() as folder:
        host = ShowHost(Path(folder))
        host.kind, host.info = "webui", None
        texts = strings(tab.build(UiContext(host)))
    return json.dumps({text: text for text in texts}, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
