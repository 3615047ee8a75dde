"""``lora-lab blocks LORA``"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli.output import Output, clock
from lora_lab.errors import Interrupted, SettingsError

if TYPE_CHECKING:
    from lora_lab.families import Family
    from lora_lab.host.base import Host
    from lora_lab.testing.cells import GridPlan, Look, Weights
    from lora_lab.testing.events import GridEvent, GridResult
    from lora_lab.testing.judge import Judge
    from lora_lab.testing.strengths import StrengthPlan, StrengthReport

EXAMPLE = "lora-lab blocks mika.safetensors --prompt 'mika, smile' --presets INALL OUTALL --map --out test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is tried, on which pictures."""
    parser.add_argument("lora", type=Path, metavar="LORA", help="the file to test")
    _add_rows(parser)
    add = parser.add_argument
    add("--map", action="store_true", help="influence map: each block alone and left out, and weights to try from it")
    add("--strengths", metavar="VALUES", help="strengths, such as 0.5,1,1.5: which is best, and what to change")
    add("--snapshots", nargs="+", type=Path, default=[], metavar="FILE", help="with --strengths: try these too")
    add("--checkpoints", nargs="+", type=Path, default=[], metavar="FILE", help="with --strengths: on each of these")
    add("--others", action="append", default=[], metavar="TAGS", help="with --strengths: tags it should obey beside")
    add("--apart", action="store_true", help="with --strengths: text encoder and UNet with each other")
    add("--diagnose", action="store_true", help="look for overfit, leakage and the tag that is to blame")
    add("--dataset", type=Path, metavar="DIR", help="with --diagnose: its pictures, to find copies")
    _add_pictures(parser)


