"""Several pictures at once, a part of the Dataset panel: repairs, upscaling, variants, a round trip through img2img."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.dataset import remedies, side_folder
from lora_lab.dataset.captions import first_line
from lora_lab.dataset.scan import Item, ScanReport
from lora_lab.dataset.thumbnails import thumbnail
from lora_lab.errors import DatasetError, LoraLabError, SettingsError
from lora_lab.ui import pictures_view
from lora_lab.ui.concepts_panel import LABELS, REPAIRS, Read, scanned, tell_history, train
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on, told_by_page
from lora_lab.ui.ended import ended
from lora_lab.ui.pictures_view import Choice
from lora_lab.ui.words import count, esc, tag
from lora_lab.workflow import variants
from lora_lab.workflow.tasks import Task, tasks
from lora_lab.workflow.variants import VariantSettings

KIND = "pictures"
PAGE = 120
ALL = "all"
LARGEST = 64 * 2**20
"""Bytes of what comes back from img2img: a few large PNGs."""
CHOSEN, RESULTS = "window.loraLabPictures.chosen()", "window.loraLabPictures.results()"


@dataclass(frozen=True)
class PicturesWidgets:
    """All that handlers read or change."""

    concept: gr.Dropdown
    page: gr.Number
    grid: gr.HTML
    repairs: dict[str, gr.Button]
    away: gr.Button
    upscaler: gr.Dropdown
    factor: gr.Number
    upscale: gr.Button
    form: dict[str, Any]
    make: gr.Button
    made: gr.HTML
    act: gr.Button
    send: dict[str, gr.Button]
    take: gr.Button | None
    message: gr.Textbox
    told: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What an action may change."""
        return [self.concept, self.grid, self.made, self.told]


@dataclass
class Waiting:
    """Variants that wait to be kept or dropped: variant -> the picture that it comes from."""

    of: dict[Path, Path] = field(default_factory=dict)
    extension: str = ".txt"


WAITING = Waiting()
"""Of this process: a page that is loaded anew shows them again."""


def build(context: UiContext) -> PicturesWidgets:
    """Layout."""
    with gr.Accordion("Several pictures: repairs, variants, img2img", open=False, elem_id="lora_lab_pictures"):
        with gr.Row():
            concept = gr.Dropdown([ALL], value=ALL, label="concept", elem_id="lora_lab_pictures_concept")
            page = gr.Number(1, precision=0, label="page", elem_id="lora_lab_pictures_page", min_width=80)
        grid = gr.HTML(tag("p", "Check the dataset first.", "lora-lab-empty"), elem_id="lora_lab_pictures_grid")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            repairs = {k: gr.Button(LABELS[k], elem_id=f"lora_lab_pictures_{k}") for k in REPAIRS}
            away = gr.Button("Put aside", elem_id="lora_lab_pictures_away")
        with gr.Row():
            names = [u.name for u in context.host.upscalers()]
            upscaler = gr.Dropdown(names, value=names[-1], label="upscaler", elem_id="lora_lab_pictures_upscaler")
            factor = gr.Number(2, label="times", elem_id="lora_lab_pictures_factor", min_width=80)
            upscale = gr.Button("Upscale to new pictures", elem_id="lora_lab_pictures_upscale")
        form = _variant_form()
        make = gr.Button("Make variants", elem_id="lora_lab_pictures_make")
        made = gr.HTML("", elem_id="lora_lab_pictures_made")
        act = gr.Button("act", elem_id="lora_lab_pictures_act", elem_classes=["lora-lab-hidden"])
        send, take = _senders() if context.in_webui else ({}, None)
        message = gr.Textbox("", elem_id="lora_lab_pictures_message", elem_classes=["lora-lab-hidden"])
        told = gr.HTML("", elem_id="lora_lab_pictures_told")
    return PicturesWidgets(
        concept, page, grid, repairs, away, upscaler, factor, upscale, form, make, made, act, send, take, message, told
    )


