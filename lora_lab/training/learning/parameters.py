"""Which parameters of an adapter have which rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_lab.errors import SettingsError
from lora_lab.training.learning.groups import plus_ratio, site_share
from lora_lab.training.learning.optimizers import ParamGroups
from lora_lab.training.plan import Plan
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from lora_lab.network.adapter import Adapter
    from lora_lab.network.piece import Piece


def parameter_groups(settings: TrainSettings, plan: Plan, adapter: Adapter) -> ParamGroups:
    """The adapter's parameters by the plan's rate groups, with the base rates; groups without a parameter are left out.

    Raises:
        SettingsError: LoRA+ for a kind of adapter that has no up half, or no parameter has a rate.
    """
    family = plan.family
    members: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for piece in adapter.pieces:
        part = "text_encoder" if plan.shared and piece.site.part == "text_encoder_2" else piece.site.part
        share = site_share(piece.site, settings, family)
        late = _up_halves(piece) if plus_ratio(settings, part) is not None else set()
        for parameter in piece.parameters:
            members.setdefault((part, share, parameter.data_ptr() in late), []).append(parameter)
    if any(g.plus for g in plan.rates) and not any(plus for _, _, plus in members):
        what = "LoRA+ lets the up half of a LoRA learn faster, this kind of adapter has none"
        raise SettingsError(what, remedy="leave the loraplus ratios empty")
    return [
        {"name": group.name, "params": found, "lr": group.learning_rate}
        for group in plan.rates
        if (found := members.get((group.part, group.share, group.plus)))
    ]


def _up_halves(piece: Piece) -> set[int]:
    """Where the tensors lie whose names on disk have lora_up in them: kohya's rule."""
    return {tensor.data_ptr() for name, tensor in piece.tensors().items() if "lora_up" in name}
