"""The Tags panel's pieces as HTML: tag table, gallery, editor, differences, suggestions, history. Pure.

A click is told by `data-act` and `data-value`: the page's JavaScript sends both, and `tags_panel` acts on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import PurePath
from urllib.parse import quote

from lora_lab.ui.words import count, esc, own, tag, void

MOST_ROWS = 400
"""Tags listed; the filter finds the others."""
MOST_CHANGES = 60
"""Changed captions shown in full."""


@dataclass(frozen=True)
class TagRow:
    """A tag of the dataset."""

    name: str
    count: int
    share: float
    mean: float | None
    """Mean probability over the pictures that have it; None without a tagger."""
    beside: tuple[str, ...] = ()
    """Tags that most often stand with it."""


@dataclass(frozen=True)
class Thumb:
    """A picture of the gallery."""

    file: str
    small: str
    """Path of its thumbnail; empty if it cannot be shown."""
    tags: int
    edited: bool


@dataclass(frozen=True)
class Page:
    """What of the gallery is shown."""

    thumbs: tuple[Thumb, ...]
    number: int
    """0-based."""
    pages: int
    found: int
    """Pictures that the filter finds."""
    total: int


def act(what: str, value: str, label: str, css: str = "", **more: object) -> str:
    """A button that tells what was clicked; `label` is text."""
    return tag("button", esc(label), css, type="button", data_act=what, data_value=value, **more)


def url(path: str) -> str:
    """Where gradio serves a file of this machine, relative to the page (it may hang below another path)."""
    return "file=" + quote(path.replace("\\", "/"), safe="/:")


def tag_table(rows: Sequence[TagRow], chosen: frozenset[str]) -> str:
    """Tags with their counts; a click filters the gallery by one."""
    if not rows:
        return tag("p", "No tags yet.", "lora-lab-empty")
    titles = ("tag", "pictures", "share", "mean p")
    head = tag("tr", "".join(tag("th", esc(title)) for title in titles))
    lines = []
    for row in rows[:MOST_ROWS]:
        css = "lora-lab-tag" + (" lora-lab-on" if row.name in chosen else "")
        name = act("tag", row.name, row.name, css, translate="no")
        share = tag("span", tag("i", style=f"width:{row.share * 100:.0f}%"), "lora-lab-share") + f"{row.share:.0%}"
        cells = (name, f"{row.count:,}", share, "" if row.mean is None else f"{row.mean:.2f}")
        beside = f"beside it: {', '.join(row.beside)}" if row.beside else ""
        lines.append(tag("tr", "".join(tag("td", cell) for cell in cells), title=beside))
    more = len(rows) - MOST_ROWS
    rest = tag("p", f"and {more:,} more", "lora-lab-muted lora-lab-small") if more > 0 else ""
    return tag("table", tag("thead", head) + tag("tbody", "".join(lines)), "lora-lab-table lora-lab-tags") + rest


def gallery(page: Page, selected: frozenset[str], current: str) -> str:
    """Thumbnails of one page, with the way to the others."""
    items = []
    for thumb in page.thumbs:
        css = "lora-lab-thumb" + (" lora-lab-on" if thumb.file in selected else "")
        css += " lora-lab-here" if thumb.file == current else ""
        name = PurePath(thumb.file).name
        inner = (
            void("img", src=url(thumb.small), loading="lazy", alt=name)
            if thumb.small
            else tag("span", "cannot be shown", "lora-lab-muted")
        )
        mark = tag("em", "edited" if thumb.edited else "")
        mark += tag("b", str(thumb.tags), title=count(thumb.tags, "tag"), translate="yes")
        more = {"data_act": "open", "data_value": thumb.file, "title": name, "translate": "no"}
        items.append(tag("button", inner + mark, css, type="button", **more))
    said = count(page.found, "picture") + (f" of {page.total:,}" if page.found != page.total else "")
    if selected:
        said += f", {len(selected):,} selected"
    ways = ""
    if page.pages > 1:
        back = act("page", str(max(0, page.number - 1)), "‹", "lora-lab-small-button")
        on = act("page", str(min(page.pages - 1, page.number + 1)), "›", "lora-lab-small-button")
        ways = back + tag("span", f"{page.number + 1} of {page.pages}") + on
    choose = act("select-all", "", "select all found", "lora-lab-small-button")
    choose += act("select-none", "", "none", "lora-lab-small-button") if selected else ""
    head = tag("div", tag("b", esc(said)) + tag("span", ways + choose, "lora-lab-ways"), "lora-lab-gallery-head")
    return head + tag("div", "".join(items), "lora-lab-thumbs")


@dataclass(frozen=True)
class Edited:
    """The picture in the editor."""

    file: str
    picture: str
    """Path of a picture to show."""
    tags: tuple[str, ...]
    chances: Mapping[str, float]
    """The tagger's tags for it, the highest first."""
    known: Mapping[str, float]
    """Key of each of the caption's tags -> probability, where known."""
    tokens: int | None
    limit: int
    vocabulary: Mapping[str, str]
    """For completing what is typed, the most frequent first: word -> its count, in words."""


