"""Every error that a person can cause or meet, with what is wrong, where, and what to do.

    LoraLabError                exit status 1: ours, or the machine's
      UserError                 exit status 2: something to put right, then try again
        SettingsError           a setting: unknown, out of range, in conflict with another
        DatasetError            a folder of pictures, a picture, a caption
        CheckpointError         a checkpoint file that cannot be trained on
        AdapterFileError        a LoRA file that cannot be read or written
        HostBusyError           the live model is not there, or has changed
        OutputError             a folder that cannot be written to, a file that is already there
      TrainingError             a run that had to end (NaN, no memory); what was kept is said
      Interrupted               exit status 130

The command line and the tab show the same sentence: ``str(error)``.
"""

from __future__ import annotations

from pathlib import Path


class LoraLabError(Exception):
    """Base of all our errors: one clear sentence of what, where and what to do.

    Args:
        what: what is wrong, without a full stop at its end.
        file: the file or folder it is about, if there is one.
        remedy: what to do, an imperative sentence without its full stop.
    """

    exit_status = 1

    def __init__(self, what: str, *, file: str | Path | None = None, remedy: str = "") -> None:
        self.what = what
        self.file = None if file is None else str(file)
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f" ({self.file})" if self.file else ""
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"{self.what}{where}{remedy}."

    def to_json(self) -> dict[str, str | None]:
        """The error as the command line's ``--json`` prints it: ``error``, ``file``, ``do``."""
        return {"error": self.what, "file": self.file, "do": self.remedy}


class UserError(LoraLabError):
    """Something that the person can put right."""

    exit_status = 2


class SettingsError(UserError):
    """A setting that is unknown, out of range, or in conflict with another."""


class DatasetError(UserError):
    """A folder of pictures, a picture or a caption that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is no Stable Diffusion, of a family not supported, or damaged."""


class AdapterFileError(UserError):
    """A LoRA file that cannot be read, or does not fit the model."""


class HostBusyError(UserError):
    """The live model is not loaded, is another one than asked for, or cannot be had."""


class OutputError(UserError):
    """A place that cannot be written to, or a file that is there already."""


class TrainingError(LoraLabError):
    """A run that had to end; the sentence says what was kept and what to change."""


class Interrupted(LoraLabError):  # noqa: N818 - the word everybody knows
    """The person asked to stop."""

    exit_status = 130
