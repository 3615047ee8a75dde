"""wd14-tagger's own code on our model and pictures: loaded from a folder that the person names, outside the project.

Only what it takes from the webui is stood in for; it needs pandas, opencv, jsonschema and tqdm.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class Peer:
    """Its `WaifuDiffusionInterrogator`, on an opened session."""

    def __init__(self, folder: Path, tagger: Path, session: Any) -> None:  # noqa: ANN401 - onnxruntime's
        _stand_in(folder)
        sys.path.insert(0, str(folder))
        try:
            from pandas import read_csv
            from tagger import interrogator, uiset
        finally:
            sys.path.remove(str(folder))
        self._hash = uiset.IOData.get_bytes_hash
        self._interrogator = interrogator.WaifuDiffusionInterrogator("ours", is_hf=False)
        self._interrogator.model = session
        self._interrogator.tags = read_csv(tagger / "selected_tags.csv")

    def tag(self, pictures: Sequence[Path]) -> list[dict[str, float]]:
        """As its batch does for each picture: load, hash, interrogate."""
        found = []
        for path in pictures:
            image = self._interrogator.load_image(str(path))
            self._hash(image.tobytes())
            found.append(self._interrogator.interrogate(image)[1])
        return found


def _stand_in(folder: Path) -> None:
    """The names that it imports from the webui."""
    options = SimpleNamespace(tagger_verbose=False)
    commands = SimpleNamespace(use_cpu=["all"], additional_device_ids=None)
    parts = {
        "shared": SimpleNamespace(cmd_opts=commands, opts=options, models_path=str(folder)),
        "paths": SimpleNamespace(extensions_dir=str(folder)),
        "deepbooru": SimpleNamespace(re_special=None),
    }
    package = ModuleType("modules")
    for name, part in parts.items():
        module = ModuleType(f"modules.{name}")
        vars(module).update(vars(part))
        setattr(package, name, module)
        sys.modules[f"modules.{name}"] = module
    sys.modules["modules"] = package
