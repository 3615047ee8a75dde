"""Everything that is known of a setting: the rules that speak of it, its brake, where the guide has it, and words."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.guide import dampening
from lora_lab.guide.answers import Answers
from lora_lab.guide.glossary import Word, find
from lora_lab.guide.recommend import recommend
from lora_lab.guide.rules import RULES
from lora_lab.guide.rules.base import Rule
from lora_lab.guide.value import Value


@dataclass(frozen=True)
class Explanation:
    """What the guide room knows."""

    usual: Value | None
    """What is recommended for a usual character, with the reason."""
    brake: dampening.Dampener | None
    rules: tuple[Rule, ...]
    words: tuple[Word, ...]


def explain(name: str) -> Explanation:
    """Of a setting by its own name, or of a word; empty where nothing is known."""
    usual = next((value for value in recommend(Answers()).values if value.name == name), None)
    if usual is None:
        manual = recommend(Answers(adaptive=False, flexible=True, making="style", vram=6.0)).values
        usual = next((value for value in manual if value.name == name), None)
    brake = next((row for row in dampening.TABLE if row.name == name), None)
    rules = tuple(rule for rule in RULES if name in rule.settings)
    return Explanation(usual, brake, rules, tuple(find(name)))
