"""What is wrong with a plan of a grid, before anything is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.families import Family
from lora_lab.network import elements, names
from lora_lab.network.blocks import block_names
from lora_lab.network.outline import outline
from lora_lab.testing.cells import OTHER, GridPlan, Weights
from lora_lab.testing.words import has_tag


def check(plan: GridPlan, family: Family) -> list[str]:
    """Refuse what cannot be made; answer what to know.

    Raises:
        SettingsError: nothing to make, or weights of another family.
        AdapterFileError: a LoRA that is missing or of another family.
    """
    if not plan.rows or not plan.prompts or not plan.seeds:
        missing = "weights" if not plan.rows else "prompts" if not plan.prompts else "seeds"
        raise SettingsError(f"the grid has no {missing}", remedy=f"give some {missing}")
    if not 0 <= plan.quick < 1:
        raise SettingsError(f"the quick look shares {plan.quick:g} of the steps", remedy="give 0 to below 1, as 0.5")
    for row in (plan.base, *plan.rows):
        _check_row(row, family)
    warnings = []
    if len(set(plan.seeds)) < len(plan.seeds):
        warnings.append(f"of {len(plan.seeds)} seeds {len(set(plan.seeds))} differ: the same picture is made once")
    loras = dict.fromkeys([plan.lora, *(row.lora or plan.lora for row in plan.rows)])
    triggers = [look_into(path, family) for path in loras]
    trigger = None if plan.trigger is None else plan.trigger or triggers[0]
    without = [prompt for prompt in plan.prompts if trigger and not has_tag(prompt, trigger)]
    if without:
        warnings.append(f"{len(without)} of {len(plan.prompts)} prompts lack the trigger {trigger!r}: {without[0]!r}")
    return warnings


def _check_row(row: Weights, family: Family) -> None:
    """Weights of the family, and rules that can be read.

    Raises:
        SettingsError: blocks that the family lacks, or that are missing.
    """
    elements.rules(row.elements, family)
    wanted = set(block_names(family))
    if row.blocks and set(row.blocks) - {OTHER} != wanted:
        odd = sorted((set(row.blocks) - {OTHER}) ^ wanted)
        what = f"the weights {row.label} do not fit {family.value}: it has {len(wanted)} blocks, {odd[0]} differs"
        raise SettingsError(what, remedy=f"choose weights for {family.value}")


def look_into(path: Path, family: Family, checkpoint: str = "the loaded checkpoint") -> str:
    """Refuse a file that is no LoRA for this family; answers its trigger, empty if the file does not tell.

    Args:
        path: the LoRA.
        family: of the checkpoint.
        checkpoint: what it is called in the error.

    Raises:
        AdapterFileError: it is missing, no LoRA, of another family, or has no part for the UNet.
    """
    told = outline(path)
    theirs = names.generation(told.sites)
    ours = names.generation([names.disk_name("mid_block.attentions.0.proj_in", "unet", family, "diffusers") or ""])
    said = {"False": Family.SD1, "True": Family.SD2}.get(told.metadata.get("ss_v2", ""))
    if theirs == ours and Family.SDXL is not family and said and said is not family:
        theirs, ours = said.name, family.name  # the names of their layers are the same
    if theirs and theirs != ours:
        remedy = "choose a checkpoint of its family, or another LoRA"
        raise AdapterFileError(f"this LoRA is for {theirs}, {checkpoint} is {ours}", file=path, remedy=remedy)
    if not any("_unet_" in site for site in told.sites):
        what = "this LoRA has no part for the UNet, so it has no blocks to test"
        raise AdapterFileError(what, file=path, remedy="choose a LoRA that was trained on the UNet too")
    return trigger_of(told.metadata)


def trigger_of(metadata: Mapping[str, str]) -> str:
    """The tag that the most pictures of the training had, the first of several; empty if unknown."""
    try:
        subsets = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts: dict[str, int] = {}
        for tags in subsets.values():
            for tag, count in tags.items():
                counts[tag] = counts.get(tag, 0) + int(count)
    except (ValueError, AttributeError, TypeError):
        return ""
    return max(counts, key=lambda tag: counts[tag], default="").strip()
