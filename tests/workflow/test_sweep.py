"""A sweep on a tiny model: table, grid, what is done is not done again; its page; the list of runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
from PIL import Image  # noqa: E402

from lora_lab.errors import Interrupted, OutputError, SettingsError  # noqa: E402
from lora_lab.training.events import Event  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402
from lora_lab.workflow.run_list import list_runs  # noqa: E402
from lora_lab.workflow.sweep import Sweep, look_of, read, run_all  # noqa: E402
from lora_lab.workflow.sweep_page import write_all  # noqa: E402
from lora_lab.workflow.sweep_plan import combine, parse_axis  # noqa: E402
from tests.training.tiny import TinyHost, TinyModel, run_settings, write_pictures  # noqa: E402

MODEL = TinyModel()


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    MODEL.during = lambda: None
    write_pictures(tmp_path / "train" / "1_mika", 2)
    return TinyHost(tmp_path, MODEL)


def sweep_of(host: TinyHost, *over: str, **values: Any) -> Sweep:
    base = TrainSettings.from_mapping(run_settings(host.folder, max_train_epochs=1, **values))
    runs = combine(base, [parse_axis(text) for text in over])
    return Sweep(tuple(runs), host.folder / "sweep", look_of(base, host, "mika --d 3 --s 1"))


def test_table_grid_and_what_is_done_stays_done(host: TinyHost) -> None:
    (host.folder / "loras").mkdir()
    sweep = sweep_of(host, "network_dim=1,2", "min_snr_gamma=5,0.5")
    sweep.check(host)
    trained: list[int] = []

    def told(number: int, event: Event | None) -> None:
        if event is None:
            trained.append(number)

    # The third run fails: the others are done all the same.
    blocker = host.folder / "loras" / f"{sweep.runs[2].name}.safetensors"
    blocker.write_bytes(b"of the person")
    found = run_all(sweep, host, told)
    assert [o.state for o in found] == ["finished", "finished", "failed", "finished"]
    assert "a LoRA of that name is there already" in str(found[2].error)
    assert trained == [0, 1, 3]
    assert [o.changes["network_dim"] for o in found] == [1, 1, 2, 2]
    made = write_all(sweep, found)
    with Path(made["table"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network_dim"] for row in rows] == ["1", "1", "2", "2"]
    assert float(rows[0]["loss"]) > 0
    assert rows[2]["loss"] == ""
    with Image.open(made["grid"]) as grid:
        assert grid.height > 3 * 256, "a row for each run with pictures"
    page = Path(made["page"]).read_text(encoding="utf-8")
    assert page.count("<tr>") == 5
    assert 'class="best"' in page
    # Again: only the one that failed is run.
    blocker.unlink()
    trained.clear()
    again = run_all(sweep_of(host, "network_dim=1,2", "min_snr_gamma=5,0.5"), host, told)
    assert trained == [2]
    assert [o.state for o in again] == ["finished"] * 4
    assert again[0] == found[0]
    listed = list_runs(host.folder / "data" / "runs")
    assert [(run.state, run.step, run.steps) for run in listed] == [("finished", 1, 1)] * 4
    assert listed[0].lora == found[0].lora


def test_other_settings_are_other_runs(host: TinyHost) -> None:
    sweep = sweep_of(host, "network_dim=1")
    run_all(sweep, host, lambda number, event: None)
    other = sweep_of(host, "network_dim=1", seed=8)
    assert other.runs[0].mark not in other.known()
    with pytest.raises(OutputError, match="with network_dim 1, a LoRA of that name is there already"):
        other.check(host)


def test_a_combination_that_cannot_be_run_is_named_before_the_first(host: TinyHost) -> None:
    sweep = sweep_of(host, "unet_lr=1e-4,7")
    with pytest.raises(SettingsError, match="with unet_lr 7, unet_lr is 7, at which AdamW"):
        sweep.check(host)
    assert not (host.folder / "sweep").exists()


def test_a_stop_ends_the_sweep_and_keeps_what_is_done(host: TinyHost) -> None:
    sweep = sweep_of(host, "network_dim=1,2,3")
    trained: list[int] = []

    def told(number: int, event: Event | None) -> None:
        trained.append(number)

    # The second run may end before the stop reaches it; the third must not begin either way.
    with pytest.raises(Interrupted, match="start it again"):
        run_all(sweep, host, told, lambda: 1 in trained)
    assert [o.state for o in read(sweep.folder)][0] == "finished"
    assert 2 not in trained
    assert len(sweep.known()) < 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": [1]}', '{"runs": [{"name": "a"}]}'])
def test_damaged_results_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    assert read(tmp_path) == []


def test_damaged_runs_are_listed_as_far_as_they_go(tmp_path: Path) -> None:
    for name, settings, events in (
        ("a", '{"lora_lab": 1, "output_name": "mika"}', '{"event": "StepDone", "step": 3}\n{"eve'),
        ("b", "{", ""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(settings)
        (tmp_path / name / "events.jsonl").write_text(events)
    (tmp_path / "no run").mkdir()
    found = list_runs(tmp_path)
    assert [(run.id, run.name, run.state, run.step) for run in found] == [
        ("a", "mika", "broken off", 3), ("b", "", "broken off", 0),
    ]  # fmt: skip
    assert list_runs(tmp_path / "none") == []


def test_the_command_line_with_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from lora_lab.cli import main
    from lora_lab.demo import assets
    from lora_lab.workflow.demo import SETTINGS

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    data = assets.write_dataset(tmp_path / "set")
    values = {
        **SETTINGS, "lora_lab": 1, "train_data_dir": str(data["character"]), "output_name": "demo",
        "text_encoder_lr": 0, "max_train_epochs": None, "max_train_steps": 1, "train_batch_size": 2,
        "lr_warmup_steps": 0,
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(values))
    words = ["sweep", str(tmp_path / "s.json"), "--over", "network_dim=1,2", "--out", str(tmp_path / "data")]
    words += ["--prompt", "mika --s 2 --l 1 --ss euler", "--ray", "local", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [run["state"] for run in told["runs"]] == ["finished", "finished"]
    for run in told["runs"]:
        assert Path(run["lora"]).parent == tmp_path / "data" / "loras"
        assert Path(run["lora"]).stat().st_size > 1000
        assert 0 <= run["score"] <= 1
    with Image.open(told["grid"]) as grid:
        assert grid.height > 2 * 256
