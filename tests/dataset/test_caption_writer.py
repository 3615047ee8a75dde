"""Caption files: what is read and written of one, and many written at once or not at all."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.dataset import caption_writer
from lora_lab.dataset.caption_text import read_text
from lora_lab.dataset.caption_writer import PART, Write, WriteError, remove_parts, write_all


@pytest.mark.parametrize(
    ("data", "line", "encoding"),
    [
        (b"a, b", "a, b", "UTF-8"),
        (b"\r\n\n  a, b \r\nsecond\r\n", "a, b", "UTF-8"),
        ("\ufeffé".encode(), "é", "UTF-8 with BOM"),
        ("é, b".encode("latin-1"), "é, b", "Latin-1"),
        ("é, b".encode("utf-16"), "é, b", "UTF-16"),
        (b"\0", "", "UTF-8"),
        (b" \n\n", "", "UTF-8"),
    ],
)
def test_the_first_line_is_read_whatever_the_letters(data: bytes, line: str, encoding: str) -> None:
    found = read_text(data)
    assert (found.line, found.encoding) == (line, encoding)


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\ufeff"), max_size=40))
def test_the_same_line_leaves_what_follows_and_reads_as_before(text: str) -> None:
    found = read_text(text.encode())
    again = found.with_line(found.line)
    if again is None:
        assert not text.strip()
    else:
        assert read_text(again) == found
        assert text.endswith(found.rest), "only blanks around the first line may go"


@given(st.binary(max_size=60))
def test_any_bytes_are_read(data: bytes) -> None:
    assert "\n" not in read_text(data).line


def folder_of(tmp_path: Path, count: int) -> tuple[list[Write], dict[Path, bytes | None]]:
    """Some files that change, one that is new, one that goes."""
    writes = []
    for number in range(count):
        path = tmp_path / f"{number}.txt"
        before, after = f"old {number}".encode(), f"new {number}".encode()
        if number == 1:
            writes.append(Write(str(path), None, after))
            continue
        path.write_bytes(before)
        writes.append(Write(str(path), before, None if number == 2 else after))
    return writes, {Path(w.path): w.before for w in writes}


def now(writes: list[Write]) -> dict[Path, bytes | None]:
    return {Path(w.path): Path(w.path).read_bytes() if os.path.exists(w.path) else None for w in writes}


def test_all_are_written_with_rights_and_times(tmp_path: Path) -> None:
    writes, _ = folder_of(tmp_path, 5)
    os.chmod(writes[0].path, 0o640)
    write_all([*writes[:-1], Write(writes[-1].path, writes[-1].before, writes[-1].after, 10**18)])
    assert now(writes) == {Path(w.path): w.after for w in writes}
    assert os.stat(writes[-1].path).st_mtime_ns == 10**18
    if sys.platform != "win32":
        assert os.stat(writes[0].path).st_mode & 0o777 == 0o640
    assert not list(tmp_path.glob(f"{PART}*"))


@pytest.mark.parametrize("fails_at", range(6))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_while_preparing_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, code: int
) -> None:
    writes, before = folder_of(tmp_path, 6)
    real = caption_writer._prepared

    def full(write: Write, number: int) -> str | None:
        if number == fails_at:
            Path(caption_writer._part(write.path, number)).write_bytes(b"half")
            raise OSError(code, os.strerror(code))
        return real(write, number)

    monkeypatch.setattr(caption_writer, "_prepared", full)
    with pytest.raises(WriteError) as caught:
        write_all(writes)
    assert caught.value.undone
    assert caught.value.file == writes[fails_at].path
    assert now(writes) == before
    assert not list(tmp_path.glob(f"{PART}*"))


@pytest.mark.parametrize("fails_at", range(6))
def test_a_failing_rename_takes_all_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    writes, before = folder_of(tmp_path, 6)
    real = caption_writer._put

    def held(part: str | None, write: Write) -> None:
        if write is writes[fails_at]:
            raise PermissionError(errno.EACCES, "held by another program")
        real(part, write)

    monkeypatch.setattr(caption_writer, "_put", held)
    with pytest.raises(WriteError, match="held by another program") as caught:
        write_all(writes)
    assert caught.value.undone
    assert now(writes) == before
    assert not list(tmp_path.glob(f"{PART}*"))


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A file size limit of the process is met as a full disk is: the write comes back short, or fails."""
    resource = pytest.importorskip("resource")
    writes, before = folder_of(tmp_path, 3)
    writes.append(Write(str(tmp_path / "large.txt"), None, b"x" * 100_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(WriteError, match="room"):
            write_all(writes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert now(writes) == {**before, tmp_path / "large.txt": None}
    assert not list(tmp_path.glob(f"{PART}*"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"theirs")
    (tmp_path / "a.txt").symlink_to(outside)
    with pytest.raises(WriteError, match="link"):
        write_all([Write(str(tmp_path / "a.txt"), b"theirs", b"ours")])
    assert outside.read_bytes() == b"theirs"
    assert (tmp_path / "a.txt").is_symlink()


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="nothing was written"):
        write_all([Write(str(tmp_path / "gone" / "a.txt"), None, b"a")])


def test_parts_of_a_killed_program_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / f"{PART}1-2").touch()
    (tmp_path / "a.txt").touch()
    remove_parts([str(tmp_path), str(tmp_path / "none")])
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
