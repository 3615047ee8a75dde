"""The command line: help without torch, exit status, one line for each mistake, JSON with the promised keys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lora_lab.cli import VERBS, main
from lora_lab.cli.output import clock

ROOT = Path(__file__).resolve().parents[2]


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_and_needs_no_torch(verb: str) -> None:
    code = (
        "import sys\nfrom lora_lab.cli import main\n"
        f"try:\n    main(['{verb}', '--help'])\nexcept SystemExit:\n    sys.exit(9 if 'torch' in sys.modules else 0)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert f"lora-lab {verb}" in found.stdout
    assert "example:" in found.stdout


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys)
    assert status == 0
    assert all(verb in out for verb in VERBS)


def test_scan_looks_at_the_pixels_unless_told_not_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "train" / "1_mika"
    folder.mkdir(parents=True)
    Image.new("RGB", (512, 512), "grey").save(folder / "a.png")
    rules = {}
    for more in ([], ["--quick"]):
        status, out, _ = call(capsys, "scan", folder.parent, "--json", *more)
        assert status == 0
        rules[bool(more)] = {problem["rule"] for problem in json.loads(out)["problems"]}
    assert rules[False] - rules[True] == {"flat"}


def test_scan_prints_the_promised_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "3_x").mkdir()
    Image.new("RGB", (512, 512)).save(tmp_path / "3_x" / "a.png")
    (tmp_path / "3_x" / "b.png").write_bytes(b"broken")
    status, out, _ = call(capsys, "scan", tmp_path, "--json")
    assert status == 0
    values = json.loads(out.splitlines()[-1])
    assert {"images", "subsets", "buckets", "steps_per_epoch", "problems"} <= values.keys()
    assert (values["images"], values["steps_per_epoch"]) == (1, 3)
    assert {"file", "rule", "why", "remedy"} <= values["problems"][0].keys()
    status, out, _ = call(capsys, "scan", tmp_path)
    assert status == 0
    assert "512 x 512" in out
    assert "broken" not in out.splitlines()[0]


@pytest.mark.parametrize(
    "words",
    [
        ["scan", "no/such/folder"],
        ["inspect", "no/such/file.safetensors"],
        ["train", "no/such/settings.toml"],
    ],
)
def test_mistakes_are_one_line_and_status_2(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    status, out, err = call(capsys, *words)
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("lora-lab: ")
    status, out, _ = call(capsys, *words, "--json")
    assert status == 2
    assert json.loads(out).keys() == {"error", "file", "do"}


def test_an_unknown_setting_names_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = tmp_path / "a.toml"
    settings.write_text("lora_lab = 1\nnetwork_dimm = 8\n")
    status, _, err = call(capsys, "train", settings)
    assert status == 2
    assert "network_dim" in err
    settings.write_text("lora_lab = 1\nnetwork_dim = 8\n")
    status, _, err = call(capsys, "train", settings, "--set", "network_dim")
    assert status == 2
    assert "NAME=VALUE" in err


def test_train_and_inspect_end_to_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from lora_lab.demo import assets
    from lora_lab.workflow.demo import SETTINGS

    data = assets.write_dataset(tmp_path / "set")
    values = {
        **SETTINGS, "lora_lab": 1, "train_data_dir": str(data["character"]), "output_dir": str(tmp_path),
        "output_name": "small", "max_train_epochs": 1, "network_dim": 2, "network_alpha": 2, "text_encoder_lr": 0,
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(values))
    status, out, err = call(capsys, "train", tmp_path / "s.json", "--out", tmp_path / "runs", "--json")
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert {"lora", "run", "steps", "seconds", "loss_average", "val_loss", "stopped_by"} <= result.keys()
    assert (result["steps"], result["stopped_by"]) == (3, None)
    status, out, _ = call(capsys, "inspect", result["lora"], "--json")
    assert status == 0
    report = json.loads(out)
    assert {"kind", "family", "sites", "rank", "alpha", "norms_by_block", "metadata", "problems"} <= report.keys()
    assert (report["kind"], report["family"], report["sites"], report["problems"]) == ("LoRA", "sd1", 192, [])
    assert report["metadata"]["ss_num_train_images"] == "18"
    status, _, err = call(capsys, "train", tmp_path / "s.json", "--out", tmp_path / "runs")
    assert status == 2
    assert "small" in err


def test_a_dry_run_and_stages(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from lora_lab.demo import assets
    from lora_lab.workflow.demo import SETTINGS

    data = assets.write_dataset(tmp_path / "set")
    values = {
        **SETTINGS, "lora_lab": 1, "train_data_dir": str(data["character"]), "output_dir": str(tmp_path),
        "output_name": "small", "max_train_epochs": None, "max_train_steps": 1, "network_dim": 2, "network_alpha": 2,
        "text_encoder_lr": 0, "stages": [{}, {"unet_lr": 1e-5}], "sample_prompts": "",
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(values))
    given = ("train", tmp_path / "s.json", "--out", tmp_path / "runs", "--json")
    status, out, err = call(capsys, *given, "--dry-run")
    assert status == 0, err
    found = json.loads(out.splitlines()[-1])
    assert (found["steps"], found["fits"]) == (1, True)
    assert found["peak_mb"] > 1
    assert not list(tmp_path.glob("*.safetensors"))
    status, out, err = call(capsys, *given)
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["lora"].endswith("small-stage2.safetensors")
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == {"small-stage1", "small-stage2"}
    status, _, err = call(capsys, "train", "--dry-run", "--resume", "x")
    assert status == 2
    assert "there is no settings file" in err


def test_clock() -> None:
    assert [clock(s) for s in (5, 75, 3725)] == ["0:05", "1:15", "1:02:05"]
