"""The panel Train and the poll, their handlers called with what a page would hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_lab.errors import HostBusyError, LoraLabError, SettingsError
from lora_lab.ui import tab, train_panel
from lora_lab.ui.estimate import measured
from lora_lab.ui.live import Interrupt, Seen
from tests.ui.shown import BUSY, SMALL, Tab

torch = pytest.importorskip("torch", reason="torch is not installed")


def typed(shown: Tab, pictures: Path, **more: str) -> dict[Any, Any]:
    """A form that may be started."""
    given = {"train_data_dir": str(pictures), "output_name": "mika", "train_batch_size": "4", **SMALL}
    return shown.train(**given | more)


def plan(shown: Tab, values: dict[Any, Any]) -> str:
    w = shown.panels.train
    return str(train_panel.plan(values, w, shown.context)[w.plan])


def poll(shown: Tab, seen: Seen) -> tuple[dict[Any, Any], Seen]:
    """One poll of a window that has seen `seen`: what it shows now, and what it will have seen."""
    live = shown.panels.live
    changes = tab.poll(shown.values | {live.seen: seen}, shown.panels, shown.context)
    return changes, changes[live.seen]


def started(shown: Tab, pictures: Path) -> Any:
    """A run on a host that lends no model: it fails soon, in the host's words."""
    w = shown.panels.train
    train_panel.start(typed(shown, pictures), w, shown.context)
    run = shown.queue.current()
    assert run is not None
    return run


def test_the_plan_tells_steps_epochs_and_snapshots(shown: Tab, pictures: Path) -> None:
    html = plan(shown, typed(shown, pictures, max_train_epochs="5", save_every_n_epochs="2"))
    for name, value in (("steps", "20"), ("epochs", "5 × 4"), ("snapshots", "3")):
        assert f"<span>{name}</span><b>{value}</b>" in html


def test_the_plan_shows_what_is_unwise(shown: Tab, pictures: Path) -> None:
    assert "network_alpha 64 is above network_dim 8" in plan(
        shown, typed(shown, pictures, network_dim="8", network_alpha="64")
    )


def test_what_is_not_filled_in_yet_is_told_in_its_place(shown: Tab, told: list[str]) -> None:
    assert "no pictures are chosen" in plan(shown, shown.values)
    assert not told


def test_time_is_measured_or_not_told(shown: Tab, pictures: Path) -> None:
    assert "not measured yet" in plan(shown, typed(shown, pictures))
    write_run(shown, pictures, "a<b>.safetensors", 2.0)
    html = plan(shown, typed(shown, pictures, max_train_epochs="5"))
    assert "about 40 s" in html, "20 steps of 2 seconds"


def write_run(shown: Tab, pictures: Path, checkpoint: str, seconds: float, **settings: Any) -> None:
    """What an earlier run has left."""
    folder = shown.context.host.paths().data_dir / "runs" / "20260101-000000-001-old"
    folder.mkdir(parents=True)
    values = train_panel.read(typed(shown, pictures), shown.panels.train).to_mapping() | settings
    (folder / "settings.json").write_text(json.dumps({"lora_lab": 1, **values}), encoding="utf-8")
    events = [{"event": "RunStarted", "checkpoint": checkpoint}, {"event": "StepDone", "seconds_per_step": seconds}]
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("checkpoint", "settings"), [("other.safetensors", {}), ("a<b>.safetensors", {"train_batch_size": 8})]
)
def test_a_run_that_is_not_alike_measures_nothing(
    shown: Tab, pictures: Path, checkpoint: str, settings: dict[str, Any]
) -> None:
    write_run(shown, pictures, checkpoint, 2.0, **settings)
    wanted = train_panel.read(typed(shown, pictures), shown.panels.train).to_mapping()
    assert measured(wanted, "a<b>.safetensors", shown.context.host.paths().data_dir / "runs") is None


def test_damaged_leftovers_measure_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "settings.json").write_text("{")
    (tmp_path / "b").mkdir()
    assert measured({}, "x", tmp_path) is None
    assert measured({}, "x", tmp_path / "none") is None


