"""A dataset's captions: previews, steps, undo and redo to the byte, other programs, odd files, restarts."""

from __future__ import annotations

import errno
import os
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_lab.dataset import caption_writer
from lora_lab.dataset.caption_writer import PART, WriteError
from lora_lab.dataset.history import ChangedError
from lora_lab.errors import DatasetError, LoraLabError, SettingsError
from lora_lab.tagging.operations import OPERATIONS, Operation, from_texts
from lora_lab.tagging.recipe import Recipe, Step
from lora_lab.workflow.captions import CaptionProject

CAPTIONS: dict[str, bytes | None] = {
    "10_mika/a.txt": b"1girl, red boots, boots, sky",
    "10_mika/b.txt": b"Mika, 1girl,  long_hair\r\nsecond line\r\n",
    "10_mika/c.txt": None,
    "2_rin/d e#\xe9.txt": "b\xe9ret, sky".encode("latin-1"),
    "2_rin/f.txt": "\ufeff1girl, sky".encode(),
    "2_rin/g.txt": b"",
}


def write(root: Path, captions: dict[str, bytes | None] = CAPTIONS) -> Path:
    for number, (file, data) in enumerate(captions.items()):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".png").touch()
        if data is not None:
            path.write_bytes(data)
            os.utime(path, ns=(10**18 + number, 10**18 + number))
    return root


def read(root: Path) -> dict[str, tuple[bytes, int]]:
    """Everything about the caption files: bytes and times."""
    return {
        str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.suffix != ".png"
    }


@pytest.fixture
def project(tmp_path: Path) -> CaptionProject:
    found = CaptionProject.open(write(tmp_path / "set"), tmp_path / "data")
    found.counter = lambda text: len(text.split())
    found.scores = lambda file: {"sky": 0.5, "1girl": 0.9}
    return found


def run(project: CaptionProject, name: str, where: str = "", **values: object) -> None:
    changes = project.preview(Recipe.of(from_texts(name, values), where=where))
    project.apply(changes, name)


def tags(project: CaptionProject, file: str) -> str:
    return ", ".join(project.captions[file].tags)


def test_opening_and_looking_write_nothing(project: CaptionProject, tmp_path: Path) -> None:
    before = read(project.root)
    assert [*project.captions] == sorted(CAPTIONS)
    assert project.preview(Recipe.of(from_texts("trigger-first", {"trigger": "mika"})))
    assert project.refresh() == []
    assert project.history() == []
    assert read(project.root) == before
    assert not (tmp_path / "data").exists()


def test_a_preview_tells_exactly_what_changes(project: CaptionProject) -> None:
    steps = (
        Step(from_texts("consolidate", {"group": "boots, red boots", "into": "red boots"})),
        Step(from_texts("trigger-first", {"trigger": "mika"}), "folder:10_mika"),
        Step(from_texts("add", {"tags": "winter"}), "red boots AND mika"),
    )
    changes = project.preview(Recipe(steps))
    assert [c.to_json() for c in changes] == [
        {
            "file": "10_mika/a.txt",
            "before": "1girl, red boots, boots, sky",
            "after": "mika, 1girl, red boots, sky, winter",
        },
        {"file": "10_mika/b.txt", "before": "Mika, 1girl, long_hair", "after": "mika, 1girl, long_hair"},
        {"file": "10_mika/c.txt", "before": "", "after": "mika"},
    ]
    assert (changes[0].added, changes[0].removed) == (("mika", "winter"), ("boots",))
    assert [c.file for c in project.preview(Recipe(steps), where="NOT untagged", files=["10_mika/c.txt"])] == []
    before = read(project.root)
    project.apply(changes, "cleaning")
    after = read(project.root)
    assert {file for file in after if before.get(file) != after[file]} == {c.file for c in changes}
    assert after["10_mika/b.txt"][0] == b"mika, 1girl, long_hair\r\nsecond line\r\n"
    assert {c.file for c in project.captions.values() if c.edited} == {c.file for c in changes}
    assert project.find("edited") == sorted(c.file for c in changes)


