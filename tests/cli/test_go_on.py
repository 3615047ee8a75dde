"""``lora-lab train --continue LORA``: its metadata, under a file, under ``--set``; and the LoRA as the start."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_lab.cli import given, go_on, main
from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError
from lora_lab.training.importing.found import SettingsFile
from tests.training.importing.test_lora_file import KOHYAS


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "mika.safetensors"
    save_file({"lora_unet_mid_block.alpha": np.ones(1, np.float32)}, path, KOHYAS)
    return path


def read(*words: object) -> SettingsFile:
    """As `train` reads its words."""
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", type=Path, nargs="*")
    given.add_arguments(parser)
    go_on.add_arguments(parser)
    args = parser.parse_args([str(word) for word in words])
    return go_on.read(args.go_on, args, Output(json=False))


def test_the_loras_own_settings_and_itself_as_the_start(lora: Path) -> None:
    found = read("--continue", lora, "--set", "max_train_epochs=3").settings
    assert (found.network_weights, found.dim_from_weights) == (str(lora), True)
    assert (found.output_name, found.max_train_epochs) == ("mika-more", 3)
    assert (found.network_dim, found.optimizer_type, found.resolution) == (64, "AdamW8bit", (512, 768))


def test_a_file_goes_over_the_metadata_and_set_over_both(lora: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('lora_lab = 1\noptimizer_type = "Lion"\nseed = 3\noutput_name = "later"\n', encoding="utf-8")
    found = read(mine, "--continue", lora, "--set", "seed=4").settings
    assert (found.optimizer_type, found.seed, found.output_name) == ("Lion", 4, "later")
    assert (found.resolution, found.keep_tokens) == ((512, 768), 1)


def test_what_is_wrong_is_one_sentence(tmp_path: Path, lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file({"a": np.ones(1, np.float32)}, bare)
    with pytest.raises(SettingsError):
        read("--continue", bare)
    assert main(["train", "a.toml", "b.toml", "--continue", str(lora)]) == 2
    assert "--continue and --dry-run are for one run" in capsys.readouterr().err