def _variant_form() -> dict[str, Any]:
    usual = VariantSettings()
    about = {
        "count": "of each picture", "denoise": "0.7 keeps the subject",
        "cfg_scale": "mild, or it burns", "steps": "", "seed": "of the first; the others count up",
    }  # fmt: skip
    with gr.Row():
        form = {
            name: gr.Number(
                getattr(usual, name), label=name, info=info or None, min_width=110,
                elem_id=f"lora_lab_pictures_{name}",
            )  # fmt: skip
            for name, info in about.items()
        }
    form["negative"] = gr.Textbox("", label="negative prompt", elem_id="lora_lab_pictures_negative")
    return form


def _senders() -> tuple[dict[str, gr.Button], gr.Button]:
    with gr.Row(elem_classes=["lora-lab-actions"]):
        labels = {"img2img": "Send to img2img", "inpaint": "Send to inpaint"}
        send = {
            k: gr.Button(label, elem_id=f"lora_lab_pictures_{k}", elem_classes=[f"lora-lab-send-{k}"])
            for k, label in labels.items()
        }
        take = gr.Button("Take the result back", elem_id="lora_lab_pictures_take")
    return send, take


def wire(w: PicturesWidgets, check: Any, fields: set[Any], read: Read, context: UiContext) -> None:  # noqa: ANN401
    """Fill the grid at each check; act on what is chosen. Sending is done by the page alone.

    Args:
        w: of this part.
        check: the Dataset panel's event.
        fields: that panel's widgets, which say what the dataset is.
        read: their values to settings.
        context: of the tab.
    """
    inputs = {*fields, w.concept, w.page, w.message, w.upscaler, w.factor, *w.form.values()}

    def wired(event: Any, handler: Any, source: str, quiet: bool = False) -> None:  # noqa: ANN401 - gradio's
        js = told_by_page(inputs, w.message, source)
        on(event, partial(handler, w=w, read=read, context=context), inputs, w.shown, context, quiet=quiet, js=js)

    for event in (check, w.concept.change, w.page.change):
        wired(event, follow, CHOSEN, quiet=True)
    for which, button in w.repairs.items():
        wired(button.click, partial(each, act=REPAIRS[which], said="new; the originals are kept"), CHOSEN)
    wired(w.away.click, put_aside, CHOSEN)
    wired(w.upscale.click, upscale, CHOSEN)
    wired(w.make.click, make, CHOSEN)
    wired(w.act.click, judge, "window.loraLabPictures.verdict()", quiet=True)
    if w.take is not None:
        wired(w.take.click, take_back, RESULTS)


def follow(values: Values, w: PicturesWidgets, read: Read, context: UiContext) -> Changes:
    """The grid of what was just checked; what is wrong with the folder the check itself tells."""
    try:
        return fill(values, w, read, context)
    except LoraLabError:
        return {}


