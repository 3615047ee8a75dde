"""Kills a bulk write at any moment, over and over, and looks at what is left. Run by test_captions_killed.py.

Each write runs in a process of its own that kills itself (SIGKILL) before its n-th call of a C function, so that the
moments are spread over the whole step: journal, new files, renames, mark. Others are killed from outside by the clock.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lora_lab.dataset.caption_writer import PART
from lora_lab.tagging.operations import from_texts
from lora_lab.tagging.recipe import Recipe
from lora_lab.workflow.captions import CaptionProject

COUNT = 12
OLD = {f"{n}.txt": None if n % 5 == 4 else f"1girl, tag {n}".encode() for n in range(COUNT)}
ADD = Recipe.of(from_texts("add", {"tags": "new"}))


def write(folder: Path) -> CaptionProject:
    (folder / "set").mkdir(parents=True)
    for name, data in OLD.items():
        (folder / "set" / name).with_suffix(".png").touch()
        if data is not None:
            (folder / "set" / name).write_bytes(data)
    return CaptionProject.open(folder / "set", folder / "data")


def read(folder: Path) -> dict[str, bytes | None]:
    return {n: p.read_bytes() if (p := folder / "set" / n).exists() else None for n in OLD}


def calls_of(work: Callable[[], object]) -> int:
    """How many C functions it calls."""
    count = 0

    def seen(_frame: object, event: str, _about: object) -> None:
        nonlocal count
        count += event == "c_call"

    sys.setprofile(seen)
    work()
    sys.setprofile(None)
    return count


def killed(work: Callable[[], object], *, at: int = -1, after: float = -1.0) -> bool:
    """Do the work in a process of its own that is killed. False if it came to its end before."""
    child = os.fork()
    if child == 0:
        count = 0

        def seen(_frame: object, event: str, _about: object) -> None:
            nonlocal count
            count += event == "c_call"
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

        if at >= 0:
            sys.setprofile(seen)
        try:
            work()
        finally:
            os._exit(0)
    if after >= 0:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def look(folder: Path, new: dict[str, bytes | None]) -> str:
    """Each caption is old or new after a kill, all are one of both once the folder is opened, and undo works."""
    raw = read(folder)
    torn = [name for name in raw if raw[name] not in (OLD[name], new[name])]
    if torn:
        return f"torn: {torn}"
    project = CaptionProject.open(folder / "set", folder / "data")
    now = read(folder)
    left = [p.name for p in (folder / "set").iterdir() if p.name.startswith(PART)]
    if left:
        return f"left over: {left}"
    if now not in (OLD, new):
        return "half old, half new"
    if bool(project.next_undo()) != (now == new):
        return "the history says something else"
    if now == new:
        project.undo()
    elif any(p.kind == "outside" for p in project.history()):
        return "our own files taken for another program's"
    project.apply(project.preview(ADD), "again")
    if read(folder) != new:
        return "the next write is not right"
    project.undo()
    return "" if read(folder) == OLD else "the next undo is not right"


def main(folder: Path, points: int) -> dict[str, object]:
    trial = write(folder / "trial")
    total = calls_of(lambda: trial.apply(trial.preview(ADD), "bulk"))
    new = read(folder / "trial")
    wrong, ends = [], 0
    r = random.Random(0)
    for number in range(points):
        place = folder / str(number)
        project = write(place)
        work = lambda project=project: project.apply(project.preview(ADD), "bulk")  # noqa: E731
        if number % 4 == 3:
            ends += not killed(work, after=r.random() * 0.02)
        else:
            ends += not killed(work, at=1 + total * number // points)
        if number % 3 == 0:  # killed again while what is left is mended
            killed(lambda place=place: CaptionProject.open(place / "set", place / "data"), at=r.randrange(50, 2000))
        found = look(place, new)
        if found:
            wrong.append(f"{number}: {found}")
    return {"calls": total, "killed": points - ends, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201
