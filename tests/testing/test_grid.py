"""Grids on tiny models: the order of pictures, what is kept, stopping, going on, and bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.testing.small import PROMPT, difference, host_of, plan_of, write_lora

torch = pytest.importorskip("torch")

from lora_lab.errors import LoraLabError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.testing import rows  # noqa: E402
from lora_lab.testing.events import CellMade, GridEstimated, GridEvent, GridStarted, GridStep  # noqa: E402
from lora_lab.testing.grid import run_grid  # noqa: E402
from tests.training.tiny import TinyHost, fingerprint  # noqa: E402

ROWS = rows.of_presets(["ALL", "NONE", "INALL", "OUTALL", "MID", "ALL0.5"], Family.SD1)


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return host_of(tmp_path)


@pytest.fixture
def lora(host: TinyHost, tmp_path: Path) -> Path:
    return write_lora(tmp_path / "mika.safetensors", host.model)


def test_the_base_picture_comes_first_and_alone(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    events: list[GridEvent] = []
    before = fingerprint(host.model)
    result = run_grid(host, plan_of(lora, ROWS, tmp_path, seeds=(7, 8)), events.append)
    assert fingerprint(host.model) == before
    told = [event for event in events if not isinstance(event, GridStep)]
    assert [type(event) for event in told[:4]] == [GridStarted, CellMade, CellMade, GridEstimated], "ALL is it too"
    first = told[1]
    assert isinstance(first, CellMade)
    assert (first.row, first.column, first.done) == (None, 0, 1)
    assert all(made is not None for made in result.made)
    assert len(result.made) == 2 * 7
    steps = [event for event in events if isinstance(event, GridStep)]
    assert [(event.done, event.total) for event in steps[:4]] == [(n, None) for n in (1, 2, 3, 4)]
    assert len(steps[0].cells) == 1
    assert steps[-1].total == 4
    assert f"{PROMPT} <lora:mika:1:lbw=1,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0>" in result.at(4, 0).infotext  # type: ignore[union-attr]


def test_a_second_grid_makes_only_what_is_new(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    plan = plan_of(lora, ROWS[:2], tmp_path)
    one = run_grid(host, plan)
    calls = host.model.forwards
    again = run_grid(host, plan)
    assert host.model.forwards == calls
    assert [difference(a.image, b.image) for a, b in zip(one.made, again.made, strict=True) if a and b] == [0, 0, 0]
    wider = run_grid(host, replace(plan, rows=tuple(ROWS[:3])))
    assert host.model.forwards == calls + 4
    assert wider.at(2, 0) is not None


def test_it_stops_at_once_and_goes_on(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    plan = plan_of(lora, ROWS, tmp_path, batch=2)
    calls = host.model.forwards
    before = fingerprint(host.model)
    result = run_grid(host, plan, stop=lambda: host.model.forwards >= calls + 10)
    assert fingerprint(host.model) == before
    assert host.model.forwards == calls + 10
    assert result.stopped
    done = sum(made is not None for made in result.made)
    assert 0 < done < len(result.made)
    rest = run_grid(host, plan)
    assert not rest.stopped
    assert all(made is not None for made in rest.made)
    assert [a.seconds for a, b in zip(rest.made, result.made, strict=True) if a and b] == [0.0] * done


def test_a_quick_look_shares_the_first_steps_and_is_near(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    exact = run_grid(host, plan_of(lora, ROWS, tmp_path, seeds=(7, 8)))
    rows_computed: list[int] = []
    first: torch.nn.Module = host.model.unet.conv_in  # type: ignore[assignment]
    first.register_forward_hook(lambda module, args, output: rows_computed.append(len(output)))
    quick = run_grid(host, plan_of(lora, ROWS, tmp_path, seeds=(7, 8), quick=0.5, out=tmp_path / "quick"))
    # Two base pictures of four steps, and two steps of their own for NONE, ALL0.5, and the three of BASE 1, at two
    # seeds, the last one with the prompt's row alone; ALL is the base picture.
    assert sum(rows_computed) == 2 * (4 * 2) + 2 * 5 * (2 + 1)
    for column in (0, 1):
        assert difference(quick.at(None, column).image, exact.at(None, column).image) <= 2  # type: ignore[union-attr]
        assert difference(quick.at(0, column).image, exact.at(0, column).image) <= 40  # type: ignore[union-attr]
    one, two = quick.at(2, 0), quick.at(3, 0)
    assert one is not None
    assert two is not None
    assert difference(one.image, two.image) > 2


def test_too_little_memory_halves_the_batch(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    def during() -> None:
        rows_now = host.model.rows_now  # type: ignore[attr-defined]
        if rows_now > 2 * most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    most = 2
    predict = host.model.predict

    def counted(latents: torch.Tensor, *rest: object) -> torch.Tensor:
        host.model.rows_now = len(latents)  # type: ignore[attr-defined]
        return predict(latents, *rest)  # type: ignore[arg-type]

    host.model.predict, host.model.during = counted, during  # type: ignore[method-assign, assignment]
    before = fingerprint(host.model)
    result = run_grid(host, plan_of(lora, ROWS, tmp_path))
    assert fingerprint(host.model) == before
    assert all(result.made)
    assert result.warnings == ("not enough memory for 3 pictures at a time: made in halves",)
    most = 0
    with pytest.raises(LoraLabError, match="not enough memory for one picture"):
        run_grid(host, plan_of(lora, ROWS, tmp_path, seeds=(9,)))
