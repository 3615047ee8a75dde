"""The drawn examples: one for each category, each another picture, each with its words."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html import unescape

from lora_lab.guide.difficulty import LETTERS, TABLE
from lora_lab.ui import difficulty_view


def test_every_category_has_a_drawing_of_its_own() -> None:
    drawings = [difficulty_view.drawing(letter) for letter in LETTERS]
    assert tuple(difficulty_view.DRAWN) == tuple(LETTERS)
    assert len(set(drawings)) == len(LETTERS)
    assert all(len(ET.fromstring(svg)) > 5 for svg in drawings)  # noqa: S314 - our own


def test_the_gallery_says_what_belongs_to_each() -> None:
    html = unescape(difficulty_view.gallery("B"))
    assert all(row.text in html and f'title="rank {row.rank_words}"' in html for row in TABLE)
    assert [row.rank_words for row in TABLE][3:5] == ["32 to 64", "64"]
