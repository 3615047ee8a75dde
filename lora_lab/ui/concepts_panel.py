"""Concepts and single pictures, a part of the Dataset panel: repeats and names, pictures put aside, small repairs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.dataset import remedies, side_folder, subsets
from lora_lab.dataset.checks import balance
from lora_lab.dataset.folders import Subset, parse_name
from lora_lab.dataset.scan import Item, ScanReport
from lora_lab.dataset.thumbnails import training_view
from lora_lab.errors import DatasetError, LoraLabError, SettingsError
from lora_lab.training.prepare import check_allowed
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import tags_data
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.words import count, esc, own, tag

Read = Callable[[Values], TrainSettings]
REPAIRS: dict[str, Callable[[Path], Path]] = {
    "flip": remedies.flip,
    "turn": partial(remedies.rotate, degrees=90),
    "flatten": remedies.flatten,
}
LABELS = {"flip": "Mirror", "turn": "Turn right", "flatten": "Lay on white"}


@dataclass(frozen=True)
class ConceptsWidgets:
    """All that handlers read or change."""

    shares: gr.HTML
    concept: gr.Dropdown
    repeats: gr.Number
    name: gr.Textbox
    rename: gr.Button
    create: gr.Button
    reg: gr.Checkbox
    picture: gr.Dropdown
    view: gr.Image
    lost: gr.HTML
    away: gr.Button
    repairs: dict[str, gr.Button]
    box: gr.Textbox
    crop: gr.Button
    aside: gr.Dropdown
    back: gr.Button
    told: gr.HTML

    @property
    def lists(self) -> list[Any]:
        """What is made anew after each change of the folder."""
        return [self.shares, self.concept, self.picture, self.aside, self.told]


def build() -> ConceptsWidgets:
    """Layout."""
    with gr.Accordion("Concepts", open=False, elem_id="lora_lab_concepts"):
        shares = gr.HTML(tag("p", "Check the dataset first.", "lora-lab-empty"), elem_id="lora_lab_concepts_shares")
        with gr.Row():
            concept = gr.Dropdown([], label="concept", elem_id="lora_lab_concepts_concept")
            repeats = gr.Number(1, precision=0, label="repeats", elem_id="lora_lab_concepts_repeats", min_width=80)
            name = gr.Textbox(label="name", elem_id="lora_lab_concepts_name")
            reg = gr.Checkbox(False, label="regularisation (new)", elem_id="lora_lab_concepts_reg", min_width=120)
        with gr.Row(elem_classes=["lora-lab-actions"]):
            rename = gr.Button("Change the concept", elem_id="lora_lab_concepts_rename")
            create = gr.Button("New concept", elem_id="lora_lab_concepts_create")
    with gr.Accordion("One picture", open=False, elem_id="lora_lab_picture"):
        picture = gr.Dropdown([], label="picture", elem_id="lora_lab_picture_picture")
        with gr.Row():
            view = gr.Image(
                label="as training sees it", type="filepath", interactive=False, height=260,
                elem_id="lora_lab_picture_view",
            )  # fmt: skip
            with gr.Column():
                lost = gr.HTML("", elem_id="lora_lab_picture_lost")
                box = gr.Textbox(
                    label="crop", placeholder="left, top, right, bottom", elem_id="lora_lab_picture_box",
                    info="a close-up of a head or of the eyes teaches unusual designs",
                )  # fmt: skip
                crop = gr.Button("Crop to a new picture", elem_id="lora_lab_picture_crop")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            buttons = {k: gr.Button(LABELS[k], elem_id=f"lora_lab_picture_{k}") for k in REPAIRS}
            away = gr.Button("Put aside", elem_id="lora_lab_picture_away")
        aside = gr.Dropdown([], label="aside", multiselect=True, elem_id="lora_lab_picture_aside")
        back = gr.Button("Bring back", elem_id="lora_lab_picture_back")
        told = gr.HTML("", elem_id="lora_lab_picture_told")
    return ConceptsWidgets(
        shares, concept, repeats, name, rename, create, reg, picture, view, lost, away, buttons, box, crop, aside, back,
        told,
    )  # fmt: skip


def wire(w: ConceptsWidgets, check: Any, fields: set[Any], read: Read, context: UiContext) -> None:  # noqa: ANN401
    """Fill the lists at each check; change, and fill them again.

    Args:
        w: of this part.
        check: the Dataset panel's event.
        fields: that panel's widgets, which say what the dataset is.
        read: their values to settings.
        context: of the tab.
    """
    on(check, partial(follow, w=w, read=read, context=context), fields, w.lists, context, quiet=True)
    seen = partial(look, w=w, read=read, context=context)
    on(w.picture.change, seen, {*fields, w.picture}, [w.view, w.lost], context, quiet=True)
    form = {*fields, w.concept, w.repeats, w.name, w.reg, w.picture, w.box, w.aside}
    make = partial(create, context=context)
    acts: dict[Any, Act] = {
        w.rename: rename, w.create: make, w.away: put_aside, w.back: bring_back, w.crop: crop,
        **{button: partial(repair, which=which) for which, button in w.repairs.items()},
    }  # fmt: skip
    for button, act in acts.items():
        on(button.click, partial(change, w=w, act=act, read=read, context=context), form, w.lists, context)


Act = Callable[[Values, ConceptsWidgets, ScanReport], str]
"""Does one thing, and answers what was done."""


def follow(values: Values, w: ConceptsWidgets, read: Read, context: UiContext) -> Changes:
    """The lists of what was just checked; what is wrong with the folder the check itself tells."""
    try:
        return fill(values, w, read, context)
    except LoraLabError:
        return {}


def fill(values: Values, w: ConceptsWidgets, read: Read, context: UiContext, said: str = "") -> Changes:
    """The lists, as the folder is now.

    Raises:
        LoraLabError: the folder cannot be read.
    """
    report = scanned(values, read, context)
    concepts = [_concept(s) for s in report.subsets]
    away = [_short(p, report.folder / side_folder.ASIDE) for p in side_folder.aside(report.folder)]
    return {
        w.shares: shares(report),
        w.concept: gr.update(choices=concepts, value=concepts[0] if concepts else None),
        w.picture: gr.update(choices=[_short(item.picture.path, report.folder) for item in train(report)], value=None),
        w.aside: gr.update(choices=away, value=[]),
        w.told: tag("p", esc(said), "lora-lab-good") if said else "",
    }


def change(values: Values, w: ConceptsWidgets, act: Act, read: Read, context: UiContext) -> Changes:
    """Do it, and show the folder as it is then.

    Raises:
        LoraLabError: it cannot be done; nothing has changed.
    """
    report = scanned(values, read, context)
    said = act(values, w, report)
    tell_history(report, context, said)
    return fill(values, w, read, context, said)


def tell_history(report: ScanReport, context: UiContext, label: str) -> None:
    """Let the captions' history say what has happened here, instead of 'by another program'."""
    with suppress(LoraLabError):  # the Tags panel tells what is wrong with the folder
        extension = report.options.caption_extension
        tags_data.told(report.folder, context.host.paths().data_dir, extension, label)


