"""What the tools made, or would make, as HTML. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.ui import words
from lora_lab.ui.u_chart import Cell, u_chart
from lora_lab.ui.words import count, esc, own, tag

if TYPE_CHECKING:
    import gradio as gr

    from lora_lab.surgery.library import LibraryEntry
    from lora_lab.surgery.look import Difference, SiteSpectrum
    from lora_lab.surgery.outcome import Outcome
    from lora_lab.surgery.report import Report, Table
    from lora_lab.surgery.tokens import TokenChange
    from lora_lab.ui.tools_work import Done
    from lora_lab.workflow.tasks import TaskStatus

ROWS = 300
"""Of a table in the page."""
TOKENS = 60


@dataclass(frozen=True)
class Shown:
    """What a task of the panel found, as HTML, and the same as a .csv file."""

    html: str
    table: Path | None


def shown(found: Shown, place: gr.HTML) -> str:
    """With a link to the table; gradio serves under file= what its components have let in."""
    if found.table is None:
        return found.html
    place.temp_files.add(str(found.table))
    return found.html + tag("p", _link(found.table, "download as .csv"), "lora-lab-muted")


def _link(path: Path, text: str) -> str:
    return tag("a", text, href=f"file={path}", download=path.name)


def size(nbytes: float) -> str:
    """``9.4 MB`` (10^6 bytes), as the command line says it."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"


def percent(share: float) -> str:
    """``0.43 %``, with more digits where it is small."""
    return f"{share:.3%}".replace("%", " %") if share < 0.01 else f"{share:.1%}".replace("%", " %")


def progress(status: TaskStatus) -> str:
    """Work under way: how far, and how long it still takes."""
    left = f", {words.duration(status.seconds_left)} left" if status.seconds_left else ""
    text = "stopping" if status.stopping else f"{status.stage or 'begins'}, {status.done:,} of {status.total:,}{left}"
    return tag("p", f"{tag('b', esc(status.title))} {esc(text)}") + words.bar(status.share, label=status.title)


def done(found: Done) -> str:
    """All files of a round."""
    return "".join(_outcome(outcome, found.dry) for outcome in found.outcomes)


def _outcome(outcome: Outcome, dry: bool) -> str:
    if outcome.out is not None:
        link = _link(outcome.out, "download")
        written = tag("span", "Written:") + " " + tag("code", esc(outcome.out))
        head = tag("p", f"{written} {link}", "lora-lab-good")
    else:
        head = tag("p", "Nothing is written yet. This is what it would be:")
    figures = {
        "file": size(outcome.size), "kept": percent(max(0.0, 1 - outcome.error**2)),
        "thrown away": percent(outcome.error**2), "error, of the norm": percent(outcome.error),
        "time": words.duration(outcome.seconds),
    }  # fmt: skip
    if not outcome.blocks:
        del figures["kept"], figures["thrown away"], figures["error, of the norm"]
    ranks = [rank for rank in (outcome.more.get("ranks") or {}).values() if rank]
    if ranks:
        figures["ranks"] = str(ranks[0]) if min(ranks) == max(ranks) else f"{min(ranks)} to {max(ranks)}"
    return head + _figures(figures) + _notes(outcome.notes) + _blocks(outcome)


def _figures(figures: Mapping[str, str]) -> str:
    cells = "".join(tag("div", tag("b", esc(v)) + tag("span", esc(k))) for k, v in figures.items())
    return tag("div", cells, "lora-lab-figures")


def _notes(notes: Iterable[str]) -> str:
    return words.bullets((esc(note) for note in notes), "lora-lab-notes")


def _blocks(outcome: Outcome) -> str:
    norms = {name: part.norm2**0.5 for name, part in outcome.blocks.items()}
    if not any(norms.values()):
        return ""
    most = max(norms.values())
    cells = {
        name: Cell(
            norms[name] / most, f"{norms[name]:.3g}",
            f"{name}: {count(part.sites, 'site')}, norm {norms[name]:.4g}, {percent(part.error**2)} thrown away",
            part.error**2,
        )
        for name, part in outcome.blocks.items()
    }  # fmt: skip
    legend = tag("p", "Norm of the change by block; the hatched end is the share thrown away.", "lora-lab-muted")
    return legend + u_chart(cells, "Change by block")


def report(found: Report) -> str:
    """A file described."""
    ranks = ", ".join(f"{rank}" for rank in found.ranks) or "none"
    alphas = ", ".join(f"{alpha:g}" for alpha in found.alphas) or "none"
    figures = {
        "kind": ", ".join(found.kinds), "family": found.family.value, "sites": f"{found.sites:,}", "rank": ranks,
        "alpha": alphas, "file": size(found.size),
    }  # fmt: skip
    problems = words.bullets((esc(problem) for problem in found.problems), "lora-lab-notes lora-lab-error")
    outliers = [f"{site} sticks out: {times:.1f} times the median of its part" for site, times in found.outliers]
    if found.unknown:
        outliers.append(f"{found.unknown} sites change a weight by what it was: only a checkpoint tells their norm")
    tables = "".join(_folded(table) for table in found.tables)
    head = tag("p", tag("b", esc(found.path.stem)))
    return head + _figures(figures) + problems + _notes(outliers) + norms(found.blocks, found.text_layers) + tables


