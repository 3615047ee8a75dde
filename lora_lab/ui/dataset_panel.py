"""The panel Dataset: choose a folder, check it, see what is in it and what will hurt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.dataset.checks.closer import look_closer
from lora_lab.dataset.problems import Problem
from lora_lab.dataset.scan import ScanReport, scan
from lora_lab.dataset.thumbnails import thumbnail
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import dataset_view
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields, build_fields, hints
from lora_lab.ui.tips.dataset import TIPS
from lora_lab.ui.words import count, tag
from lora_lab.workflow.advice import first_settings
from lora_lab.workflow.project_folder import project_folder
from lora_lab.workflow.tasks import Task, tasks

TITLE = "Dataset"
FOLDERS = ("train_data_dir", "reg_data_dir")
SIZES = ("resolution", "train_batch_size", "caption_extension")
BUCKETS = ("enable_bucket", "bucket_no_upscale", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps")
THUMBNAILS = 60
KIND = "checks"

HINT = tag(
    "p",
    "Choose the folder that holds your concept folders, each named <code>&lt;repeats&gt;_&lt;name&gt;</code> such as "
    "<code>10_mika</code>, with a caption file beside each picture. A folder of pictures alone is one concept.",
    "lora-lab-empty",
)


@dataclass(frozen=True)
class DatasetWidgets:
    """All that handlers read or change."""

    fields: Fields
    check: gr.Button
    use: gr.Button
    summary: gr.HTML
    subsets: gr.HTML
    buckets: gr.HTML
    problems: gr.HTML
    pictures: gr.Gallery

    @property
    def results(self) -> list[Any]:
        """What a check changes."""
        return [self.summary, self.subsets, self.buckets, self.problems, self.pictures, self.use]


def build(context: UiContext) -> DatasetWidgets:
    """Layout."""
    start = first_settings(context.host.current())
    with gr.Row(elem_classes=["lora-lab-columns"]):
        with gr.Column(scale=5, min_width=320, elem_id="lora_lab_dataset_form"):
            folders = build_fields("dataset", FOLDERS, start=start)
            sizes = build_fields("dataset", SIZES, start=start)
            with gr.Accordion("Buckets", open=False, elem_id="lora_lab_dataset_more"):
                buckets = build_fields("dataset", BUCKETS, start=start)
            with gr.Row(elem_classes=["lora-lab-actions"]):
                check = gr.Button("Check", variant="primary", elem_id="lora_lab_dataset_check")
                use = gr.Button("Use for training", interactive=False, elem_id="lora_lab_dataset_use")
            summary = gr.HTML(HINT, elem_id="lora_lab_dataset_summary")
            subsets = gr.HTML("", elem_id="lora_lab_dataset_subsets")
        with gr.Column(scale=6, min_width=320):
            problems = gr.HTML("", elem_id="lora_lab_dataset_problems")
            chart = gr.HTML("", elem_id="lora_lab_dataset_buckets")
            pictures = gr.Gallery(
                label="Pictures", elem_id="lora_lab_dataset_pictures", columns=6, object_fit="contain", height="auto",
                visible=False, allow_preview=True, show_share_button=False,
            )  # fmt: skip
    gr.HTML(hints("dataset", (*FOLDERS, *SIZES, *BUCKETS), TIPS), elem_classes=["lora-lab-hidden"])
    fields = Fields({**folders.widgets, **sizes.widgets, **buckets.widgets})
    return DatasetWidgets(fields, check, use, summary, subsets, chart, problems, pictures)


def wire(w: DatasetWidgets, context: UiContext) -> None:
    """Check by the button, or by Enter in the folder's box."""
    handler = partial(check, w=w, context=context)
    for event in (w.check.click, w.fields.widgets["train_data_dir"].submit):
        on(event, handler, w.fields.all, w.results, context)


