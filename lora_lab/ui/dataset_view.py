"""A checked dataset as HTML: counts, subsets, buckets, problems. Pure; every text of a file is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_lab.dataset.problems import Problem, Severity
from lora_lab.dataset.scan import ScanReport
from lora_lab.ui.svg import bucket_chart
from lora_lab.ui.words import count, esc, listed, own, sentence, tag

SHOWN = 100
"""So many problems are listed; a page with thousands helps nobody."""

SEVERITIES: dict[Severity, tuple[str, str]] = {
    "error": ("cannot be used", "lora-lab-error"),
    "warning": ("will hurt", "lora-lab-warning"),
    "note": ("good to know", "lora-lab-note"),
}
"""How bad, worst first: words and class."""


def summary(report: ScanReport) -> str:
    """Pictures, captions, an epoch in steps, problems."""
    train = [s for s in report.subsets if not s.regularisation]
    pictures = sum(len(s.pictures) for s in train)
    captions = sum(p.has_caption for s in train for p in s.pictures)
    reg = report.images - pictures
    batch = report.options.train_batch_size
    cells = [
        ("pictures", f"{pictures:,}" + (f" + {reg:,} reg." if reg else "")),
        ("with captions", f"{captions:,}"),
        ("subsets", f"{len(train):,}"),
        (f"steps per epoch, batch {batch}", f"{report.steps_per_epoch():,}" if pictures else "0"),
    ]
    inner = "".join(tag("div", tag("span", esc(name)) + tag("b", esc(value))) for name, value in cells)
    return tag("div", inner, "lora-lab-figures")


def subsets(report: ScanReport) -> str:
    """The folders with their repeats, as a table."""
    if not report.subsets:
        return ""
    titles = ("folder", "repeats", "pictures", "captions", "in an epoch")
    head = tag("tr", "".join(tag("th", esc(title)) for title in titles))
    rows = []
    for s in report.subsets:
        kind = " " + tag("span", "(regularisation)") if s.regularisation else ""
        name = tag("td", own("b", s.name) + kind, title=str(s.folder))
        known = sum(p.has_caption for p in s.pictures)
        numbers = (s.repeats, len(s.pictures), known, "" if s.regularisation else s.repeats * len(s.pictures))
        rows.append(tag("tr", name + "".join(tag("td", esc(n)) for n in numbers)))
    return tag("table", tag("thead", head) + tag("tbody", "".join(rows)), "lora-lab-table")


def buckets(report: ScanReport) -> str:
    """The bucket chart with its heading."""
    if not report.bucket_counts:
        return ""
    kind = "Buckets" if report.options.enable_bucket else "Size (buckets are off)"
    return tag("h4", f"{kind}, pictures of an epoch") + bucket_chart(report.bucket_counts)


def problems(found: Sequence[Problem], root: Path) -> str:
    """The list of problems, the worst first: which file, why, what to do."""
    if not found:
        return tag("p", "No problems found.", "lora-lab-good")
    order = list(SEVERITIES)
    ordered = sorted(found, key=lambda p: order.index(p.severity))
    amounts = [(s, sum(p.severity == s for p in found)) for s in order]
    title = tag("span", "Problems:") + " " + listed(f"{n:,} {SEVERITIES[s][0]}" for s, n in amounts if n)
    rows = "".join(_problem(p, root) for p in ordered[:SHOWN])
    rest = len(ordered) - SHOWN
    more = tag("p", f"And {count(rest, 'more problem')}.", "lora-lab-muted") if rest > 0 else ""
    return tag("h4", title) + tag("ul", rows, "lora-lab-problems") + more


def _problem(problem: Problem, root: Path) -> str:
    """One line: how bad, the file (below the dataset's folder), why, the remedy."""
    path = Path(problem.file)
    name = str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name
    word, css = SEVERITIES[problem.severity]
    badge = tag("span", esc(word), "lora-lab-badge")
    remedy = tag("span", esc(sentence(problem.remedy)), "lora-lab-muted") if problem.remedy else ""
    text = tag("code", esc(name), title=problem.file) + " " + tag("span", esc(problem.why) + ".") + " " + remedy
    return tag("li", badge + tag("div", text), css)
