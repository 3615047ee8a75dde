"""LyCORIS's preset TOML: which layers get a piece, and where another kind or size than usual. No torch.

    enable_conv = true
    unet_target_module = ["Transformer2DModel", "ResnetBlock2D"]
    unet_target_name = ["conv_in"]
    [module_algo_map.FeedForward]
    algo = "lokr"
    factor = 4
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import SettingsError
from lora_lab.network import names
from lora_lab.network.reach import Reach, classes_of
from lora_lab.network.recipe import ALGOS, Recipe
from lora_lab.network.sizes import Size, Sizes

if TYPE_CHECKING:
    from lora_lab.network.sites import Site

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REACH = {
    "unet_target_module": "unet", "text_encoder_target_module": "text", "unet_target_name": "unet_names",
    "text_encoder_target_name": "text_names", "exclude_name": "exclude", "use_fnmatch": "wildcards",
    "enable_conv": "conv",
}  # fmt: skip
"""Key of the file -> field of a `Reach`."""
WORDS = {"weight_decompose": "dora_wd", "wd_on_out": "wd_on_output"}
"""LyCORIS's names of options in the maps, where ours differ."""
OPTIONS = {field.name for field in dataclasses.fields(Recipe)} - {"dropout", "module_dropout"}


@dataclass(frozen=True)
class Override:
    """Another kind or size for some layers."""

    pattern: str
    """A class that the layer lies in, or a path."""
    by_class: bool
    wildcards: bool
    options: Mapping[str, Any]
    """Fields of a `Recipe`."""
    dim: int | None = None
    alpha: float | None = None

    def fits(self, site: Site) -> bool:
        """Is it for this site?"""
        found = names.split(site.name)
        if found is None:
            return False
        path = found[1]
        if self.by_class:
            return self.pattern in classes_of(names.to_diffusers(path) or path)
        if self.wildcards:
            return fnmatch.fnmatch(path, self.pattern)
        return re.match(self.pattern, path) is not None


@dataclass(frozen=True)
class PresetFile:
    """What a preset TOML says."""

    reach: Reach
    overrides: tuple[Override, ...]


LARGEST = 4_000_000
"""Bytes of a file."""


def read(path: str) -> PresetFile:
    """Read a preset TOML.

    Raises:
        SettingsError: no such preset or file, no TOML, an unknown key or a value of the wrong kind.
    """
    file = Path(path)
    if not file.is_file():
        remedy = "give full, attn-mlp, unet-only or another one of LyCORIS, or the path of a TOML"
        raise SettingsError(f"there is no preset {path!r}", remedy=remedy)
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError("it is too large for one")
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as wrong:
        raise SettingsError(f"the preset cannot be read ({wrong})", file=file, remedy="give a TOML file") from wrong
    try:
        return _parsed(values)
    except SettingsError as wrong:
        raise SettingsError(wrong.what, file=file, remedy=wrong.remedy) from wrong


def _parsed(values: Mapping[str, Any]) -> PresetFile:
    unknown = sorted(set(values) - {*REACH, "module_algo_map", "name_algo_map"})
    if unknown:
        raise SettingsError(f"the preset has the unknown key {unknown[0]!r}", remedy="leave it out")
    fields = {REACH[key]: _field(key, value) for key, value in values.items() if key in REACH}
    reach = dataclasses.replace(Reach(), **fields)
    if not reach.takes_part("unet") and not reach.takes_part("text_encoder"):
        raise SettingsError("the preset chooses no layers", remedy="give unet_target_module or unet_target_name")
    maps = [
        _override(pattern, entry, by_class=by_class, wildcards=reach.wildcards)
        for by_class, key in ((False, "name_algo_map"), (True, "module_algo_map"))
        for pattern, entry in _table(key, values.get(key, {})).items()
    ]
    return PresetFile(reach, tuple(maps))


def _field(key: str, value: object) -> Any:  # noqa: ANN401 - a field of a Reach
    if key in ("enable_conv", "use_fnmatch"):
        if not isinstance(value, bool):
            raise SettingsError(f"{key} is {value!r}", remedy="give true or false")
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SettingsError(f"{key} is {value!r}", remedy="give a list of names")
    if key in ("unet_target_module", "text_encoder_target_module"):
        return frozenset(value)
    for pattern in value:
        _pattern(pattern)
    return tuple(value)


def _pattern(text: str) -> None:
    try:
        re.compile(fnmatch.translate(text) if "*" in text else text)
    except re.error as wrong:
        raise SettingsError(f"{text!r} is no pattern of names ({wrong})", remedy="give a name or a pattern") from wrong


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        raise SettingsError(f"{key} is no table of tables", remedy=f"write [{key}.NAME] and options below it")
    return value


def _override(pattern: str, entry: Mapping[str, Any], *, by_class: bool, wildcards: bool) -> Override:
    options = {WORDS.get(name, name): value for name, value in entry.items()}
    dim, alpha = options.pop("dim", None), options.pop("alpha", None)
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise SettingsError(f"the map for {pattern} has the unknown option {unknown[0]!r}", remedy="leave it out")
    if options.get("algo", "lora") not in ALGOS:
        what = f"the map for {pattern} has the unknown algo {options['algo']!r}"
        raise SettingsError(what, remedy=f"give one of {', '.join(ALGOS)}")
    wrong = [name for name, value in (("dim", dim), ("alpha", alpha)) if value is not None and not _number(value)]
    kinds = {name: type(getattr(Recipe(), name)) for name in options}
    wrong += [n for n, value in options.items() if not isinstance(value, (kinds[n], int))]
    if wrong:
        raise SettingsError(f"the map for {pattern} has {wrong[0]} {entry.get(wrong[0])!r}", remedy="give a number")
    if not by_class:
        _pattern(pattern)
    return Override(pattern, by_class, wildcards, options, dim, alpha)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def recipe(usual: Recipe, table: tuple[Override, ...], site: Site) -> Recipe:
    """The recipe of a site: the first map that fits it changes the usual one."""
    found = next((override for override in table if override.fits(site)), None)
    return usual if found is None else dataclasses.replace(usual, **found.options)


def sizes(usual: Sizes, table: tuple[Override, ...]) -> Sizes:
    """The sizes of sites: those that a map names, else the usual ones."""

    def size(site: Site) -> Size | None:
        before = usual(site)
        found = next((override for override in table if override.fits(site)), None)
        if before is None or found is None:
            return before
        dim = found.dim or before.dim
        return dataclasses.replace(before, dim=dim, alpha=before.alpha if found.alpha is None else found.alpha)

    return size if table else usual
