"""Pictures side by side with labels, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from lora_lab.errors import SettingsError

CELL = 256
"""Side of a cell in pixels; smaller pictures are enlarged without smoothing."""
MOST_SIDE = 16_000
"""Pixels of a sheet that programs still open."""
MARGIN = 10
LABEL = 44
ROW_LABEL = 76
PAPER, TEXT = (250, 250, 252), (32, 34, 44)


@dataclass(frozen=True)
class Row:
    """One line of the sheet."""

    label: str
    pictures: Sequence[Image.Image]


def sheet(rows: Sequence[Row], columns: Sequence[str], cell: int = CELL) -> Image.Image:
    """A grid: a label over each column (in up to two lines) and beside each row.

    Args:
        cell: width of a cell in pixels; its height follows the first picture's shape.

    Raises:
        SettingsError: the sheet would have more than `MOST_SIDE` pixels a side.
    """
    if (cell + MARGIN) * max(len(rows), len(columns)) > MOST_SIDE:
        what = f"a sheet of {len(rows)} rows and {len(columns)} columns is too large for one picture"
        raise SettingsError(what, remedy="save the pictures as separate files, or as a page")
    font = _font(14)
    side = max([ROW_LABEL, *(round(font.getlength(line)) + 2 * MARGIN for r in rows for line in r.label.split("\n"))])
    shape = next((picture.size for row in rows for picture in row.pictures), (1, 1))
    high = round(cell * shape[1] / shape[0])
    width = side + len(columns) * (cell + MARGIN) + MARGIN
    page = Image.new("RGB", (width, LABEL + len(rows) * (high + MARGIN) + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    for i, text in enumerate(columns):
        draw.multiline_text((side + i * (cell + MARGIN), 8), _two_lines(text, font, cell), TEXT, font)
    for j, row in enumerate(rows):
        top = LABEL + j * (high + MARGIN)
        draw.multiline_text((MARGIN, top + high // 2 - 8), row.label, TEXT, font)
        for i, picture in enumerate(row.pictures):
            whole = cell % picture.width == 0
            how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
            page.paste(picture.convert("RGB").resize((cell, high), how), (side + i * (cell + MARGIN), top))
    return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: since 10.1 at any size, before that only small."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def _two_lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, cell: int) -> str:
    """Break after a comma where the text is wider than a cell; cut what a second line cannot hold."""
    lines = [""]
    for piece in text.split(", "):
        longer = f"{lines[-1]}, {piece}" if lines[-1] else piece
        if font.getlength(longer) <= cell:
            lines[-1] = longer
        else:
            lines[-1] += "," if lines[-1] else ""
            lines.append(piece)
    return "\n".join(lines[:2])
