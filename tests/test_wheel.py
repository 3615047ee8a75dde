"""A wheel holds all that the package needs where there is no clone: the page's files among them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="setuptools is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed"),
]

SHOW = """
import sys
from pathlib import Path
from lora_lab.ui import standalone
from tests.ui.shown import ShowHost
page = standalone.page(ShowHost(Path(sys.argv[1])))
assert sys.argv[1] in standalone.__file__, standalone.__file__
assert ".lora-lab-live" in page.css
assert any("window.loraLab" in (d["js"] or "") for d in page.dependencies)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder is left in the project; without the demo's large file."""
    folder = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__", "demo.safetensors")
    for name in ("lora_lab", "javascript"):
        shutil.copytree(ROOT / name, folder / "copy" / name, ignore=skipped)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "style.css"):
        shutil.copy(ROOT / name, folder / "copy")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run([*build, str(folder / "copy")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_pages_files_are_in_it_as_they_are(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in ("style.css", *(f"javascript/{p.name}" for p in (ROOT / "javascript").glob("*.js"))):
            assert archive.read(f"lora_lab/ui/assets/{Path(name).name}") == (ROOT / name).read_bytes()
    data = [p for p in (ROOT / "lora_lab").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    missing = {str(p.relative_to(ROOT).as_posix()) for p in data if p.name != "demo.safetensors"} - names
    assert not missing
    assert not [name for name in names if name.split("/")[0] in ("tests", "tools", "benchmarks")]


def test_the_page_opens_from_it(wheel: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed")
    place = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    shutil.copytree(ROOT / "tests" / "ui", place / "tests" / "ui")
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(place)], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
