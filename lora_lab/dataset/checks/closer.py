"""All checks that look at pixels, tags and balance, after the scan of names and headers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.dataset.checks import balance, by_tags, measure, rules
from lora_lab.dataset.checks.measure import Listen
from lora_lab.dataset.problems import Problem

if TYPE_CHECKING:
    from lora_lab.dataset.scan import ScanReport

ORDER = {"error": 0, "warning": 1, "note": 2}


def look_closer(report: ScanReport, folder: Path | None, listen: Listen | None = None) -> list[Problem]:
    """What the scan could not see, the worst first. The first look decodes every picture; later ones are quick.

    Args:
        report: of the scan.
        folder: where measurements are kept; None keeps none.
        listen: told of progress; what it raises ends the work.
    """
    paths = [item.picture.path for item in report.items]
    measured = measure.measure_all(paths, folder, listen)
    found = measure.unreadable(paths, measured) + rules.look(report.items, measured)
    found += by_tags.look(report.items, report.subsets) + balance.look(report.subsets)
    return sorted(found, key=lambda problem: ORDER[problem.severity])
