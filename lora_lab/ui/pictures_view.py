"""Several pictures of the Dataset panel as HTML: the grid to choose from, variants beside their originals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_lab.ui.tags_view import url
from lora_lab.ui.words import count, esc, tag, void


@dataclass(frozen=True)
class Choice:
    """A picture to choose."""

    name: str
    """Below the dataset's folder, with slashes."""
    small: str
    """Path of its thumbnail; empty if it cannot be shown."""
    full: str
    """Path of the picture."""
    caption: str
    generated: bool


def grid(choices: Sequence[Choice], found: int, chosen: frozenset[str]) -> str:
    """Thumbnails that a click chooses, and lets go again; Shift chooses all between.

    Args:
        choices: of this page.
        found: on all pages.
        chosen: names that stay chosen.
    """
    if not choices:
        return tag("p", "No pictures here.", "lora-lab-empty")
    cells = []
    for choice in choices:
        image = void("img", src=url(choice.small), loading="lazy", alt=choice.name)
        here = image if choice.small else "cannot be shown"
        mark = tag("em", "generated") if choice.generated else ""
        css = "lora-lab-thumb lora-lab-pick" + (" lora-lab-on" if choice.name in chosen else "")
        more = {"data_picture": choice.name, "data_full": url(choice.full), "data_caption": choice.caption}
        cells.append(tag("button", here + mark, css, type="button", title=choice.name, translate="no", **more))
    said = f"{len(choices):,} of {count(found, 'picture')}" if found > len(choices) else count(found, "picture")
    head = tag("b", esc(said)) + tag("span", "click to choose, Shift for all between", "lora-lab-muted lora-lab-small")
    return tag("div", head, "lora-lab-gallery-head") + tag("div", "".join(cells), "lora-lab-thumbs")


@dataclass(frozen=True)
class Made:
    """A variant that waits to be kept or dropped."""

    path: str
    original: str
    """Path of the picture that it comes from."""


def variants(made: Sequence[Made]) -> str:
    """Variants beside their originals, the first of them the one that keys act on."""
    if not made:
        return ""
    cards = []
    for number, one in enumerate(made):
        pair = void("img", src=url(one.original), alt="original") + void("img", src=url(one.path), alt="variant")
        keep = _button("keep", one.path, "Keep", "key K")
        drop = _button("drop", one.path, "Drop", "key D")
        css = "lora-lab-variant" + (" lora-lab-here" if number == 0 else "")
        ways = tag("span", keep + drop, "lora-lab-ways")
        cards.append(tag("li", tag("div", pair, "lora-lab-pair") + ways, css))
    said = f"{count(len(made), 'variant')} to look at, the original on the left. Keys: K keeps the first, D drops it."
    every = _button("keep-all", "", "Keep all", "") + _button("drop-all", "", "Drop all", "")
    head = tag("div", tag("span", esc(said)) + tag("span", every, "lora-lab-ways"), "lora-lab-gallery-head")
    return head + tag("ul", "".join(cards), "lora-lab-variants")


def _button(act: str, path: str, label: str, title: str) -> str:
    more = {"data_variant": act, "data_path": path, "title": title}
    return tag("button", esc(label), "lora-lab-small-button", type="button", **more)
