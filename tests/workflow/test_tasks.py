"""Long work in threads: progress, stop, failure, one of a kind at a time."""

from __future__ import annotations

import threading

import pytest

from lora_lab.errors import DatasetError, HostBusyError
from lora_lab.workflow.tasks import Task, Tasks

WAIT = 20


def test_work_that_ends_gives_its_result() -> None:
    def work(task: Task) -> int:
        for n in range(3):
            task.progress("counting", n + 1, 3)
        return 7

    task = Tasks().start("count", "Counting", work)
    status = task.wait(WAIT)
    assert (status.state, status.done, status.total, status.share, task.result) == ("done", 3, 3, 1.0, 7)
    assert status.error is None
    assert not status.active


def test_a_stop_is_met_at_the_next_progress() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(task: Task) -> None:
        begun.set()
        go_on.wait(WAIT)
        task.progress("waiting", 1, 2)
        pytest.fail("went on after the stop")

    tasks = Tasks()
    task = tasks.start("wait", "Waiting", work)
    begun.wait(WAIT)
    assert [status.id for status in tasks.active()] == [task.id]
    task.stop()
    assert task.status().stopping
    go_on.set()
    assert task.wait(WAIT).state == "stopped"
    assert not tasks.active()


def test_errors_are_told_in_one_line() -> None:
    def broken(task: Task) -> None:
        raise DatasetError("there is no such folder", file="a", remedy="check it")

    def defect(task: Task) -> None:
        raise KeyError("x")

    first = Tasks().start("a", "Looking", broken).wait(WAIT)
    assert (first.state, str(first.error)) == ("failed", "there is no such folder (a): check it.")
    second = Tasks().start("b", "Looking", defect).wait(WAIT)
    assert second.state == "failed"
    assert "KeyError" in str(second.error)


def test_one_of_a_kind_at_a_time() -> None:
    hold = threading.Event()
    tasks = Tasks()
    first = tasks.start("tagging", "Tagging", lambda task: hold.wait(WAIT))
    with pytest.raises(HostBusyError, match="under way"):
        tasks.start("tagging", "Tagging", lambda task: None)
    other = tasks.start("checks", "Checking", lambda task: None)
    other.wait(WAIT)
    hold.set()
    first.wait(WAIT)
    again = tasks.start("tagging", "Tagging", lambda task: 1)
    assert again.wait(WAIT).state == "done"
    assert tasks.latest("tagging") is again
    assert tasks.find(first.id) is None
