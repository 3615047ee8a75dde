"""Texts with holes: what tools/templates.py reads out of views is what these say when they run."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import scan
from lora_lab.training.events import Progress, RunEnded, SnapshotSaved, Validated
from lora_lab.ui import advice_part, dataset_view, run_view, tags_view, train_panel
from tests.ui.shown import SMALL, Tab
from tests.ui.test_run_view import START, status_after, step

ROOT = Path(__file__).resolve().parents[2]
HOLE = re.compile(r"\{(\d+)(\*?)\}")


@pytest.fixture(scope="module")
def strings() -> dict[str, str]:
    return json.loads((ROOT / "docs" / "strings.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def read() -> Any:
    return runpy.run_path(str(ROOT / "tools" / "templates.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("views")


def texts(read: Any, folder: Path, source: str) -> set[str]:
    """What the first argument of `show` is, in a module with this source."""
    path = folder / "view.py"
    path.write_text(source, encoding="utf-8")
    module = read["Module"](path)
    return {
        read["numbered"](text)
        for call, name, within in module.calls() if name == "show"
        for text in module.says(call.args[0], within)
    }  # fmt: skip


def test_choices_loops_names_and_calls_are_followed(read: Any, tmp_path: Path) -> None:
    source = """
KINDS = {"a": "one kind", "b": "another"}

def head(names):
    for title in ("file", "size"):
        show(title)
    for name, value in (("rank", f"{len(names):,}"), ("time", "never")):
        show(f"{name}: {value}")

def told(found, kind):
    said = f"{count(found, 'picture')} of {kind}"
    if found:
        said += ", all new"
    show(esc(said))
    show(KINDS[kind])
    show(tag("b", said) + f" in {kind!r}")
    show(_left(found) or "done")

def _left(found):
    return "nothing left" if found is None else f"{found - 1} left"

def label(text, *, more="none"):
    show(f"{text} ({more})")

def labels():
    label("first"), label("second", more="some")
"""
    assert texts(read, tmp_path, source) == {
        "file", "size", "rank: {0}", "rank: never", "time: {0}", "time: never",
        "{0} picture of {1*}", "{0} pictures of {1*}", "{0} picture of {1*}, all new", "{0} pictures of {1*}, all new",
        "one kind", "another", f"{read['CUT']} in {{0*}}", "nothing left", "{0} left", "done",
        "first (none)", "first (some)", "second (none)", "second (some)",
    }  # fmt: skip


LITERALS, HOLES = st.text("ab' .{}$(é", max_size=6), st.sampled_from(["{x}", "{x!r}", "{n:,}", "{n:.2f}", ""])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LITERALS, HOLES)), st.text(min_size=1), st.integers(-(10**9), 10**9))
def test_a_template_filled_again_is_what_python_says(read: Any, folder: Path, pieces: Any, x: str, n: int) -> None:
    inner = "".join(text.replace("{", "{{").replace("}", "}}") + hole for text, hole in pieces)
    (template,) = texts(read, folder, f'def view(x, n):\n    show(f"{inner}")\n')
    parts = re.split(r"(\{\d+\*?\})", template)
    form = "".join("(.+?)" if HOLE.fullmatch(part) else re.escape(part) for part in parts)
    said = eval(f'f"{inner}"', {"x": x, "n": n})  # noqa: S307 - made above
    assert re.fullmatch(form, said, re.DOTALL), (template, said)


def test_checks_say_no_full_stop_of_their_own(read: Any) -> None:
    """`checks.warnings` adds it to all."""
    places = sorted((ROOT / "lora_lab" / "training" / "checks").glob("*.py"))
    found = [text for path in places for text in read["Module"](path).yields()]
    assert len(found) > 30
    assert not [text for text in found if text.endswith(".")]


def test_holes_are_numbered_and_do_not_touch(strings: dict[str, str]) -> None:
    filled = [text for text in strings if HOLE.search(text)]
    assert len(filled) > 300
    for text in filled:
        assert [int(number) for number, _ in HOLE.findall(text)] == list(range(len(HOLE.findall(text)))), text
        assert not re.search(r"\}\{", text), text
        letters = len(re.findall("[A-Za-z]", HOLE.sub("", text)))
        assert letters >= (3 if "*}" in text else 2), f"{text} would take texts of the user's for ours"


class Shown(HTMLParser):
    """Texts, tooltips and names for screen readers that are not the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: set[str] = set()
        self.open: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        own = tag == "code" or given.get("translate", "no" if self.open and self.open[-1] else "yes") == "no"
        if not own:
            self.texts |= {given[name] for name in ("title", "placeholder", "aria-label") if name in given}
        if tag not in ("img", "input"):
            self.open.append(own)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1]):
            self.texts.add(data)