def fill(values: Values, w: PicturesWidgets, read: Read, context: UiContext, said: str = "") -> Changes:
    """The grid and the waiting variants, as they are now.

    Raises:
        LoraLabError: the folder cannot be read.
    """
    report = scanned(values, read, context)
    concepts = [ALL, *(s.folder.name for s in report.subsets if not s.regularisation)]
    concept = values[w.concept] if values[w.concept] in concepts else ALL
    items = [i for i in train(report) if concept in (ALL, i.subset.folder.name)]
    last = max(1, -(-len(items) // PAGE))
    page = min(last, max(1, int(values[w.page] or 1)))
    choices = _choices(items[(page - 1) * PAGE : page * PAGE], report.folder, context)
    w.message.temp_files.update(path for c in choices for path in (c.small, c.full) if path)
    return {
        w.concept: gr.update(choices=concepts, value=concept),
        w.grid: pictures_view.grid(choices, len(items), frozenset(names(values[w.message]))),
        w.made: waiting(w),
        w.told: tag("p", esc(said), "lora-lab-good") if said else "",
    }


def _choices(items: Sequence[Item], root: Path, context: UiContext) -> list[Choice]:
    thumbs = context.host.paths().data_dir / "thumbnails"

    def small(item: Item) -> str:
        try:
            return str(thumbnail(item.picture.path, thumbs))
        except (OSError, ValueError, SyntaxError):  # Pillow raises all three for broken files
            return ""

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(small, items))
    return [
        Choice(
            item.picture.path.relative_to(root).as_posix(), thumb, str(item.picture.path),
            context.host.as_prompt(first_line(item.picture.caption)), variants.is_generated(item.picture.path),
        )  # fmt: skip
        for item, thumb in zip(items, made, strict=True)
    ]


def names(message: Any) -> list[str]:  # noqa: ANN401 - what the page says
    """The chosen pictures; none for what is not a list of names."""
    try:
        found = json.loads(message or "[]")
    except ValueError:
        return []
    found = found.get("chosen") if isinstance(found, dict) else found
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def chosen(values: Values, w: PicturesWidgets, report: ScanReport) -> list[Item]:
    """The chosen pictures of the dataset.

    Raises:
        DatasetError: none is chosen.
    """
    wanted = set(names(values[w.message]))
    found = [i for i in train(report) if i.picture.path.relative_to(report.folder).as_posix() in wanted]
    if not found:
        raise DatasetError("no picture is chosen", remedy="click some pictures of the grid")
    return found


def each(
    values: Values, w: PicturesWidgets, read: Read, context: UiContext, act: Callable[[Path], Path], said: str
) -> Changes:
    """One repair of all chosen pictures.

    Raises:
        LoraLabError: none is chosen, or one cannot be read or written; those before it are there.
    """
    made = [act(item.picture.path) for item in chosen(values, w, scanned(values, read, context))]
    return fill(values, w, read, context, f"{count(len(made), 'picture')} {said}.")


def put_aside(values: Values, w: PicturesWidgets, read: Read, context: UiContext) -> Changes:
    """The chosen pictures out of the dataset, all or none.

    Raises:
        LoraLabError: none is chosen, or one cannot be moved.
    """
    report = scanned(values, read, context)
    moved = side_folder.put_aside(report.folder, [item.picture.path for item in chosen(values, w, report)])
    tell_history(report, context, "put aside")
    return fill(values, w, read, context, f"{count(len(moved), 'picture')} put aside; 'One picture' brings them back.")


def upscale(values: Values, w: PicturesWidgets, read: Read, context: UiContext) -> Changes:
    """Begin to enlarge the chosen pictures.

    Raises:
        LoraLabError: none is chosen, the factor is none, or pictures are being made already.
    """
    items = chosen(values, w, scanned(values, read, context))
    factor = float(values[w.factor] or 0)
    if not 1 < factor <= 8:
        raise SettingsError(f"upscaling {factor:g} times", remedy="give more than 1 and at most 8")
    upscaler = next((u for u in context.host.upscalers() if u.name == values[w.upscaler]), None)
    if upscaler is None:
        raise SettingsError(f"there is no upscaler {values[w.upscaler]!r}", remedy="choose one of the list")

    def work(task: Task) -> str:
        for number, item in enumerate(items):
            task.progress("upscaling", number, len(items))
            remedies.upscale(item.picture.path, partial(upscaler.enlarge, factor=factor))
        return f"{count(len(items), 'picture')} upscaled to new files; the originals are kept. Check shows them."

    tasks().start(KIND, f"Upscaling {count(len(items), 'picture')}", work)
    return {w.told: tag("p", "Upscaling...", "lora-lab-muted")}


def make(values: Values, w: PicturesWidgets, read: Read, context: UiContext) -> Changes:
    """Begin to make variants of the chosen pictures.

    Raises:
        LoraLabError: none is chosen, a value is wrong, or pictures are being made already.
    """
    from lora_lab.training.plan import options_of

    settings = read(values)
    report = scanned(values, read, context)
    items, how = chosen(values, w, report), variant_settings(values, w)
    options = options_of(settings)

    def work(task: Task) -> str:
        for number, item in enumerate(items):

            def listen(stage: str, done: int, total: int, before: int = number) -> None:
                task.progress(stage, before * total + done, len(items) * total)

            for path in variants.make_variants(context.host, item.picture, options, how, listen):
                WAITING.of[path] = item.picture.path
        return f"{count(len(items) * how.count, 'variant')} made: keep or drop each."

    WAITING.extension = settings.caption_extension
    tasks().start(KIND, f"Making variants of {count(len(items), 'picture')}", work)
    return {w.told: tag("p", "Making variants...", "lora-lab-muted")}


def variant_settings(values: Values, w: PicturesWidgets) -> VariantSettings:
    """The form.

    Raises:
        SettingsError: a value out of range.
    """
    n = {name: values[box] for name, box in w.form.items()}
    found = VariantSettings(
        count=int(n["count"] or 0), denoise=float(n["denoise"] or 0), cfg_scale=float(n["cfg_scale"] or 0),
        steps=int(n["steps"] or 0), seed=int(n["seed"] or 0), negative=str(n["negative"] or ""),
    )  # fmt: skip
    found.check()
    return found


def judge(values: Values, w: PicturesWidgets, read: Read, context: UiContext) -> Changes:
    """Keep or drop a variant, or all of them, as the page says.

    Raises:
        LoraLabError: it is gone, or the dataset's folder cannot be written to.
    """
    try:
        verdict = json.loads(values[w.message] or "{}")
        act, path = str(verdict["act"]), Path(str(verdict["path"]))
    except (ValueError, KeyError, TypeError):
        return {}
    wanted = list(WAITING.of) if act.endswith("-all") else [path] if path in WAITING.of else []
    for variant in wanted:
        if act.startswith("keep"):
            variants.keep([variant], WAITING.of[variant].parent, WAITING.extension)
        else:
            variants.drop([variant])
        del WAITING.of[variant]
    word = "kept beside their pictures" if act.startswith("keep") else "dropped"
    said = f"{count(len(wanted), 'variant')} {word}." if wanted else ""
    return {w.made: waiting(w), w.told: tag("p", esc(said), "lora-lab-good") if said else ""}


def take_back(values: Values, w: PicturesWidgets, read: Read, context: UiContext) -> Changes:
    """What img2img has made, into the dataset.

    Raises:
        LoraLabError: nothing was sent, nothing came back, or it cannot be written.
    """
    try:
        told = json.loads(values[w.message] or "{}")
        name, pictures = str(told["picture"]), [str(data) for data in told["results"]]
    except (ValueError, KeyError, TypeError):
        name, pictures = "", []
    report = scanned(values, read, context)
    items = [i for i in train(report) if i.picture.path.relative_to(report.folder).as_posix() == name]
    if not items:
        raise DatasetError("no picture of this dataset was sent", remedy="choose one and send it to img2img first")
    if sum(map(len, pictures)) > LARGEST * 4 // 3:
        raise DatasetError("what came back is too large", remedy="take fewer pictures at a time")
    try:
        results = [base64.b64decode(data.partition(",")[2]) for data in pictures]
    except ValueError:
        results = [b""]  # no picture, as `take_back` will say
    made = variants.take_back(items[0].picture.path, results, read(values).caption_extension)
    new = ", ".join(path.name for path in made)
    return fill(values, w, read, context, f"New, with the caption of {name}: {new}.")


def waiting(w: PicturesWidgets) -> str:
    """The variants that wait, those that are still there."""
    there = [(variant, original) for variant, original in WAITING.of.items() if variant.is_file()]
    w.message.temp_files.update(str(path) for pair in there for path in pair)
    return pictures_view.variants([pictures_view.Made(str(variant), str(original)) for variant, original in there])


def refresh(w: PicturesWidgets, known: str) -> tuple[Changes, str]:
    """How upscaling or making variants has ended, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    end = ended(KIND, known, "Stopped; what was made is kept.")
    if end is None:
        return {}, known
    return {w.made: waiting(w), w.told: end.told or tag("p", esc(str(end.task.result)), "lora-lab-good")}, end.mark
