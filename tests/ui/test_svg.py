"""Charts are pure, valid XML, and draw inside of their frame whatever the numbers."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from lora_lab.ui.svg import HEIGHT, WIDTH, Curve, bucket_chart, loss_chart, ticks

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)
POINTS = st.lists(st.tuples(st.integers(1, 10_000), ANY), max_size=60)


def places(chart: str) -> list[tuple[float, float]]:
    """Every point of every line and dot."""
    root = ElementTree.fromstring(chart)
    lines = [p.split(",") for line in root.iter(SVG + "polyline") for p in line.attrib["points"].split()]
    dots = [(c.attrib["cx"], c.attrib["cy"]) for c in root.iter(SVG + "circle")]
    return [(float(x), float(y)) for x, y in [*lines, *dots]]


@given(first=POINTS, second=POINTS, label=st.text(max_size=20), steps=st.integers(0, 10_000))
def test_any_losses_are_drawn_inside_of_the_frame(
    first: list[tuple[int, float]], second: list[tuple[int, float]], label: str, steps: int
) -> None:
    label = "".join(c for c in label if c.isprintable())  # XML itself forbids control characters
    chart = loss_chart([Curve("one", label, first), Curve("two dots", label, second)], steps)
    for x, y in places(chart):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_a_loss_that_is_no_number_is_left_out_and_the_others_stay_in_order() -> None:
    chart = loss_chart([Curve("c", "loss", [(1, 0.3), (2, math.nan), (3, 0.2), (4, 0.1)])], 4)
    found = places(chart)
    assert len(found) == 3
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert [y for _, y in found] == sorted(y for _, y in found), "a falling loss falls: y grows downwards"


def test_one_wild_loss_does_not_flatten_the_rest() -> None:
    calm = [(i, 0.1 + 0.001 * (i % 10)) for i in range(200)]
    spread = [y for _, y in places(loss_chart([Curve("c", "loss", [*calm, (201, 50.0)])], 201))]
    assert max(spread[:-1]) - min(spread[:-1]) > HEIGHT / 2


def test_no_step_yet_is_a_chart_too() -> None:
    assert "no step yet" in loss_chart([], 0)
    assert not places(loss_chart([Curve("c", "loss", [])], 100))


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
def test_ticks_are_evenly_spaced_and_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 9
    gaps = {round((b - a) / (found[1] - found[0]), 3) for a, b in zip(found, found[1:], strict=False)}
    assert gaps <= {1.0}


@given(st.dictionaries(st.tuples(st.integers(8, 4096), st.integers(8, 4096)), st.integers(1, 10_000), max_size=40))
def test_each_bucket_has_a_bar_as_long_as_its_count_says(buckets: dict[tuple[int, int], int]) -> None:
    root = ElementTree.fromstring(bucket_chart(buckets))
    bars = [float(r.attrib["width"]) for r in root.iter(SVG + "rect") if r.attrib["class"] == "lora-lab-fill"]
    assert len(bars) == len(buckets)
    longest = max(buckets.values(), default=1)
    for bar, count in zip(bars, buckets.values(), strict=True):
        assert bar == pytest.approx(max(2.0, max(bars) * count / longest), abs=0.06)