def _add_rows(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("rows of the grid (default: every preset)")
    add = group.add_argument
    add("--presets", nargs="+", default=[], metavar="NAME", help="presets, or lists of values, maybe as NAME=values")
    add("--preset-file", type=Path, metavar="FILE", help="more presets: an lbwpresets.txt")
    add("--x", default="1", metavar="VALUES", help="what X stands for; several make a row each (default 1)")
    add("--blocks", nargs="+", metavar="BLOCK", help="single blocks: IN04, OUT03-OUT05, IN, ALL")
    add("--without", action="store_true", help="with --blocks: the block is left out, not alone")
    add("--values", metavar="VALUES", help="with --blocks: these blocks together at each value, the others at 1")
    add("--elements", nargs="?", const="", metavar="BLOCKS", help="groups of layers (attention ...) at 0, in blocks")


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    add = group.add_argument
    add("--prompt", action="append", default=[], metavar="TEXT", help="several make a column each (default: trigger)")
    add("--prompts", type=Path, metavar="FILE", help="prompts, one a line")
    add("--seed", nargs="+", type=int, metavar="N", help="seeds (default 1; with --map, --strengths, --diagnose 1 2)")
    add("--trigger", default="", metavar="TAG", help="the tag that calls the subject (default: what the file says)")
    add("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo checkpoint)")
    add("--size", default="", metavar="WxH", help="in pixels (default 512x512, the demo's 64x64)")
    add("--steps", type=int, default=20)
    add("--cfg", type=float, default=0.0, metavar="SCALE", help="guidance (default 7, the demo's 5)")
    add("--sampler", default="Euler")
    add("--negative", default="", metavar="TEXT")
    add("--batch", type=int, default=8, metavar="N", help="pictures made at a time (default 8)")
    add("--quick", nargs="?", const=0.5, default=0.0, type=float, metavar="SHARE",
        help="quick look: this share of the steps is the base picture's (0.5 if no number is given)")  # fmt: skip
    add("--all", action="store_true", help="make it however many pictures it has")
    add(
        "--tagger", type=Path, metavar="DIR", help="a tagger that scores the pictures (default: the demo's for its own)"
    )
    add("--concept", default="", metavar="TAGS", help="tags that make the concept (default: what the LoRA adds)")
    add("--out", type=Path, default=Path("lora-lab-blocks"), metavar="DIR", help="folder for pictures, sheet and page")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Make the grid, then what else was asked for."""
    from lora_lab.host.choose import standalone_host

    _check_words(args)
    args.checkpoint = args.checkpoint or next(iter(args.checkpoints), None)
    output.line("loading the checkpoint ...")
    host = standalone_host(args.checkpoint, data_dir=args.out.resolve() / "data")
    info = host.current()
    assert info is not None
    work = _Work(args, output, host, info.family)
    answer: dict[str, Any] = {"cells": [], "influence": None, "proposal": None}
    try:
        if args.strengths or args.diagnose or args.map:
            answer |= work.map() if args.map else {}
            answer |= work.strengths() if args.strengths else {}
            answer |= work.diagnosis() if args.diagnose else {}
        if work.wants_grid:
            answer |= work.grid()
    except KeyboardInterrupt:
        raise Interrupted("stopped; what was made is kept, and the same command goes on") from None
    return answer


def _check_words(args: argparse.Namespace) -> None:
    """What can be told before a checkpoint is loaded.

    Raises:
        SettingsError: options that do not go together, a number that is none.
        AdapterFileError: the file is no LoRA.
    """
    from lora_lab.network.outline import outline
    from lora_lab.testing.checks import trigger_of
    from lora_lab.testing.rows import numbers

    told = outline(args.lora)
    args.trigger = args.trigger or trigger_of(told.metadata)
    args.seed = args.seed or ([1, 2] if args.map or args.strengths or args.diagnose else [1])
    numbers(args.x, "x")
    for name in ("values", "strengths"):
        if getattr(args, name) is not None:
            numbers(getattr(args, name), f"--{name}")
    if args.checkpoints and args.strengths is None:
        raise SettingsError("--checkpoints speaks of strengths", remedy="give some with --strengths")
    if (args.values or args.without) and not args.blocks:
        raise SettingsError("--values and --without speak of blocks", remedy="name them with --blocks")
    if args.prompts:
        try:
            args.prompt += [
                line.strip() for line in args.prompts.read_text(encoding="utf-8").splitlines() if line.strip()
            ]
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError("the prompts cannot be read", file=args.prompts, remedy="give a text file") from error
    if not args.prompt:
        if not args.trigger:
            raise SettingsError("there is no prompt, and the file names no trigger", remedy="give --prompt")
        args.prompt = [args.trigger]


class _Work:
    """The command's parts, each a part of the answer."""

    def __init__(self, args: argparse.Namespace, output: Output, host: Host, family: Family) -> None:
        self._args, self._output, self._host, self._family = args, output, host, family
        self._judge = self._make_judge()
        self._total = 0

    @property
    def wants_grid(self) -> bool:
        """Is a grid asked for, or nothing else?"""
        a = self._args
        return bool(a.presets or a.blocks or a.elements is not None) or not (a.map or a.strengths or a.diagnose)

    def grid(self) -> dict[str, Any]:
        """The grid, its sheet and page."""
        from lora_lab.testing.export import save_sheet
        from lora_lab.testing.grid import run_grid
        from lora_lab.testing.page import save_page

        result = run_grid(self._host, self._plan(self._rows()), self._hear)
        out = self._args.out.resolve()
        page = save_page(result, out / f"{self._args.lora.stem}.html")
        cells = self._scored(result)
        answer: dict[str, Any] = {"cells": cells, "page": str(page), "seconds": round(result.seconds, 1)}
        try:
            answer["sheet"] = str(save_sheet(result, out / f"{self._args.lora.stem}.png"))
        except SettingsError as large:
            self._output.warn(f"note: {large}")
        for cell in cells:
            score = "" if cell["score"] is None else f"  {cell['score']:.0%}"
            self._output.line(f"{cell['preset']:24} seed {cell['seed']}{score}  {cell['image']}")
        self._output.line(f"page                     {page}")
        return answer

    def map(self) -> dict[str, Any]:
        """The influence map and the proposal."""
        from lora_lab.testing.influence import InfluencePlan, run_influence

        a = self._args
        plan = InfluencePlan(
            a.lora, tuple(a.prompt), tuple(a.seed), a.trigger, self._look(), a.batch, a.quick, out=self._folder()
        )
        found = run_influence(self._host, plan, self._judge, self._hear)
        if found is None:
            raise Interrupted("stopped; what was made is kept, and the same command goes on")
        for one in found.blocks:
            one.heat.save(self._folder() / f"heat-{one.block}.png")
            self._output.line(
                f"{one.block:6} concept {one.concept:6.1%}  other tags {one.other:5.2f}  "
                f"alone {one.alone.perceptual:.4f}  left out {one.left_out.perceptual:.4f}  bleeds {one.bleed:.4f}"
            )
        for sentence in (*filter(None, [found.note]), *found.proposal.sentences):
            self._output.line(sentence)
        self._output.line(f"proposal   {found.proposal.weights.text}")
        return {"influence": found.to_json(), "proposal": found.proposal.to_json()}

    def strengths(self) -> dict[str, Any]:
        """Strengths, snapshots, and the advice."""
        from lora_lab.testing.rows import numbers
        from lora_lab.testing.strengths import StrengthPlan, run_strengths

        a = self._args
        loras = (*a.snapshots, *([a.lora] if a.lora not in a.snapshots else []))
        plan = StrengthPlan(
            loras, a.prompt[0], tuple(a.others), tuple(a.seed), numbers(a.strengths, "--strengths"), a.apart,
            self._look(), a.batch, self._folder(), trigger=a.trigger,
        )  # fmt: skip
        if a.checkpoints:
            return {"strengths": self._on_checkpoints(plan)}
        report = run_strengths(self._host, plan, self._needed_judge(), self._hear)
        if report is None:
            raise Interrupted("stopped; what was made is kept, and the same command goes on")
        return {"strengths": self._read(report, plan)}

    def _on_checkpoints(self, plan: StrengthPlan) -> dict[str, Any]:
        """The same on each of several checkpoints, and where it is good."""
        from lora_lab.testing.checkpoints import chosen, pictures, run_on_checkpoints

        judge = self._needed_judge()
        found = chosen(self._host, [str(path.resolve()) for path in self._args.checkpoints], plan.loras)
        self._output.line(pictures(plan, len(found)))
        report = run_on_checkpoints(self._host, found, plan, judge, self._hear)
        if report is None:
            raise Interrupted("stopped; what was made is kept, and the same command goes on")
        told = []
        for one in report.found:
            self._output.line(f"{one.label}:")
            told.append({**self._read(one.report, plan, advised=one is report.main), **one.to_json()})
        self._output.line(report.sentence)
        return {"checkpoints": told, "sentence": report.sentence}

    def _read(self, report: StrengthReport, plan: StrengthPlan, *, advised: bool = True) -> dict[str, Any]:
        """Points, held-out losses, advice, and which snapshot to keep: said, and for ``--json``."""
        from lora_lab.host.choose import default_data_dir
        from lora_lab.testing.strengths import best_snapshot
        from lora_lab.workflow.run_list import held_out

        for point in report.points:
            self._output.line(
                f"{point.lora.name} te {point.text_encoder:g} unet {point.unet:g}: concept {point.concept:.0%}, other "
                f"tags {point.flexibility:.0%}, sound {point.fidelity:.0%}, overall {point.overall:.0%}"
            )
        measured = held_out(default_data_dir() / "runs", plan.loras)
        for lora, loss in measured.losses.items():
            self._output.line(f"{lora.name}: held-out loss {loss:.4f}")
        for sentence in filter(None, [report.advice.sentence, report.note] if advised else []):
            self._output.line(sentence)
        answer: dict[str, Any] = {
            "held_out": {str(lora): loss for lora, loss in measured.losses.items()},
            "points": [point.to_json() for point in report.points], "best": report.best.to_json(),
            "advice": {"sentence": report.advice.sentence, "factors": dict(report.advice.factors)},
        }  # fmt: skip
        if len(plan.loras) > 1:
            best, why = best_snapshot(report.points, measured.comparable)
            self._output.line(f"keep {why}")
            answer["snapshot"] = {"lora": str(best.lora), "why": why}
        return answer

    def diagnosis(self) -> dict[str, Any]:
        """Signs of what is wrong."""
        from lora_lab.testing.diagnosis import DiagnosisPlan, run_diagnosis

        a = self._args
        plan = DiagnosisPlan(
            a.lora, a.prompt[0], a.trigger, tuple(a.seed), a.dataset, self._look(), a.batch, self._folder()
        )
        found = run_diagnosis(self._host, plan, self._judge, self._hear)
        if found is None:
            raise Interrupted("stopped; what was made is kept, and the same command goes on")
        for sentence in found.sentences:
            self._output.line(sentence)
        for one in found.blame:
            self._output.line(
                f"without {one.tag!r}: the LoRA changes {one.change:.0%} less, concept {-one.concept:+.0%}"
            )
        told = {name: getattr(found, name) for name in ("concept", "leakage", "saturation_drift", "contrast_drift")}
        copies = [[str(copy.preview), str(copy.picture), copy.likeness] for copy in found.copies]
        blame = [vars(one) for one in found.blame]
        more = {"sentences": list(found.sentences), "variety": found.variety, "copies": copies, "blame": blame}
        return {"diagnosis": {**told, **more}}

    # Out of the arguments.

    def _rows(self) -> list[Weights]:
        from lora_lab.network.presets import DEFAULTS, read_file
        from lora_lab.testing import rows

        a, family = self._args, self._family
        found: list[Weights] = []
        known = (*DEFAULTS, *(read_file(a.preset_file) if a.preset_file else ()))
        if a.presets or not (a.blocks or a.elements is not None):
            xs = rows.numbers(a.x, "x")
            for x in xs:
                made = rows.of_presets(a.presets, family, known, x, random.Random(a.seed[0]))
                found += made if len(xs) == 1 else [_named(row, f"{row.label} x={x:g}") for row in made]
        if a.blocks and a.values:
            found += rows.block_values(a.blocks, rows.numbers(a.values, "--values"), family)
        elif a.blocks:
            wanted = [] if [word.upper() for word in a.blocks] == ["ALL"] else a.blocks
            found += rows.single_blocks(family, blocks=wanted, without=a.without)
        if a.elements is not None:
            found += rows.layer_groups(family, blocks=a.elements)
        return found

    def _plan(self, wanted: list[Weights]) -> GridPlan:
        from lora_lab.testing.cells import GridPlan

        a = self._args
        return GridPlan(
            a.lora, tuple(wanted), tuple(a.prompt), tuple(a.seed), self._look(), a.batch, a.quick, self._folder(),
            a.trigger, a.all,
        )  # fmt: skip

    def _folder(self) -> Path:
        folder: Path = self._args.out.resolve() / "cells"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _look(self) -> Look:
        from lora_lab.demo import world
        from lora_lab.testing.cells import Look

        a = self._args
        demo = a.checkpoint is None
        side = world.PICTURE_SIZE if demo else 512
        words = a.size.lower().split("x") if a.size else [str(side)] * 2
        if len(words) != 2 or not all(word.isdigit() and int(word) for word in words):
            raise SettingsError(f"--size is {a.size!r}", remedy="write 512x768")
        return Look(int(words[0]), int(words[1]), a.steps, a.cfg or (5.0 if demo else 7.0), a.sampler, a.negative)

    def _make_judge(self) -> Judge | None:
        from lora_lab.demo import assets, world
        from lora_lab.testing.judge import Judge

        a = self._args
        concept = tuple(word.strip() for word in a.concept.split(",") if word.strip())
        if a.tagger is None and a.checkpoint is not None:
            return None
        if not concept and a.checkpoint is None and world.CHARACTER in " ".join(a.prompt):
            concept = assets.character_features()
        return Judge.of_tagger(a.tagger or assets.tagger_dir(), concept)

    def _needed_judge(self) -> Judge:
        if self._judge is None:
            raise SettingsError("strengths are judged by a tagger", remedy="name its folder with --tagger")
        return self._judge

    def _hear(self, event: GridEvent) -> None:
        from lora_lab.testing.events import CellMade, CheckpointBegun, GridEstimated, GridStarted, GridTold

        if isinstance(event, GridTold):
            self._output.warn(f"note: {event.text}")
        elif isinstance(event, CheckpointBegun):
            self._output.line(f"checkpoint {event.place} of {event.count}: {event.name}")
        elif isinstance(event, GridStarted):
            self._total = event.cells
            self._output.line(f"{event.cells} pictures, {event.kept} of them are there already")
        elif isinstance(event, GridEstimated) and event.cells:
            self._output.line(f"{event.cells} more pictures will take at most about {clock(event.seconds)}")
        elif isinstance(event, CellMade):
            left = "" if event.seconds_left is None else f"{clock(event.seconds_left)} left"
            self._output.progress("picture", event.done, event.total, left)

    def _scored(self, result: GridResult) -> list[dict[str, Any]]:
        """The cells for ``--json``, with the share of the concept if there is a tagger."""
        from lora_lab.testing.words import asked_for

        made = [one for one in result.made if one is not None]
        scores: list[float | None] = [None] * len(made)
        if self._judge is not None:
            seen = self._judge.look([one.image for one in made])
            columns = len(result.plan.columns)
            bare = [i for i, one in enumerate(made) if one.cell.weights.off][:columns] or list(range(columns))
            asked = asked_for(self._args.prompt, self._args.trigger)
            concept = self._judge.found_concept(seen[:columns], seen[bare], asked)
            scores = [self._judge.share(seen[i : i + 1], concept) if concept else None for i in range(len(made))]
        return [
            {"preset": one.cell.label, "vector": one.cell.text, "elements": one.cell.weights.elements,
             "prompt": one.cell.prompt, "seed": one.cell.seed, "image": str(one.path), "score": score}
            for one, score in zip(made, scores, strict=True)
        ]  # fmt: skip


def _named(row: Weights, label: str) -> Weights:
    return replace(row, label=label)
