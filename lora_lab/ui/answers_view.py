"""What a test says, as HTML: the influence map on the U, curves over strengths, a diagnosis in sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lora_lab.ui.svg import Curve, value_chart
from lora_lab.ui.tags_view import url
from lora_lab.ui.u_chart import Cell, u_chart
from lora_lab.ui.words import bar, bullets, esc, own, tag, void

if TYPE_CHECKING:
    from lora_lab.testing.checkpoints import CheckpointsReport
    from lora_lab.testing.diagnosis import Diagnosis, PriorKnowledge
    from lora_lab.testing.influence import InfluenceMap
    from lora_lab.testing.strengths import Point, StrengthReport

CURVES = ("overall", "concept", "flexibility", "fidelity")
"""Fields of a point; each has its class ``lora-lab-score-...`` in style.css."""


def influence(found: InfluenceMap, heats: Mapping[str, Path]) -> str:
    """Two U's (how much of the concept, how much change in all), heat maps, and what is proposed.

    Args:
        found: the map.
        heats: by block, the picture that shows where it acts.
    """
    carried = max([abs(one.concept) for one in found.blocks] + [1e-6])
    changed = max([one.alone.perceptual for one in found.blocks] + [1e-6])
    concept = {
        one.block: Cell(max(0.0, one.concept) / carried, f"{one.concept:.0%}", f"other tags {one.other:.2f}")
        for one in found.blocks
    }
    change = {
        one.block: Cell(
            one.alone.perceptual / changed, f"{one.alone.perceptual:.3f}",
            f"left out {one.left_out.perceptual:.3f}, without the trigger {one.bleed:.3f}",
            min(1.0, one.bleed / max(one.alone.perceptual, 1e-6)),
        )  # fmt: skip
        for one in found.blocks
    }
    parts = [tag("p", esc(f"The concept: {', '.join(found.concept) or 'no tag that the tagger knows'}."))]
    parts += [tag("p", esc(found.note), "lora-lab-todo")] if found.note else []
    if found.concept:
        title = f"Concept {found.concept_bare:.0%} without the LoRA, {found.concept_whole:.0%} with it"
        parts += [tag("h4", esc(title)), u_chart(concept, "How much of the concept each block carries")]
    parts += [tag("h4", "Change in the picture, the part without the trigger marked")]
    parts += [u_chart(change, "How much each block changes"), _heats(heats), _proposal(found)]
    return "".join(parts)


def _heats(heats: Mapping[str, Path]) -> str:
    cells = [
        tag("li", void("img", src=url(str(path)), alt=f"where {block} acts", loading="lazy") + tag("small", esc(block)))
        for block, path in heats.items()
    ]
    return tag("h4", "Where each block acts") + tag("ul", "".join(cells), "lora-lab-heats")


def _proposal(found: InfluenceMap) -> str:
    words = bullets((esc(text) for text in found.proposal.sentences), "lora-lab-notes")
    return tag("h4", "Proposal") + words + tag("code", esc(found.proposal.weights.text or "all at 1"))


def strengths(
    report: StrengthReport, snapshot: str = "", held_out: Mapping[Path, float] = MappingProxyType({}), *,
    advised: bool = True,
) -> str:  # fmt: skip
    """A chart for each LoRA, and the advice.

    Args:
        report: of the strengths.
        snapshot: which snapshot to keep, and why; empty where only one was tried.
        held_out: by LoRA, the held-out loss of its run when it was saved.
        advised: with the advice for the next training.
    """
    by_lora: dict[Path, list[Point]] = {}
    for point in report.points:
        by_lora.setdefault(point.lora, []).append(point)
    css = "lora-lab-good" if report.sound else "lora-lab-todo"
    parts = [tag("p", esc(report.advice.sentence), css)] if advised else []
    parts += [tag("p", esc(f"Keep {snapshot}"))] if snapshot else []
    parts += [tag("p", esc(report.note), "lora-lab-todo")] if report.note and advised else []
    for lora, points in by_lora.items():
        alike = sorted((p for p in points if p.text_encoder == p.unet), key=lambda p: p.unet)
        loss = f", held-out loss {held_out[lora]:.4f}" if lora in held_out else ""
        parts.append(tag("h4", esc(lora.stem + loss)))
        if len(alike) > 1:
            curves = [
                Curve(f"lora-lab-score-{name}", name, [(p.unet, getattr(p, name)) for p in alike]) for name in CURVES
            ]
            parts.append(value_chart(curves, f"{lora.stem} over its strength"))
        if len(alike) < len(points):
            parts.append(_apart(points))
    return "".join(parts)


def on_checkpoints(report: CheckpointsReport, parts: Sequence[str]) -> str:
    """Where it is good: a sentence, a picture and the scores of each checkpoint's best, then each one's own answer.

    Args:
        report: of all.
        parts: by `strengths`, one for each checkpoint.
    """
    head = tag("tr", "".join(tag("th", name) for name in ("checkpoint", "best at", *CURVES)))
    rows, pictures, below = "", "", ""
    for one, part in zip(report.found, parts, strict=True):
        best, made = one.report.best, one.report.picture
        at = f"{best.unet:g}" if best.unet == best.text_encoder else f"te {best.text_encoder:g} unet {best.unet:g}"
        cells = [esc(one.label), at, *(f"{getattr(best, name):.0%}" for name in CURVES)]
        rows += tag("tr", "".join(tag("td", cell) for cell in cells))
        if made is not None:
            picture = void("img", src=url(str(made.path)), alt=f"best on {one.label}", loading="lazy")
            pictures += tag("li", picture + tag("small", esc(one.label)))
        below += tag("h3", esc(one.label)) + part
    said = tag("p", esc(report.sentence), "lora-lab-todo")
    return said + tag("table", head + rows, "lora-lab-table") + tag("ul", pictures, "lora-lab-heats") + below


def _apart(points: list[Point]) -> str:
    """Text encoder down, UNet across; the overall score in each field."""
    across = sorted({point.unet for point in points})
    down = sorted({point.text_encoder for point in points})
    score = {(point.text_encoder, point.unet): point.overall for point in points}
    best = max(score.values())
    head = tag("tr", tag("th", "te \\ unet") + "".join(tag("th", f"{value:g}") for value in across))
    lines = []
    for te in down:
        cells = ""
        for unet in across:
            value = score.get((te, unet))
            cells += tag("td", "-" if value is None else f"{value:.0%}", "lora-lab-top-score" if value == best else "")
        lines.append(tag("tr", tag("th", f"{te:g}") + cells))
    return tag("table", head + "".join(lines), "lora-lab-table")


def diagnosis(found: Diagnosis) -> str:
    """Sentences, figures, copies beside the dataset's pictures, and the tags to blame."""
    words = bullets((esc(text) for text in found.sentences), "lora-lab-notes")
    figures = [
        ("concept", "-" if found.concept is None else f"{found.concept:.0%}"), ("leakage", f"{found.leakage:.0%}"),
        ("saturation", f"{found.saturation_drift:+.0%}"), ("contrast", f"{found.contrast_drift:+.0%}"),
        ("variety", f"{found.variety:.0%}"),
    ]  # fmt: skip
    cells = "".join(tag("div", tag("span", esc(name)) + tag("b", esc(value))) for name, value in figures)
    pairs = "".join(
        tag("li", void("img", src=url(str(c.preview)), alt="preview") + void("img", src=url(str(c.picture)), alt="own"))
        for c in found.copies[:6]
    )
    blame = "".join(
        tag("tr", own("td", one.tag) + tag("td", f"{one.change:.0%}") + tag("td", f"{one.concept:+.0%}"))
        for one in sorted(found.blame, key=lambda one: -one.change)
    )
    head = tag("tr", tag("th", "tag") + tag("th", "share of the change") + tag("th", "of the concept"))
    parts = [words, tag("div", cells, "lora-lab-figures")]
    parts += [tag("h4", "Copies of the dataset"), tag("ul", pairs, "lora-lab-heats")] if pairs else []
    parts += [tag("h4", "What goes with each tag"), tag("table", head + blame, "lora-lab-table")] if blame else []
    return "".join(parts)


def prior(found: Sequence[PriorKnowledge]) -> str:
    """Each word, what it means to the bare checkpoint, and how much it changes the picture."""
    most = max([one.change for one in found] + [1e-6])
    lines = [
        own("td", one.word) + tag("td", esc(one.sentence)) + tag("td", bar(one.change / most, label="change"))
        for one in found
    ]
    head = tag("tr", tag("th", "word") + tag("th", "what it brings") + tag("th", "change"))
    return tag("table", head + "".join(tag("tr", line) for line in lines), "lora-lab-table lora-lab-words")
