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


def test_links_between_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_every_verb() -> None:
    from lora_lab.cli import VERBS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"lora-lab {verb}" in text for verb in VERBS)
