"""The norms that a run tells against the file that it leaves."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.families import Family  # noqa: E402
from lora_lab.network.blocks import block_of_name  # noqa: E402
from lora_lab.training.events import Norms  # noqa: E402
from lora_lab.training.status import RunStatus, after  # noqa: E402
from lora_lab.ui import run_view  # noqa: E402

from .running import Training, fresh_host, tensors  # noqa: E402


def test_the_norm_of_each_block_is_that_of_the_files_products(tmp_path: Path) -> None:
    run = Training(fresh_host(tmp_path), save_precision="float")
    told = run.of(Norms)
    assert [event.step for event in told] == [2, 4]
    found = tensors(run.ended.lora)
    squares: defaultdict[str, float] = defaultdict(float)
    for key in found:
        if key.endswith(".lora_up.weight"):
            name = key.removesuffix(".lora_up.weight")
            down = found[f"{name}.lora_down.weight"].double().flatten(1)
            product = found[key].double().flatten(1) @ down * float(found[f"{name}.alpha"]) / len(down)
            squares[block_of_name(name, Family.SD1)] += float(product.square().sum())
    assert told[-1].blocks == pytest.approx({block: math.sqrt(s) for block, s in squares.items()}, rel=1e-5)
    status = RunStatus("one", "mika", tmp_path)
    for event in run.events:
        status = after(status, event)
    html = run_view.norms(status)
    assert "step 4" in html
    assert all(f">{block}<" in html for block in squares)


def test_nothing_is_drawn_where_nothing_has_moved(tmp_path: Path) -> None:
    status = RunStatus("one", "mika", tmp_path)
    assert run_view.norms(status) == run_view.norms(after(status, Norms(1, {"M00": 0.0}))) == ""
