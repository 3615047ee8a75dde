"""Write docs/guide.md out of `lora_lab/guide`: ``python tools/guide_doc.py``. A test holds the two together."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lora_lab.guide import dampening  # noqa: E402
from lora_lab.guide.bases import BASES  # noqa: E402
from lora_lab.guide.diagnosis import SYMPTOMS  # noqa: E402
from lora_lab.guide.difficulty import TABLE  # noqa: E402
from lora_lab.guide.glossary import WORDS  # noqa: E402
from lora_lab.guide.headings import CORRECTIONS, HEADINGS, Heading  # noqa: E402
from lora_lab.guide.rules import RULES  # noqa: E402

HEAD = """# The guide inside

Made out of `lora_lab/guide/` by `tools/guide_doc.py`. The guide is "Stable Diffusion LoRA training science and notes" by the Other
LoRA Rentry Guy (state of 18 August 2023). Its facts and numbers are here as data and rules, in our own words; where later practice
has improved a value, the value says so with its source.

- **Before a run**: *What are you making?* on top of the panel Train, or `lora-lab advise DIR`: answers become settings, each with one
  line why and where it comes from; *back to recommended* stands beside what was changed.
- **Beside the plan**: rules that speak up, each with what, why, and a button that does it; *not again* silences one.
- **While it runs**: the loss curve read aloud, under *What this curve says*.
- **Any word**: `lora-lab explain WORD`, the tooltips, or *Words* at the foot of the panel Train.
- **How the recommended settings do** beside kohya's defaults and the guide's two scripts: [performance.md](performance.md).

"""


def page() -> str:
    """The whole document."""
    parts = [HEAD, *_headings(), *_corrections(), *_rules(), *_starting(), *_symptoms(), *_words()]
    return "".join(parts)


def _table(*heads: str) -> str:
    return "| " + " | ".join(heads) + " |\n" + "| " + " | ".join("---" for _ in heads) + " |\n"


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "&#124;") for cell in cells) + " |\n"


def _headings() -> list[str]:
    text = "## Every heading of the guide\n\nWhat it asks, where that lives, and the test that holds it there.\n\n"
    return [text, _table("heading", "asks", "where it lives", "test"), *(_heading(row) for row in HEADINGS), "\n"]


def _heading(row: Heading) -> str:
    test = _link(row.test, Path(row.test).stem) if row.test else "-"
    link = "" if row.link == "docs/guide.md" else f" ({_link(row.link, Path(row.link).name)})"
    return _row(row.title, row.asks, row.where + link, test)


def _link(path: str, name: str) -> str:
    return f"[{name}]({os.path.relpath(path, 'docs').replace(os.sep, '/')})"


def _corrections() -> list[str]:
    head = "## Where the guide is wrong, or out of date\n\n" + _table("it says", "it is so", "evidence")
    return [head, *(_row(c.says, c.so, c.evidence) for c in CORRECTIONS), "\n"]


def _rules() -> list[str]:
    text = (
        f"## The rules\n\n{len(RULES)} of them. What does not go together, or has no effect, is said by the checks of "
        "`training/checks`, and what is wrong with pictures by those of `dataset/checks`.\n\n"
    )
    rows = [_row(f"`{r.id}`", r.title, r.why, r.severity, r.source) for r in RULES]
    return [text, _table("rule", "speaks of", "why", "as", "source"), *rows, "\n"]


def _starting() -> list[str]:
    found = ["## Starting points\n\n", _table("difficulty", "what belongs to it", "ranks (SD1)", "kinds")]
    found += [_row(d.letter, d.text, d.rank_words, ", ".join(d.kinds)) for d in TABLE]
    found += ["\nThe guide's own settings, as `lora-lab advise --base NAME` gives them:\n\n"]
    found += [_table("name", "for", "pictures", "steps at batch 1", "remark")]
    found += [_row(f"`{b.name}`", b.text, b.pictures, f"{b.steps:,}", b.remark or "-") for b in BASES]
    found += ["\nWhat slows learning:\n\n", _table("setting", "usual", "from", "to", "by", "in pictures")]
    found += [_row(f"`{d.name}`", d.usual, d.least, d.most, d.arrows, d.effect) for d in dampening.TABLE]
    return [*found, "\n"]


def _symptoms() -> list[str]:
    head = "## From what is seen to the next bake\n\n" + _table("seen", "means", "by hand", "source")
    return [head, *(_row(s.seen, s.means, s.by_hand or "settings do it", s.source) for s in SYMPTOMS), "\n"]


def _words() -> list[str]:
    return ["## Words\n\n", _table("word", "meaning"), *(_row(w.word, f"{_escaped(w.meaning)}") for w in WORDS)]


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


if __name__ == "__main__":
    (ROOT / "docs" / "guide.md").write_text(page(), encoding="utf-8", newline="\n")
