"""Write the demo world's files to a folder of the person's, for the webui or to look at."""

from __future__ import annotations

import shutil
from pathlib import Path

from lora_lab.demo import assets
from lora_lab.errors import OutputError

CLIP_LINE = "version:"


def export(folder: Path) -> dict[str, Path]:
    """Checkpoint, yaml, tokenizer, tagger and datasets.

    The checkpoint, its yaml and the tokenizer's folder lie side by side, so that all three can be moved into the
    webui's ``models/Stable-diffusion``; the yaml names the tokenizer's folder at the place where it was written to.

    Returns:
        ``checkpoint``, ``config``, ``tokenizer``, ``tagger``, and the folders of `assets.write_dataset`.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = {
            "checkpoint": folder / "demo.safetensors",
            "config": folder / "demo.yaml",
            "tokenizer": folder / "demo.clip",
            "tagger": folder / "tagger",
        }
        shutil.copyfile(assets.checkpoint_path(), made["checkpoint"])
        shutil.copytree(assets.tokenizer_dir(), made["tokenizer"], dirs_exist_ok=True)
        shutil.copytree(assets.tagger_dir(), made["tagger"], dirs_exist_ok=True)
        made["config"].write_text(config_for(made["tokenizer"]), encoding="utf-8")
        return made | assets.write_dataset(folder / "dataset")
    except OSError as error:
        what = f"cannot write there ({error.strerror})"
        raise OutputError(what, file=folder, remedy="choose another folder") from error


def config_for(tokenizer: Path) -> str:
    """The checkpoint's yaml with the tokenizer's folder at `tokenizer`, quoted for Windows paths too."""
    lines = assets.config_path().read_text(encoding="utf-8").splitlines()
    quoted = "'" + str(tokenizer.resolve()).replace("'", "''") + "'"
    return "".join(
        (line.split(CLIP_LINE)[0] + f"{CLIP_LINE} {quoted}" if CLIP_LINE in line else line) + "\n" for line in lines
    )