def look(values: Values, w: ConceptsWidgets, read: Read, context: UiContext) -> Changes:
    """The exact piece of a picture that training sees, and what the crop loses.

    Raises:
        LoraLabError: the picture is gone.
    """
    if not values[w.picture]:
        return {w.view: None, w.lost: ""}
    item = chosen(values, w, scanned(values, read, context))
    place = item.placement
    view = training_view(item.picture.path, place, context.host.paths().data_dir / "thumbnails")
    facts = [
        f"{item.picture.size[0]} x {item.picture.size[1]} pixels",
        f"resized to {place.resized[0]} x {place.resized[1]}, bucket {place.bucket[0]} x {place.bucket[1]}",
        f"{place.lost:.1%} of it is cut off" if place.lost else "nothing is cut off",
    ]
    return {w.view: str(view), w.lost: tag("ul", "".join(tag("li", esc(f)) for f in facts), "lora-lab-notes")}


def rename(values: Values, w: ConceptsWidgets, report: ScanReport) -> str:
    """Other repeats or another name for the chosen concept."""
    name = str(values[w.concept] or "")
    subset = next((s for s in report.subsets if _concept(s) == name), None)
    if subset is None or parse_name(subset.folder.name) is None:
        raise SettingsError("no concept folder is chosen", remedy="choose one of the list")
    wanted = str(values[w.name] or "").strip() or subset.name
    return f"{name} is {subsets.rename(subset.folder, int(values[w.repeats] or 0), wanted).name} now."


