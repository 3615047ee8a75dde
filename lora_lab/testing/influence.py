"""The influence map: each block of a LoRA alone, and each left out; what changes in pictures, numbers and meaning.

A block alone against the bare checkpoint shows what it can do; the whole without it, what is lost. With a tagger the
change is parted: how much of the trigger's concept the block carries, and how much of everything else. Prompts without
the trigger show what it does where nobody asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import HostBusyError
from lora_lab.families import Family
from lora_lab.network.blocks import block_names, block_of_name, in_order
from lora_lab.network.outline import outline
from lora_lab.testing import measures, rows
from lora_lab.testing.cells import NOTHING, GridPlan, Look
from lora_lab.testing.events import GridEvent, GridResult, Made
from lora_lab.testing.grid import run_grid
from lora_lab.testing.proposal import Proposal, propose
from lora_lab.testing.words import asked_for, without_tag

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from lora_lab.host.base import Host
    from lora_lab.testing.judge import Judge, Seen


@dataclass(frozen=True)
class InfluencePlan:
    """What to look at."""

    lora: Path
    prompts: tuple[str, ...]
    """With the trigger."""
    seeds: tuple[int, ...]
    trigger: str = ""
    """Left out of the prompts, they show what the LoRA does uncalled; empty: that is not looked at."""
    look: Look = Look()
    batch: int = 8
    quick: float = 0.0
    blocks: tuple[str, ...] = ()
    """Empty: every block in which the LoRA has a layer."""
    out: Path | None = None

    @property
    def plain(self) -> tuple[str, ...]:
        """The prompts without the trigger, as far as that makes others of them."""
        if not self.trigger:
            return ()
        found = (without_tag(prompt, self.trigger) for prompt in self.prompts)
        return tuple(dict.fromkeys(prompt for prompt in found if prompt not in self.prompts))


@dataclass(frozen=True)
class Change:
    """How pictures differ, on average."""

    pixel: float
    """Mean absolute difference, 0..1."""
    perceptual: float
    """See `measures.perceptual_distance`."""
    latent: float
    """Root of the mean squared difference of the pictures' latents."""


@dataclass(frozen=True)
class BlockInfluence:
    """What one block does."""

    block: str
    alone: Change
    """The block alone against the bare checkpoint."""
    left_out: Change
    """The LoRA without the block against the whole."""
    concept: float
    """Of the concept, 0..1: the mean of what the block alone brings and of what is lost without it; below 0 it
    hinders. 0 without a tagger."""
    other: float
    """Tags beside the concept's that it changes in a picture; 0 without a tagger."""
    bleed: float
    """Perceptual change of prompts without the trigger; 0 where that was not looked at."""
    heat: Image.Image
    """Where it acts, over the first picture of the whole LoRA."""


@dataclass(frozen=True)
class InfluenceMap:
    """The whole answer."""

    blocks: tuple[BlockInfluence, ...]
    """In the order of vectors."""
    concept: tuple[str, ...]
    """Tags that were counted as the concept."""
    concept_whole: float
    """Share of the concept with the whole LoRA, 0..1."""
    concept_bare: float
    proposal: Proposal
    grids: tuple[GridResult, ...]
    note: str = ""
    """What to know of the concept's tags; empty where there is nothing."""

    def to_json(self) -> dict[str, Any]:
        """For ``--json``: numbers, no pictures."""
        found = []
        for one in self.blocks:
            told: dict[str, Any] = {"block": one.block, "alone": vars(one.alone), "left_out": vars(one.left_out)}
            found.append({**told, "concept": one.concept, "other": one.other, "bleed": one.bleed})
        return {
            "blocks": found, "concept": list(self.concept), "concept_whole": self.concept_whole,
            "concept_bare": self.concept_bare,
            "note": self.note,
        }  # fmt: skip


