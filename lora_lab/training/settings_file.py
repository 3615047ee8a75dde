"""Settings in files: our TOML and JSON, and kohya's ``config_file`` TOML. No torch here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_lab.errors import OutputError, SettingsError
from lora_lab.training.fields import SAME
from lora_lab.training.settings import TrainSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MARK = "lora_lab"
"""Key that says a file is ours, with the version of its format as value."""
FORMAT = 1

KOHYA_ONLY = frozenset((
    "accelerate_args", "base_weights", "cache_info", "caption_separator",
    "color_aug", "dataset_config", "huber_schedule", "in_json",
    "log_with", "loss_type", "lowram", "lr_scheduler_args",
    "max_data_loader_n_workers", "mem_eff_attn", "metadata_title", "min_timestep",
    "multires_noise_iterations", "network_args", "network_module", "network_weights",
    "no_half_vae", "no_metadata", "persistent_data_loader_workers", "pretrained_model_name_or_path",
    "save_every_n_steps", "save_model_as", "save_state", "scale_weight_norms",
    "sdpa", "tokenizer_cache_dir", "use_8bit_adam", "v2",
    "v_parameterization", "vae", "wandb_api_key", "weighted_captions",
    "xformers",
))
"""Options of kohya's scripts that show a file to be one of theirs."""


@dataclass(frozen=True)
class SettingsFile:
    """What a file held."""

    settings: TrainSettings
    skipped: tuple[str, ...] = ()
    """Keys of a kohya file that have no setting here (yet); the run goes without them."""
    values: tuple[str, ...] = ()
    """Names of the settings that the file gives."""

    @property
    def note(self) -> str:
        """One sentence on what was skipped, empty when nothing was."""
        return f"Not taken over from the file: {', '.join(self.skipped)}." if self.skipped else ""


def read(path: Path) -> SettingsFile:
    """Read a settings file.

    A file of ours is strict: an unknown key is refused. A file that names an option only kohya's scripts have is
    theirs: sections are flattened, empty values count as not given, and keys without a setting here are listed.

    Raises:
        SettingsError: no such file, not TOML or JSON, an unknown key in a file of ours, a value out of range.
    """
    values = _load(path)
    try:
        return from_values(values)
    except SettingsError as error:
        raise SettingsError(error.what, file=error.file or path, remedy=error.remedy) from error


def from_values(values: Mapping[str, Any]) -> SettingsFile:
    """As `read`, from the parsed content."""
    flat, ours = _flatten(values), MARK in values
    if ours and values[MARK] != FORMAT:
        what = f"the file's format is {values[MARK]!r}, this version reads {FORMAT}"
        raise SettingsError(what, remedy="update LoRA Lab")
    flat.pop(MARK, None)
    if ours or not KOHYA_ONLY & flat.keys():
        return SettingsFile(TrainSettings.from_mapping(flat), values=tuple(flat))
    return _from_kohya(flat)


def _from_kohya(flat: Mapping[str, Any]) -> SettingsFile:
    """What a kohya file leaves out has kohya's default, not ours: the run is to be the one the person knows."""
    specs = {name: spec for spec in TrainSettings.specs() for name in (spec.name, *spec.aliases)}
    given = {name: value for name, value in flat.items() if name in specs and value not in ("", None)}
    given = {name: v for name, v in given.items() if v is False or v != 0 or specs[name].name not in ZERO_IS_UNSET}
    given_names = {specs[name].name for name in given}
    unsaid = {s.name: s.kohya_default for s in specs.values() if s.kohya_default != SAME and s.name not in given_names}
    if "max_train_epochs" in given_names:
        unsaid.pop("max_train_steps", None)
    skipped = tuple(sorted(name for name in flat if name not in specs))
    return SettingsFile(TrainSettings.from_mapping({**unsaid, **given}), skipped, tuple(given_names))


ZERO_IS_UNSET = frozenset({"save_every_n_epochs", "sample_every_n_epochs", "max_train_epochs", "max_train_steps"})
"""kohya reads a 0 here as not given."""


def write(settings: TrainSettings, path: Path) -> None:
    """Write our TOML or JSON (by the ending), whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    values = {name: value for name, value in settings.to_mapping().items() if value is not None}
    text = to_json(values) if path.suffix.lower() == ".json" else to_toml(values)
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"the settings cannot be written, {error.strerror}", file=path) from error


def to_toml(values: Mapping[str, Any]) -> str:
    """Flat TOML with our mark on top."""
    lines = [f"{MARK} = {FORMAT}", *(f"{name} = {_toml(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def to_json(values: Mapping[str, Any]) -> str:
    """JSON with our mark on top."""
    return json.dumps({MARK: FORMAT, **values}, ensure_ascii=False, indent=1) + "\n"


def _toml(value: Any) -> str:  # noqa: ANN401 - a plain value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, except that TOML wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value)


def _load(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError("the settings file cannot be read", file=path, remedy="check the path") from error
    try:
        text = data.decode("utf-8-sig")
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise SettingsError(f"the settings file is no valid TOML or JSON, {reason}", file=path) from error
    if not isinstance(values, dict):
        raise SettingsError("the settings file holds no names and values", file=path)
    return values


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """kohya's way: a section's name means nothing, its keys count."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flatten(value) if isinstance(value, Mapping) else {str(name): value}
        for key, item in inner.items():
            if key in flat:
                raise SettingsError(f"{key} is given twice", remedy="leave one of them out")
            flat[key] = item
    return flat

