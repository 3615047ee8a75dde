"""A run as HTML, from its events."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lora_lab.training.events import (
    Event,
    PreviewMade,
    Progress,
    RunEnded,
    RunStarted,
    SnapshotSaved,
    StepDone,
    Validated,
    Warned,
)
from lora_lab.training.settings import TrainSettings
from lora_lab.training.status import RunStatus, after
from lora_lab.ui import run_view
from lora_lab.ui.trigger import trigger_of


def status_after(*events: Event, folder: Path = Path("runs/one")) -> RunStatus:
    status = RunStatus("one", "mika <b>", folder)
    for event in events:
        status = after(status, event)
    return status


def step(number: int) -> StepDone:
    return StepDone(number, 1, 0.2, 0.15, {"unet": 1e-4, "text_encoder": 5e-5}, 2.0, 16.0, 2048.0)


START = RunStarted("mika", "demo.safetensors", 10, 2, 5, 18, 264, 1_000_000)


def test_a_stage_before_the_steps_is_told_with_its_pieces() -> None:
    status = status_after(Progress("caching latents", 3, 18))
    assert run_view.progress(status) == ["caching latents", "3 of 18"]


def test_a_running_run_shows_loss_rates_speed_time_and_memory() -> None:
    html = run_view.card(status_after(START, step(1), step(2), Validated(2, 0.11)), ())
    for text in ("0.1500", "0.1100", "1e-4", "5e-5", "2.0 s/step", "16 s", "2.0 GB", "step 2 of 10", "epoch 1 of 2"):
        assert text in html, text
    assert "<polyline" in html
    assert 'aria-valuenow="20"' in html


def test_no_text_of_a_run_breaks_out_of_the_page() -> None:
    failed = RunEnded("failed", 1, 3.0, None, None, error="<i>no</i>")
    status = status_after(START, step(1), Warned("<script>x</script>"), failed, folder=Path("<u>"))
    html = run_view.card(status, (run_view.Waiting("<s>", "<s>"),)) + run_view.notes(status)
    for bad in ("<i>no", "<script", "<b>mika <b>", "<s>", "<u>"):
        assert bad not in html
    assert "&lt;script&gt;" in html


def test_snapshots_offer_their_prompt_the_newest_first(tmp_path: Path) -> None:
    status = status_after(
        START,
        SnapshotSaved(5, 1, tmp_path / "mika-000001.safetensors", final=False),
        SnapshotSaved(10, 2, tmp_path / "mika.safetensors", final=True),
    )
    html = run_view.snapshots(status, 'mi"ka', tmp_path, in_webui=True)
    assert html.index("&lt;lora:mika:1&gt; mi&quot;ka") < html.index("&lt;lora:mika-000001:1&gt;")
    assert html.count("use in txt2img") == 2
    assert "outside" not in html
    alone = run_view.snapshots(status, "", tmp_path / "loras", in_webui=False)
    assert 'data-prompt="&lt;lora:mika:1&gt;"' in alone
    assert "outside of the LoRA folder" in alone
    assert "txt2img" not in alone


def test_no_run_and_no_snapshot_show_no_empty_headings(tmp_path: Path) -> None:
    assert run_view.card(None, ()) == run_view.EMPTY
    assert run_view.notes(None) == ""
    assert run_view.snapshots(status_after(START), "", tmp_path, in_webui=True) == ""


def test_an_ended_run_says_so_and_where_its_files_are() -> None:
    lora = Path("loras/mika.safetensors")
    ended = RunEnded("finished", 10, 65.0, lora, 0.1)
    status = status_after(START, step(10), PreviewMade(10, Path("p.png"), "mika"), ended)
    assert run_view.progress(status)[:2] == ["finished", "step 10 of 10"]
    assert "took 1 min 5 s" in run_view.progress(status)
    assert "progressbar" not in run_view.head(status)
    assert "runs" in run_view.notes(status)


@pytest.mark.parametrize(
    ("captions", "trigger"),
    [
        (("mika, hat", "mika, tail"), "mika"),
        (("mika, hat", "tail, mika"), ""),
        ((None, None), "girl"),
        (("mika", None), ""),
    ],
)
def test_the_trigger_is_the_first_tag_of_all_captions(
    tmp_path: Path, captions: tuple[str | None, ...], trigger: str
) -> None:
    folder = tmp_path / "2_girl"
    folder.mkdir()
    for index, caption in enumerate(captions):
        Image.new("RGB", (64, 64)).save(folder / f"{index}.png")
        if caption is not None:
            (folder / f"{index}.txt").write_text(caption)
    assert trigger_of(TrainSettings.from_mapping({"train_data_dir": str(tmp_path)})) == trigger
