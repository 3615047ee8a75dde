"""The build's one step of our own: style and JavaScript of the page into the wheel.

The webui wants both at the top of an extension, where a wheel takes nothing along. All else stands in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PAGE = ("style.css", *(path.as_posix() for path in sorted(Path("javascript").glob("*.js"))))


class BuildWithPage(build_py):
    """`build_py` that also copies the page's files to `lora_lab/ui/assets`, where `lora_lab.ui.standalone` looks."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the package is used where it lies, beside the files themselves
        assets = Path(self.build_lib) / "lora_lab" / "ui" / "assets"
        self.mkpath(str(assets))
        for name in PAGE:
            self.copy_file(name, str(assets / Path(name).name))


setup(cmdclass={"build_py": BuildWithPage})