def create(values: Values, w: ConceptsWidgets, report: ScanReport, context: UiContext) -> str:
    """A new concept's folder, or one for regularisation pictures."""
    repeats, name = int(values[w.repeats] or 0), str(values[w.name] or "")
    if not values[w.reg]:
        return f"{subsets.create(report.folder, repeats, name).name} is there: put pictures into it."
    there = next((s.folder.parent for s in report.subsets if s.regularisation and parse_name(s.folder.name)), None)
    root = there or report.folder.with_name(f"{report.folder.name}_reg")
    check_allowed(str(root), context.host.paths())
    made = subsets.create(root, repeats, name)
    return f"{made.name} is there: put pictures of the class into it, and set reg_data_dir to {root}."


def _concept(subset: Subset) -> str:
    """As the list of concepts has it."""
    return f"regularisation: {subset.folder.name}" if subset.regularisation else subset.folder.name


def put_aside(values: Values, w: ConceptsWidgets, report: ScanReport) -> str:
    """The chosen picture out of the dataset."""
    path = chosen(values, w, report).picture.path
    side_folder.put_aside(report.folder, [path])
    return f"{path.name} is aside; it is not trained on."


def bring_back(values: Values, w: ConceptsWidgets, report: ScanReport) -> str:
    """The chosen ones back into the dataset."""
    names = values[w.aside] or []
    if not names:
        raise SettingsError("no picture is chosen", remedy="choose some of the list 'aside'")
    back = side_folder.bring_back(report.folder, [report.folder / side_folder.ASIDE / name for name in names])
    return f"{count(len(back), 'picture')} back in the dataset."


def repair(values: Values, w: ConceptsWidgets, report: ScanReport, which: str) -> str:
    """A new picture beside the chosen one."""
    return f"{REPAIRS[which](chosen(values, w, report).picture.path).name} is new; the original is kept."


def crop(values: Values, w: ConceptsWidgets, report: ScanReport) -> str:
    """A piece of the chosen picture as a new one."""
    try:
        left, top, right, bottom = (int(n) for n in str(values[w.box] or "").split(","))
    except ValueError:
        raise SettingsError("the crop is no four numbers", remedy="write left, top, right, bottom in pixels") from None
    made = remedies.crop(chosen(values, w, report).picture.path, (left, top, right, bottom))
    return f"{made.name} is new; the original is kept."


def shares(report: ScanReport) -> str:
    """How often each concept comes in an epoch, and the repeats that would balance them."""
    rows = balance.shares(report.subsets)
    if not rows:
        return tag("p", "No concept has pictures.", "lora-lab-empty")
    titles = ("concept", "pictures x repeats", "share", "balanced repeats")
    head = tag("tr", "".join(tag("th", esc(title)) for title in titles))
    lines = []
    for row in rows:
        bar = tag("span", tag("i", style=f"width:{row.share * 100:.0f}%"), "lora-lab-share") + f"{row.share:.0%}"
        sum_ = f"{len(row.subset.pictures)} x {row.subset.repeats} = {row.items}"
        cells = (own("b", row.subset.name), sum_, bar, str(row.suggested))
        lines.append(tag("tr", "".join(tag("td", cell) for cell in cells)))
    items = sum(row.items for row in rows)
    batch, steps = report.options.train_batch_size, report.steps_per_epoch()
    said = f"An epoch: {items:,} items in batches of {batch} make {count(steps, 'step')}; a bucket's last one is short."
    table = tag("table", tag("thead", head) + tag("tbody", "".join(lines)), "lora-lab-table")
    return table + tag("p", esc(said), "lora-lab-muted lora-lab-small")


def scanned(values: Values, read: Read, context: UiContext) -> ScanReport:
    """The dataset as it is now.

    Raises:
        LoraLabError: the folder cannot be read.
    """
    from lora_lab.ui.dataset_panel import scan_folder

    return scan_folder(read(values), context)


def train(report: ScanReport) -> list[Item]:
    """The training pictures."""
    return [item for item in report.items if not item.subset.regularisation]


def chosen(values: Values, w: ConceptsWidgets, report: ScanReport) -> Item:
    """The picture of the list.

    Raises:
        DatasetError: none is chosen, or it is gone.
    """
    name = values[w.picture]
    found = next((item for item in train(report) if _short(item.picture.path, report.folder) == name), None)
    if found is None:
        raise DatasetError("no picture is chosen, or it is gone", remedy="choose one of the list")
    return found


def _short(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
