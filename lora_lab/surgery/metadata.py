"""What our files say about themselves: the recipe of what was done, and the card that other programs read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network.streams import HASH_KEYS, TensorFile

RECIPE = "lora_lab_recipe"
"""The key under which a recipe is kept, as JSON."""

BASE_VERSION = {Family.SD1: "sd_v1", Family.SD2: "sd_v2", Family.SDXL: "sdxl_base_v1-0"}
ARCHITECTURE = {
    Family.SD1: "stable-diffusion-v1",
    Family.SD2: "stable-diffusion-v2-768-v",
    Family.SDXL: "stable-diffusion-xl-v1-base",
}


def card(family: Family, title: str) -> dict[str, str]:
    """The metadata of a new LoRA: kohya's family keys and modelspec's."""
    return {
        "ss_base_model_version": BASE_VERSION[family],
        "ss_v2": str(family is Family.SD2),
        "ss_output_name": title,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{ARCHITECTURE[family]}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": title,
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def recipe(tool: str, **what: Any) -> dict[str, str]:  # noqa: ANN401 - whatever JSON holds
    """The recipe of an output as a metadata entry."""
    return {RECIPE: json.dumps({"tool": tool, **what}, sort_keys=True, ensure_ascii=False)}


def read_recipe(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The recipe in a file's metadata; None if there is none that can be read."""
    try:
        found = json.loads(metadata[RECIPE])
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("tool"), str) else None


def without_hashes(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata less kohya's hashes, which are computed anew for each file."""
    return {key: text for key, text in metadata.items() if key not in HASH_KEYS}


def inherited(metadata: Mapping[str, str], title: str) -> dict[str, str]:
    """The metadata of a file made from one LoRA: all of it, with a new title and without stale hashes."""
    kept = without_hashes(metadata)
    return kept | {"ss_output_name": title, "modelspec.title": title}


def source_entry(file: TensorFile, **what: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON holds
    """A recipe's line about one input: its name, its size in bytes, and what was done with it."""
    return {"name": file.path.stem, "size": file.path.stat().st_size, **what}


def check_metadata(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """New metadata entries, checked.

    Raises:
        SettingsError: an empty name, or one that a hash has.
    """
    new: dict[str, str] = {}
    for key, text in items:
        if not key.strip():
            raise SettingsError("a metadata entry has no name", remedy="write NAME=TEXT")
        if key in HASH_KEYS:
            raise SettingsError(f"{key} is computed from the tensors", remedy="leave it out")
        new[key.strip()] = text
    return new


def parse_items(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=TEXT` arguments as metadata entries.

    Raises:
        SettingsError: one without a `=`, or see :func:`check_metadata`.
    """
    for text in texts:
        if "=" not in text:
            raise SettingsError(f"'{text}' is no NAME=TEXT", remedy="write the name, =, and the text")
    return check_metadata((name, value) for name, _, value in (text.partition("=") for text in texts))
