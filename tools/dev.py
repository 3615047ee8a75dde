"""Set up a virtual environment once, then run the demo, the tests or the tab in it: ``python tools/dev.py demo``.

Needs only Python 3.10 to 3.12 and a package index. A second call installs nothing again: the stamp in the
environment holds a hash of what was asked for.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TORCH = "torch==2.13.0"  # a range would pull gigabytes of a GPU build
EXTRAS = "standalone,ui,log,test"


def python() -> Path:
    """The environment's interpreter, on Linux and on Windows."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def wanted() -> str:
    """Changes when another set of packages, or another Python, is asked for."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + TORCH + EXTRAS + sys.version
    return hashlib.sha256(text.encode()).hexdigest()


def set_up() -> None:
    """Create the environment and install into it, unless that is done already."""
    stamp = VENV / "lora_lab_setup"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted():
        return
    if not (3, 10) <= sys.version_info < (3, 13):
        sys.exit(f"Python {sys.version.split()[0]} cannot run the tab: call this with Python 3.10, 3.11 or 3.12.")
    print("Setting up .venv (once) ...", flush=True)
    if not python().is_file():
        venv.create(VENV, with_pip=True)
    pip = [str(python()), "-m", "pip", "install", "-q"]
    subprocess.check_call([*pip, "-U", "pip", "setuptools", "wheel"])
    subprocess.check_call([*pip, TORCH])
    subprocess.check_call([*pip, TORCH, "-e", f"{ROOT}[{EXTRAS}]"])
    # The webui's own UNet and text encoder classes, without the hundred packages it names.
    subprocess.check_call([*pip, "--no-deps", "stable-diffusion-sdkit"])
    stamp.write_text(wanted(), encoding="utf-8")


def run(*arguments: str, **more: str) -> None:
    """Run a module in the environment from the project's root, with `more` variables; end with its status if it fails."""
    status = subprocess.call([str(python()), "-m", *arguments], cwd=ROOT, env={**os.environ, **more})
    if status:
        sys.exit(status)


def main() -> None:
    """One word: demo, test, lint or ui; what follows it is handed on."""
    verb, *rest = sys.argv[1:] or ["help"]
    if verb not in ("demo", "test", "lint", "ui"):
        sys.exit("python tools/dev.py demo|test|lint|ui [arguments]")
    set_up()
    if verb in ("demo", "ui"):
        return run("lora_lab", verb, *rest)
    run("ruff", "check", ".")
    run("mypy")
    if verb == "test":
        # One file at a time on each core, with one thread each: threads of several processes would only wait.
        run("pytest", "-n", "logical", "--dist", "loadfile", *rest, OMP_NUM_THREADS="1")


if __name__ == "__main__":
    main()