def run_influence(
    host: Host,
    plan: InfluencePlan,
    judge: Judge | None = None,
    listen: Callable[[GridEvent], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> InfluenceMap | None:
    """Make the pictures (two grids: with and without the trigger) and measure. None if it was stopped; what is made is
    kept, and the same plan goes on.

    Raises:
        LoraLabError: see `run_grid`.
    """
    info = host.current()
    if info is None:
        raise HostBusyError("no checkpoint is loaded", remedy="load one first")
    names = plan.blocks or blocks_with_sites(plan.lora, info.family)
    grids = []
    for prompts in filter(None, (plan.prompts, plan.plain)):
        result = run_grid(host, grid_plan(plan, names, prompts, info.family), listen, stop)
        if result.stopped:
            return None
        grids.append(result)
    return measured(host, info.identity, names, grids, judge, plan.trigger)


def blocks_with_sites(lora: Path, family: Family) -> tuple[str, ...]:
    """The blocks in which a file has a layer.

    Raises:
        AdapterFileError: it is no LoRA.
    """
    known = set(block_names(family))
    return in_order(block for site in outline(lora).sites if (block := block_of_name(site, family)) in known)


def grid_plan(plan: InfluencePlan, names: Sequence[str], prompts: tuple[str, ...], family: Family) -> GridPlan:
    """Rows: the bare checkpoint, each block alone, each left out."""
    alone = rows.single_blocks(family, blocks=names)
    left = rows.single_blocks(family, blocks=names, without=True)
    return GridPlan(
        plan.lora, (NOTHING, *alone, *left), prompts, plan.seeds, plan.look, plan.batch, plan.quick, plan.out,
        trigger=plan.trigger if prompts == plan.prompts else None, large=True,
    )  # fmt: skip


class _Pictures:
    """The pictures of a grid by row."""

    def __init__(self, result: GridResult) -> None:
        self._result = result
        self._places = {row.label: i for i, row in enumerate(result.plan.rows)}

    def of(self, label: str | None) -> list[Made]:
        """All columns of a row; None is the whole LoRA."""
        row = None if label is None else self._places[label]
        found = [self._result.at(row, column) for column in range(len(self._result.plan.columns))]
        return [made for made in found if made is not None]


def measured(
    host: Host, identity: str, names: Sequence[str], grids: Sequence[GridResult], judge: Judge | None, trigger: str = ""
) -> InfluenceMap:
    """The map from finished grids."""
    latents = _latents(host, identity, grids)
    seen = _seen(grids, judge)
    main, plain = _Pictures(grids[0]), _Pictures(grids[1]) if len(grids) > 1 else None
    concept: tuple[str, ...] = ()
    note, whole, bare = "", 0.0, 0.0
    if judge is not None:
        sights = _rows_seen(seen, main, None), _rows_seen(seen, main, NOTHING.label)
        concept = judge.found_concept(*sights, asked_for(grids[0].plan.prompts, trigger))
        note = judge.doubt(grids[0].plan.seeds)
        whole, bare = (judge.share(sight, concept) for sight in sights)
    pairs = {name: _pairs(main, name) for name in names}
    most = max((float(measures.heat(_images(found)).max()) for found in pairs.values()), default=1.0)
    found = []
    for name in names:
        alone, left = pairs[name][: len(pairs[name]) // 2], pairs[name][len(pairs[name]) // 2 :]
        parts = (0.0, 0.0) if judge is None else _meaning(judge, concept, seen, alone, left)
        warmth = measures.heat_over(main.of(None)[0].image, measures.heat(_images(pairs[name])), most)
        bleed = 0.0 if plain is None else _change(_pairs(plain, name), latents).perceptual
        found.append(
            BlockInfluence(name, _change(alone, latents), _change(left, latents), *parts, bleed=bleed, heat=warmth)
        )
    family = _family(host)
    proposal = propose(found, family, judged=bool(concept), called="the concept")
    return InfluenceMap(tuple(found), concept, whole, bare, proposal, tuple(grids), note)


def _family(host: Host) -> Family:
    info = host.current()
    return info.family if info is not None else Family.SD1


Pair = tuple[Made, Made]
"""A picture with the block, and the same without."""


def _pairs(pictures: _Pictures, block: str) -> list[Pair]:
    """First the block alone against nothing, then the whole against the whole without it."""
    alone = zip(pictures.of(block), pictures.of(NOTHING.label), strict=True)
    left = zip(pictures.of(None), pictures.of(f"without {block}"), strict=True)
    return [*alone, *left]


def _images(pairs: Iterable[Pair]) -> list[tuple[Image.Image, Image.Image]]:
    return [(one.image, other.image) for one, other in pairs]


def _change(pairs: Sequence[Pair], latents: Mapping[Path, np.ndarray[Any, Any]]) -> Change:
    count = max(1, len(pairs))
    pixel = sum(measures.pixel_distance(a.image, b.image) for a, b in pairs) / count
    perceptual = sum(measures.perceptual_distance(a.image, b.image) for a, b in pairs) / count
    latent = sum(float(((latents[a.path] - latents[b.path]) ** 2).mean() ** 0.5) for a, b in pairs) / count
    return Change(pixel, perceptual, latent)


def _meaning(
    judge: Judge, concept: tuple[str, ...], seen: Mapping[Path, Any], alone: Sequence[Pair], left: Sequence[Pair]
) -> tuple[float, float]:
    """What the block carries of the concept, and what else it changes."""
    gains, others = [], []
    for pairs in (alone, left):
        with_it, without = (_stack(seen, [pair[i] for pair in pairs]) for i in (0, 1))
        gains.append(judge.share(with_it, concept) - judge.share(without, concept))
        others.append(judge.elsewhere(with_it, without, concept))
    return sum(gains) / 2, sum(others) / 2


def _stack(seen: Mapping[Path, Any], made: Sequence[Made]) -> Seen:
    import numpy as np

    return np.stack([seen[one.path] for one in made])


def _rows_seen(seen: Mapping[Path, Any], pictures: _Pictures, label: str | None) -> Seen:
    return _stack(seen, pictures.of(label))


def _different(grids: Sequence[GridResult]) -> list[Made]:
    """Every picture once."""
    return list({made.path: made for grid in grids for made in grid.made if made is not None}.values())


def _seen(grids: Sequence[GridResult], judge: Judge | None) -> dict[Path, Any]:
    """What the tagger sees in each picture."""
    if judge is None:
        return {}
    made = _different(grids)
    return dict(zip((one.path for one in made), judge.look([one.image for one in made]), strict=True))


def _latents(host: Host, identity: str, grids: Sequence[GridResult]) -> dict[Path, Any]:
    """The latents of each picture, encoded in a lease of their own."""
    import numpy as np
    import torch

    made = _different(grids)
    found: dict[Path, Any] = {}
    with host.lease("pictures", expect=identity) as model:
        for at in range(0, len(made), 8):
            some = made[at : at + 8]
            stacked = np.stack([measures.pixels(one.image) for one in some])
            batch = torch.from_numpy(stacked).permute(0, 3, 1, 2) * 2 - 1
            found.update(zip((one.path for one in some), model.encode_pixels(batch).numpy(), strict=True))
    return found
