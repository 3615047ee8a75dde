"""Plain sentences about a run that is not well: each fires when it should, once, and not otherwise."""

from __future__ import annotations

import math
import random

from lora_lab.training.health import MOST_SKIPPED, SETTLED, STUCK_AFTER, Health


def told(health: Health, averages: list[float], d: float | None = None, seconds: float = 0.1) -> list[str]:
    sizes = {} if d is None else {"unet": d}
    return [t for average in averages for t in health.watch(average, sizes, seconds)]


def test_weights_that_run_away_are_told_once_for_each_part() -> None:
    health = Health("AdamW")
    told = [text for n in (1.0, 2.0, 3.0, 30.0, 200.0) for text in health.watch_norms({"BASE": n, "M00": n, "IN01": 1})]
    assert [text.split(" run away")[0].split("the ")[1] for text in told] == ["UNet", "text encoder"]
    assert "halve unet_lr" in told[0]
    steady = Health("AdamW")
    assert not [text for n in range(1, 60) for text in steady.watch_norms({"BASE": 0.0, "IN01": float(n)})]


def test_weights_that_grow_while_d_is_being_found_do_not_run_away() -> None:
    health = Health("Prodigy")
    grows = (1.0, 2.0, 8.0, 40.0, 41.0)
    for n, d in zip(grows, (1e-6, 1e-5, 1e-4, 1e-3, 1e-3), strict=True):
        list(health.watch(0.1, {"unet": d}, 0.1))
        assert list(health.watch_norms({"M00": n})) == []
    list(health.watch(0.1, {"unet": 1e-3}, 0.1))
    assert len(list(health.watch_norms({"M00": 200.0}))) == 1


def test_a_usual_run_is_not_talked_about() -> None:
    r = random.Random(1)
    averages = [0.1 - n * 1e-5 + r.uniform(-0.02, 0.02) for n in range(500)]
    assert told(Health("AdamW"), averages) == []


def test_short_epochs_are_noisy_and_not_an_explosion() -> None:
    """Losses as a small batch has them, each average over the five steps of an epoch."""
    r = random.Random(3)
    losses = [0.08 * math.exp(r.gauss(-0.3, 0.8)) for _ in range(600)]
    averages = [sum(losses[max(0, n - 4) : n + 1]) / min(5, n + 1) for n in range(600)]
    assert max(averages[20:]) > 3 * min(averages[20:]), "one average alone says nothing"
    assert told(Health("AdamW"), averages) == []


def test_a_loss_that_explodes_is_told_once() -> None:
    health = Health("AdamW")
    assert told(health, [0.1] * SETTLED) == []
    found = told(health, [0.2, 0.31, 0.4, 0.9, 2.0, 4.0, 8.0])
    assert len(found) == 1
    assert "4.6 times its best (0.461 against 0.100)" in found[0]
    assert "halve unet_lr" in found[0]


def test_the_first_losses_of_a_run_may_be_anything() -> None:
    assert told(Health("AdamW"), [5.0, 0.01, 0.2, 0.1, 0.12] + [0.1] * 30) == []


def test_an_adaptive_optimizer_that_finds_nothing_is_told() -> None:
    stuck = Health("Prodigy")
    found = told(stuck, [0.1] * (STUCK_AFTER + 5), d=1e-6)
    assert len(found) == 1
    assert "Prodigy has not found a learning rate in 50 steps" in found[0]
    assert told(Health("AdamW"), [0.1] * 100) == []


def test_a_d_that_grows_is_well() -> None:
    health = Health("Prodigy")
    assert [t for step in range(200) for t in health.watch(0.1, {"unet": 1e-6 * (1 + step)}, 0.1)] == []


def test_steps_that_take_ever_longer_are_told() -> None:
    health = Health("AdamW")
    assert told(health, [0.1] * 40, seconds=0.1) == []
    assert told(health, [0.1] * 2, seconds=2.0) == []  # a picture in between
    found = told(health, [0.1] * 10, seconds=0.5)
    assert len(found) == 1
    assert "5.0 times as long as before" in found[0]


def test_steps_without_a_number_are_forgiven_until_they_come_in_a_row() -> None:
    health = Health("AdamW")
    assert not health.skip(), "the first step of all"
    health.good()
    for _ in range(19):
        assert health.skip()
        health.good()
    assert [health.skip() for _ in range(MOST_SKIPPED)] == [True] * (MOST_SKIPPED - 1) + [False]
    assert health.skipped == 20 + MOST_SKIPPED
