"""GACHAMAX as HTML: the rounds so far, and the newest round's candidates to keep or drop. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_lab.ui.tags_view import url
from lora_lab.ui.words import bar, count, esc, own, tag, void
from lora_lab.workflow.gachamax.rounds import Candidate, Round, Rounds

BUTTON = "lora_lab_gachamax_act"
"""Id of the hidden button that our JavaScript presses."""
HEADS = ("round", "learnt from", "concept", "flexibility", "kept", "")


def rounds_table(rounds: Rounds, sticking_out: Sequence[Path] = ()) -> str:
    """One line a round.

    Args:
        rounds: all of them.
        sticking_out: generated pictures that the others disagree with.
    """
    if not rounds.rounds:
        return ""
    head = tag("tr", "".join(tag("th", esc(name)) for name in HEADS))
    body = "".join(_row(one) for one in rounds.rounds)
    said = ""
    if sticking_out:
        names = ", ".join(path.name for path in sticking_out)
        said = tag("p", esc(f"Sticks out from the rest: {names}. Undo its round, or take it away."), "lora-lab-todo")
    return tag("table", head + body, "lora-lab-table", data_button=BUTTON) + said


def _row(one: Round) -> str:
    undo = tag(
        "button", "Undo", "lora-lab-small-button", type="button", data_variant="undo", data_path=one.number,
        title="Take its pictures out of the dataset",
    )  # fmt: skip
    cells = (
        f"{one.number}" + (" (undone)" if one.undone else ""), count(one.pictures, "picture"), _share(one.concept),
        _share(one.flexibility), str(len(one.kept)), "" if one.undone else undo,
    )  # fmt: skip
    return tag("tr", "".join(tag("td", cell) for cell in cells), "lora-lab-muted" if one.undone else "")


def _share(value: float | None) -> str:
    return "-" if value is None else bar(value, label="share") + f"{value:.0%}"


def candidates(rounds: Rounds) -> str:
    """Cards of the newest round, the best first; the first that is not chosen yet is the one that keys act on."""
    one = rounds.last
    if one is None or not one.candidates or one.kept:
        return ""
    folder = rounds.folder_of(one.number)
    here = next((c.file for c in one.candidates if not c.choice), None)
    cards = [_card(c, folder / c.file, c.file == here) for c in one.candidates]
    kept = sum(c.choice == "keep" for c in one.candidates)
    said = (
        f"{count(len(one.candidates), 'candidate')}, the best first: {count(kept, 'is', 'are')} kept. "
        "Keys: K keeps the marked one, D drops it. 'Kept ones join' puts them into the dataset."
    )
    head = tag("div", tag("span", esc(said)), "lora-lab-gallery-head")
    return head + tag("ul", "".join(cards), "lora-lab-variants lora-lab-gacha", data_button=BUTTON)


def _card(one: Candidate, path: Path, here: bool) -> str:
    picture = void("img", src=url(str(path)), alt=one.caption, loading="lazy")
    facts = f"like {one.likeness:.0%}" + (", a copy" if one.copy else f", new {one.apart:.0%}")
    facts += ", by img2img" if one.original else ""
    keep, drop = _choice(one, "keep", "Keep", "key K"), _choice(one, "drop", "Drop", "key D")
    inner = picture + tag("small", esc(facts), "lora-lab-muted") + own("small", one.caption)
    state = f"lora-lab-{one.choice}" if one.choice else ""
    css = " ".join(filter(None, ("lora-lab-variant", "lora-lab-here" if here else "", state)))
    return tag("li", inner + tag("span", keep + drop, "lora-lab-ways"), css)


def _choice(one: Candidate, act: str, label: str, title: str) -> str:
    css = "lora-lab-small-button" + (" lora-lab-on" if one.choice == act else "")
    more = {"data_variant": act, "data_path": one.file, "title": title, "aria_pressed": str(one.choice == act).lower()}
    return tag("button", esc(label), css, type="button", **more)
