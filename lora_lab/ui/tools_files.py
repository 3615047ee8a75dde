"""Which files the tools offer, and what a name or a path that a person has chosen means. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_lab.errors import CheckpointError, OutputError, SettingsError
from lora_lab.training.prepare import check_allowed
from lora_lab.ui.context import UiContext

LOADED = "the loaded checkpoint"
ENDING = ".safetensors"
MOST = 5000
"""Files offered at most."""


@dataclass(frozen=True)
class HostFiles:
    """The host's LoRAs and checkpoints."""

    context: UiContext

    @property
    def lora_dir(self) -> Path:
        """Where LoRAs are, and go."""
        return self.context.host.paths().lora_dir

    @property
    def checkpoint_dir(self) -> Path | None:
        """Where the loaded checkpoint lies; None while nothing is loaded from a file."""
        info = self.context.host.current()
        return None if info is None or info.path is None else info.path.parent

    def loras(self) -> list[str]:
        """Names below the LoRA folder, without ending."""
        return _names(self.lora_dir)

    def checkpoints(self) -> list[str]:
        """The loaded one, then names in its folder."""
        folder = self.checkpoint_dir
        return [] if folder is None else [LOADED, *(name + ENDING for name in _names(folder))]

    def lora(self, typed: object) -> Path:
        """A LoRA by its name or path.

        Raises:
            SettingsError: nothing was chosen.
            OutputError: a host that listens to a network does not allow the path.
        """
        return self._found(typed, self.lora_dir, "a LoRA")

    def checkpoint(self, typed: object) -> Path:
        """A checkpoint by its name or path.

        Raises:
            SettingsError: nothing was chosen.
            CheckpointError: the loaded one lies in no file.
            OutputError: a host that listens to a network does not allow the path.
        """
        if str(typed or "").strip() == LOADED:
            info = self.context.host.current()
            if info is None or info.path is None:
                raise CheckpointError("no checkpoint is loaded from a file", remedy="choose a file")
            return info.path
        return self._found(typed, self.checkpoint_dir, "a checkpoint")

    def path(self, typed: str) -> Path:
        """A path as it was typed, if the host allows it.

        Raises:
            OutputError: it does not.
        """
        text = typed.strip().strip('"').strip()
        check_allowed(text, self.context.host.paths())
        return Path(text).expanduser()

    def _found(self, typed: object, folder: Path | None, what: str) -> Path:
        text = str(typed or "").strip().strip('"').strip()
        if not text:
            raise SettingsError(f"{what} is not chosen", remedy="choose one from the list, or type a path")
        inside = None if folder is None else _below(folder, text)
        return inside if inside is not None and inside.is_file() else self.path(text)

    def out(self, typed: object, writes: str, proposal: str) -> Path:
        """Where an output goes: a bare name into the host's folder, a path as it is.

        Raises:
            SettingsError: a name that leads out of the folder, or no folder is known.
            OutputError: a host that listens to a network does not allow the path.
        """
        text = str(typed or "").strip().strip('"').strip() or proposal
        text = text if text.endswith(ENDING) else text + ENDING
        if Path(text).expanduser().is_absolute():
            return self.path(text)
        folder = self.lora_dir if writes == "lora" else self.checkpoint_dir
        if folder is None:
            raise SettingsError("no folder of checkpoints is known", remedy="type a whole path for the output")
        inside = _below(folder, text.removesuffix(ENDING))
        if inside is None:
            raise OutputError("the name leads out of the folder", file=text, remedy="choose a name without ..")
        return inside


def _below(folder: Path, name: str) -> Path | None:
    """The file of a name below a folder; None for one that leads out of it."""
    path = Path(name if name.endswith(ENDING) else name + ENDING)
    return None if path.is_absolute() or ".." in path.parts else folder / path


def _names(folder: Path) -> list[str]:
    found = (path for path in folder.rglob(f"*{ENDING}") if not path.name.startswith("."))
    return sorted((path.relative_to(folder).with_suffix("").as_posix() for path in found), key=str.lower)[:MOST]