def check(values: Values, w: DatasetWidgets, context: UiContext) -> Changes:
    """Scan the folder and show what was found.

    Raises:
        DatasetError, SettingsError, OutputError: no such folder, a wrong size, a folder that is not allowed.
    """
    report = scan_folder(TrainSettings.from_mapping(w.fields.raw(values)), context)
    shown, broken = thumbnails(report, context.host.paths().data_dir / "thumbnails")
    begin_checks(report, context)
    label = f"Pictures ({len(shown)} of {report.images:,})" if report.images > len(shown) else "Pictures"
    usable = any(not item.subset.regularisation for item in report.items)
    return {
        w.summary: dataset_view.summary(report),
        w.subsets: dataset_view.subsets(report),
        w.buckets: dataset_view.buckets(report),
        w.problems: dataset_view.problems([*report.problems, *broken], report.folder),
        w.pictures: gr.update(value=shown, label=label, visible=bool(shown)),
        w.use: gr.update(interactive=usable),
    }


@dataclass(frozen=True)
class Checked:
    """What the checks on pixels have found."""

    report: ScanReport
    found: tuple[Problem, ...]


def begin_checks(report: ScanReport, context: UiContext) -> None:
    """Look at the pixels in the background; the list of problems grows when it is done."""
    last = tasks().latest(KIND)
    if last is not None and last.status().active:
        last.stop()
        last.wait(10)
    data_dir = context.host.paths().data_dir

    def work(task: Task) -> Checked:
        found = look_closer(report, project_folder(report.folder, data_dir), task.progress)
        return Checked(report, tuple(found))

    tasks().start(KIND, f"Looking at {count(report.images, 'picture')}", work)


def refresh(w: DatasetWidgets, folder: str, known: str) -> tuple[Changes, str]:
    """What is new of the checks, for the tab's poll.

    Args:
        w: the widgets.
        folder: that this window has checked.
        known: what it shows, from the last call.
    """
    task = tasks().latest(KIND)
    if task is None or task.id == known or task.status().state != "done":
        return {}, known
    checked: Checked = task.result
    if Path(folder.strip().strip('"')).expanduser() != checked.report.folder:
        return {}, known
    problems = [*checked.report.problems, *checked.found]
    return {w.problems: dataset_view.problems(problems, checked.report.folder)}, task.id


def scan_folder(settings: TrainSettings, context: UiContext) -> ScanReport:
    """The dataset check for these settings.

    Raises:
        DatasetError, SettingsError, OutputError: see `check`.
    """
    from lora_lab.training.dataset_config import scan_of
    from lora_lab.training.plan import options_of
    from lora_lab.training.prepare import check_sources

    if settings.dataset_config or settings.in_json:
        check_sources(settings, context.host.paths())
        return scan_of(settings, settings.seed or 0)[0]
    folder = context.folder(settings.train_data_dir, "the folder of your pictures")
    reg = context.folder(settings.reg_data_dir, "reg_data_dir") if settings.reg_data_dir else None
    return scan(folder, options_of(settings, settings.seed or 0), reg)


def thumbnails(report: ScanReport, folder: Path) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Small pictures of the first items with their names, and the ones that could not be decoded."""
    paths = [item.picture.path for item in report.items[:THUMBNAILS]]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(partial(_small, folder=folder), paths))
    shown = [(str(small), path.name) for path, small in zip(paths, made, strict=True) if isinstance(small, Path)]
    why = "it cannot be decoded"
    broken = [
        Problem(str(path), "broken-picture", f"{why} ({small})", "save it again, or take it away", "error")
        for path, small in zip(paths, made, strict=True)
        if not isinstance(small, Path)
    ]
    return shown, broken


def _small(path: Path, folder: Path) -> Path | str:
    """A thumbnail, or why there is none."""
    try:
        return thumbnail(path, folder)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for broken files
        return str(error)


def proposal(settings: TrainSettings, context: UiContext) -> str:
    """A name for the LoRA when the folder has one concept only, else none."""
    names = {s.name for s in scan_folder(settings, context).subsets if not s.regularisation}
    return names.pop() if len(names) == 1 else ""
