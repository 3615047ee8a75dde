"""Documents that are made out of the code, and those that speak of it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_of_settings_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "settings_doc.py"))["page"]()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page, "run python tools/settings_doc.py"


def test_the_page_of_kohyas_options_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "kohya_doc.py"))["page"]()
    assert (ROOT / "docs" / "kohya.md").read_text(encoding="utf-8") == page, "run python tools/settings_doc.py"


def test_the_page_of_the_guide_is_up_to_date_and_leads_to_tests() -> None:
    from lora_lab.guide.headings import CORRECTIONS, HEADINGS

    page = runpy.run_path(str(ROOT / "tools" / "guide_doc.py"))["page"]()
    assert (ROOT / "docs" / "guide.md").read_text(encoding="utf-8") == page, "run python tools/guide_doc.py"
    assert len({row.title for row in HEADINGS}) == len(HEADINGS) > 90
    for row in HEADINGS:
        assert (ROOT / row.link).exists(), row.title
        assert not row.test or (ROOT / row.test).is_file(), row.title
        assert row.test or "left out" in row.where or "outdated" in row.where or row.link == "docs/performance.md" or (
            row.where.startswith("nothing to build")
        ), row.title
    assert all(correction.evidence for correction in CORRECTIONS)


def test_rules_that_the_page_of_the_guide_names_exist() -> None:
    from lora_lab.guide.headings import HEADINGS
    from lora_lab.guide.rules import BY_ID

    named = [
        word
        for row in HEADINGS
        for part in re.findall(r"rules? ([^;()]+)", row.where)
        for word in re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)+", part)
    ]
    assert len(named) > 60
    assert set(named) <= set(BY_ID), sorted(set(named) - set(BY_ID))


def test_links_between_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_every_verb() -> None:
    from lora_lab.cli import VERBS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"lora-lab {verb}" in text for verb in VERBS)
