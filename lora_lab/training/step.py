"""One optimizer step on a lent model: forward, loss, backward, clip, update. Knows no files, events or threads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lora_lab.errors import SettingsError, TrainingError
from lora_lab.training import objective
from lora_lab.training.learning.fused import FusedUpdate
from lora_lab.training.learning.optimizers import build, in_units, rates, settle
from lora_lab.training.learning.parameters import parameter_groups
from lora_lab.training.learning.precision import Precision
from lora_lab.training.learning.schedule_classes import Rates
from lora_lab.training.loss_bins import BinnedLoss
from lora_lab.training.objective.loss import LossOptions, huber_c, item_losses, snr_weights
from lora_lab.training.objective.noise import NoiseOptions
from lora_lab.training.plan import Plan
from lora_lab.training.record.packing import copied
from lora_lab.training.settings import TrainSettings
from lora_lab.training.team import ALONE, Team, Work
from lora_lab.training.text.conditioning import sized

if TYPE_CHECKING:
    from lora_lab.dataset.dataset import Batch
    from lora_lab.host.base import Conditioning, LoadedModel
    from lora_lab.network.adapter import Adapter
    from lora_lab.training.text.conditioning import CaptionEncoder


SQUARED = LossOptions()
SMALLEST_SCALE = 2.0**-10
"""A gradient scaler that has fallen so far has skipped dozens of steps: every gradient overflows."""


class LossIsNan(Exception):  # noqa: N818 - says what it is
    """The loss of a step is no number any more; the adapter has not been updated with it."""


@dataclass(frozen=True)
class StepResult:
    """What one step did."""

    losses: tuple[float, ...]
    """Of each batch that was added up."""
    learning_rates: dict[str, float]
    """In force during the step; d * lr for adaptive optimizers."""
    stop: bool = False
    """One of the processes that train together wants to stop: all do."""


class Stepper:
    """The optimizer, its schedule and the scaler: what lives from step to step beside the adapter."""

    def __init__(
        self, settings: TrainSettings, plan: Plan, adapter: Adapter, precision: Precision, encoder: CaptionEncoder,
        team: Team = ALONE,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._team = team
        self._adapter = adapter
        self._encoder = encoder
        self._plan = plan
        self._precision = precision
        groups = parameter_groups(settings, plan, adapter)
        self._parameters = [p for group in groups for p in group["params"]]
        self.optimizer = build(settings.optimizer_type, groups, settings.optimizer_args)
        self._rates = Rates(settings, plan, self.optimizer)
        self._noise, self._loss = noise_options(settings), loss_options(settings)
        self.by_timestep = BinnedLoss()
        device = self._parameters[0].device
        self._scaler = precision.scaler(device)
        self._fused = FusedUpdate(self.optimizer) if settings.fused_backward_pass else None
        if self._fused and not team.alone:
            what = "fused_backward_pass keeps no gradient that several processes could add up"
            raise SettingsError(what, remedy="switch it off, or start one process")
        if self._fused and precision.scaled:
            what = "fused_backward_pass cannot wait for the scaler of fp16"
            raise SettingsError(what, remedy="set mixed_precision to bf16, or switch it off")

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(p.numel() for p in self._parameters)

    def state(self) -> dict[str, Any]:
        """What the next steps depend on beside the adapter, as a copy: state_dict of optimizer and scaler."""
        # An optimizer's state_dict names its live tensors, which the next step changes while a thread writes them.
        live = {"optimizer": self.optimizer.state_dict(), "scaler": self._scaler.state_dict()}
        return {name: copied(value) for name, value in live.items()}

    def restore(self, state: Mapping[str, Any], parameters: Sequence[Tensor]) -> None:
        """Take over the adapter's parameters and what `state` gave, in place.

        Raises:
            TrainingError: they are those of another adapter or optimizer.
        """
        mine = self._adapter.parameters()
        if [tuple(p.shape) for p in mine] != [tuple(p.shape) for p in parameters]:
            what = "the state of the run is that of another adapter"
            raise TrainingError(what, remedy="start anew with these settings")
        try:
            self.optimizer.load_state_dict(dict(state["optimizer"]))
            self._scaler.load_state_dict(dict(state["scaler"]))
        except (KeyError, ValueError, RuntimeError) as error:
            what = f"the state of the run is that of another optimizer, {error}"
            raise TrainingError(what, remedy="start anew with these settings") from error
        with torch.no_grad():
            for parameter, value in zip(mine, parameters, strict=True):
                parameter.copy_(value)

    def step(self, model: LoadedModel, batches: Sequence[Batch], step: int, work: Work | None = None) -> StepResult:
        """Do optimizer step number `step` (1-based) on `batches`, whose gradients are averaged.

        Args:
            model: lent for training, with the adapter attached.
            batches: one for each of gradient_accumulation_steps (fewer at the end of an epoch).
            step: 1-based; the noise depends on it.
            work: where the batches belong in a step that several processes share; None for the whole of it.

        Raises:
            LossIsNan: nothing was updated.
            TrainingError: another of the processes has ended.
        """
        work = work or Work.whole([batch.latents.shape[0] for batch in batches])
        others = () if self._team.leads else (self._team.rank,)
        chance = objective.generator_for("step", self._plan.seed, step, *others)
        torch.manual_seed(chance.initial_seed())  # dropouts draw here
        if self._plan.text_encoder_steps is not None and step > self._plan.text_encoder_steps:
            self._leave_text_encoder()
        self._rates.set(step - 1)
        settle(self.optimizer, averaged=False)
        try:
            lean = not self._settings.gradient_checkpointing
            with self._adapter.training(lean=lean), self._fused.updating() if self._fused else nullcontext():
                losses = self._backward(model, batches, step, work)
            *losses, stop = self._team.sum([*losses, float(work.stop)])
            if not all(map(math.isfinite, losses)):
                raise LossIsNan
            self._team.add_gradients(self._parameters)
        except BaseException:
            self.optimizer.zero_grad(set_to_none=True)
            raise
        if not self._fused:
            self._update()
        return StepResult(tuple(losses), rates(self.optimizer), stop > 0)

    def _backward(self, model: LoadedModel, batches: Sequence[Batch], step: int, work: Work) -> list[float]:
        """Gradients of all batches, each divided by their number; of each batch this process's part of the loss.

        Ends early at a loss that is no number: with others, each hears of it when the losses are added up.
        """
        losses = [0.0] * work.count
        beside = work.beside or ((),) * len(batches)
        for batch, place, others in zip(batches, work.places, beside, strict=True):
            with self._precision.context(model.device):
                told = sized(self._encoder(model, batch.captions, others), batch)
                loss = self.loss(model, batch, told, step, place.first)
            losses[place.number] = float(loss.detach()) * place.share
            if not math.isfinite(losses[place.number]):
                break
            self._scaler.scale(loss * place.share / work.count).backward()  # type: ignore[no-untyped-call]
        return losses

    def loss(self, model: LoadedModel, batch: Batch, conditioning: Conditioning, step: int, first: int) -> Tensor:
        """The loss of one batch, a scalar with a graph; `first` is the position of its first item in the step."""
        draw = objective.draw(batch.latents, self._plan.seed, step, first, self._noise)
        alphas = alphas_of(model, self._settings)
        how = Measure(alphas, self._loss, batch.masks)
        losses = denoising_losses(model, batch.latents, draw, conditioning, how)
        self.by_timestep.add(draw.timesteps, losses)
        kind = model.info.prediction_type
        weights = snr_weights(draw.timesteps, alphas, self._loss, kind)
        return objective.combine(losses, batch.weights, weights)

    def sizes(self) -> dict[str, float]:
        """The d that an adaptive optimizer has found for each group; empty for others."""
        return {group["name"]: float(group["d"]) for group in self.optimizer.param_groups if "d" in group}

    def settle(self) -> None:
        """Put in place what is saved, drawn and validated with: for schedule-free optimizers their average."""
        settle(self.optimizer, averaged=True)

    def _leave_text_encoder(self) -> None:
        """From now on its part stays as it is: no gradient is worked out for it, and captions need no graph."""
        self._encoder.stop_learning()
        self._adapter.freeze("text_encoder", "text_encoder_2")

    def _update(self) -> None:
        """kohya's order: unscale, clip all parameters together, optimizer, limit of norms."""
        self._scaler.unscale_(self.optimizer)
        if self._settings.max_grad_norm:
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm)
            if not self._precision.scaled and not math.isfinite(float(norm)):
                self.optimizer.zero_grad(set_to_none=True)
                raise LossIsNan
        with in_units(self.optimizer):
            self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self._settings.scale_weight_norms:
            self._adapter.limit_norms(self._settings.scale_weight_norms)
        if self._precision.scaled and self._scaler.get_scale() < SMALLEST_SCALE:
            raise LossIsNan