def test_a_start_that_is_refused_starts_nothing(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    with pytest.raises(SettingsError, match="output_name"):
        train_panel.start(typed(shown, pictures, output_name=""), w, shown.context)
    with pytest.raises(LoraLabError):
        train_panel.start(typed(shown, pictures, train_data_dir="there/is/none"), w, shown.context)
    assert shown.queue.runs() == ()


def test_a_run_that_fails_is_shown_with_its_sentence(shown: Tab, pictures: Path) -> None:
    started(shown, pictures).wait(60)
    changes, _ = poll(shown, Seen())
    card = changes[shown.panels.train.card]
    assert BUSY in card
    assert "failed" in card
    assert "mika" in changes[shown.panels.live.line]


def test_a_reloaded_page_is_told_of_the_run_again_and_a_window_that_knows_it_of_nothing(
    shown: Tab, pictures: Path
) -> None:
    started(shown, pictures).wait(60)
    first, seen = poll(shown, Seen())
    again, later = poll(shown, seen)
    assert set(again) == {shown.panels.live.seen, shown.panels.live.pulse}
    assert later.beat == seen.beat + 1
    reloaded, _ = poll(shown, Seen())
    assert reloaded[shown.panels.train.card] == first[shown.panels.train.card]
    assert set(first) == set(reloaded)


def test_two_windows_share_the_run_and_nothing_that_was_typed(shown: Tab, pictures: Path) -> None:
    started(shown, pictures).wait(60)
    _, mine = poll(shown, Seen())
    theirs, _ = poll(shown, Seen())
    assert shown.panels.train.card in theirs, "what one window has seen is still news to the other"
    assert not set(theirs) & shown.panels.train.fields.all
    assert mine != Seen()
    assert shown.panels.live.seen.value == Seen(), "the state that a new window starts from is untouched"


def test_the_settings_of_a_run_can_be_taken_over(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    assert train_panel.take_over({}, w, shown.context) == {}
    run = started(shown, pictures)
    run.wait(60)
    assert train_panel.read(train_panel.take_over({}, w, shown.context), w) == run.checked.settings


def test_stop_and_interrupt_without_a_run_do_nothing(shown: Tab) -> None:
    w = shown.panels.train
    assert train_panel.stop({}, w, shown.context)[w.stop]["interactive"] is False
    line = shown.panels.live
    assert Interrupt(line, shown.context)({})[line.interrupt]["interactive"] is False


def test_interrupt_stops_the_run(shown: Tab, pictures: Path) -> None:
    shown.queue._line.join("another run")  # it has the turn: this one waits
    run = started(shown, pictures)
    changes, seen = poll(shown, Seen())
    assert changes[shown.panels.live.interrupt]["interactive"] is True
    assert changes[shown.panels.train.start]["value"] == "Start after this run"
    Interrupt(shown.panels.live, shown.context)({})
    assert run.wait(30).state == "stopped"
    changes, _ = poll(shown, seen)
    assert "stopped before its first step" in changes[shown.panels.train.card]
    assert changes[shown.panels.train.stop]["interactive"] is False


def test_a_waiting_run_is_cancelled_alone(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    shown.queue._line.join("another run")
    for name in ("mika", "rin", "saber"):
        train_panel.start(typed(shown, pictures, output_name=name), w, shown.context)
    first, second, third = shown.queue.runs()
    changes, seen = poll(shown, Seen())
    card = changes[w.card]
    assert (card.count("lora-lab-cancel"), f'data-run="{second.id}"' in card) == (2, True), "the first is in front"
    train_panel.cancel({w.chosen: second.id}, w, shown.context)
    assert second.wait(30).state == "stopped"
    assert (first.status().state, third.status().state) == ("waiting", "waiting")
    changes, seen = poll(shown, seen)
    assert f'data-run="{third.id}"' in changes[w.card]
    assert second.id not in changes[w.card]
    shown.queue.stop_all()
    for run in (first, third):
        assert run.wait(30).state == "stopped"


def test_a_run_that_waits_no_more_is_not_cancelled(shown: Tab, pictures: Path) -> None:
    run = started(shown, pictures)
    run.wait(60)
    w = shown.panels.train
    with pytest.raises(HostBusyError, match="mika does not wait any more: use Stop and keep"):
        train_panel.cancel({w.chosen: run.id}, w, shown.context)
    with pytest.raises(HostBusyError, match="this run does not wait any more"):
        train_panel.cancel({w.chosen: "none"}, w, shown.context)


def test_the_line_says_when_nothing_is_loaded(shown: Tab) -> None:
    shown.context.host.info = None  # type: ignore[attr-defined]
    changes, _ = poll(shown, Seen())
    assert "none loaded" in changes[shown.panels.live.line]


def test_captions_are_shown_as_the_text_encoder_gets_them(shown: Tab, pictures: Path) -> None:
    folder = next(p for p in sorted(pictures.iterdir()) if p.is_dir())
    for path in sorted(folder.glob("*.txt")):
        path.write_text("mika, <b>, (hat:1.3)", encoding="utf-8")
    html = plan(shown, typed(shown, pictures, caption_prefix="p,", seed="1"))
    assert "as the text encoder gets them" in html
    assert "no seed" not in html
    assert "p, mika" in html
    assert "&lt;b&gt;" in html
    assert "<b>," not in html
    weighed = plan(shown, typed(shown, pictures, weighted_captions=True, shuffle_caption=False))  # type: ignore[arg-type]
    assert "[hat × 1.3]" in weighed
    assert "one draw of many" in weighed