EXAMPLES = [kind(**kind.example) for kind in OPERATIONS.values()] + [
    from_texts("spelling", {"to": "underscores"}), from_texts("order", {"by": "score"}),
    from_texts("remove", {"tags": "*"}), from_texts("on-off", {"tag": "sky", "when": "boots"}),
]  # fmt: skip


@pytest.mark.parametrize("operation", EXAMPLES, ids=lambda o: o.told())
def test_an_operation_and_undo_give_the_same_bytes_and_times(project: CaptionProject, operation: Operation) -> None:
    before = read(project.root)
    changes = project.preview(Recipe.of(operation))
    if not changes:
        changes = project.preview_tags({"10_mika/a.txt": ["other"]})
    project.apply(changes, operation.told())
    after = read(project.root)
    assert after != before
    project.undo()
    assert read(project.root) == before
    project.redo()
    assert {f: data for f, (data, _) in read(project.root).items()} == {f: data for f, (data, _) in after.items()}


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["do", "undo", "redo", "restart"]), max_size=9), st.data())
def test_any_row_of_steps_and_restarts(
    tmp_path_factory: pytest.TempPathFactory, row: list[str], data: st.DataObject
) -> None:
    """Beside a model: lists of states, one to go back, one to go forth."""
    folder = tmp_path_factory.mktemp("steps")
    project = CaptionProject.open(write(folder / "set"), folder / "data")
    past, future = [], []
    state = bytes_of(project)
    for what in row:
        if what == "restart":
            project = CaptionProject.open(folder / "set", folder / "data")
        elif what == "do":
            file = data.draw(st.sampled_from(sorted(CAPTIONS)))
            changes = project.preview_tags({file: data.draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2))})
            if changes:
                project.apply(changes, "edit")
                past, future = [*past, state], []
        elif what == "undo" and past:
            project.undo()
            future.append(state)
            assert bytes_of(project) == past.pop()
        elif what == "redo" and future:
            project.redo()
            past.append(state)
            assert bytes_of(project) == future.pop()
        elif what != "restart":
            with pytest.raises(DatasetError, match="nothing to"):
                project.undo() if what == "undo" else project.redo()
        state = bytes_of(project)
        assert (bool(project.next_undo()), bool(project.next_redo())) == (bool(past), bool(future))


def bytes_of(project: CaptionProject) -> dict[str, bytes]:
    return {file: data for file, (data, _) in read(project.root).items()}


def test_the_history_survives_a_restart_and_any_point_can_be_restored(project: CaptionProject, tmp_path: Path) -> None:
    states = [bytes_of(project)]
    for name in ("mika", "rin", "zoe"):
        run(project, "trigger-first", trigger=name)
        states.append(bytes_of(project))
    project.undo()
    again = CaptionProject.open(tmp_path / "set", tmp_path / "data")
    points = again.history()
    assert [(p.kind, p.label, p.state) for p in points] == [
        ("undo", "trigger-first", "noted"), ("edit", "trigger-first", "undone"), ("edit", "trigger-first", "done"),
        ("edit", "trigger-first", "done"), ("found", "as found", "noted"),
    ]  # fmt: skip
    for point, state in (
        (points[1].id, states[3]),
        (points[3].id, states[1]),
        (0, states[0]),
        (points[0].id, states[2]),
    ):
        again.apply(again.preview_restore(point), "restore", restores=point)
        assert bytes_of(again) == state
    again.undo()
    assert bytes_of(again) == states[0]
    with pytest.raises(DatasetError, match="no point 99"):
        again.preview_restore(99)


def test_all_captions_are_copied_before_the_first_write(project: CaptionProject, tmp_path: Path) -> None:
    before = bytes_of(project)
    run(project, "add", tags="new")
    run(project, "add", tags="newer")
    (archive,) = (tmp_path / "data").rglob("captions-*.zip")
    with zipfile.ZipFile(archive) as found:
        assert {name: found.read(name) for name in found.namelist()} == before