@dataclass(frozen=True)
class Measure:
    """How errors become losses."""

    alphas_cumprod: Tensor
    """The schedule that is trained on, (1000,)."""
    loss: LossOptions = SQUARED
    masks: Tensor | None = None
    """(b, 1, h/8, w/8) in 0..1; None counts all places alike."""


def alphas_of(model: LoadedModel, settings: TrainSettings) -> Tensor:
    """The live schedule, or a stretched copy of it; the model's own stays as it is."""
    return objective.zero_terminal(model.alphas_cumprod) if settings.zero_terminal_snr else model.alphas_cumprod


def denoising_losses(
    model: LoadedModel, latents: Tensor, draw: objective.Draw, conditioning: Conditioning, how: Measure
) -> Tensor:
    """Each item's loss (b,) for this noise and these timesteps; latents (b, 4, h/8, w/8) scaled."""
    latents = latents.to(model.device, torch.float32)
    noise, timesteps = draw.noise.to(model.device), draw.timesteps
    seen = noise if draw.perturbation is None else noise + draw.perturbation.to(model.device)
    alphas = how.alphas_cumprod
    noisy = objective.add_noise(latents, seen, timesteps, alphas)
    wanted = objective.target(model.info.prediction_type, latents, noise, timesteps, alphas)
    edge = huber_c(timesteps, alphas, how.loss)
    predicted = model.predict(noisy, timesteps.to(model.device), conditioning)
    return item_losses(predicted, wanted, how.loss, edge, how.masks)


def noise_options(settings: TrainSettings) -> NoiseOptions:
    """The settings about noise; the names are the same, an empty one is off."""
    return NoiseOptions(**_named(NoiseOptions, settings))


def loss_options(settings: TrainSettings) -> LossOptions:
    """The settings about the loss; the names are the same, an empty one is off."""
    return LossOptions(**_named(LossOptions, settings))


def _named(kind: type, settings: TrainSettings) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: value for name in names if (value := getattr(settings, name)) is not None}
