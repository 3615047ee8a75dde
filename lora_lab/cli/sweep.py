"""``lora-lab sweep SETTINGS --over NAME=VALUES``"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli import given
from lora_lab.cli.follow import Follow
from lora_lab.cli.output import Output, clock
from lora_lab.errors import Interrupted, LoraLabError, SettingsError

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.training.events import Event
    from lora_lab.workflow.sweep import Outcome, Scorer, Sweep

EXAMPLE = "lora-lab sweep mika.toml --over network_dim=8,16,32 --over unet_lr=1e-4..5e-4/3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What varies, and how the results are looked at."""
    parser.add_argument("settings", type=Path, metavar="SETTINGS", help=f"what all runs have alike: {given.HELP}")
    given.add_arguments(parser)
    parser.add_argument(
        "--over", action="append", required=True, metavar="NAME=VALUES",
        help="values of a setting: 8,16,32 (or 8;16;32), or a range 1e-4..5e-4/3, or a geometric one 1e-5..1e-3/3log",
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--grid", action="store_const", const="grid", dest="mode", help="every value with every other")
    how.add_argument("--zip", action="store_const", const="zip", dest="mode", help="first with first, and so on")
    parser.set_defaults(mode="grid")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="refuse more runs than this (default 50)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo checkpoint)")
    parser.add_argument(
        "--prediction-type", choices=("epsilon", "v_prediction"), help="of the UNet (default: what the yaml says)"
    )
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT",
                        help="picture of each LoRA, as a line of sample_prompts (default: sample_prompts)")  # fmt: skip
    parser.add_argument("--tagger", type=Path, metavar="DIR", help="a tagger that judges pictures of the first prompt")
    parser.add_argument("--tags", metavar="TAGS", help="the tags that it should find, parted by commas")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: ray://head:10001, or local")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Check all runs, do those that are not done, show the table."""
    from lora_lab.host.choose import standalone_host
    from lora_lab.workflow import sweep_plan
    from lora_lab.workflow.sweep import Sweep, look_of
    from lora_lab.workflow.sweep_page import write_all

    file = given.read(args.settings, args, output)
    given.check_taken(file, args.settings)
    base = file.settings
    axes = [sweep_plan.parse_axis(text) for text in args.over]
    runs = sweep_plan.combine(base, axes, args.mode, args.limit)
    scorer = scorer_of(args)
    make_host = partial(_make_host, standalone_host, given.checkpoint(file, args.checkpoint), args.prediction_type)
    host = make_host(args.out.resolve() if args.out else None)
    name = base.output_name or args.settings.stem
    folder = host.paths().data_dir / "sweeps" / name
    sweep = Sweep(tuple(runs), folder, look_of(base, host, "\n".join(args.prompt), scorer))
    sweep.check(host)
    done = sum(run.mark in sweep.known() for run in runs)
    output.line(f"{len(runs)} runs" + (f", {done} of them done already" if done else ""))
    try:
        found = _all(args, sweep, host, make_host, output)
    except Interrupted as error:
        output.warn(f"note: {error}")
        output.status = Interrupted.exit_status
        found = list(sweep.known().values())
    made = write_all(sweep, found) if found else {}
    for outcome in found:
        output.line(line_of(outcome))
    output.line("\n".join(f"{kind:8} {path}" for kind, path in made.items()))
    if any(outcome.state == "failed" for outcome in found) and not output.status:
        output.status = LoraLabError.exit_status
    return {"runs": [asdict(outcome) for outcome in found], **made}


def _make_host(make: Any, checkpoint: Path | None, prediction: Any, folder: Path | None) -> Host:  # noqa: ANN401
    """A host of its own on whatever machine this is called on."""
    host: Host = make(checkpoint, data_dir=folder, prediction_type=prediction)
    return host


def _all(args: argparse.Namespace, sweep: Sweep, host: Host, make_host: Any, output: Output) -> list[Outcome]:  # noqa: ANN401
    from lora_lab.workflow.sweep import run_all
    from lora_lab.workflow.sweep_ray import run_on_ray

    follow = Follow(output)

    def told(number: int, event: Event | None) -> None:
        run = sweep.runs[number]
        if event is None:
            output.line(f"run {number + 1} of {len(sweep.runs)}, {run.words}: trained")
        else:
            follow(event)

    if args.ray:
        return run_on_ray(sweep, host, args.ray, make_host, told)
    return run_all(sweep, host, told)


def scorer_of(args: argparse.Namespace) -> Scorer | None:
    """The tagger that was given.

    Raises:
        SettingsError: a tagger without tags, or tags without a tagger.
    """
    from lora_lab.workflow.sweep import Scorer

    tags = tuple(tag.strip() for tag in (args.tags or "").split(",") if tag.strip())
    if (args.tagger is None) != (not tags):
        raise SettingsError("a score needs a tagger and tags", remedy="give --tagger DIR and --tags a,b")
    return None if args.tagger is None else Scorer(args.tagger.resolve(), tags)


def line_of(outcome: Outcome) -> str:
    """One line of the table."""
    parts = [outcome.state]
    for name, value, form in (
        ("loss", outcome.loss, ".4f"), ("held out", outcome.val_loss, ".4f"), ("score", outcome.score, ".0%"),
    ):  # fmt: skip
        if value is not None:
            parts.append(f"{name} {value:{form}}")
    parts.append(clock(outcome.seconds))
    return f"{outcome.name}: {', '.join(parts)}" + (f"; {outcome.error}" if outcome.error else "")