def test_what_another_program_writes_is_noticed_and_never_overwritten(project: CaptionProject) -> None:
    run(project, "add", tags="new")
    path = project.root / "10_mika/a.txt"
    changes = project.preview(Recipe.of(from_texts("add", {"tags": "later"})))
    path.write_bytes(b"theirs")
    before = bytes_of(project)
    with pytest.raises(ChangedError, match="look at the preview again"):
        project.apply(changes, "add")
    assert bytes_of(project) == before
    assert tags(project, "10_mika/a.txt") == "theirs"
    assert project.history()[0].kind == "outside"
    done = project.undo()
    assert done.kept == ("10_mika/a.txt",)
    assert path.read_bytes() == b"theirs"
    assert (project.root / "10_mika/b.txt").read_bytes() == CAPTIONS["10_mika/b.txt"]
    # A person may restore what was before: it is in the history, and can be undone itself.
    changes = project.preview_restore(0)
    assert [c.file for c in changes] == ["10_mika/a.txt"]
    project.apply(changes, "restore", restores=0)
    assert path.read_bytes() == CAPTIONS["10_mika/a.txt"]
    project.undo()
    assert path.read_bytes() == b"theirs"


def test_all_captions_of_a_step_changed_by_others_are_told(project: CaptionProject) -> None:
    project.apply(project.preview_tags({"10_mika/a.txt": ["x"]}), "edit")
    (project.root / "10_mika/a.txt").write_bytes(b"theirs")
    with pytest.raises(ChangedError):
        project.undo()
    assert (project.root / "10_mika/a.txt").read_bytes() == b"theirs"


def test_changes_between_sessions_are_noticed(project: CaptionProject, tmp_path: Path) -> None:
    run(project, "add", tags="new")
    (project.root / "10_mika/a.txt").write_bytes(b"theirs")
    (project.root / "2_rin/f.txt").unlink()
    again = CaptionProject.open(tmp_path / "set", tmp_path / "data")
    assert (again.history()[0].kind, again.history()[0].files) == ("outside", 2)
    assert again.refresh() == []


def test_a_picture_that_is_gone_takes_its_caption_out_and_back(project: CaptionProject) -> None:
    run(project, "add", tags="new")
    for name in ("a.png", "a.txt"):
        (project.root / "10_mika" / name).rename(project.root / name)
    assert project.refresh("put aside") == ["a.txt", "10_mika/a.txt"]
    assert (project.history()[0].label, project.history()[0].files) == ("put aside", 2)
    assert all(c.file != "10_mika/a.txt" for c in project.preview_restore(0))


