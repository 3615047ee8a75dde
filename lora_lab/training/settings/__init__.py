"""The settings of a run: kohya's names and meaning, one table for widgets, ``--help``, files and docs. No torch here.

    settings = TrainSettings.from_mapping({"train_data_dir": "pictures", "network_dim": 16})
    for spec in TrainSettings.specs(): ...
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.training.settings.field_blocks import BlockFields
from lora_lab.training.settings.field_captions import CaptionFields
from lora_lab.training.settings.field_data import DataFields
from lora_lab.training.settings.field_family import FamilyFields
from lora_lab.training.settings.field_kinds import KindFields
from lora_lab.training.settings.field_learning import LearningFields
from lora_lab.training.settings.field_memory import MemoryFields
from lora_lab.training.settings.field_network import NetworkFields
from lora_lab.training.settings.field_noise import NoiseFields
from lora_lab.training.settings.field_output import OutputFields
from lora_lab.training.settings.field_speed import SpeedFields
from lora_lab.training.settings.field_start import StartFields
from lora_lab.training.settings.fields import FieldSpec, spec_of
from lora_lab.training.settings.network_args import folded
from lora_lab.training.settings.values import parse


@dataclass(frozen=True)
class TrainSettings(
    StartFields, OutputFields, MemoryFields, SpeedFields, NoiseFields, FamilyFields, LearningFields, BlockFields,
    KindFields, NetworkFields, CaptionFields, DataFields,
):  # fmt: skip
    """Everything a person may choose for a run. Frozen: what is worked out from it stands in a `Plan`.

    Made by `from_mapping`, which checks each value's type and range (`settings_file` reads files); `checks.check` then
    looks at the combination.
    """

    @classmethod
    @cache
    def specs(cls) -> tuple[FieldSpec, ...]:
        """The table: one row per setting, in the order of the form."""
        return tuple(spec_of(field) for field in dataclasses.fields(cls))

    @classmethod
    def spec(cls, name: str) -> FieldSpec:
        """The row of the setting `name` (or of an alias of it).

        Raises:
            SettingsError: there is no such setting; the nearest one is named.
        """
        found = cls._by_name().get(name)
        if found is None:
            raise unknown(name)
        return found

    @classmethod
    @cache
    def _by_name(cls) -> dict[str, FieldSpec]:
        """Names and aliases; a form asks for hundreds at every change."""
        return {name: spec for spec in reversed(cls.specs()) for name in (spec.name, *spec.aliases)}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Settings from names and values as a file, widgets or ``--set`` give them; the rest are our defaults.

        Raises:
            SettingsError: an unknown name (the nearest is proposed), a setting given twice, a value of the wrong kind
                or out of its range.
        """
        known: dict[str, Any] = {}
        for name, value in folded(two_rates(values), own_name).items():
            spec = cls.spec(name)
            if spec.name in known:
                raise SettingsError(f"{spec.name} is given twice", remedy=f"leave out {name}")
            known[spec.name] = parse(spec, value)
        return cls(**known)

    def replace(self, **changes: Any) -> TrainSettings:  # noqa: ANN401 - any setting
        """A copy with some settings changed, checked as `from_mapping` does."""
        return self.from_mapping({**self.to_mapping(), **changes})

    def to_mapping(self, *, changed_only: bool = False) -> dict[str, Any]:
        """Plain values (numbers, texts, lists, None) that `from_mapping` reads back to equal settings.

        Args:
            changed_only: leave out what has its default.
        """
        result: dict[str, Any] = {}
        for spec in self.specs():
            value = getattr(self, spec.name)
            if changed_only and value == spec.default:
                continue
            if spec.kind == "size":
                value = value[0] if value[0] == value[1] else list(value)
            result[spec.name] = list(value) if isinstance(value, tuple) else value
        return result


def two_rates(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """kohya's list of two rates in text_encoder_lr, parted: the second is SDXL's second text encoder's.

    Raises:
        SettingsError: a list of another length.
    """
    rates = values.get("text_encoder_lr")
    if not isinstance(rates, (list, tuple)):
        return values
    if len(rates) not in (1, 2):
        what = f"text_encoder_lr has {len(rates)} rates"
        raise SettingsError(what, remedy="give one, or two for the two text encoders of SDXL")
    more = {"text_encoder_lr2": rates[1]} if len(rates) == 2 and rates[0] != rates[1] else {}
    return {**values, "text_encoder_lr": rates[0], **more}


def own_name(name: str) -> str | None:
    """A setting's own name, for it or an alias of it; None if there is no such setting."""
    return next((s.name for s in TrainSettings.specs() if name == s.name or name in s.aliases), None)


def unknown(name: str) -> SettingsError:
    """The error for a setting that does not exist, with the nearest that does."""
    names = [n for spec in TrainSettings.specs() for n in (spec.name, *spec.aliases)]
    nearest = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {nearest[0]}?" if nearest else "see the list of settings in lora-lab train --help"
    return SettingsError(f"there is no setting {name!r}", remedy=remedy.rstrip("?"))
