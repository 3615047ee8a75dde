"""Measuring before a run, and going on after one: the handlers, called with what a page would hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_lab.errors import HostBusyError
from lora_lab.training.events import RunEnded
from lora_lab.training.memory.dry_run import Estimate
from lora_lab.training.start_files import following
from lora_lab.ui import measure_part, train_panel
from tests.ui.shown import BUSY, Tab
from tests.ui.test_train_panel import plan, started, typed

torch = pytest.importorskip("torch", reason="torch is not installed")


def test_what_was_measured_is_one_line(shown: Tab, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    w = shown.panels.train
    asked: list[str] = []

    def measured(checked: object, host: object) -> Estimate:
        asked.append(checked.settings.output_name)  # type: ignore[attr-defined]
        return Estimate(peak_mb=1500, free_mb=1000, seconds_per_step=2.0, steps=100)

    monkeypatch.setattr("lora_lab.training.memory.dry_run.measure", measured)
    there = shown.context.host.paths().lora_dir / "mika-stage1.safetensors"
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(b"of an earlier run: nothing is written when it is only measured")
    values = typed(shown, pictures, stages="unet_lr=1e-4\nunet_lr=1e-5")
    html = str(measure_part.measure(values, w.more, w.fields.raw, shown.context)[w.more.found])
    assert "About 1,500 MB above what is loaded, of 1,000 MB free; about 2.0 s/step, 3 min 20 s in all" in html
    assert "lora-lab-error" in html, "it does not fit"
    assert asked == ["mika-stage1"]


def test_a_model_that_cannot_be_had_is_told(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    with pytest.raises(HostBusyError, match=BUSY):
        measure_part.measure(typed(shown, pictures), w.more, w.fields.raw, shown.context)


def test_nothing_to_go_on_from_is_told(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    with pytest.raises(HostBusyError, match="no LoRA so far"):
        measure_part.go_on({}, w.fields, shown.context)


def test_a_finished_lora_fills_the_form(shown: Tab, pictures: Path) -> None:
    run = started(shown, pictures)
    run.wait(30)
    lora = shown.context.host.paths().lora_dir / "mika.safetensors"
    run._tell(RunEnded("finished", 5, 1.0, lora, 0.1))
    w = shown.panels.train
    found = measure_part.go_on({}, w.fields, shown.context)
    settings = train_panel.read(shown.values | found, w)
    assert (settings.network_weights, settings.dim_from_weights) == (str(lora), True)
    assert settings.output_name == "mika-more"
    assert settings.train_data_dir == str(pictures)


@pytest.mark.parametrize(
    ("name", "next_name"), [("mika", "mika-more"), ("mika-more", "mika-more2"), ("mika-more9", "mika-more10")]
)
def test_each_continuation_has_a_name_of_its_own(name: str, next_name: str) -> None:
    assert following(name) == next_name


def test_the_plan_shows_each_stage(shown: Tab, pictures: Path) -> None:
    html = plan(shown, typed(shown, pictures, stages="max_train_epochs=5\nmax_train_steps=7"))
    assert html.index("Stage 1") < html.index("<b>20</b>") < html.index("Stage 2") < html.index("<b>7</b>")
