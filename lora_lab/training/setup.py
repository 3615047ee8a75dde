"""Setting a run up: the pictures, the adapter on the live model, the optimizer; what they share is a `Session`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.errors import TrainingError
from lora_lab.families import Family
from lora_lab.network.adapter import Adapter
from lora_lab.network.sites import Site, find_sites
from lora_lab.training import kinds, objective
from lora_lab.training.alike import facts_of
from lora_lab.training.drawing import Previews
from lora_lab.training.events import Event, Norms, Progress, RunStarted, Warned
from lora_lab.training.health import Health
from lora_lab.training.learning import precision
from lora_lab.training.learning.averages import LossAverage, Speed
from lora_lab.training.learning.block_sizes import block_sizes
from lora_lab.training.learning.precision import Precision
from lora_lab.training.material import Material, gather
from lora_lab.training.memory.thrift import Thrift, notes
from lora_lab.training.norms import block_norms
from lora_lab.training.objective.validation import Validation
from lora_lab.training.plan import Plan, make_plan
from lora_lab.training.prepare import Checked
from lora_lab.training.previews import parse_prompts
from lora_lab.training.record.metadata import Origin, RunFacts, new_session_id
from lora_lab.training.record.outputs import check_outputs, check_space
from lora_lab.training.record.state import Standing, State
from lora_lab.training.settings import TrainSettings
from lora_lab.training.starting import Start
from lora_lab.training.step import Stepper
from lora_lab.training.team import ALONE, Team, Work
from lora_lab.training.text.conditioning import CaptionEncoder
from lora_lab.training.text.text_cache import TextCache, cache_for
from lora_lab.training.turns import Fit, Turns

if TYPE_CHECKING:
    from lora_lab.dataset.dataset import Batch, BatchPlan, Dataset
    from lora_lab.host.base import Host, LoadedModel
    from lora_lab.training.settings import TrainSettings

@dataclass
class Session:
    """What a run works with from its first step to its last."""

    origin: Origin
    material: Material
    turns: Turns
    adapter: Adapter
    stepper: Stepper
    encoder: CaptionEncoder
    previews: Previews
    validation: Validation | None
    average: LossAverage
    precision: Precision
    text_cache: TextCache | None = None
    speed: Speed = field(default_factory=Speed)
    health: Health = field(init=False)

    def __post_init__(self) -> None:
        """Watch it under its optimizer's name."""
        self.health = Health(self.origin.settings.optimizer_type)
    team: Team = ALONE

    @property
    def plan(self) -> Plan:
        """The numbers of the run."""
        return self.origin.plan

    @property
    def dataset(self) -> Dataset:
        """The pictures that are trained on."""
        return self.material.train

    def started(self) -> RunStarted:
        """The event that says all is ready."""
        return RunStarted(
            name=self.origin.settings.output_name,
            checkpoint=self.origin.checkpoint.name,
            steps=self.plan.steps,
            epochs=self.plan.epochs,
            steps_per_epoch=self.plan.steps_per_epoch,
            pictures=self.material.pictures,
            sites=len(self.adapter.sites),
            parameters=self.stepper.parameters,
        )

    def steps_of(self, epoch: int) -> list[list[BatchPlan]]:
        """The batches of each optimizer step of an epoch (1-based)."""
        batches = list(self.dataset.epoch(epoch))
        size = self.origin.settings.gradient_accumulation_steps
        done = (epoch - 1) * self.plan.steps_per_epoch
        steps = [batches[i : i + size] for i in range(0, len(batches), size)]
        return [[replace(plan, step=done + number) for plan in step] for number, step in enumerate(steps)]

    def work(self, plans: list[BatchPlan], *, stop: bool) -> tuple[list[Batch], Work]:
        """What this process does of a step's batches.

        Args:
            plans: the batches.
            stop: this process was asked to stop.
        """
        pieces = self.team.pieces(plans)
        beside = [tuple(self.dataset.caption(i, p.plan.epoch) for i in p.others) for p in pieces]
        work = Work(tuple(p.place for p in pieces), len(plans), tuple(beside), stop)
        return [self.dataset.load(p.plan) for p in pieces], work

    def measured(self, step: int) -> Iterator[Event]:
        """After an epoch: its loss by timestep, how far the weights have moved, and a word when they run away."""
        bins = self.stepper.by_timestep.take(step)
        if bins is not None:
            yield bins
        blocks = block_norms(self.adapter)
        if blocks:
            yield Norms(step, blocks)
            yield from (Warned(text) for text in self.health.watch_norms(blocks))

    def metadata(self, epoch: int, step: int) -> dict[str, str]:
        """Of a file saved now."""
        return self.origin.metadata(epoch, step)

    def cache_latents(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """Encode the pictures through the live VAE, where the settings ask for it."""
        yield from self.material.prepare(self.turns.encode_pixels, self.origin.vae, stop)
        if self.text_cache is not None and not stop():
            yield from self._cache_captions(self.text_cache, stop)

    def _cache_captions(self, cache: TextCache, stop: Callable[[], bool]) -> Iterator[Event]:
        """Read every caption once, turn by turn."""
        waiting = deque(self.material.captions())
        total = len(waiting)
        while waiting and not stop():
            with self.turns.training() as model, self.precision.context(model.device):
                self.encoder.fill(model, waiting, lambda: self.turns.over)
            yield Progress("caching captions", total - len(waiting), total)
        if cache.warning:
            yield Warned(f"{cache.warning}.")


def set_up(
    checked: Checked, host: Host, folder: Path, before: State | None = None, team: Team = ALONE
) -> Generator[Event, None, Session]:
    """Scan the pictures, find the sites, make adapter and optimizer.

    Args:
        checked: from `prepare.check_start`.
        host: where the live model is.
        folder: of the run.
        before: the state of a broken-off run that is to go on.
        team: this process among those that train together.

    Raises:
        DatasetError, SettingsError, OutputError, HostBusyError: it cannot be trained like this.
        TrainingError: the state does not fit.
    """
    settings, info = checked.settings, checked.checkpoint
    ground = yield from _ground(checked, host, before, team)
    material, plan = ground.material, ground.plan
    turns = Turns(host, info.identity, Thrift.of(settings), settings.sharing)
    clip_skip = (settings.clip_skip or host.default_clip_skip()) if info.family is Family.SD1 else 1
    with turns.training() as model:
        begun = Start(settings, model, host.paths().lora_dir)
        adapter = _adapter(settings, model, plan, begun)
        chosen = precision.full(precision.choose(settings.mixed_precision, model.device, model.dtype), settings)
        device = model.device
    yield from (Warned(text) for text in notes(settings, device))
    for text in kinds.size_warnings(adapter.sites, kinds.sizes_of(settings), settings.algo):
        yield Warned(text)
    for parameter in adapter.parameters():
        parameter.data = parameter.data.to(chosen.adapter)
    reading = (info.identity + begun.text_mark, clip_skip, chosen.name)
    cache = cache_for(settings, reading, host.paths().data_dir / "text_states")
    encoder = _encoder(settings, clip_skip, plan, material, cache)
    stepper = Stepper(settings, plan, adapter, chosen, encoder, team)
    team.check_same(facts_of(settings, plan, material.fingerprint, info, stepper.parameters))
    check_space(checked.outputs, settings, plan, stepper.parameters)
    turns.adapter, turns.beside = adapter, begun.beside(adapter)
    turns.fit = Fit(kinds.reach_of(settings), adapter, *(one.adapter for one in turns.beside))
    optimizer = f"{type(stepper.optimizer).__module__}.{type(stepper.optimizer).__name__}"
    if before is not None:
        stepper.restore(before.learning, before.adapter)
    full_hash = host.full_hash(info)
    run = RunFacts(ground.session_id, ground.started, clip_skip, chosen.name, optimizer, full_hash, team.size)
    return Session(
        origin=Origin(settings, plan, info, material.facts, run),
        material=material,
        turns=turns,
        adapter=adapter,
        stepper=stepper,
        encoder=encoder,
        previews=Previews(parse_prompts(settings), turns, folder / "previews", clip_skip),
        validation=None if material.validation is None else Validation(material.validation, encoder, chosen, settings),
        precision=chosen,
        text_cache=cache,
        average=LossAverage(plan.batches_per_epoch, () if before is None else before.standing.losses),
        team=team,
    )


@dataclass(frozen=True)
class _Ground:
    """What is settled before the model is asked for."""

    session_id: int
    started: float
    """Seconds since 1970, of the run's first start."""
    material: Material
    plan: Plan


def _ground(checked: Checked, host: Host, before: State | None, team: Team) -> Generator[Event, None, _Ground]:
    """Read the pictures, and count the steps; see `set_up`."""
    settings, stood = checked.settings, None if before is None else before.standing
    session_id = team.agree(new_session_id()) if stood is None else stood.session_id
    yield Progress("reading the pictures", 0, 1)
    seed = settings.seed if settings.seed is not None else session_id if stood is None else stood.seed
    material = gather(settings, seed, host.paths().data_dir / "latents", team.size)
    yield from (Warned(text) for text in material.warnings)
    plan = make_plan(settings, material.facts.batches_per_epoch, seed=seed, family=checked.checkpoint.family)
    material.train.epochs.steps = plan.steps
    check_outputs(checked.outputs, plan, own=None if stood is None else session_id)
    if stood is not None:
        yield from _same_data(stood, plan, material)
    yield Progress("reading the pictures", 1, 1)
    return _Ground(session_id, time.time() if stood is None else stood.started_at, material, plan)


def _encoder(
    settings: TrainSettings, clip_skip: int, plan: Plan, material: Material, cache: TextCache | None
) -> CaptionEncoder:
    learns = plan.trains("text_encoder")
    return CaptionEncoder(settings, clip_skip, learns=learns, moving=material.moving, cache=cache)


def _same_data(stood: Standing, plan: Plan, material: Material) -> Iterator[Event]:
    """A run goes on with the pictures it began with.

    Raises:
        TrainingError: there are more or fewer batches than before, so that nobody could say where it stood.
    """
    if (plan.steps_per_epoch, plan.steps) != (stood.steps_per_epoch, stood.steps):
        what = (
            f"the run had {stood.steps} steps, {stood.steps_per_epoch} an epoch, and would now have {plan.steps}, "
            f"{plan.steps_per_epoch} an epoch, since the pictures have changed"
        )
        raise TrainingError(what, remedy="put the pictures back, or start anew from its last snapshot")
    if material.fingerprint != stood.dataset:
        yield Warned("Pictures or captions have changed since this run was broken off: it goes on with the new ones.")


def _adapter(settings: TrainSettings, model: LoadedModel, plan: Plan, begun: Start) -> Adapter:
    """The adapter on the layers that are trained, fresh or gone on with."""
    generator = objective.generator_for("adapter", plan.seed)
    sites, how = begun.sites(_sites(model, plan, settings)), kinds.recipes_of(settings)
    sizes = begun.sizes(block_sizes(settings, model.info.family, kinds.sizes_of(settings)))
    return begun.fill(Adapter.create(sites, sizes=sizes, how=how, generator=generator))


def _sites(model: LoadedModel, plan: Plan, settings: TrainSettings) -> tuple[Site, ...]:
    reach = kinds.reach_of(settings)
    return find_sites(model.unet, model.text_encoders, model.info.family, model.layout, plan.parts, reach)
