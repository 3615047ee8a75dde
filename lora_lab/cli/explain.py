"""``lora-lab explain SETTING``"""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any

from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError

if TYPE_CHECKING:
    from lora_lab.guide.explain import Explanation
    from lora_lab.training.settings.fields import FieldSpec

EXAMPLE = "lora-lab explain network_alpha"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The word."""
    parser.add_argument("word", nargs="+", metavar="SETTING", help="a setting, a rule, or a word ('clip skip')")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Tell what it is, its range, why it is set as it is, and what speaks of it."""
    from lora_lab.guide.explain import explain
    from lora_lab.guide.rules import BY_ID
    from lora_lab.training.settings import own_name

    text = " ".join(args.word).strip()
    name = own_name(text) or own_name(text.replace("-", "_").replace(" ", "_")) or ""
    found = explain(name or text)
    rule = BY_ID.get(text)
    if not name and not found.words and rule is None:
        raise unknown(text)
    values: dict[str, Any] = {"word": text, "meaning": [{"word": w.word, "meaning": w.meaning} for w in found.words]}
    if rule is not None:
        output.line(f"the rule {rule.id}: {rule.title}. {_sentence(rule.why)} ({rule.source})")
        values["rule"] = {"id": rule.id, "title": rule.title, "why": rule.why, "source": str(rule.source)}
    if name:
        values |= _setting(name, found, output)
    for word in found.words:
        output.line(f"{word.word}: {word.meaning}")
    return values


def unknown(text: str) -> SettingsError:
    """The error for a word that nobody knows, with the nearest."""
    from lora_lab.guide.glossary import WORDS
    from lora_lab.guide.rules import BY_ID
    from lora_lab.training.settings import TrainSettings

    names = [*(spec.name for spec in TrainSettings.specs()), *(word.word for word in WORDS), *BY_ID]
    near = difflib.get_close_matches(text, names, 1, cutoff=0.5)
    remedy = f"did you mean {near[0]}" if near else "see docs/settings.md and docs/guide.md"
    return SettingsError(f"there is no setting or word {text!r}", remedy=remedy)


def _setting(name: str, found: Explanation, output: Output) -> dict[str, Any]:
    from lora_lab.training.settings import TrainSettings

    spec = TrainSettings.spec(name)
    output.line(f"{name}: {spec.text}")
    output.line(f"  values: {_range(spec)}; default {spec.default!r}")
    values: dict[str, Any] = {"setting": name, "help": spec.text, "default": spec.default, "range": _range(spec)}
    if found.usual is not None:
        usual = found.usual
        output.line(f"  recommended for a usual bake: {usual.value!r}: {usual.why} ({usual.source})")
        values["recommended"] = {"value": usual.value, "why": usual.why, "source": str(usual.source)}
    if found.brake is not None:
        brake = found.brake
        output.line(f"  slows learning: {brake.arrows}; in pictures: {brake.effect}")
        values["brake"] = {"by": brake.arrows, "effect": brake.effect}
    values["rules"] = [rule.id for rule in found.rules]
    for rule in found.rules:
        output.line(f"  rule {rule.id}: {rule.title}: {rule.why} ({rule.source})")
    return values


def _range(spec: FieldSpec) -> str:
    if spec.choices:
        return ", ".join(spec.choices) + (", or another" if spec.open else "")
    if spec.minimum is not None and spec.maximum is not None:
        return f"{spec.minimum:g} to {spec.maximum:g}"
    if spec.minimum is not None:
        return f"{spec.minimum:g} or more"
    return "on or off" if spec.kind == "bool" else spec.kind


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
