"""The loss by timestep: binned, kept from epoch to epoch, drawn and read."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from lora_lab.guide import loss  # noqa: E402
from lora_lab.guide.facts import Course  # noqa: E402
from lora_lab.training.events import LossBins  # noqa: E402
from lora_lab.training.loss_bins import BinnedLoss  # noqa: E402
from lora_lab.training.record.event_log import from_json, to_json  # noqa: E402
from lora_lab.training.status import RunStatus, after  # noqa: E402
from lora_lab.ui import run_view  # noqa: E402
from lora_lab.workflow.advice import course_of  # noqa: E402


def test_means_of_each_hundred_timesteps() -> None:
    binned = BinnedLoss()
    assert binned.take(0) is None
    binned.add(torch.tensor([0, 99, 100, 999]), torch.tensor([0.1, 0.3, 0.5, 0.7]))
    binned.add(torch.tensor([50, 150]), torch.tensor([0.2, float("nan")]))
    found = binned.take(7)
    assert found is not None
    assert found.counts == {"0": 3, "100": 1, "900": 1}
    assert found.losses == pytest.approx({"0": 0.2, "100": 0.5, "900": 0.7})
    assert from_json(to_json(found)) == found
    assert binned.take(8) is None


def _status(epochs: int) -> RunStatus:
    status = RunStatus("one", "mika", Path("runs"))
    for epoch in range(1, epochs + 1):
        losses = {"0": 0.4 / epoch, "900": 0.02}
        status = after(status, LossBins(epoch, losses, {"0": epoch, "900": 1}))
    return status


def test_quarters_are_pooled_by_their_items() -> None:
    course = course_of(_status(8))
    assert course.early == pytest.approx({0: (0.4 + 0.2 * 2) / 3, 900: 0.02})
    assert course.late == pytest.approx({0: 0.8 / 15, 900: 0.02})
    assert not course_of(_status(1)).late


def test_it_is_drawn_and_read() -> None:
    html = run_view.by_noise(_status(8))
    assert "Loss by amount of noise" in html
    assert "last quarter 0.0200" in html
    assert run_view.by_noise(_status(1)) == ""
    averages = tuple((step, 0.1) for step in range(40))
    course = course_of(_status(8))
    told = [r.text for r in loss.read(Course(averages=averages, early=course.early, late=course.late))]
    assert any("from 0.2667 to 0.0533" in text and "from 0.0200 to 0.0200" in text for text in told)
    assert not any("apart by noise" in r.text for r in loss.read(Course(averages=averages, early={0: 1}, late={0: 1})))
