"""The import rules of docs/architecture.md, read from the source with ast: which room may call which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lora_lab"

SHARED = {"errors", "families", "whole_file"}
"""Small words that every room may use."""

MAY_CALL: dict[str, set[str]] = {
    "network": set(),
    "dataset": set(),
    "tagging": set(),
    "demo": set(),
    "host": {"demo"},
    "surgery": {"network"},
    "guide": set(),
    "training": {"network", "dataset", "host.base"},
    "testing": {"network", "dataset", "tagging", "host.base"},
    "workflow": {"training", "testing", "dataset", "tagging", "guide", "network", "demo", "host.base"},
    "ui": {"*"},
    "cli": {"*"},
    "api": {"*"},
    "__main__": {"cli"},
    "errors": set(),
    "families": set(),
    "whole_file": set(),
    "__init__": set(),
}

TEXTS = (".py", ".md", ".toml", ".ini", ".js", ".css", ".yml", ".yaml")

HOST_IMPLEMENTATIONS = {"webui", "standalone"}


def sources() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def imports(path: Path) -> Iterator[str]:
    """Every module named in an import of the file, at whatever depth, as a dotted name."""
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def allowed(caller: str, target: str) -> bool:
    rooms = MAY_CALL[caller]
    called = target.split(".")[0]
    return (
        called in SHARED
        or called == caller
        or "*" in rooms
        or any(target == r or target.startswith(r + ".") for r in rooms)
        # `from lora_lab.host import base` names the package too; the package itself is empty.
        or any(r.startswith(target + ".") for r in rooms)
        or target.startswith("__version__")
    )


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_call_only_whom_they_may(path: Path) -> None:
    caller = room(path)
    assert caller in MAY_CALL, f"{caller} is no room that docs/architecture.md knows"
    targets = {name.removeprefix("lora_lab.") for name in imports(path) if name.startswith("lora_lab.")}
    wrong = sorted(t for t in targets if not allowed(caller, t))
    assert not wrong, f"{path.relative_to(ROOT)} may not import {wrong}"


def test_only_the_webui_host_imports_the_webui() -> None:
    foreign = ("modules", "ldm", "sgm", "k_diffusion", "launch")
    wrong = [
        (str(p.relative_to(ROOT)), name)
        for p in sources()
        if not (p.parent.name == "host" and p.name.startswith("webui"))
        for name in imports(p)
        if name.split(".")[0] in foreign
    ]
    assert not wrong


def test_only_ui_imports_gradio() -> None:
    wrong = [str(p.relative_to(ROOT)) for p in sources() if room(p) != "ui" and "gradio" in imports(p)]
    assert not wrong


def test_hosts_are_chosen_in_one_place() -> None:
    names = {f"lora_lab.host.{name}" for name in HOST_IMPLEMENTATIONS}
    wrong = [
        (str(p.relative_to(ROOT)), name)
        for p in sources()
        if p.parent.name != "host"
        for name in imports(p)
        if name in names
    ]
    assert not wrong


@pytest.mark.parametrize(
    "module",
    [
        "lora_lab.cli", "lora_lab.dataset.scan", "lora_lab.dataset.captions", "lora_lab.training.settings",
        "lora_lab.ui.tab",
    ],  # fmt: skip
)
def test_torch_is_not_imported_to_open_the_tab_or_show_help(module: str) -> None:
    if module.startswith("lora_lab.ui"):
        pytest.importorskip("gradio")
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_path_of_a_machine_is_committed() -> None:
    words = ("/" + "work/", "/" + "tmp/", "pypi." + "org", "/" + "root/")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    texts = [ROOT / n for n in listed.split("\n") if n.endswith(TEXTS) and (ROOT / n).is_file()]
    wrong = [str(p.relative_to(ROOT)) for p in texts if any(w in p.read_text(encoding="utf-8") for w in words)]
    assert not wrong
