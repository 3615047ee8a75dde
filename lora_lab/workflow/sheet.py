"""Pictures side by side with labels, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL = 256
"""Side of a cell in pixels; smaller pictures are enlarged without smoothing."""
MARGIN = 10
LABEL = 44
ROW_LABEL = 76
PAPER, TEXT = (250, 250, 252), (32, 34, 44)


@dataclass(frozen=True)
class Row:
    """One line of the sheet."""

    label: str
    pictures: Sequence[Image.Image]


def sheet(rows: Sequence[Row], columns: Sequence[str]) -> Image.Image:
    """A grid: a label over each column (in up to two lines) and beside each row."""
    font = _font(14)
    side = max([ROW_LABEL, *(round(font.getlength(line)) + 2 * MARGIN for r in rows for line in r.label.split("\n"))])
    width = side + len(columns) * (CELL + MARGIN) + MARGIN
    page = Image.new("RGB", (width, LABEL + len(rows) * (CELL + MARGIN) + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    for i, text in enumerate(columns):
        draw.multiline_text((side + i * (CELL + MARGIN), 8), _two_lines(text, font), TEXT, font)
    for j, row in enumerate(rows):
        top = LABEL + j * (CELL + MARGIN)
        draw.multiline_text((MARGIN, top + CELL // 2 - 8), row.label, TEXT, font)
        for i, picture in enumerate(row.pictures):
            whole = CELL % picture.width == 0
            how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
            page.paste(picture.convert("RGB").resize((CELL, CELL), how), (side + i * (CELL + MARGIN), top))
    return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: since 10.1 at any size, before that only small."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def _two_lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Break after a comma where the text is wider than a cell; cut what a second line cannot hold."""
    lines = [""]
    for piece in text.split(", "):
        longer = f"{lines[-1]}, {piece}" if lines[-1] else piece
        if font.getlength(longer) <= CELL:
            lines[-1] = longer
        else:
            lines[-1] += "," if lines[-1] else ""
            lines.append(piece)
    return "\n".join(lines[:2])