def editor(edited: Edited | None) -> str:
    """A picture with its caption as chips, and what the tagger says beside it."""
    if edited is None:
        return tag("p", "Click a picture to edit its caption; Ctrl-click selects several.", "lora-lab-empty")
    chips = "".join(_chip(name, edited) for name in edited.tags)
    entry = void(
        "input", "lora-lab-add", type="text", placeholder="add a tag", list="lora_lab_tags_words", autocomplete="off"
    )
    options = "".join(tag("option", value=word, label=count_) for word, count_ in edited.vocabulary.items())
    words = tag("datalist", options, id="lora_lab_tags_words")
    length = "" if edited.tokens is None else f"{edited.tokens} of {edited.limit} tokens"
    over = " lora-lab-error" if edited.tokens is not None and edited.tokens > edited.limit else ""
    head = tag(
        "div",
        act("step", "-1", "‹", "lora-lab-small-button", title="the one before (left arrow)")
        + own("b", PurePath(edited.file).stem)
        + act("step", "1", "›", "lora-lab-small-button", title="the next one (right arrow)")
        + tag("span", esc(length), "lora-lab-muted lora-lab-small" + over),
        "lora-lab-editor-head",
    )
    image = void("img", src=url(edited.picture), alt=PurePath(edited.file).name)
    caption = tag("div", chips + entry, "lora-lab-chips", data_file=edited.file, data_tags=json.dumps(edited.tags))
    said = [act("add", name, f"{name} {p:.2f}", "lora-lab-chance") for name, p in edited.chances.items()]
    offer = tag("div", "".join(said), "lora-lab-chances", translate="no") if said else ""
    title = tag("h4", "The tagger also sees") if said else ""
    keys = "Arrows: next picture. /: filter. E: add a tag. On a tag: Delete, Alt+arrows to move. Ctrl+Z, Ctrl+Y."
    right = tag("div", caption + words + title + offer + tag("p", esc(keys), "lora-lab-muted lora-lab-small"))
    return head + tag("div", tag("div", image, "lora-lab-picture") + right, "lora-lab-editor")


def _chip(name: str, edited: Edited) -> str:
    from lora_lab.tagging.names import key

    chance = edited.known.get(key(name))
    title = "no probability known" if chance is None else f"probability {chance:.2f}"
    cross = tag("button", "×", "lora-lab-cross", type="button", aria_label=f"delete {name}", tabindex=-1)
    doubt = " lora-lab-doubt" if chance is not None and chance < 0.5 else ""
    return tag(
        "span", own("span", name) + cross, "lora-lab-chip" + doubt, tabindex="0", draggable="true",
        data_tag=name, title=title,
    )  # fmt: skip


def difference(before: Sequence[str], after: Sequence[str]) -> str:
    """One caption's tags: taken out struck through, new ones marked."""
    pieces = []
    for what, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            pieces += [tag("span", esc(name)) for name in before[i:j]]
            continue
        pieces += [tag("del", esc(name)) for name in before[i:j]]
        pieces += [tag("ins", esc(name)) for name in after[k:m]]
    return " ".join(pieces)


def changes(changed: Sequence[tuple[str, Sequence[str], Sequence[str]]], total: int) -> str:
    """A pending bulk edit: exactly which captions change, and how.

    Args:
        changed: file, tags before, tags after.
        total: captions that were looked at.
    """
    if not changed:
        return tag("p", f"No caption of {total:,} would change.", "lora-lab-empty")
    lines = [
        tag("li", tag("b", esc(PurePath(file).stem)) + tag("div", difference(before, after)), translate="no")
        for file, before, after in changed[:MOST_CHANGES]
    ]
    more = len(changed) - MOST_CHANGES
    rest = tag("p", f"and {more:,} more", "lora-lab-muted lora-lab-small") if more > 0 else ""
    head = tag("p", f"{len(changed):,} of {count(total, 'caption')} would change:", "lora-lab-small")
    return head + tag("ul", "".join(lines), "lora-lab-changes") + rest


def suggestions(found: Sequence[tuple[str, str, str, Sequence[tuple[str, str]], int]]) -> str:
    """Cards.

    Args:
        found: of each its id, title, reason, its choices (label, when one wants it), and the number of its pictures.
    """
    if not found:
        return tag("p", "Nothing to suggest: the captions look clean.", "lora-lab-empty lora-lab-good")
    cards = []
    for number, (ident, title, why, choices, files) in enumerate(found):
        buttons = [
            act("take", f"{number}:{which}", label, "lora-lab-small-button", title=reason)
            for which, (label, reason) in enumerate(choices)
        ]
        if files:
            buttons.append(act("look", ident, f"show {count(files, 'picture')}", "lora-lab-small-button"))
        buttons.append(act("dismiss", ident, "dismiss", "lora-lab-small-button lora-lab-muted"))
        inner = tag("b", esc(title)) + tag("p", esc(why)) + tag("div", "".join(buttons), "lora-lab-ways")
        cards.append(tag("li", inner, "" if choices else "lora-lab-fyi"))
    return tag("ul", "".join(cards), "lora-lab-cards")


def history(entries: Sequence[tuple[str, str, int, str, bool]], can_undo: bool, can_redo: bool) -> str:
    """What was done, the newest first.

    Args:
        entries: id, words, captions changed, time, and whether it is undone now.
        can_undo: is there something to take back?
        can_redo: is there something to do again?
    """
    buttons = act("undo", "", "Undo", "lora-lab-small-button", **({} if can_undo else {"disabled": "1"}))
    buttons += act("redo", "", "Redo", "lora-lab-small-button", **({} if can_redo else {"disabled": "1"}))
    lines = []
    for ident, words, changed, when, undone in entries:
        back = act("restore", ident, "back to here", "lora-lab-small-button")
        text = tag("b", esc(words)) + tag("span", esc(f"{count(changed, 'caption')}, {when}"), "lora-lab-muted")
        lines.append(tag("li", tag("div", text) + back, "lora-lab-undone" if undone else ""))
    return tag("div", buttons, "lora-lab-ways") + tag("ul", "".join(lines), "lora-lab-snapshots")
