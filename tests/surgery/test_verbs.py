"""The verbs of the tools, as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli import main, toolbox
from lora_lab.errors import OutputError, SettingsError
from lora_lab.families import Family
from tests.surgery.test_extract import merged
from tests.surgery.worlds import checkpoint, load, lora, save, sites

SD1 = Family.SD1


@pytest.fixture(scope="module")
def world(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("world")
    state = checkpoint(SD1)
    adapter = lora(state, SD1, 4)
    save(folder / "base.safetensors", state)
    save(folder / "a.safetensors", adapter)
    save(folder / "b.safetensors", lora(state, SD1, 2, seed=7))
    save(folder / "tuned.safetensors", merged(state, SD1, adapter))
    return folder


def lab(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> dict[str, Any]:
    """Run a verb with --json; its last line."""
    assert main([str(word) for word in (*words, "--json")]) == status
    values: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return values


def test_the_keys_of_product_md(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, base = (world / f"{name}.safetensors" for name in ("a", "b", "base"))
    runs = (
        ("extract", base, world / "tuned.safetensors", "--rank", "4", "--precision", "float"),
        ("merge", f"{a}:0.5:OUT03=0", b, "--into", base),
        ("merge", a, f"{b}:-1", "--method", "concat"),
        ("resize", a, "--rank", "2"),
        ("bake", f"{a}:te=0.5"),
        ("convert", a, "--layout", "diffusers"),
    )
    for number, run in enumerate(runs):
        out = tmp_path / f"{number}.safetensors"
        dry = lab(capsys, *run, "-o", out, "--dry-run")
        assert dry["out"] is None
        assert not out.exists()
        got = lab(capsys, *run, "-o", out)
        assert {"out", "seconds", "error", "peak_mb"} <= set(got)
        assert got["out"] == str(out)
        assert got["peak_mb"] > 1
        assert len(load(out)) > 10
        refused = lab(capsys, *run, "-o", out, status=2)
        assert "exists already" in refused["error"]
        assert lab(capsys, *run, "-o", out, "--force")["out"] == str(out)
    undone = lab(capsys, "merge", a, b, "--undo", tmp_path / "1.safetensors", "-o", tmp_path / "u.safetensors")
    assert undone["error"] < 1e-4
    split = lab(capsys, "split", a, "--ranks", "1,2", "-o", tmp_path / "s.safetensors")
    assert [Path(one["out"]).name for one in split["files"]] == ["s-0001.safetensors", "s-0002.safetensors"]


def test_several_inputs_globs_and_ranks(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = lab(capsys, "resize", world / "[ab].safetensors", "-o", tmp_path, "--rank", "1", "--rank", "sv_fro=0.5")
    names = [Path(one["out"]).name for one in got["files"]]
    assert names == [f"{n}-{r}.safetensors" for n in "ab" for r in ("1", "sv_fro0.5")]
    assert all((tmp_path / name).exists() for name in names)
    missing = lab(capsys, "bake", world / "a.safetensors", "-o", tmp_path / "x" / "y.safetensors", status=2)
    assert "no such folder" in missing["error"]
    assert "nothing matches" in lab(capsys, "convert", world / "z*.safetensors", "-o", tmp_path, status=2)["error"]
    assert "need a folder" in lab(capsys, "convert", world / "[ab].safetensors", "-o", tmp_path / "o.safetensors",
                                  status=2)["error"]  # fmt: skip


def test_rank_arguments(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = world / "base.safetensors", world / "tuned.safetensors"
    lab(capsys, "extract", base, tuned, "-o", tmp_path / "o.safetensors", "--rank", "sv_fro=0.9", "--max-rank", "3",
        "--block-rank", "out03=1")  # fmt: skip
    got = load(tmp_path / "o.safetensors")
    ranks = {site: got[f"{site}.lora_down.weight"].shape[0] for site in sites(got)}
    assert max(ranks.values()) == 3
    assert {rank for site, rank in ranks.items() if "up_blocks_1_attentions_0" in site} == {1}
    small = lab(capsys, "extract", base, tuned, "-o", tmp_path / "s.safetensors", "--max-size", "120KB")
    assert small["size"] <= 120_000
    for words in (("--rank", "x"), ("--max-size", "big"), ("--block-rank", "OUT03"), ("--rank", "0")):
        lab(capsys, "extract", base, tuned, "-o", tmp_path / "n.safetensors", *words, status=2)
    for words in (("--into", base, "--undo", base), ("--vae", base)):
        lab(capsys, "merge", world / "a.safetensors", "-o", tmp_path / "n.safetensors", *words, status=2)
    lab(capsys, "resize", world / "a.safetensors", "-o", tmp_path / "n.safetensors", status=2)
    lab(capsys, "split", world / "a.safetensors", "-o", tmp_path / "n.safetensors", "--ranks", "a", status=2)
    assert not (tmp_path / "n.safetensors").exists()


def test_inspect_compares_and_edits(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.safetensors", load(world / "a.safetensors"), {"old": "1"})
    got = lab(capsys, "inspect", path, "--spectrum", "--compare", world / "b.safetensors", "--set", "title=Mika",
              "--remove", "old", "--card", "trigger=mika")  # fmt: skip
    assert got["edited"] == ["modelspec.title", "old"]
    assert got["metadata"]["modelspec.title"] == "Mika"
    assert len(got["spectrum"]) == len(sites(load(path))) == got["sites"]
    assert got["difference"]["distance"] > 0.5
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"activation text": "mika"}


def test_people_get_lines(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resize", str(world / "a.safetensors"), "-o", str(tmp_path / "o.safetensors"), "--rank", "2"]) == 0
    told = capsys.readouterr().out
    assert "error" in told
    assert "OUT03" in told
    assert main(["resize", str(world / "gone.safetensors"), "-o", str(tmp_path / "p.safetensors"), "--rank", "2"]) == 2
    assert capsys.readouterr().err.startswith("lora-lab: there is no such file")


def test_sizes() -> None:
    sizes = {"50MB": 50_000_000, "1.5 GB": 1_500_000_000, "10KiB": 10_240, "7": 7}
    assert {text: toolbox.parse_size(text) for text in sizes} == sizes
    for wrong in ("", "MB", "-1MB", "nan", "1XB"):
        with pytest.raises(SettingsError):
            toolbox.parse_size(wrong)
    with pytest.raises(OutputError, match="two outputs"):
        toolbox.places(Path(), [Path("x/a.safetensors"), Path("y/a.safetensors")])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count by process")
def test_the_peak_is_this_processs_and_not_its_parents() -> None:
    code = "from lora_lab.surgery.outcome import peak_mb; print(peak_mb())"
    held = b"1" * 400_000_000
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 1 < float(done.stdout) < len(held) / 1e6
