"""Change the ranks of an adapter: LoRA, LoCon and Tucker LoCon through the QR core of their factors, LoHa and LoKr
through their deltas. One pass gives several files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.network.deltas import Kind
from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.compress import Compression, Compressor, dim_metadata, note_dropped
from lora_lab.surgery.metadata import inherited, recipe, source_entry
from lora_lab.surgery.outcome import Outcome, Progress, Tally, silent
from lora_lab.surgery.places import block_of
from lora_lab.surgery.spool import Heap, Spool


@dataclass(frozen=True)
class ResizeTarget:
    """One file to make: where, and how. ``keep_dtype`` stores the factors in the input's own precision."""

    out: Path
    how: Compression
    keep_dtype: bool = True


def resize(
    source: Path, targets: Sequence[ResizeTarget], *, force: bool = False, dry_run: bool = False,
    progress: Progress = silent,
) -> list[Outcome]:
    """Make one or several files of other ranks from one adapter.

    Sites of other kinds (DoRA, IA3, norms, ...) are copied as they are. With ``dry_run`` everything is computed and
    nothing is written.

    Raises:
        AdapterFileError: see :class:`AdapterReader`.
        SettingsError: no site can be resized, or every one has the rank asked for already.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    with ExitStack() as stack:
        reader = stack.enter_context(AdapterReader(source))
        _check(reader, targets)
        jobs = [_Job.start(stack, reader, target, force) for target in targets]
        for number, entry in enumerate(reader):
            progress(number, len(reader.sites), entry.name)
            for job in jobs:
                job.take(reader, entry)
        progress(len(reader.sites), len(reader.sites), "writing")
        return [job.finish(reader, dry_run) for job in jobs]


def resizable(entry: SiteEntry) -> bool:
    """Whether a site has a delta of its own that a LoRA can hold."""
    return entry.kind in (Kind.LORA, Kind.LOHA, Kind.LOKR) and "dora_scale" not in entry.keys


def _check(reader: AdapterReader, targets: Sequence[ResizeTarget]) -> None:
    entries = [entry for entry in reader if resizable(entry)]
    if not entries:
        raise AdapterFileError(
            f"no site can be resized: the file's kind is {', '.join(reader.kinds)}",
            file=reader.path,
            remedy="LoRA, LoCon, LoHa and LoKr can",
        )
    for target in targets:
        rule = target.how.rule
        largest = max(entry.rank or 0 for entry in entries)
        fixed = rule is not None and rule.kind == "fixed" and not target.how.shared and not target.how.block_rules
        if fixed and rule is not None and all(e.kind is Kind.LORA for e in entries) and largest <= rule.value:
            raise SettingsError(
                f"the file's rank is {largest} already", file=reader.path, remedy=f"ask for less than {largest}"
            )


def _expected(reader: AdapterReader, target: ResizeTarget) -> int:
    """Bytes that the output takes at least, where the rank is fixed: its share of the input's."""
    rule = target.how.rule
    largest = max((entry.rank or 0 for entry in reader if resizable(entry)), default=0)
    if rule is None or rule.kind != "fixed" or target.how.shared or target.how.block_rules or not largest:
        return 0
    plain = all(entry.kind is Kind.LORA for entry in reader)
    stored = reader.stored_bytes(None if target.keep_dtype else target.how.dtype)
    return int(stored * min(1.0, rule.value / largest)) if plain and target.how.conv_rule is None else 0


@dataclass
class _Job:
    """One target on its way."""

    target: ResizeTarget
    spool: Spool
    tally: Tally
    to: Compressor

    @classmethod
    def start(cls, stack: ExitStack, reader: AdapterReader, target: ResizeTarget, force: bool) -> _Job:
        """Check the output's place and make ready."""
        expect = target.how.max_bytes or _expected(reader, target)
        spool = stack.enter_context(Spool(target.out, force=force, inputs=[reader.path], expect=expect))
        heap = stack.enter_context(Heap(target.out.parent))
        tally = Tally()
        how = replace(target.how, dtype=reader.dtype) if target.keep_dtype else target.how
        return cls(target, spool, tally, Compressor(how, spool, heap, tally, reader.family))

    def take(self, reader: AdapterReader, entry: SiteEntry) -> None:
        """Resize one site, or copy it."""
        if not resizable(entry):
            for suffix, tensor in reader.tensors(entry).items():
                self.spool.put(f"{entry.name}.{suffix}", tensor)
            self.tally.add(block_of(entry.name, reader.family), (reader.norm(entry) or 0.0) ** 2, 0.0)
            return
        product = reader.factors(entry)
        if product is not None:
            up, down = product
            return self.to.add_product(entry.name, up, down, reader.shape(entry, up.shape[0], down.shape[1]))
        weight = reader.delta(entry).weight
        assert weight is not None
        out = weight.shape[0]
        self.to.add_matrix(entry.name, weight.reshape(reader.shape(entry, out, prod(weight.shape[1:]))))

    def finish(self, reader: AdapterReader, dry_run: bool) -> Outcome:
        """Notes, metadata, and the file."""
        self.to.finish()
        note_dropped(self.tally, self.to.ranks)
        kept = [entry for entry in reader if not resizable(entry)]
        if kept:
            kinds = ", ".join(sorted({e.kind.value for e in kept}))
            self.tally.notes.append(f"{len(kept)} sites are kept as they are ({kinds})")
        for key in reader.others:
            self.spool.put(key, reader.file.read(key))
        metadata = inherited(reader.metadata, self.target.out.stem) | dim_metadata(self.to.ranks)
        metadata |= recipe("resize", source=source_entry(reader.file), error=self.tally.outcome(None, 0).error)
        size = sum(spec.nbytes for spec in self.spool.specs.values())
        if not dry_run:
            size = self.spool.write(metadata)
        return self.tally.outcome(None if dry_run else self.target.out, size, ranks=self.to.ranks)
