"""The waiting line: first come, first served, and whoever gives up holds nobody up."""

from __future__ import annotations

import threading

from lora_lab.training.line import WaitingLine

LONG = 30.0


def test_first_come_first_served() -> None:
    line, served = WaitingLine(), []

    def wait(who: int) -> None:
        assert line.wait(who)
        served.append(who)
        line.leave(who)

    line.join("holder")
    for who in range(20):
        line.join(who)
    threads = [threading.Thread(target=wait, args=(who,)) for who in reversed(range(20))]
    for thread in threads:
        thread.start()
    line.leave("holder")
    for thread in threads:
        thread.join(LONG)
    assert served == list(range(20))


def test_the_line_is_reordered_behind_the_one_with_the_turn() -> None:
    line = WaitingLine()
    for who in "abcd":
        line.join(who)
    assert line.move("d", -1)
    assert line.order() == tuple("abdc")
    assert line.move("c", -9)
    assert line.order() == tuple("acbd"), "never before the one that has its turn"
    assert line.move("c", 9)
    assert line.order() == tuple("abdc")
    assert not line.move("a", 1), "it has its turn"
    assert not line.move("z", 1)


def test_who_gives_up_is_told_at_once_and_the_others_go_on() -> None:
    line = WaitingLine()
    for who in "abc":
        line.join(who)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(line.wait("b")))
    thread.start()
    assert line.give_up("b")
    thread.join(LONG)
    assert answers == [False]
    assert not line.give_up("b"), "it has left"
    assert not line.give_up("a"), "it has its turn"
    line.leave("a")
    assert line.wait("c")
