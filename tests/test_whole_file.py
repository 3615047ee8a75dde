"""A text file is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_lab.errors import OutputError
from lora_lab.whole_file import write_whole


def test_it_is_written_and_replaced_with_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    for text in ("é\r\n", "\n" * 3):
        write_whole(path, text, "the file")
        assert path.read_bytes() == text.encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_what_was_there_stays_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = r"the file cannot be written \(No space left on device\).*: check the folder"
    with pytest.raises(OutputError, match=said):
        write_whole(path, "new", "the file")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OutputError):
        write_whole(path / "below a file", "new", "the file")
