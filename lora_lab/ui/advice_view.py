"""What the guide says, as HTML: findings with buttons, recommended values with reasons, steps, words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora_lab.guide import dampening
from lora_lab.guide.arithmetic import Numbers, changes
from lora_lab.guide.diagnosis import Symptom
from lora_lab.guide.glossary import WORDS, Word
from lora_lab.guide.loss import NEVER, Remark
from lora_lab.guide.recommend import Recommendation
from lora_lab.guide.rules.base import Finding
from lora_lab.guide.value import Value
from lora_lab.ui.svg import step_chain
from lora_lab.ui.words import count, esc, own, sentence, tag

SMALL_BUTTON = "lora-lab-small-button lg secondary"


def unsaid(sentences: Iterable[str], found: Sequence[Finding]) -> list[str]:
    """The sentences that no finding says with a button."""
    said = [piece for finding in found for piece in finding.rule.instead_of]
    return [text for text in sentences if not any(piece in text for piece in said)]


def findings(found: Sequence[Finding], silenced: int = 0) -> str:
    """A list with a button for each remedy that is a setting; notes are folded behind warnings.

    Args:
        found: warnings first.
        silenced: how many rules are not heard.
    """
    warnings = [f for f in found if f.rule.severity == "warning"]
    notes = [f for f in found if f.rule.severity == "note"]
    parts = [_list(warnings)]
    if notes:
        title = tag("summary", esc(count(len(notes), "smaller remark")))
        is_open = {} if warnings else {"open": "open"}
        parts.append(tag("details", title + _list(notes), "lora-lab-advice-notes", **is_open))
    if silenced:
        again = _button("hear them again", "hear", {})
        parts.append(tag("p", esc(count(silenced, "rule")) + " not heard " + again, "lora-lab-muted lora-lab-small"))
    return tag("div", "".join(parts), "lora-lab-advice") if any(parts) else ""


def _list(found: Sequence[Finding]) -> str:
    rows = "".join(_finding(finding) for finding in found)
    return tag("ul", rows, "lora-lab-problems") if rows else ""


def _finding(finding: Finding) -> str:
    rule, fired = finding.rule, finding.fired
    text = tag("span", esc(sentence(fired.text)))
    reasons = (tag("span", esc(sentence(said)), "lora-lab-muted") for said in (rule.why, fired.remedy) if said)
    why = " ".join(reasons)
    source = tag("span", esc(f"({rule.source})"), "lora-lab-muted lora-lab-small")
    buttons = _button(finding.button, "set", {"changes": dict(fired.changes)}) if fired.changes else ""
    buttons += _button("not again", "silence", {"rule": rule.id}, title="do not say this any more")
    badge = tag("span", esc(rule.severity), "lora-lab-badge")
    body = tag("div", f"{text} {why} {source}" + tag("div", buttons, "lora-lab-advice-buttons"))
    return tag("li", badge + body, f"lora-lab-{rule.severity}", data_rule=rule.id)


def _button(word: str, act: str, values: Mapping[str, Any], title: str = "") -> str:
    """One that our JavaScript hands to Python."""
    asked = json.dumps({"act": act, **values}, ensure_ascii=False)
    css = f"lora-lab-advise {SMALL_BUTTON}"
    return tag("button", esc(word), css, type="button", data_advice=asked, title=title)


def symptom(found: Symptom, changes: Mapping[str, Any]) -> str:
    """What pictures show, what it means, and a button with the changes for the next bake."""
    means = esc(sentence(found.means)) + " " + tag("span", esc(f"({found.source})"), "lora-lab-muted lora-lab-small")
    hand = tag("p", esc(sentence(found.by_hand))) if found.by_hand else ""
    said = ", ".join(f"{name} {_shown(value)}" for name, value in changes.items())
    button = _button(f"set {said}", "set", {"changes": dict(changes)}) if changes else ""
    return tag("div", tag("p", means) + hand + tag("div", button, "lora-lab-advice-buttons"), "lora-lab-advice")


def recommendation(found: Recommendation) -> str:
    """Each value with its reason, its source, and a button that brings it back where the form differs."""
    head = tag("b", esc(f"{found.method.name} style")) + ": " + tag("span", esc(sentence(found.method.why))) + " "
    head += tag("span", esc(f"({found.method.source})"), "lora-lab-muted lora-lab-small")
    rows = "".join(_value(value) for value in found.values)
    notes = "".join(tag("p", esc(text), "lora-lab-todo") for text in found.remarks)
    table = tag("table", rows, "lora-lab-table lora-lab-recommended")
    return tag("div", tag("p", head) + table + notes, "lora-lab-advice")


def _value(value: Value) -> str:
    shown = _shown(value.value)
    why = esc(sentence(value.why)) + " " + tag("span", esc(f"({value.source})"), "lora-lab-muted lora-lab-small")
    back = _button("back to recommended", "set", {"changes": {value.name: value.value}})
    cells = tag("td", tag("code", esc(value.name)) + back) + tag("td", own("b", shown)) + tag("td", why)
    return tag("tr", cells, data_setting=value.name, data_value=_in_form(value.value))


def _shown(value: Any) -> str:  # noqa: ANN401 - a setting's value
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_form(value: Any) -> str:  # noqa: ANN401 - a setting's value
    """As the widget holds it, for JavaScript to compare."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "\n".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def steps(numbers: Numbers) -> str:
    """The steps as a chain of boxes, and what changing each number would do."""
    rows = "".join(
        tag("tr", tag("td", esc(c.what)) + tag("td", tag("b", f"{c.steps:,}")) + tag("td", esc(c.effect)))
        for c in changes(numbers)
    )
    table = tag("table", rows, "lora-lab-table lora-lab-steps")
    title = tag("summary", "What changing a number does")
    more = tag("details", title + table, "lora-lab-captions lora-lab-keep")
    return tag("div", step_chain(numbers), "lora-lab-step-chain") + more


def curve(remarks: Sequence[Remark]) -> str:
    """A loss chart read aloud."""
    rows = "".join(tag("li", _remark(remark)) for remark in (*remarks, *NEVER))
    title = tag("summary", "What this curve says")
    return tag("details", title + tag("ul", rows, "lora-lab-notes"), "lora-lab-captions lora-lab-keep")


def _remark(remark: Remark) -> str:
    return esc(sentence(remark.text)) + " " + tag("span", esc(f"({remark.source})"), "lora-lab-muted")


def glossary(words: Sequence[Word] = WORDS) -> str:
    """All words, and the table of what slows learning."""
    rows = "".join(tag("dt", esc(word.word)) + tag("dd", esc(word.meaning)) for word in words)
    lines = "".join(
        tag("tr", tag("td", tag("code", esc(d.name))) + tag("td", esc(d.arrows)) + tag("td", esc(d.effect)))
        for d in dampening.TABLE
    )
    head = tag("tr", tag("th", "setting") + tag("th", "slows learning by") + tag("th", "in pictures"))
    table = tag("h4", "What slows learning") + tag("table", head + lines, "lora-lab-table lora-lab-steps")
    return tag("dl", rows, "lora-lab-glossary") + table
