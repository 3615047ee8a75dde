"""What is read out of the runs' folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_lab.workflow.run_list import held_out


def _run(runs: Path, name: str, events: list[dict[str, Any]]) -> None:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text("{}", encoding="utf-8")
    lines = [json.dumps(event) for event in events]
    (folder / "events.jsonl").write_text("\n".join([*lines, '{"event": "Valid']), encoding="utf-8")


def _saved(path: Path, step: int) -> dict[str, Any]:
    return {"event": "SnapshotSaved", "step": step, "path": str(path)}


def _measured(step: int, loss: float) -> dict[str, Any]:
    return {"event": "Validated", "step": step, "loss": loss}


def test_each_snapshot_has_the_loss_of_its_own_step_and_of_the_newest_run(tmp_path: Path) -> None:
    runs, files = tmp_path / "runs", [tmp_path / f"mika-{n}.safetensors" for n in range(4)]
    first = [_measured(0, 0.9), _saved(files[0], 2), _measured(2, 0.5), _saved(files[1], 4), _measured(4, 0.4)]
    _run(runs, "1", [*first, _saved(files[2], 6)])
    _run(runs, "2", [_saved(files[1], 4), _measured(4, 0.3)])
    assert held_out(runs, files).losses == {files[0]: 0.5, files[1]: 0.3}
    _run(runs, "3", [_saved(files[1], 5)])
    assert held_out(runs, files).losses == {files[0]: 0.5}
    assert held_out(tmp_path / "none", files).losses == {}


def test_losses_of_several_runs_are_not_compared(tmp_path: Path) -> None:
    runs, files = tmp_path / "runs", [tmp_path / f"mika-{n}.safetensors" for n in range(3)]
    for n in (0, 1):
        _run(runs, str(n), [_saved(files[n], 2), _measured(2, 0.5 - n / 10)])
    assert held_out(runs, files[:1]).comparable == {files[0]: 0.5}
    assert held_out(runs, [files[1], files[2]]).comparable == {files[1]: 0.4}
    assert held_out(runs, files).comparable == {}
    assert len(held_out(runs, files).losses) == 2