def test_letters_are_converted_when_written_and_when_asked(project: CaptionProject) -> None:
    rules = {p.rule: Path(p.file).name for p in project.problems}
    assert rules == {"caption-encoding": "d e#\xe9.txt", "caption-bom": "f.txt"}
    changes = project.preview(Recipe.of(from_texts("remove", {"tags": "sky"}), where="folder:2_rin"))
    assert [c.converts for c in changes] == ["Latin-1", "UTF-8 with BOM"]
    changes = project.preview_conversion()
    assert [c.before == c.after for c in changes] == [True, True]
    project.apply(changes, "to UTF-8")
    assert (project.root / "2_rin/d e#\xe9.txt").read_bytes() == "b\xe9ret, sky".encode()
    assert (project.root / "2_rin/f.txt").read_bytes() == b"1girl, sky"
    assert project.problems == []
    project.undo()
    assert bytes_of(project) == {f: d for f, d in CAPTIONS.items() if d is not None}


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "make room"), (errno.EROFS, "can be written to"), (errno.EACCES, "rights")]
)
def test_a_disk_that_is_full_or_may_not_be_written_in_a_bulk_write(
    project: CaptionProject, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    reason = number
    run(project, "add", tags="first")
    before, history = read(project.root), project.history()
    real = caption_writer._prepared

    def full(step: caption_writer.Write, number: int) -> str | None:
        if number == 3:
            raise OSError(reason, os.strerror(reason))
        return real(step, number)

    monkeypatch.setattr(caption_writer, "_prepared", full)
    with pytest.raises(WriteError, match=says):
        run(project, "trigger-first", trigger="mika")
    assert read(project.root) == before
    assert project.history() == history, "the history says what holds"
    monkeypatch.undo()
    run(project, "trigger-first", trigger="mika")
    project.undo()
    assert bytes_of(project) == {f: data for f, (data, _) in before.items()}


def test_a_history_that_cannot_be_written_leaves_the_captions(project: CaptionProject, tmp_path: Path) -> None:
    before = read(project.root)
    (tmp_path / "data").write_text("a file, where a folder should be")
    with pytest.raises(LoraLabError, match="history"):
        run(project, "add", tags="new")
    assert read(project.root) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, {"x.txt": b"theirs"})
    root = write(tmp_path / "set")
    (root / "10_mika/l.png").touch()
    (root / "10_mika/l.txt").symlink_to(outside / "x.txt")
    (root / "3_linked").symlink_to(outside)
    project = CaptionProject.open(root, tmp_path / "data", recursive=True)
    assert "link" in project.captions["10_mika/l.txt"].locked
    assert "3_linked/x.txt" not in project.captions
    run(project, "trigger-first", trigger="mika")
    assert (outside / "x.txt").read_bytes() == b"theirs"
    # A folder that becomes a link after it was read.
    changes = project.preview(Recipe.of(from_texts("add", {"tags": "x"}), where="folder:2_rin"))
    (root / "2_rin").rename(outside / "2_rin")
    (root / "2_rin").symlink_to(outside / "2_rin")
    before = bytes_of(project)
    with pytest.raises(LoraLabError, match="nothing was written"):
        project.apply(changes, "x")
    assert bytes_of(project) == before


