"""``lora-lab runs``"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_lab.cli.output import Output, clock
from lora_lab.errors import UserError

EXAMPLE = "lora-lab runs stop mika --out lora-lab-data"

TOLD = {
    "pause": "pauses within its turn of about a second; it keeps its place",
    "resume": "goes on",
    "stop": "stops within its turn of about a second, and keeps what it has",
    "report": "",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where they are, and what is wanted of one."""
    parser.add_argument(
        "action", nargs="?", choices=tuple(TOLD), metavar="ACTION",
        help="pause, resume or stop a run that is under way, also in another program such as the webui; report: "
        "all about a run as one text without your paths, to share; none lists all",
    )  # fmt: skip
    parser.add_argument("run", nargs="?", metavar="RUN", help="its name in the list, or a part that only one has")
    parser.add_argument("--out", type=Path, metavar="DIR", help="data folder (default: lora-lab-data)")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Read the runs' folders, or leave a word for one of them; nothing is loaded."""
    from lora_lab.host.choose import default_data_dir
    from lora_lab.workflow.run_list import list_runs

    folder = (args.out.resolve() if args.out else default_data_dir()) / "runs"
    if args.action:
        return _ask(folder, args.action, args.run, output)
    found = list_runs(folder)
    for one in found:
        steps = f"step {one.step:,} of {one.steps:,}" if one.steps else "before its first step"
        loss = f", loss {one.loss:.4f}" if one.loss is not None else ""
        seconds = f", {clock(one.seconds)}" if one.seconds is not None else ""
        output.line(f"{one.id}  {one.state}, {steps}{loss}{seconds}")
        for text in (one.lora, one.error):
            if text:
                output.line(f"    {text}")
    if not found:
        output.line("no runs yet")
    return {"runs": [asdict(one) for one in found]}


def _ask(runs: Path, action: str, run_id: str | None, output: Output) -> dict[str, Any]:
    """Leave the word in the run's folder.

    Raises:
        UserError: no run was named.
        SettingsError: there is no such run.
        HostBusyError: it is not under way.
        OutputError: its folder cannot be written to.
    """
    from lora_lab.training.record import report, wish

    if not run_id:
        raise UserError(f"which run should {action}", remedy=f"lora-lab runs {action} RUN, see lora-lab runs")
    folder = wish.folder_named(runs, run_id)
    if action == "report":
        told = report.text(folder)
        output.line(told)
        return {"run": folder.name, "report": told}
    wish.put(folder, "go" if action == "resume" else "pause" if action == "pause" else "stop")
    output.line(f"{folder.name} {TOLD[action]}")
    return {"run": folder.name, "asked": action}