def norms(blocks: Mapping[str, float], layers: Mapping[str, float]) -> str:
    """Norms on the U, and by layer of the text encoders."""
    most = max(blocks.values(), default=0.0) or 1.0
    cells = {name: Cell(norm / most, f"{norm:.3g}", f"{name}: norm {norm:.4g}") for name, norm in blocks.items()}
    drawn = tag("p", "Norm of the change by block, at strength 1.", "lora-lab-muted") + u_chart(cells, "Norm by block")
    largest = max(layers.values(), default=0.0) or 1.0
    rows = [(name, f"{norm:.3g}", norm / largest) for name, norm in layers.items()]
    bars = "".join(tag("tr", _row(name, text, share)) for name, text, share in rows)
    return drawn + (_details("Text encoders by layer", tag("table", bars, "lora-lab-table")) if rows else "")


def _row(name: str, text: str, share: float) -> str:
    bar = tag("span", tag("i", style=f"width:{100 * share:.0f}%"), "lora-lab-share")
    return tag("td", esc(name)) + tag("td", bar + esc(text))


def _folded(table: Table) -> str:
    rows = "".join(tag("tr", tag("td", esc(name)) + own("td", value)) for name, value in table.rows[:ROWS])
    return _details(f"{table.title} ({len(table.rows)})", tag("table", rows, "lora-lab-table lora-lab-metadata"))


def _details(title: str, inner: str) -> str:
    return f"<details class='lora-lab-details'><summary>{esc(title)}</summary>{inner}</details>"


def spectra(found: Sequence[SiteSpectrum]) -> str:
    """Effective rank and largest singular values of each site."""
    head = "".join(tag("th", word) for word in ("site", "rank", "effective", "99 % in", "norm", "largest S"))
    rows = "".join(
        tag("tr", "".join(tag("td", esc(cell)) for cell in (
            one.site, one.rank or "-", f"{one.effective_rank:.1f}", one.rank_99, f"{one.norm:.3g}",
            " ".join(f"{s:.2g}" for s in one.s[:4]),
        )))
        for one in found[:ROWS]
    )  # fmt: skip
    mean = sum(one.effective_rank for one in found) / max(1, len(found))
    title = f"Spectrum of {count(len(found), 'site')}, mean effective rank {mean:.1f}"
    return _details(title, tag("table", tag("tr", head) + rows, "lora-lab-table"))


def tokens(found: Sequence[TokenChange]) -> str:
    """The tokens that change most, with bars."""
    most = max((one.change for one in found), default=0.0) or 1.0
    rows = "".join(tag("tr", _row(one.word, f"{one.change:.4f}", one.change / most)) for one in found[:TOKENS])
    title = f"Tokens whose states in the text encoder change most, of {len(found):,}"
    return _details(title, tag("table", rows, "lora-lab-table"))


def difference(found: Difference) -> str:
    """What two files differ in."""
    figures = {
        "apart, of the first one's norm": percent(found.distance), "cosine": f"{found.cosine:.4f}",
        "sites only in the first": f"{len(found.only_a):,}", "only in the second": f"{len(found.only_b):,}",
    }  # fmt: skip
    most = max(found.blocks.values(), default=0.0) or 1.0
    cells = {n: Cell(share / most, percent(share), f"{n}: {percent(share)} apart") for n, share in found.blocks.items()}
    other = f"Metadata that differs: {', '.join(found.metadata)}" if found.metadata else "The metadata is the same."
    return _figures(figures) + u_chart(cells, "Difference by block") + tag("p", esc(other), "lora-lab-muted")


def library(found: Sequence[LibraryEntry], read: int, by: Mapping[str, str], missing: Sequence[str] = ()) -> str:
    """A table of files; names that a prompt has and no file."""
    words_ = ("file", "kind", "rank", "trained on", "trigger", "tags")
    head = "".join(tag("th", word) for word in words_)
    rows = "".join(tag("tr", _entry(entry, by.get(entry.name, ""))) for entry in found[:ROWS])
    more = f"; the first {ROWS} are shown" if len(found) > ROWS else ""
    said = tag("p", f"{len(found):,} of {count(read, 'file')}{more}.", "lora-lab-muted")
    said += words.bullets((esc(f"no file is named {name}") for name in missing), "lora-lab-notes")
    return said + tag("table", tag("tr", head) + rows, "lora-lab-table lora-lab-library") if found else said


def _entry(entry: LibraryEntry, by: str) -> str:
    if entry.problem:
        return tag("td", esc(entry.name)) + tag("td", esc(entry.problem), "lora-lab-error", colspan=5)
    low, high = entry.ranks
    rank = "-" if not high else str(high) if low == high else f"{low} to {high}"
    base = f"{entry.base} (by its {by})" if by else entry.base
    tags = ", ".join(list(entry.tags or {})[:6])
    cells = (entry.name, f"{entry.kind} {entry.family}", rank, base, entry.trigger, tags)
    return "".join(own("td", cell) for cell in cells)
