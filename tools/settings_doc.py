"""Write docs/settings.md out of the table of settings: ``python tools/settings_doc.py``. A test holds the two together."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lora_lab.training.settings import TrainSettings  # noqa: E402
from lora_lab.training.settings.fields import FieldSpec  # noqa: E402

HEAD = """# Settings

Made out of `training/settings.py` by `tools/settings_doc.py`. Names and meaning are kohya's; where our default is another than
kohya's, the text says so.
"""


def page() -> str:
    """The whole document."""
    specs = sorted(TrainSettings.specs(), key=lambda spec: spec.group)
    parts = [HEAD]
    for group, rows in groupby(specs, key=lambda spec: spec.group):
        parts.append(f"\n## {group.capitalize()}\n\n| setting | default | values | what it does |\n| --- | --- | --- | --- |\n")
        parts += [line(spec) for spec in rows]
    return "".join(parts)


def line(spec: FieldSpec) -> str:
    """One row of a table."""
    return f"| `{spec.name}` | {shown(spec.default)} | {values(spec)} | {spec.text.replace('|', '&#124;')} |\n"


def shown(value: object) -> str:
    """A default as people write it."""
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def values(spec: FieldSpec) -> str:
    """What may be given."""
    if spec.choices:
        return ", ".join(spec.choices)
    limits = [f"{limit:g}" for limit in (spec.minimum, spec.maximum) if limit is not None]
    if len(limits) == 2:
        return f"{limits[0]} to {limits[1]}"
    return f"{limits[0]} or more" if spec.minimum is not None else spec.kind


if __name__ == "__main__":
    (ROOT / "docs" / "settings.md").write_text(page(), encoding="utf-8")
    import kohya_doc  # it tells which of kohya's options are settings

    kohya_doc.write()
