"""Export for kohya's scripts: what is read back is what was written, in all three forms."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_lab.errors import OutputError
from lora_lab.families import Family
from lora_lab.training.exporting.options import CHECKPOINT, Target, export
from lora_lab.training.exporting.texts import FORMATS, quoted_for_bash, quoted_for_powershell, text, write
from lora_lab.training.importing import script
from lora_lab.training.importing.files import parse_toml
from lora_lab.training.importing.options import OPTIONS
from lora_lab.training.settings import TrainSettings, settings_file

from .test_settings import ALL_VALUES

TARGET = Target("C:\\models\\my base (1).safetensors", clip_skip=2)
PLAIN = TrainSettings.from_mapping({"train_data_dir": "/data/mika", "output_name": "mika", "optimizer_args": "a=1 b=2"})


def back(made: Any, form: str, folder: Path) -> settings_file.SettingsFile:
    path = folder / f"run{FORMATS[form]}"
    if made.prompts:
        Path(made.options["sample_prompts"]).write_text(made.prompts + "\n", encoding="utf-8")
    path.write_text(text(made, form), encoding="utf-8")
    return settings_file.read(path)


@pytest.mark.parametrize("form", FORMATS)
def test_the_settings_of_a_new_run(form: str, tmp_path: Path) -> None:
    made = export(PLAIN, TARGET)
    found = back(made, form, tmp_path)
    assert found.settings == made.settings
    assert (found.skipped, found.refused, found.checkpoint) == ((), (), TARGET.checkpoint)
    s = found.settings
    assert (s.learning_rate, s.text_encoder_lr, s.max_train_epochs, s.clip_skip) == (1e-4, 5e-5, 10, 2)
    same = {spec.name for spec in TrainSettings.specs() if getattr(s, spec.name) == getattr(PLAIN, spec.name)}
    other = {spec.name for spec in TrainSettings.specs()} - same
    # Filled in, since empty means another thing there; the rest is as it was.
    assert other <= {"learning_rate", "text_encoder_lr", "max_train_epochs", "clip_skip", "mixed_precision"}


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=ALL_VALUES, form=st.sampled_from(sorted(FORMATS)))
def test_any_settings_there_and_back(values: dict[str, Any], form: str, tmp_path: Path) -> None:
    values["sample_prompts"] = str(values.get("sample_prompts") or "").strip().replace("\r", "").replace("\0", "")
    values["face_crop_aug_range"] = ""  # with buckets it is left out on the way back, which another test holds
    chosen = TrainSettings.from_mapping(values)
    made = export(chosen, TARGET, str(tmp_path / "prompts.txt"))
    if form == "ps1" and any(unwritable(str(value)) for value in made.options.values()):
        return
    found = back(made, form, tmp_path)
    expected = made.settings
    if len(expected.sample_prompts.splitlines()) > 1:
        found_prompts = found.settings.sample_prompts.splitlines()
        assert found_prompts == expected.sample_prompts.splitlines()
        expected = expected.replace(sample_prompts=found.settings.sample_prompts)
    assert found.settings == expected


NASTY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["it's", 'a "b" c', "$HOME `x` $(y)", "C:\\a b\\", "-x", "é漢字", "\u2018q\u2019 \u201cq\u201d", "a;b|c&d", "#", ""]
)


def unwritable(value: str) -> bool:
    """Has it a control character that Windows' PowerShell has no way to write?"""
    return any(c not in "\n\t\r\0" and (c < " " or "\x7f" <= c <= "\x9f" or c in "\u2028\u2029") for c in value)


@given(NASTY)
def test_any_value_holds_in_quotation_marks(value: str) -> None:
    for quoted, suffix in ((quoted_for_bash, ".sh"), (quoted_for_powershell, ".ps1")):
        if suffix == ".ps1" and unwritable(value):
            continue
        line = f"accelerate launch train_network.py --training_comment={quoted(value)} --seed 1"
        assert script.read(line, suffix).values == {"training_comment": value, "seed": "1"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@settings(max_examples=40)
@given(NASTY.filter(lambda value: "\0" not in value))
def test_bash_itself_reads_the_same(value: str) -> None:
    code = f"printf %s {quoted_for_bash(value) or chr(39) * 2}"
    ran = subprocess.run(["bash", "-c", code], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert ran.stdout.decode("utf-8") == value


def test_what_kohyas_scripts_lack_is_named_in_a_comment() -> None:
    made = export(PLAIN.replace(validation_data_dir="/held out", sample_sampler="unipc"), Target())
    written = text(made, "toml")
    assert "# kohya's scripts have no validation_data_dir = /held out" in written
    assert "# kohya's scripts have no sample_sampler = unipc" in written
    assert "# the checkpoint is not known here" in written
    assert parse_toml(written)["pretrained_model_name_or_path"] == CHECKPOINT
    assert "validation_data_dir" not in parse_toml(written)


def test_every_option_is_one_of_kohyas_and_has_its_type() -> None:
    chosen = PLAIN.replace(lr_warmup_steps=0.1, resolution="512,768", unet_lr=2, optimizer_type="Prodigy")
    options = parse_toml(text(export(chosen, TARGET), "toml"))
    assert not options.keys() - OPTIONS.keys()
    assert (options["resolution"], options["lr_warmup_steps"], options["unet_lr"]) == ("512,768", 0.1, 2)
    assert (options["text_encoder_lr"], options["optimizer_args"]) == ([1], ["a=1", "b=2"])


def test_the_script_is_that_of_the_family() -> None:
    made = export(PLAIN, Target("x.safetensors", Family.SDXL))
    assert "accelerate launch --num_cpu_threads_per_process 1 sdxl_train_network.py \\\n" in text(made, "bash")
    made = export(PLAIN, Target("x.safetensors", Family.SD2, v_prediction=True))
    assert {"v2", "v_parameterization"} <= made.options.keys()


def test_files_are_written_whole_with_their_prompts_and_never_over_others(tmp_path: Path) -> None:
    path = tmp_path / "run.ps1"
    chosen = PLAIN.replace(sample_prompts="mika --d 1\nmika, hat")
    write(chosen, "ps1", path, TARGET)
    assert settings_file.read(path).settings.sample_prompts == chosen.sample_prompts
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-prompts.txt", "run.ps1"]
    assert path.read_bytes()[:3] == b"\xef\xbb\xbf"
    with pytest.raises(OutputError, match="exists already"):
        write(chosen, "ps1", path, TARGET)
    write(PLAIN, "ps1", path, TARGET, force=True)
    assert settings_file.read(path).settings.sample_prompts == ""
