"""``lora-lab train SETTINGS ...``"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli import given, go_on
from lora_lab.cli.follow import Follow
from lora_lab.cli.output import Output, clock
from lora_lab.errors import Interrupted, LoraLabError, SettingsError, UserError

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.training.importing.found import SettingsFile
    from lora_lab.training.run import Run
    from lora_lab.training.settings import TrainSettings
    from lora_lab.training.team import Team

EXAMPLE = "lora-lab train mika.toml --checkpoint model.safetensors --set network_dim=16 --set max_train_epochs=10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The settings files, and what they are run on."""
    from lora_lab.training.settings import TrainSettings

    parser.add_argument(
        "settings", type=Path, metavar="SETTINGS", nargs="*", help=f"{given.HELP}; several are run one after another"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with a run that was broken off: its id, or a part of it, in --out's runs"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="measure what the run would need in memory and time, and train nothing"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: what SETTINGS names, or the demo's)"
    )
    given.add_arguments(parser)
    go_on.add_arguments(parser)
    parser.add_argument(
        "--prediction-type", choices=("epsilon", "v_prediction"),
        help="of the UNet (default: what the file, its yaml or the settings' v2 and v_parameterization say)",
    )
    parser.add_argument(
        "--then", metavar="COMMAND",
        help="a program to run once at the end of all, such as a notification; not when you stop them, and in no shell",
    )  # fmt: skip
    names = ", ".join(spec.name for spec in TrainSettings.specs())
    parser.epilog = f"{parser.epilog}\n\nsettings: {names}"


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Train until it is done or stopped; Ctrl-C stops within one step and keeps what was learnt."""
    from lora_lab.training.afterwards import parse_command, run_command
    from lora_lab.training.family import told_prediction
    from lora_lab.training.team import join

    _check_words(args)
    team = join(os.environ)
    if not team.leads:
        output.silence()
    command = parse_command(args.then) if args.then else None
    try:
        paths = [args.go_on] if args.go_on else args.settings
        read = go_on.read if args.go_on else given.read
        files = [read(path, args, output) for path in paths]
        for path, file in zip(paths, files, strict=True):
            given.check_taken(file, path)
        found = [file.settings for file in files]
        if not team.alone and (len(found) != 1 or args.resume):
            what = "several processes train one settings file, from its beginning"
            raise SettingsError(what, remedy="give one without --resume, or start one process")
        from lora_lab.host.choose import standalone_host

        out = args.out.resolve() if args.out else None
        predicts = args.prediction_type or (told_prediction(found[0]) if found else None)
        host = standalone_host(_checkpoint(files, args), data_dir=out, prediction_type=predicts)
        if args.dry_run:
            return measure(found[0], host, output)
        if not team.leads:
            return help_others(found[0], host, team)
        several = len(found) > 1
        values = train_all(found, host, output) if several else train_one(_start(args, found, host, team), output)
    except Exception as error:
        team.fail(str(error))
        if command and not isinstance(error, Interrupted):
            run_command(command, output.warn)
        raise
    finally:
        team.leave()
    if command and output.status != Interrupted.exit_status:
        run_command(command, output.warn)
    return values


def _check_words(args: argparse.Namespace) -> None:
    if not args.settings and args.go_on is None and (args.resume is None or args.changes or args.dry_run):
        raise UserError("there is no settings file", remedy="give one, or --resume RUN alone")
    if args.resume is not None and len(args.settings) > 1:
        raise UserError("--resume goes on with one run", remedy="give one settings file, or none")
    if (args.go_on or args.dry_run) and len(args.settings) > 1:
        raise UserError("--continue and --dry-run are for one run", remedy="give one settings file")


def _checkpoint(files: Sequence[SettingsFile], args: argparse.Namespace) -> Path | None:
    """What all of the files are trained on.

    Raises:
        SettingsError: two files name different checkpoints, or one names a file that is not here.
    """
    named = [given.checkpoint(file, args.checkpoint) for file in files]
    if any(path != named[0] for path in named):
        raise SettingsError("the files name different checkpoints", remedy="give one with --checkpoint FILE")
    return named[0] if named else args.checkpoint


def _start(args: argparse.Namespace, found: Sequence[TrainSettings], host: Host, team: Team) -> Run:
    """A new run, or the broken-off one."""
    from lora_lab.training import jobs

    if args.resume is not None:
        return jobs.queue().resume(args.resume, host, found[0] if found else None)
    return jobs.queue().start(found[0], host, team)


def train_one(run: Run, output: Output) -> dict[str, Any]:
    """Until one run has ended. Raises what it failed with."""
    stopped = follow([run], output)
    run = run.chain.last if run.chain else run
    ended = run.wait().ended
    assert ended is not None
    error = run.error or (run.chain.error if run.chain else None)
    if error is not None:
        raise error
    if stopped and ended.lora is None:
        raise Interrupted("stopped before anything was learnt")
    if ended.lora is not None:
        output.line(f"LoRA: {ended.lora}")
    if stopped:
        output.status = Interrupted.exit_status
    return told(run)


def train_all(found: Sequence[TrainSettings], host: Host, output: Output) -> dict[str, Any]:
    """One run after another; one that fails stops none of the others."""
    from lora_lab.training import jobs

    jobs.check_all(found, host)
    runs = [jobs.queue().start(settings, host) for settings in found]
    stopped = follow(runs, output)
    values = []
    for run in runs:
        status = run.wait()
        ended = status.ended
        assert ended is not None
        lora = f", LoRA: {ended.lora}" if ended.lora else ""
        output.line(f"{status.name}: {ended.error or ended.reason}{lora}")
        values.append({"name": status.name, "state": status.state, "error": ended.error or None, **told(run)})
    failed = [run.error for run in runs if run.error is not None]
    if stopped:
        output.status = Interrupted.exit_status
    elif failed:
        known = [error.exit_status for error in failed if isinstance(error, LoraLabError)]
        output.status = min([*known, 1] if len(known) < len(failed) else known)
    return {"runs": values, "failed": len(failed)}


def follow(runs: Sequence[Run], output: Output) -> bool:
    """Tell what happens until all have ended; was it stopped by Ctrl-C?"""
    for run in runs:
        (run.chain or run).listen(Follow(output))
    with asked_to_stop() as asked:
        told = False
        for run in runs:
            while not _over(run):
                if asked.is_set() and not told:
                    told = True
                    output.warn("stopping after this step, and keeping what was learnt ...")
                    for other in reversed(runs):
                        (other.chain or other).stop()
    return asked.is_set()


def _over(run: Run) -> bool:
    """Wait a little: has it ended, and every stage that follows it?"""
    if run.chain is None:
        return run.wait(0.5).ended is not None
    last = run.chain.last
    if last.wait(0.5).ended is None:
        return False
    last.wait()  # its thread starts the next stage before it ends
    return run.chain.last is last


def help_others(settings: TrainSettings, host: Host, team: Team) -> dict[str, Any]:
    """This process's part of a run that another one leads."""
    from lora_lab.training.helper import help_train

    with asked_to_stop() as asked:
        ended = help_train(settings, host, team, asked.is_set)
    return {"steps": ended.step}


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by Ctrl-C, and by what ends a program politely (a launcher does that to all of its processes)."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt  # asked twice: at once
        asked.set()

    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def told(run: Run) -> dict[str, Any]:
    """What ``--json`` says of a run that has ended."""
    ended = run.wait().ended
    assert ended is not None
    return {
        "lora": str(ended.lora) if ended.lora else None, "run": run.id, "steps": ended.step,
        "seconds": round(ended.seconds, 2), "loss_average": ended.loss_average, "val_loss": ended.val_loss_last,
        "stopped_by": None if ended.reason == "finished" else ended.reason,
    }  # fmt: skip


def measure(settings: TrainSettings, host: Host, output: Output) -> dict[str, Any]:
    """Tell what a run would need; of several stages the first."""
    from lora_lab.training.memory import dry_run
    from lora_lab.training.prepare import check_start
    from lora_lab.training.settings.stages import expand

    first = expand(settings)[0] if settings.stages.strip() else settings
    found = dry_run.measure(check_start(first, host, writes=False), host)
    output.line(f"{found.memory_words}; about {found.seconds_per_step:.3g} s per step, {clock(found.seconds)} in all")
    return {
        "peak_mb": round(found.peak_mb, 1), "free_mb": round(found.free_mb), "fits": found.fits, "steps": found.steps,
        "seconds_per_step": round(found.seconds_per_step, 4), "seconds": round(found.seconds, 1),
    }  # fmt: skip
