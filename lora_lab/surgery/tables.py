"""Tables as .csv files: the sites of an adapter, and the adapters of a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_lab.errors import OutputError
from lora_lab.surgery.adapters import AdapterReader
from lora_lab.surgery.library import LibraryEntry
from lora_lab.surgery.outcome import Progress, silent
from lora_lab.surgery.places import block_of

COLUMNS = ("name", "kind", "family", "sites", "ranks", "title", "trigger", "base", "tool", "problem")
"""Of a folder's table."""


@dataclass(frozen=True)
class CsvTable:
    """Names of columns, and rows."""

    columns: tuple[str, ...]
    rows: tuple[Sequence[object], ...]


def of_sites(path: Path, progress: Progress = silent) -> CsvTable:
    """Kind, rank, alpha and the norm of the change of each site of an adapter, empty where there is none.

    Raises:
        AdapterFileError: it cannot be understood.
    """
    rows: list[Sequence[object]] = []
    with AdapterReader(path) as reader:
        for number, entry in enumerate(reader):
            progress(number, len(reader.sites), entry.name)
            alpha = float(reader.file.read(entry.keys["alpha"]).float().reshape(-1)[0]) if "alpha" in entry.keys else ""
            norm = reader.norm(entry)
            block = block_of(entry.name, reader.family)
            rows.append((entry.name, block, entry.kind.value, entry.rank or "", alpha, "" if norm is None else norm))
    return CsvTable(("site", "block", "kind", "rank", "alpha", "norm"), tuple(rows))


def of_folder(entries: Iterable[LibraryEntry]) -> CsvTable:
    """Files as :func:`lora_lab.surgery.library.read_library` found them, or a choice of them."""
    rows: list[Sequence[object]] = []
    for entry in entries:
        row = entry.to_json() | {"ranks": "-".join(map(str, sorted({*entry.ranks})))}
        rows.append([row[name] for name in COLUMNS])
    return CsvTable(COLUMNS, tuple(rows))


def write(path: Path, table: CsvTable, *, force: bool = False) -> None:
    """Write a table, its columns' names in the first line.

    Raises:
        OutputError: it is there already, or cannot be written.
    """
    if path.exists() and not force:
        raise OutputError("the output exists already", file=path, remedy="choose another name, or --force")
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(table.columns)
            out.writerows(table.rows)
    except OSError as wrong:
        raise OutputError(f"the table cannot be written ({wrong.strerror})", file=path) from wrong
