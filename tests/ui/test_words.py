"""Numbers as people read them; text of others cannot break out of the page."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest

from lora_lab.ui import words

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (1500, "25 min"),
        (3600, "1 h"),
        (9000, "2 h 30 min"),
        (math.inf, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.0, "0"), (1.0, "1"), (0.05, "0.05"), (4.77e-4, "4.77e-4")],
)
def test_learning_rates(value: float, text: str) -> None:
    assert words.rate(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_to_the_same(value: float) -> None:
    assert float(words.number(value)) == value


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_text_of_others_stays_text(text: str) -> None:
    """A file's name in an element and in an attribute: the parser finds one element, with the text whole."""
    page = Tags()
    page.feed(words.tag("b", words.esc(text), title=text))
    page.close()
    assert [name for name, _ in page.seen] == ["b"]
    assert page.text == text
    assert dict(page.seen[0][1]).get("title", "") == text


def test_counts_and_memory() -> None:
    assert words.count(1, "picture") == "1 picture"
    assert words.count(1200, "picture") == "1,200 pictures"
    assert words.memory(512) == "512 MB"
    assert words.memory(5324.8) == "5.2 GB"
    assert words.speed(0.5) == "2.0 steps/s"
    assert words.speed(3.4) == "3.4 s/step"
