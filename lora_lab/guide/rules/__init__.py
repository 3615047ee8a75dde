"""Rules that speak up, each with what, why and settings that do it. What `training/checks` says is not said again."""

from __future__ import annotations

from collections.abc import Collection

from lora_lab.guide.facts import Facts
from lora_lab.guide.rules import captions, checkpoint, course, learning, network, noise, pictures
from lora_lab.guide.rules.base import Finding, Rule

RULES: tuple[Rule, ...] = (
    *learning.RULES, *network.RULES, *noise.RULES, *pictures.RULES, *captions.RULES, *checkpoint.RULES, *course.RULES,
)  # fmt: skip
BY_ID = {rule.id: rule for rule in RULES}

_ORDER = {"warning": 0, "note": 1}


def findings(facts: Facts, silenced: Collection[str] = ()) -> list[Finding]:
    """What the rules say, warnings first.

    Args:
        facts: settings, pictures, checkpoint, run.
        silenced: ids of rules that the person does not want to hear.
    """
    found = [
        Finding(rule, fired) for rule in RULES if rule.id not in silenced and (fired := rule.fires(facts)) is not None
    ]
    return sorted(found, key=lambda finding: _ORDER[finding.rule.severity])
