"""Who is meant by the webui's one interrupt flag."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lora_lab.host.webui_interrupt import InterruptWatch


@dataclass
class State:
    job: str = ""
    time_start: float | None = None
    interrupted: bool = False
    restarts: int = 0

    def begin(self, when: float) -> None:
        self.job, self.time_start, self.interrupted = "a picture", when, False

    def request_restart(self) -> None:
        self.interrupted = True
        self.restarts += 1


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def watch(state: State) -> InterruptWatch:
    found = InterruptWatch(state)  # type: ignore[arg-type] - it has what is used
    found.look()
    return found


def test_a_press_while_idle_is_told_once(state: State, watch: InterruptWatch) -> None:
    assert not watch.take()
    state.interrupted = True
    assert watch.take()
    assert not watch.take()
    assert not state.interrupted


def test_a_second_press_is_seen(state: State, watch: InterruptWatch) -> None:
    for _ in range(2):
        state.interrupted = True
        assert watch.take()


def test_a_press_before_we_watch_is_not_ours(state: State) -> None:
    state.interrupted = True
    assert not InterruptWatch(state).take()  # type: ignore[arg-type]


def test_a_pictures_interrupt_stays_its_own(state: State, watch: InterruptWatch) -> None:
    state.begin(1.0)
    state.interrupted = True
    assert not watch.take()
    assert state.interrupted
    state.job = ""  # the API leaves the flag set
    assert not watch.take()
    state.interrupted = True
    assert watch.take()


def test_a_press_that_the_next_picture_clears(state: State, watch: InterruptWatch) -> None:
    state.interrupted = True
    watch.look()  # at the end of a lease, before the queue is free
    state.begin(2.0)
    state.job = ""
    assert watch.take()


def test_reload_ui_is_no_interrupt(state: State, watch: InterruptWatch) -> None:
    state.request_restart()
    assert not watch.take()
    assert state.restarts == 1
    state.interrupted = True
    assert watch.take()


def test_watching_twice_wraps_once(state: State, watch: InterruptWatch) -> None:
    again = InterruptWatch(state)  # type: ignore[arg-type]
    again.look()
    state.request_restart()
    assert not again.take()
    assert state.restarts == 1
