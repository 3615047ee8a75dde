"""An extension for tests only: runs a named check of `probe_checks.py` inside the real webui's process.

POST /lora-lab-probe/NAME (or FILE.NAME for one of `probe_FILE.py`) with a JSON object of arguments answers what the
check returns.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

import open_clip
from fastapi import Body, FastAPI
from modules import paths, script_callbacks

for sizes in Path(paths.models_path).glob("Stable-diffusion/*.open_clip.json"):
    open_clip.add_model_config(sizes)  # before the first checkpoint is loaded: tiny_families.py wrote them


def add_route(_: object, app: FastAPI) -> None:
    """One route for all checks. The webui takes back what a script adds to the path while it is imported."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))

    @app.post("/lora-lab-probe/{name}")
    def probe(name: str, arguments: dict[str, Any] = Body(default={})) -> dict[str, Any]:  # noqa: B008
        try:
            module, _, check = name.rpartition(".")
            checks = importlib.import_module(f"probe_{module or 'checks'}")
            return {"result": getattr(checks, check)(**arguments)}
        except BaseException:
            return {"error": traceback.format_exc()}


script_callbacks.on_app_started(add_route)
