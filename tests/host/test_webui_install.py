"""install.py in a real environment of its own, with pip and a folder of small wheels for an index."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[2] / "install.py"


def wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    """A wheel with one empty module and its metadata."""
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name.replace('-', '_')}/__init__.py", "")
        file.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        file.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{stem}.dist-info/RECORD", "")
    return path


class Environment:
    """A virtual environment with pip, and an index of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index = folder / "env", folder / "index"
        self.index.mkdir()
        venv.create(self.folder, with_pip=True, symlinks=os.name != "nt")
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.variables = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PYTHONPATH": ""}

    def has(self, name: str, version: str) -> None:
        """Put a package in, as the webui has it."""
        site = next(self.folder.glob("lib/python*/site-packages"), self.folder / "Lib" / "site-packages")
        path = wheel(self.folder, name, version)
        with zipfile.ZipFile(path) as file:
            file.extractall(site)

    def frozen(self) -> set[str]:
        """`pip freeze`."""
        return set(self.run("-m", "pip", "freeze").stdout.split())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), *arguments], capture_output=True, text=True, env=self.variables, check=False
        )

    def install(self) -> subprocess.CompletedProcess[str]:
        return self.run(str(INSTALL))


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    found = Environment(tmp_path)
    found.has("numpy", "1.26.2")
    found.has("torch", "2.1.2+cu121")
    found.has("invented", "0.1.dev-of-mine")  # pip refuses such a line in its constraints
    index = found.index
    wheel(index, "prodigyopt", "1.1.2")
    wheel(index, "dadaptation", "3.2")
    wheel(index, "tomli", "2.5.0")
    wheel(index, "numpy", "2.4.0")
    wheel(index, "torch", "2.9.0")
    wheel(index, "lycoris-lora", "3.4.0", "torch")
    wheel(index, "lycoris-lora", "4.1.3", "torch>=2.4")
    wheel(index, "onnxruntime", "1.20.0", "numpy>=1.21")
    wheel(index, "onnxruntime", "1.30.0", "numpy>=2.3")
    return found


def test_adds_and_moves_nothing(environment: Environment) -> None:
    before = environment.frozen()
    done = environment.install()
    assert done.returncode == 0, done.stderr
    after = environment.frozen()
    assert before <= after
    added = {"prodigyopt==1.1.2", "dadaptation==3.2", "lycoris-lora==3.4.0", "onnxruntime==1.20.0"}
    added |= {"tomli==2.5.0"} if sys.version_info < (3, 11) else set()
    assert {line.replace("_", "-") for line in after - before} == added
    assert done.stdout.startswith("LoRA Lab: installing ")
    began = time.perf_counter()
    again = environment.install()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert time.perf_counter() - began < 5, "half a second on a machine that does nothing else"


def test_newer_torch_takes_newer_lycoris(environment: Environment) -> None:
    for path in environment.folder.glob("lib/python*/site-packages/torch-*.dist-info/METADATA"):
        path.write_text(path.read_text().replace("2.1.2+cu121", "2.4.1"))
        path.parent.rename(path.parent.with_name("torch-2.4.1.dist-info"))
    environment.install()
    assert "lycoris-lora==4.1.3" in {line.replace("_", "-") for line in environment.frozen()}
    assert "torch==2.4.1" in environment.frozen()


def test_what_cannot_be_had_is_one_line_each(environment: Environment) -> None:
    for path in environment.index.glob("onnxruntime-1.20*"):
        path.unlink()
    before = environment.frozen()
    done = environment.install()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("LoRA Lab: onnxruntime is not there (")
    assert "no automatic tags until then. To try by hand:" in lines[1]
    assert before <= environment.frozen()
    assert any("lycoris" in line for line in environment.frozen())
    assert not any(line.startswith("onnxruntime") for line in environment.frozen())


def test_a_gpu_build_of_onnxruntime_is_enough(environment: Environment) -> None:
    environment.has("onnxruntime-gpu", "1.19.0")
    environment.install()
    assert not any(line.startswith("onnxruntime==") for line in environment.frozen())


def test_imports_nothing_that_the_webui_loads() -> None:
    heavy = "[m for m in ('torch', 'numpy', 'pip') if m in sys.modules]"
    code = f"import runpy, sys; runpy.run_path({str(INSTALL)!r}); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
