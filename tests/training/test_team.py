"""Two processes that train together give what one gives with their common batch; they stop and fail together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
if not torch.distributed.is_available():
    pytest.skip("this torch cannot talk to other processes", allow_module_level=True)

from lora_lab.dataset.dataset import BatchPlan  # noqa: E402
from lora_lab.errors import SettingsError  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.training.team import ALONE, Team, join  # noqa: E402

from . import team_worker  # noqa: E402
from .tiny import write_pictures  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
LONG = 240


def start(rank: int, port: int, *words: str) -> subprocess.Popen[str]:
    """One of two processes."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **place}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and what two processes have made of them."""
    folder = tmp_path_factory.mktemp("team")
    captions = ("mika, red hair", "mika, hat", ", ".join(["mika"] * 60))
    write_pictures(folder / "train" / "1_mika", 4, captions=captions)
    write_pictures(folder / "uneven" / "1_mika", 5, captions=captions)
    write_pictures(folder / "uneven" / "1_rin", 1, size=128, captions=captions)
    port = free_port()
    both = [start(rank, port, "tests.training.team_worker", str(folder)) for rank in (0, 1)]
    for rank, process in enumerate(both):
        try:
            _, err = process.communicate(timeout=LONG)
        finally:
            process.kill()
        assert process.returncode == 0, f"process {rank}: {err[-3000:]}"
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"told{rank}.json").read_text()) for rank in (0, 1)]


def difference(folder: Path, case: str) -> float:
    """Of the two files' deltas, relative to the delta of one process."""
    one, two = (deltas(folder / "loras" / f"{case}{n}.safetensors") for n in (1, 2))
    assert one.keys() == two.keys()
    squares = [(float((one[k] - two[k]).square().sum()), float(one[k].square().sum())) for k in one]
    total = sum(b for _, b in squares)
    assert total > 0, "nothing was learnt"
    return float((sum(a for a, _ in squares) / total) ** 0.5)


def deltas(path: Path) -> dict[str, Any]:
    """Each site's up times down, in float64."""
    tensors = files.read(path).tensors
    sites = [name.removesuffix(".lora_down.weight") for name in tensors if name.endswith(".lora_down.weight")]
    return {s: tensors[f"{s}.lora_up.weight"].double().flatten(1) @ tensors[f"{s}.lora_down.weight"].double().flatten(1)
            for s in sites}  # fmt: skip


@pytest.mark.parametrize(("case", "most"), [("sgd", 1e-5), ("adamw", 2e-4), ("uneven", 1e-5)])
def test_two_processes_give_what_one_gives(folder: Path, told: list[Any], case: str, most: float) -> None:
    alone = team_worker.train(folder, team_worker.settings_of(folder, case, 1), ALONE)
    assert told[0][case][:2] == told[1][case][:2] == ["finished", 10] == [alone.reason, alone.step]
    assert told[0][case][2] == told[1][case][2] == pytest.approx(alone.loss_average, rel=1e-5)
    assert difference(folder, case) <= most


def test_the_file_tells_of_both(folder: Path, told: list[Any]) -> None:
    found = files.read(folder / "loras" / "uneven2.safetensors").metadata
    assert found["ss_batch_size_per_device"] == "2"
    assert found["ss_total_batch_size"] == "8"


def test_one_is_asked_to_stop_and_both_do(folder: Path, told: list[Any]) -> None:
    assert told[0]["stopped"] == told[1]["stopped"]
    assert told[0]["stopped"][0] == "stopped"
    assert 0 < told[0]["stopped"][1] < 100
    assert len(list((folder / "loras").glob("stopped-step*"))) == 1


def test_other_settings_are_refused_by_both(told: list[Any]) -> None:
    assert told[0]["refused"] == told[1]["refused"]
    assert "differ in their settings" in told[0]["refused"]


def test_one_fails_and_the_other_ends_and_keeps_what_is_learnt(folder: Path, told: list[Any]) -> None:
    assert told[1]["lost"] == "of process two"
    assert "process 2 of 2: ZeroDivisionError: of process two" in told[0]["lost"]
    assert len(list((folder / "loras").glob("lost-step*"))) == 1


def test_only_the_first_writes(folder: Path, told: list[Any]) -> None:
    names = sorted(path.name.split("-")[0].removesuffix(".safetensors") for path in (folder / "loras").iterdir())
    assert {"sgd2", "adamw2", "uneven2", "stopped", "lost"} <= set(names)
    assert len(names) == len(set(names))
    assert "refused" not in names


def test_the_command_line(tmp_path: Path) -> None:
    from lora_lab.demo import assets
    from lora_lab.workflow.demo import SETTINGS

    data = assets.write_dataset(tmp_path / "set")
    values = {
        **SETTINGS, "lora_lab": 1, "train_data_dir": str(data["character"]), "output_dir": str(tmp_path),
        "output_name": "both", "max_train_epochs": 1, "network_dim": 2, "train_batch_size": 9, "text_encoder_lr": 0,
        "validation_data_dir": str(data["character_validation"]),
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(values))
    port, words = free_port(), ("lora_lab", "train", str(tmp_path / "s.json"), "--out", str(tmp_path / "data"))
    both = [start(rank, port, *words) for rank in (0, 1)]
    told = [process.communicate(timeout=LONG) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert "finished after 1 steps" in told[0][0]
    assert told[1] == ("", ""), "the second is silent"
    assert (tmp_path / "both.safetensors").is_file()
    assert len(list((tmp_path / "data" / "runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("environment", "wrong"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2"}, "MASTER_PORT is missing"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "missing or wrong"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_PORT": "29500"}, "use torchrun"),
    ],
)
def test_a_launcher_that_says_nonsense(environment: dict[str, str], wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        join(environment)


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"RANK": "0"}])
def test_without_a_launcher_there_is_one(environment: dict[str, str]) -> None:
    assert join(environment) is ALONE


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("counts", [(4,), (1, 3), (5, 2, 7), (1,)])
def test_every_item_is_done_once_with_its_weight(size: int, counts: tuple[int, ...]) -> None:
    plans = [BatchPlan(1, tuple(range(100 * n, 100 * n + count))) for n, count in enumerate(counts)]
    found = [piece for rank in range(size) for piece in Team(rank, size).pieces(plans)]
    for number, plan in enumerate(plans):
        mine = [piece for piece in found if piece.place.number == number]
        assert sorted(i for piece in mine for i in piece.plan.indices) == list(plan.indices)
        assert sum(piece.place.share for piece in mine) == pytest.approx(1)
        for piece in mine:
            first = sum(counts[:number])
            assert piece.place.first == first + plan.indices.index(piece.plan.indices[0])
            assert sorted(piece.plan.indices + piece.others) == list(plan.indices)
