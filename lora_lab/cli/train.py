"""``lora-lab train SETTINGS``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli import given
from lora_lab.cli.follow import Follow
from lora_lab.cli.output import Output
from lora_lab.errors import Interrupted, UserError

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.training.jobs import JobQueue
    from lora_lab.training.run import Run
    from lora_lab.training.settings import TrainSettings

EXAMPLE = "lora-lab train mika.toml --checkpoint model.safetensors --set network_dim=16 --set max_train_epochs=10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The settings file, and what it is run on."""
    from lora_lab.training.settings import TrainSettings

    parser.add_argument("settings", type=Path, metavar="SETTINGS", nargs="?", help=given.HELP)
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with a run that was broken off: its id, or a part of it, in --out's runs"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: what SETTINGS names, or the demo's)"
    )
    given.add_arguments(parser)
    parser.add_argument(
        "--prediction-type", choices=("epsilon", "v_prediction"), help="of the UNet (default: what the yaml says)"
    )
    names = ", ".join(spec.name for spec in TrainSettings.specs())
    parser.epilog = f"{parser.epilog}\n\nsettings: {names}"


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Train until it is done or stopped; Ctrl-C stops within one step and keeps what was learnt."""
    if args.settings is None and (args.resume is None or args.changes):
        raise UserError("there is no settings file", remedy="give one, or --resume RUN alone")
    settings, checkpoint = None, args.checkpoint
    if args.settings is not None:
        found = given.read(args.settings, args, output)
        given.check_taken(found, args.settings)
        settings, checkpoint = found.settings, given.checkpoint(found, args.checkpoint)
    from lora_lab.host.choose import standalone_host
    from lora_lab.training import jobs

    out = args.out.resolve() if args.out else None
    host = standalone_host(checkpoint, data_dir=out, prediction_type=args.prediction_type)
    run = _begin(jobs.queue(), settings, args.resume, host)
    run.listen(Follow(output))
    stopped = False
    try:
        while not run.wait(0.5).ended:
            pass
    except KeyboardInterrupt:
        stopped = True
        output.warn("stopping after this step, and keeping what was learnt ...")
        run.stop()
    ended = run.wait().ended
    assert ended is not None
    if run.error is not None:
        raise run.error
    if stopped and ended.lora is None:
        raise Interrupted("stopped before anything was learnt")
    if ended.lora is not None:
        output.line(f"LoRA: {ended.lora}")
    values = {
        "lora": str(ended.lora) if ended.lora else None, "run": run.id, "steps": ended.step,
        "seconds": round(ended.seconds, 2), "loss_average": ended.loss_average, "val_loss": ended.val_loss_last,
        "stopped_by": None if ended.reason == "finished" else ended.reason,
    }  # fmt: skip
    if stopped:
        output.status = Interrupted.exit_status
    return values


def _begin(queue: JobQueue, settings: TrainSettings | None, resume: str | None, host: Host) -> Run:
    """A new run, or the broken-off one."""
    if resume is not None:
        return queue.resume(resume, host, settings)
    assert settings is not None
    return queue.start(settings, host)