NUMBER = r"[-+]?[\d.,]*\d(?:e[-+]?\d+)?%?(?: (?:s|min|h|MB|GB|steps/s|s/step)(?: \d+ (?:s|min))?)?"


VALUES = rf"{NUMBER}|\d\.png|/.*|\(.*\)|(?:UNet|text encoder) {NUMBER}|.* = \d+ steps"
"""Numbers with their unit, names of files, sources, entries of a legend, and a sum: the same in every language."""


def untold(strings: dict[str, str], html: str) -> Iterator[str]:
    """Texts of a page that neither the webui nor our JavaScript would find."""
    parser = Shown()
    parser.feed(html)
    forms = [
        "".join(
            ((".+" if "*" in part else NUMBER) if HOLE.fullmatch(part) else re.escape(part))
            for part in re.split(r"(\{\d+\*?\})", key)
        ) for key in strings if HOLE.search(key)
    ]  # fmt: skip
    for text in sorted({text.strip() for text in parser.texts} - set(strings)):
        told = re.fullmatch(VALUES, text) or any(re.fullmatch(form, text, re.DOTALL) for form in forms)
        if re.search("[A-Za-z]{2}", text) and not told:
            yield text


def test_a_checked_dataset_is_told_in_texts_of_the_file(strings: dict[str, str], pictures: Path) -> None:
    (pictures / "3_mika" / "broken.png").write_bytes(b"no picture")
    (pictures / "3_mika" / "0.txt").unlink()
    report = scan(pictures, DatasetOptions(resolution=(128, 128), min_bucket_reso=64))
    html = dataset_view.summary(report) + dataset_view.subsets(report) + dataset_view.buckets(report)
    html += dataset_view.problems(report.problems, pictures)
    assert html.count("<li") > 1
    assert list(untold(strings, html)) == []


def test_a_plan_with_its_rules_and_what_is_recommended(strings: dict[str, str], shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    given = {"network_dim": "8", "network_alpha": "64", "noise_offset": "0.3", "lr_warmup_steps": "9", **SMALL}
    values = shown.train(train_data_dir=str(pictures), output_name="mika", **given)
    html = str(train_panel.plan(values, w, shown.context)[w.plan])
    assert html.count("data-rule") > 3
    html += str(advice_part.propose(values, w.advice, w.fields, shown.context)[w.advice.told])
    assert list(untold(strings, html)) == []


def test_a_run_from_its_wait_to_its_end(strings: dict[str, str], tmp_path: Path) -> None:
    waiting = (run_view.Waiting("w", "rin", "", ""),)
    begun = status_after(START, step(1), step(2), Validated(2, 0.11))
    saved = SnapshotSaved(2, 1, tmp_path / "mika-step2.safetensors", False)
    ended = status_after(START, *map(step, range(1, 11)), saved, RunEnded("finished", 10, 65.0, None, None))
    html = run_view.card(begun, waiting) + run_view.notes(ended)
    html += run_view.head(status_after(Progress("caching latents", 3, 18)))
    html += run_view.snapshots(ended, "mika", tmp_path / "loras", in_webui=True)
    assert list(untold(strings, html)) == []


def test_tags_and_their_pictures(strings: dict[str, str]) -> None:
    thumbs = (tags_view.Thumb("a of b.png", "", 3, True), tags_view.Thumb("later.png", "", 1, False))
    row = tags_view.TagRow("cup of tea", 3, 0.5, 0.9, ("hat",))
    edited = tags_view.Edited("a.png", "a.png", ("set of cards",), {"hat": 0.9}, {}, 5, 75, {})
    html = tags_view.tag_table([row] * 500, frozenset()) + tags_view.editor(edited)
    html += tags_view.gallery(tags_view.Page(thumbs, 0, 3, 2, 5), frozenset({"later.png"}), "")
    html += tags_view.changes([("a.png", ["hat"], ["big hat"])] * 99, 200)
    html += tags_view.suggestions([("1", "", "", [], 3)])
    html += tags_view.history([("1", "", 2, "12:30", False)], True, True)
    assert list(untold(strings, html)) == []
