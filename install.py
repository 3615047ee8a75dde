"""The webui calls this at every start, in a process of its own: install what is missing, and move nothing.

Takes a few hundredths of a second when nothing is missing: it reads the names of installed packages and imports none.
Every installed package is pinned while pip runs, so that no version changes; a package that cannot be had that way
is told of in one line, and the tab opens without it. Run it by hand with the webui's own Python to try again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--prefer-binary", "-q")
PATIENCE = ("--retries", "1", "--timeout", "15")


@dataclass(frozen=True)
class Need:
    """One package, and what is missing without it."""

    any_of: tuple[str, ...]
    """Distributions of which one is enough."""
    requirement: str
    """What pip is asked for when none is there."""
    without: str


def version(name: str) -> str | None:
    """The installed version of a distribution, None when it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def needs(torch: str | None) -> tuple[Need, ...]:
    """What LoRA Lab uses beside what the webui brings.

    Args:
        torch: its installed version. LyCORIS 4 needs `torch.library.custom_op`, which came with torch 2.4.
    """
    old_torch = torch is not None and numbers(torch) < (2, 4)
    found = [
        Need(("prodigyopt",), "prodigyopt>=1.0", "the optimizer Prodigy"),
        Need(("dadaptation",), "dadaptation>=3.1", "the DAdapt optimizers"),
        Need(
            ("lycoris-lora", "lycoris_lora"),
            "lycoris-lora==3.4.0" if old_torch else "lycoris-lora>=4.0",
            "kinds of adapters beside LoRA",
        ),
        Need(
            ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
            "onnxruntime>=1.17",
            "automatic tags",
        ),
    ]
    if sys.version_info < (3, 11):
        found.append(Need(("tomli",), "tomli>=2.0", "settings from TOML files"))
    return tuple(found)


def numbers(text: str) -> tuple[int, ...]:
    """`2.1.2+cu121` as (2, 1); what is no number counts as 0."""
    return tuple(int(piece) if piece.isdigit() else 0 for piece in text.split("+")[0].split(".")[:2])


def missing() -> list[Need]:
    """What is not installed."""
    return [need for need in needs(version("torch")) if not any(version(name) for name in need.any_of)]


def pins() -> str:
    """Every installed package at its version, as pip's constraints."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        name = package.metadata["Name"]
        if name and package.version and name.lower() not in found:
            found[name.lower()] = f"{name}=={package.version}"
    return "\n".join(line for line in found.values() if well_formed(line)) + "\n"


def well_formed(line: str) -> bool:
    """pip stops at a line it cannot read, and some packages have versions of their own invention."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        return True
    try:
        Requirement(line)
    except InvalidRequirement:
        return False
    return True


def install(requirements: list[str], constraints: Path) -> str:
    """Ask pip for packages; empty when they are there now, else the last line that it said."""
    index = os.environ.get("INDEX_URL", "")  # the webui's own variable
    command = [*PIP, *PATIENCE, *(("--index-url", index) if index else ()), "-c", str(constraints), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return ""
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.startswith("ERROR")]
    return lines[-1].removeprefix("ERROR:").strip() if lines else f"pip ended with status {done.returncode}"


def say(text: str) -> None:
    """One line into the webui's console."""
    sys.stdout.write(f"LoRA Lab: {text}\n")


def main() -> None:
    """Install what is missing, all at once if that works, else one by one."""
    wanted = missing()
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(pins(), encoding="utf-8")
        say(f"installing {', '.join(need.requirement for need in wanted)}")
        if not install([need.requirement for need in wanted], constraints):
            return
        for need in wanted:
            if why := install([need.requirement], constraints):
                command = f'"{sys.executable}" -m pip install "{need.requirement}"'
                say(f"{need.any_of[0]} is not there ({why}): no {need.without} until then. To try by hand: {command}")


if __name__ == "__main__":
    main()
