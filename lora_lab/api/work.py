"""What the routes do: the tab's own functions, with plain values in and out."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import HostBusyError, SettingsError
from lora_lab.training.events import RunEnded
from lora_lab.training.record.event_log import to_json
from lora_lab.training.record.wish import folder_named
from lora_lab.training.settings import TrainSettings
from lora_lab.ui.context import UiContext
from lora_lab.ui.dataset_panel import scan_folder
from lora_lab.workflow.run_list import list_runs
from lora_lab.workflow.tasks import Task, tasks

if TYPE_CHECKING:
    from lora_lab.api.bodies import Tagging, ToolUse
    from lora_lab.training.run import Run
    from lora_lab.ui.tools_forms import Tool

LOOK_SECONDS = 0.5
"""Between two looks for new events of a run that is followed."""
BEAT_SECONDS = 15.0
"""A line without meaning is sent so often, so that nobody between takes the connection for dead."""


@dataclass(frozen=True)
class Worker:
    """All routes' work, for one tab."""

    context: UiContext

    def scan(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Check a dataset: counts, problems, buckets, steps.

        Raises:
            LoraLabError: a setting or a folder is wrong, or not allowed.
        """
        return scan_folder(TrainSettings.from_mapping(settings), self.context).to_json()

    def train(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start a run, or queue it.

        Raises:
            LoraLabError: it cannot be run like this.
        """
        return self.status(self.context.queue().start(TrainSettings.from_mapping(settings), self.context.host).id)

    def runs(self) -> dict[str, Any]:
        """All runs of the data folder."""
        return {"runs": [dataclasses.asdict(one) for one in list_runs(self._folder)]}

    @property
    def _folder(self) -> Path:
        return self.context.host.paths().data_dir / "runs"

    def run(self, run_id: str) -> Run:
        """A run of this process.

        Raises:
            SettingsError: there is none of that id.
        """
        found = self.context.queue().find(run_id)
        if found is None:
            raise SettingsError(f"there is no run {run_id!r} in this program", remedy="see GET /lora-lab/v1/runs")
        return found

    def status(self, run_id: str) -> dict[str, Any]:
        """A run as it is now, without its chart.

        Raises:
            SettingsError: there is none of that id.
        """
        s = self.run(run_id).status()
        last = None if s.last is None else to_json(s.last)
        return {
            "id": s.id, "name": s.name, "state": "paused" if s.paused else s.state, "active": s.active,
            "step": s.step, "steps": s.steps, "share": s.share, "seconds_left": s.seconds_left, "last": last,
            "stopping": s.stopping, "warnings": list(s.warnings), "snapshots": [str(one.path) for one in s.snapshots],
            "ended": None if s.ended is None else to_json(s.ended),
        }  # fmt: skip

    def ask(self, run_id: str, wish: str) -> dict[str, Any]:
        """Pause a run, let it go on, or stop it; one that was broken off is resumed.

        Raises:
            LoraLabError: there is no such run, or it is not under way, or cannot go on.
        """
        queue = self.context.queue()
        run = queue.find(run_id)
        if wish == "resume" and (run is None or not run.status().active):
            return self.status(queue.resume(folder_named(self._folder, run_id).name, self.context.host).id)
        run = self.run(run_id)
        if not run.status().active:
            raise HostBusyError("this run is not under way", remedy="see GET /lora-lab/v1/runs")
        if wish == "stop":
            run.stop()
        else:
            run.pause(pause=wish == "pause")
        return self.status(run_id)

    def tag(self, asked: Tagging) -> dict[str, Any]:
        """Tag a folder in the background.

        Raises:
            LoraLabError: the folder or a tagger is not there, or one is at work.
        """
        from lora_lab.tagging.choose import Choice
        from lora_lab.tagging.write_modes import WRITE_MODES
        from lora_lab.workflow import tagging

        folder = self.context.folder(asked.folder, "the folder of your pictures")
        here = {tagger.name: tagger for tagger in tagging.all_taggers(self.context.host)}
        unknown = [name for name in asked.taggers if name not in here]
        if unknown or not here:
            what = f"there is no tagger {unknown[0]!r}" if unknown else "there is no tagger"
            raise SettingsError(what, remedy="see GET /lora-lab/v1/taggers")
        if asked.write not in WRITE_MODES:
            raise SettingsError(f"write is {asked.write!r}", remedy=f"use one of {', '.join(WRITE_MODES)}")
        choice = Choice(asked.threshold, asked.character_threshold, exclude=tuple(asked.exclude))
        choice.check()
        chosen = [here[name] for name in asked.taggers] or [next(iter(here.values()))]
        work = partial(_tagged, folder, chosen, choice, asked.write, self.context.host.paths().data_dir)
        return self.task(tasks().start("api-tagging", "Tagging for a program", work).id)

    def taggers(self) -> dict[str, Any]:
        """The taggers that are here."""
        from lora_lab.workflow import tagging

        return {"taggers": [tagger.name for tagger in tagging.all_taggers(self.context.host)]}

    def tools(self) -> dict[str, Any]:
        """The tools and what each asks."""
        return {"tools": [_described(tool) for tool in _tools().values()]}

    def use(self, name: str, asked: ToolUse) -> dict[str, Any]:
        """Begin a tool's work.

        Raises:
            LoraLabError: no such tool, a value or a file is wrong, or one is at work.
        """
        from lora_lab.ui.tools_files import HostFiles
        from lora_lab.ui.tools_work import Given, work_of

        tool = _tools().get(name)
        if tool is None:
            raise SettingsError(f"there is no tool {name!r}", remedy="see GET /lora-lab/v1/tools")
        known = {ask.name: ask.default for ask in tool.asks}
        if strange := [key for key in asked.values if key not in known]:
            raise SettingsError(f"{name} asks for no {strange[0]!r}", remedy=f"it asks for {', '.join(known)}")
        given = Given(tool, {**known, **asked.values}, asked.out, asked.force, asked.dry, HostFiles(self.context))
        work = work_of(given)
        task = tasks().start("api-tool", f"{tool.title} for a program", lambda task: _outcomes(work, task))
        return self.task(task.id)

    def task(self, task_id: str) -> dict[str, Any]:
        """A piece of work in the background: how far it is, and what came of it.

        Raises:
            SettingsError: there is none of that id.
        """
        task = tasks().find(task_id)
        if task is None or not task.kind.startswith("api-"):
            raise SettingsError(f"there is no task {task_id!r}", remedy="use the id that was answered")
        s = task.status()
        error = None if s.error is None else s.error.to_json()
        return {
            "id": s.id, "title": s.title, "state": s.state, "stage": s.stage, "done": s.done, "total": s.total,
            "error": error, "result": task.result if s.state == "done" else None,
        }  # fmt: skip

    def stop_task(self, task_id: str) -> dict[str, Any]:
        """Ask it to stop.

        Raises:
            SettingsError: there is none of that id.
        """
        self.task(task_id)
        if task := tasks().find(task_id):
            task.stop()
        return self.task(task_id)

    async def follow(self, run_id: str, since: int) -> AsyncIterator[str]:
        """The events of a run from a number on, as server-sent events, until it has ended. Holds no thread."""
        run = self.run(run_id)
        beat = time.monotonic()
        while True:
            for event in (told := run.told(since)):
                since += 1
                values = to_json(event)
                yield f"id: {since}\nevent: {values['event']}\ndata: {json.dumps(values)}\n\n"
            if (told and isinstance(told[-1], RunEnded)) or (not told and not run.status().active):
                return
            if time.monotonic() - beat > BEAT_SECONDS:
                beat = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(LOOK_SECONDS)


def _tools() -> dict[str, Tool]:
    from lora_lab.ui.tools_forms import TOOLS

    return {tool.name: tool for tool in TOOLS}


def _described(tool: Tool) -> dict[str, Any]:
    asks = [
        {"name": a.name, "label": a.label, "kind": a.kind, "default": a.default, "choices": list(a.choices)}
        for a in tool.asks
    ]
    return {"name": tool.name, "title": tool.title, "about": tool.about, "asks": asks, "writes": tool.writes}


def _outcomes(work: Any, task: Task) -> list[dict[str, Any]]:  # noqa: ANN401 - `tools_work.Work`
    """Of a tool, with its progress as the task's."""
    return [outcome.to_json() for outcome in work(task.progress)]


def _tagged(
    folder: Path, taggers: list[Any], choice: Any, mode: str, data: Path, task: Task  # noqa: ANN401 - tagging's
) -> dict[str, Any]:  # fmt: skip
    """Look, choose, write."""
    from lora_lab.workflow import tag_captions, tagging
    from lora_lab.workflow.captions import CaptionProject

    project = CaptionProject.open(folder, data, ".txt")
    seen = tagging.look(tag_captions.pictures_of(project), taggers, tagging.project_store(folder, data), task.progress)
    changes = tag_captions.propose(project, seen, choice, mode)
    if changes:
        project.apply(changes, f"tagged with {', '.join(t.name for t in taggers)} ({mode})")
    problems = [problem.to_json() for problem in (*seen.problems, *project.problems)]
    return {"images": len(seen.pictures), "written": len(changes), "problems": problems}