def test_two_pictures_with_one_stem_share_a_caption(project: CaptionProject) -> None:
    (project.root / "10_mika/a.jpg").touch()
    assert project.refresh() == []
    caption = project.captions["10_mika/a.txt"]
    assert [p.name for p in caption.pictures] == ["a.jpg", "a.png"]
    assert project.caption_of(project.root / "10_mika/a.jpg") is caption
    assert [p.rule for p in project.problems].count("shared-caption") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_odd_names(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    odd = ["a b#%.png", "名前 é.png", "n" * 250 + ".png", "n" * 251 + ".jpg", "q?.b.png", os.fsdecode(b"\xff.png")]
    for name in odd:
        (root / name).touch()
    project = CaptionProject.open(root, tmp_path / "data", ".caption")
    assert len(project.captions) == len(odd)
    assert [len(p.rule) > 0 for p in project.problems] == [True, True], "the long ones leave no room for .caption"
    changes = project.preview(Recipe.of(from_texts("trigger-first", {"trigger": "mika"})))
    assert len(changes) == len(odd) - 2
    project.apply(changes, "trigger")
    assert (root / "q?.b.caption").read_bytes() == b"mika"
    again = CaptionProject.open(root, tmp_path / "data", ".caption")
    again.undo()
    assert bytes_of(again).keys() & {"q?.b.caption"} == set()


def test_100_000_tags_in_a_caption(project: CaptionProject) -> None:
    (project.root / "10_mika/a.txt").write_bytes(b", ".join(b"tag %d" % n for n in range(100_000)))
    project.refresh()
    run(project, "limit", tokens=75)
    assert len(project.captions["10_mika/a.txt"].tags) == 37
    (project.root / "10_mika/a.txt").write_bytes(b"x" * 9_000_000)
    project.refresh()
    assert "no caption" in project.captions["10_mika/a.txt"].locked


def test_what_cannot_be_opened_or_done_is_told(tmp_path: Path, project: CaptionProject) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        CaptionProject.open(tmp_path / "none", tmp_path / "data")
    with pytest.raises(SettingsError, match="dot"):
        CaptionProject.open(tmp_path / "set", tmp_path / "data", "txt")
    with pytest.raises(SettingsError, match="nothing to change"):
        project.apply([], "x")
    project.scores = None
    with pytest.raises(SettingsError, match="no tagger"):
        project.preview(Recipe.of(from_texts("order", {"by": "score"})))


def test_a_damaged_history_is_told_and_left_alone(project: CaptionProject, tmp_path: Path) -> None:
    run(project, "add", tags="new")
    before = read(project.root)
    (path,) = (tmp_path / "data").rglob("captions.sqlite")
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(LoraLabError, match="move a damaged file away"):
        CaptionProject.open(project.root, tmp_path / "data")
    assert read(project.root) == before
    path.unlink()
    assert CaptionProject.open(project.root, tmp_path / "data").history() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_file_is_left_alone(project: CaptionProject) -> None:
    os.mkfifo(project.root / "10_mika/c.txt")
    (project.root / "2_rin/g.txt").unlink()
    (project.root / "2_rin/g.txt").mkdir()
    project.refresh()
    assert {f for f, c in project.captions.items() if c.locked} == {"10_mika/c.txt", "2_rin/g.txt"}
    run(project, "trigger-first", trigger="mika")
    assert (project.root / "2_rin/g.txt").is_dir()


def test_a_folder_that_vanishes_is_told_and_not_forgotten(project: CaptionProject, tmp_path: Path) -> None:
    run(project, "add", tags="new")
    changes = project.preview(Recipe.of(from_texts("add", {"tags": "later"})))
    project.root.rename(tmp_path / "away")
    for act in (lambda: project.apply(changes, "x"), project.undo, project.refresh):
        with pytest.raises(LoraLabError, match="folder"):
            act()
    (tmp_path / "away").rename(project.root)
    assert project.refresh() == []
    assert [p.kind for p in project.history()] == ["edit", "found"]
    project.undo()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights(project: CaptionProject) -> None:
    before = read(project.root)
    os.chmod(project.root / "2_rin", 0o555)
    try:
        with pytest.raises(WriteError, match="rights"):
            run(project, "add", tags="new")
    finally:
        os.chmod(project.root / "2_rin", 0o755)
    assert read(project.root) == before


def test_the_tag_table(project: CaptionProject) -> None:
    rows = project.table()
    assert [(r.tag, r.count) for r in rows[:2]] == [("1girl", 3), ("sky", 3)]
    assert rows[0].share == pytest.approx(3 / 6)
    assert rows[0].mean == pytest.approx(0.9)
    assert next(r for r in rows if r.key == "long hair").mean is None
    assert [r.tag for r in project.table(["10_mika/b.txt"])] == ["1girl", "long_hair", "Mika"]
    assert project.together("Sky") == [("1girl", 2), ("red boots", 1), ("boots", 1), ("béret", 1)] or dict(
        project.together("Sky")
    ) == {"1girl": 2, "red boots": 1, "boots": 1, "béret": 1}


def test_kohyas_json_there_and_back(project: CaptionProject, tmp_path: Path) -> None:
    before = {f: c.tags for f, c in project.captions.items()}
    path = tmp_path / "meta_cap.json"
    assert project.write_json(path, full_path=True) == 4
    project.apply(project.preview_tags(dict.fromkeys(CAPTIONS, ["x"])), "all x")
    changes, unknown = project.preview_json(path)
    assert unknown == []
    project.apply(changes, "from json")
    assert {f: t for f, t in before.items() if t} == {f: c.tags for f, c in project.captions.items() if before[f]}
    assert not list(tmp_path.rglob(f"{PART}*"))
