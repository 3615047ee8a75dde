"""What a filled form of the panel Tools means: work for `surgery`, which is imported when it begins."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli import toolbox
from lora_lab.errors import SettingsError
from lora_lab.ui.tools_files import HostFiles
from lora_lab.ui.tools_forms import PRECISIONS, Tool
from lora_lab.workflow.tasks import Task

if TYPE_CHECKING:
    import torch

    from lora_lab.surgery.compress import Compression
    from lora_lab.surgery.outcome import Outcome
    from lora_lab.surgery.uses import AdapterUse

Work = Callable[[Any], "Sequence[Outcome]"]
"""Takes a progress of surgery's."""


@dataclass(frozen=True)
class Given:
    """A filled form."""

    tool: Tool
    values: Mapping[str, Any]
    out_typed: str
    force: bool
    dry: bool
    files: HostFiles

    def text(self, name: str) -> str:
        """What was typed."""
        return str(self.values.get(name) or "").strip()

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision; None: as the input."""
        from lora_lab.surgery.precision import precision

        name = self.text("precision")
        return None if name in ("", PRECISIONS[0]) else precision(name)

    def how(self, rank: str | None) -> Compression:
        """Ranks and precision.

        Raises:
            SettingsError: a value that makes no sense.
        """
        blocks = [piece.strip() for piece in self.text("block_rank").split(",") if piece.strip()]
        args = Namespace(
            block_rank=blocks, conv_rank=self.text("conv_rank") or None, max_size=self.text("max_size") or None,
            max_rank=None if not self.text("max_rank") else int(self.number("max_rank")),
            max_error=None if not self.text("max_error") else self.number("max_error"),
        )  # fmt: skip
        shared = args.max_size is not None or args.max_error is not None
        name = self.text("precision")
        return toolbox.compression(args, None if shared else rank, None if name == PRECISIONS[0] else name or None)

    def number(self, name: str) -> float:
        """A number that was typed.

        Raises:
            SettingsError: it is none.
        """
        try:
            return float(self.text(name))
        except ValueError:
            remedy = "type a number such as 0.5"
            raise SettingsError(f"{name} is '{self.text(name)}', which is no number", remedy=remedy) from None

    def uses(self) -> tuple[AdapterUse, ...]:
        """The lines of LoRAs with strengths.

        Raises:
            SettingsError: none, or one that cannot be read.
        """
        from dataclasses import replace

        from lora_lab.surgery.uses import Names, parse_use

        lines = [line.strip() for line in self.text("uses").splitlines() if line.strip()]
        if not lines:
            raise SettingsError("no LoRA is chosen", remedy="add one from the list, or type a line")
        names = Names.of_files([self.files.path(self.text("presets"))] if self.text("presets") else [])
        parsed = [parse_use(line, names) for line in lines]
        return tuple(replace(use, path=self.files.lora(str(use.path))) for use in parsed)

    def out(self, after: Path, suffix: str) -> Path:
        """Where the output goes."""
        return self.files.out(self.out_typed, self.tool.writes, f"{after.stem}-{suffix}")


def work_of(given: Given) -> Work:
    """The work that a form asks for, with everything checked that can be without reading a tensor.

    Raises:
        LoraLabError: a value or a file is wrong.
    """
    return MAKERS[given.tool.name](given)


def _extract(given: Given) -> Work:
    from lora_lab.surgery.extract import ExtractRequest, extract

    base, tuned = given.files.checkpoint(given.values["base"]), given.files.checkpoint(given.values["tuned"])
    flags = {name: bool(given.values[name]) for name in ("convs", "outside", "norms", "biases")}
    out, force = given.out(tuned, "lora"), given.force
    how = given.how(given.text("rank") or "32")
    request = ExtractRequest(base, tuned, out, how, force=force, dry_run=given.dry, **flags)
    return partial(_listed, partial(extract, request))


def _merge(given: Given) -> Work:
    from lora_lab.surgery.merge_adapters import MixRequest, merge_adapters

    uses = given.uses()
    base = given.files.checkpoint(given.values["base"]) if given.text("base") else None
    out, force = given.out(uses[0].path, "merged"), given.force
    request = MixRequest(
        uses, out, given.text("method"), given.how(given.text("rank") or "32"),  # type: ignore[arg-type]
        given.number("density"), base, given.dtype is None, force=force, dry_run=given.dry,
    )  # fmt: skip
    return partial(_listed, partial(merge_adapters, request))


def _into(given: Given) -> Work:
    from lora_lab.surgery.into_checkpoint import MergeRequest, merge_into_checkpoint

    base = given.files.checkpoint(given.values["base"])
    vae = given.files.path(given.text("vae")) if given.text("vae") else None
    uses = given.uses() if given.text("uses") or vae is None else ()
    out, force = given.out(base, "merged"), given.force
    request = MergeRequest(base, uses, out, given.dtype, vae, force, given.dry)
    return partial(_listed, partial(merge_into_checkpoint, request))


def _undo(given: Given) -> Work:
    from lora_lab.surgery.into_checkpoint import unmerge

    base = given.files.checkpoint(given.values["base"])
    paths = tuple(use.path for use in given.uses())
    out, force = given.out(base, "unmerged"), given.force
    return partial(_undone, partial(unmerge, base, paths, out, force=force, dry_run=given.dry))


def _undone(run: Any, progress: Any) -> Sequence[Outcome]:  # noqa: ANN401
    return [run(progress=progress)]


def _resize(given: Given) -> Work:
    from lora_lab.surgery.resize import ResizeTarget

    source = given.files.lora(given.values["source"])
    shared = given.text("max_size") or given.text("max_error")
    ranks = ["resized"] if shared else [rank.strip() for rank in given.text("rank").split(",") if rank.strip()]
    if not ranks:
        raise SettingsError("no rank is given", remedy="type one, or a file size, or a loss")
    place = given.files.out(given.out_typed, "lora", source.stem)
    alone = len(ranks) == 1 and given.out_typed.strip()
    targets = []
    for rank in ranks:
        out = place if alone else place.with_name(f"{place.stem}-{rank.replace('=', '')}.safetensors")
        targets.append(ResizeTarget(out, given.how(rank), given.dtype is None))
    return partial(_resized, source, targets, given.force, given.dry)


def _resized(source: Path, targets: Any, force: bool, dry: bool, progress: Any) -> Sequence[Outcome]:  # noqa: ANN401
    from lora_lab.surgery.resize import resize

    return resize(source, targets, force=force, dry_run=dry, progress=progress)


def _bake(given: Given) -> Work:
    from lora_lab.surgery.bake import BakeRequest

    uses = given.uses()
    if len(uses) > 1 and given.out_typed.strip():
        raise SettingsError("several LoRAs cannot have one name", remedy="leave the output empty, or bake one by one")
    requests = []
    for use in uses:
        out, force = given.out(use.path, "baked"), given.force
        requests.append(BakeRequest(use, out, bool(given.values["fold_alpha"]), given.dtype, force, given.dry))
    return partial(_baked, requests)


def _baked(requests: Any, progress: Any) -> Sequence[Outcome]:  # noqa: ANN401
    from lora_lab.surgery.bake import bake

    return [bake(request, progress) for request in requests]


def _convert(given: Given) -> Work:
    from lora_lab.surgery.convert import ConvertRequest, convert

    source, layout = given.files.lora(given.values["source"]), given.text("layout")
    out, force = given.out(source, layout), given.force
    request = ConvertRequest(
        source, out, layout, given.dtype, bool(given.values["fold_alpha"]), force, given.dry  # type: ignore[arg-type]
    )  # fmt: skip
    return partial(_listed, partial(convert, request))


def _split(given: Given) -> Work:
    from lora_lab.surgery.split import SplitRequest, split

    source = given.files.lora(given.values["source"])
    try:
        ranks = tuple(int(word) for word in given.text("ranks").split(","))
    except ValueError:
        raise SettingsError(f"'{given.text('ranks')}' is no list of ranks", remedy="write 4, 8, 16") from None
    out = given.files.out(given.out_typed, "lora", source.stem)
    request = SplitRequest(
        source, ranks, out, given.text("alpha"), given.force, given.dry  # type: ignore[arg-type]
    )  # fmt: skip
    return partial(split, request)


def _listed(run: Any, progress: Any) -> Sequence[Outcome]:  # noqa: ANN401
    return [run(progress)]


MAKERS: Mapping[str, Callable[[Given], Work]] = {
    "extract": _extract, "merge": _merge, "into": _into, "undo": _undo, "resize": _resize, "bake": _bake,
    "convert": _convert, "split": _split,
}  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What came of a form."""

    tool: Tool
    dry: bool
    outcomes: Sequence[Outcome]


@dataclass(frozen=True)
class Run:
    """Work as a task runs it; a LoRA in the host's folder is shown to the host."""

    given: Given
    work: Work

    def __call__(self, task: Task) -> Done:
        outcomes = self.work(Telling(task))
        folder = self.given.files.lora_dir.resolve()
        for outcome in outcomes:
            if outcome.out is not None and outcome.out.resolve().is_relative_to(folder):
                self.given.files.context.host.lora_saved(outcome.out)
        return Done(self.given.tool, self.given.dry, outcomes)


@dataclass(frozen=True)
class Telling:
    """A task's progress, as surgery calls it."""

    task: Task

    def __call__(self, done: int, of: int, what: str) -> None:
        self.task.progress("working" if done < of else "writing", done, of)
