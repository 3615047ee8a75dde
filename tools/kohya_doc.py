"""Write docs/kohya.md out of the table of kohya's options: ``python tools/kohya_doc.py``. A test holds the two together."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lora_lab.training.importing.kohya import names  # noqa: E402
from lora_lab.training.importing.options import OPTIONS, Option  # noqa: E402
from lora_lab.training.importing.reasons import BETTER, LEFT_OUT, TRANSLATED  # noqa: E402

HEAD = """# kohya's options and ours

Made by `tools/kohya_doc.py`: every option of `train_network.py` and `sdxl_train_network.py` (sd-scripts 48d368f; **X** marks those
that only the latter has), and what becomes of it when a file of kohya's is read. *same*: a setting of that name and meaning;
*better*: that, and more; *translated*: nothing is lost; *left out*: why. `lora-lab settings FILE` says it of one file.
"""


def page() -> str:
    """The whole document."""
    rows = [line(option) for option in OPTIONS.values()]
    words = [verdict(name)[0] for name in OPTIONS]
    counts = ", ".join(f"{words.count(word)} {word}" for word in WORDS)
    table = "| option | ours | |\n| --- | --- | --- |\n"
    return f"{HEAD}\nOf {len(rows)} options: {counts}.\n\n{table}{''.join(rows)}"


WORDS = ("same", "better", "translated", "left out")


def line(option: Option) -> str:
    """One row of the table."""
    word, text = verdict(option.name)
    mark = " **X**" if option.sdxl else ""
    return f"| `{option.name}`{mark} | {word} | {text.replace('|', '&#124;')} |\n"


def verdict(name: str) -> tuple[str, str]:
    """One of `WORDS`, and what there is to say."""
    spec = names().get(name)
    if spec is not None:
        other = f"the setting `{spec.name}`" if spec.name != name else ""
        return ("better", BETTER[name]) if name in BETTER else ("same", other)
    return ("translated", TRANSLATED[name]) if name in TRANSLATED else ("left out", LEFT_OUT[name])


def write() -> None:
    """Write the document."""
    (ROOT / "docs" / "kohya.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
