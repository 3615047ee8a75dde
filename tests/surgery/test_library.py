"""A folder of LoRAs as a library, and one file described."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from lora_lab.cli import main
from lora_lab.errors import AdapterFileError, OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.surgery import library
from lora_lab.surgery.compress import Compression
from lora_lab.surgery.edit import read_card, set_preview
from lora_lab.surgery.extract import ExtractRequest, extract
from lora_lab.surgery.library import in_prompt, is_prompt, read_library, search, short_hash, trained_on
from lora_lab.surgery.ranks import parse
from lora_lab.surgery.report import look_into, metadata_tables
from tests.surgery.test_into_checkpoint import every_kind
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites

SD1, SDXL = Family.SD1, Family.SDXL
TAGS = json.dumps({"10_mika": {"mika": 20, "red hat": 7}, "1_reg": {"girl": 30, "red hat": 1}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "loras"
    (place / "old").mkdir(parents=True)
    state, large = checkpoint(SD1), checkpoint(SDXL)
    card = {"ss_tag_frequency": TAGS, "ss_sd_model_name": "anime.safetensors", "ss_sd_model_hash": "abcdef01",
            "modelspec.trigger_phrase": "mika girl", "ss_optimizer": "Prodigy", "ss_steps": "None"}  # fmt: skip
    save(place / "mika.safetensors", lora(state, SD1, 4), card)
    save(place / "old" / "big.safetensors", lora(large, SDXL, 8), {"ss_sd_model_name": "xl"})
    (place / "broken.safetensors").write_bytes(b"not a file")
    (place / "readme.txt").write_text("hello")
    return place


def names(found: list[Any]) -> list[str]:
    return [entry.name for entry in found]


def test_reads_searches_and_remembers(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache" / "library.json"
    entries = read_library(folder, cache)
    assert names(entries) == ["broken", "mika", "old/big"]
    broken, mika, big = entries
    assert broken.problem
    assert (mika.kind, mika.family, mika.ranks, big.family, big.ranks) == ("lora", "sd1", (4, 4), "sdxl", (8, 8))
    assert dict(mika.tags or {}) == {"girl": 30, "mika": 20, "red hat": 8}
    assert "steps" not in (mika.trained or {})
    for text, want in {
        "": ["broken", "mika", "old/big"], "mika": ["mika"], "HAT prodigy": ["mika"], "tag:red_hat": ["mika"],
        "family:sdxl": ["old/big"], "rank<=4": ["mika"], "rank>=5": ["old/big"], "rank=4 family:sdxl": [],
        "kind:lora -base:anime": ["old/big"], "-mika -broken": ["old/big"], "problem:file": ["broken"],
    }.items():  # fmt: skip
        assert names(search(entries, text)) == want, text
    for wrong in ("colour:red", "rank<=many"):
        with pytest.raises(SettingsError):
            search(entries, wrong)
    read: list[Path] = []
    describe = library.describe
    monkeypatch.setattr(library, "describe", lambda path, *more: [read.append(path), describe(path, *more)][1])
    assert read_library(folder, cache) == entries
    assert read == [], "everything came from the cache"
    shutil.copy(folder / "mika.safetensors", folder / "broken.safetensors")
    (folder / "old" / "big.safetensors").unlink()
    assert names(read_library(folder, cache)) == ["broken", "mika"]
    assert [path.name for path in read] == ["broken.safetensors"]
    cache.write_text('{"version": 1, "folders": []}')
    assert names(read_library(folder, cache)) == ["broken", "mika"], "a damaged cache costs time, nothing else"
    with pytest.raises(AdapterFileError, match="no such folder"):
        read_library(folder / "gone")


def test_which_a_prompt_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(folder / "new.safetensors", lora(checkpoint(SD1), SD1, 2), {"ss_output_name": "first name"})
    entries = read_library(folder)
    prompt = (
        "1girl <lora:big:0.8:lbw=OUTD>, <LoRA: mika:1> <lora:gone:1> <lora:mika:0.5> <hypernet:old:1> <lora:first name>"
    )
    found, missing = in_prompt(entries, prompt)
    assert (names(found), missing) == (["old/big", "mika", "new"], ["gone"])
    assert is_prompt(prompt)
    assert not is_prompt("tag:hat rank<=16 lora")
    assert in_prompt(entries, "no LoRA at all") == ([], [])
    assert main(["library", str(folder), "--prompt", prompt, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ([file["name"] for file in told["files"]], told["missing"]) == (["old/big", "mika", "new"], ["gone"])


def test_which_were_trained_on_this_checkpoint(folder: Path, tmp_path: Path) -> None:
    entries = read_library(folder)
    anime = tmp_path / "anime.safetensors"
    anime.write_bytes(bytes(0x100000) + bytes(range(256)) * 0x200)
    data = anime.read_bytes()
    assert short_hash(anime) == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    assert [(t.entry.name, t.by) for t in trained_on(entries, anime)] == [("mika", "name")]
    mika, hashed = load(folder / "mika.safetensors"), {"ss_sd_model_hash": short_hash(anime)}
    other = save(folder / "other.safetensors", mika, hashed)
    full = {"ss_new_sd_model_hash": library.full_hash(anime), "ss_sd_model_name": "renamed"}
    save(folder / "third.safetensors", load(other), full)
    entries = read_library(folder)
    assert [(t.entry.name, t.by) for t in trained_on(entries, anime)] == [("other", "hash"), ("mika", "name")]
    found = trained_on(entries, anime, library.full_hash(anime))
    assert [t.entry.name for t in found] == ["other", "third", "mika"]


def test_the_verb(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    assert main(["library", str(folder), "tag:hat", "--json", "--csv", str(table)]) == 0
    values = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [row["name"] for row in values["files"]] == ["mika"]
    assert table.read_text().splitlines()[1].startswith("mika,lora,sd1,")
    assert main(["library", str(folder), "--csv", str(table)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["library", str(folder)]) == 0
    assert "2 of" not in (told := capsys.readouterr().out)
    assert "mika: lora for sd1" in told
    pattern = str(folder / "*.safetensors")
    (folder / "broken.safetensors").unlink()
    shutil.copy(folder / "mika.safetensors", folder / "copy.safetensors")
    assert main(["inspect", pattern, "--json"]) == 0
    values = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert len(values["files"]) == 2
    assert main(["inspect", pattern, "--set", "title=x"]) == 2
    assert main(["bake", f"{pattern}:0.5", "-o", str(tmp_path), "--dry-run"]) == 0


def test_a_report_of_every_kind(tmp_path: Path) -> None:
    state = checkpoint(SD1)
    tensors = lora(state, SD1, 4)
    path = save(tmp_path / "a.safetensors", tensors, {"ss_tag_frequency": TAGS, "odd": "1"})
    report = look_into(path)
    want: dict[str, float] = {}
    for site in sites(tensors):
        if site.startswith("lora_te_text_model_encoder_layers_1_"):
            want["TE 1"] = want.get("TE 1", 0.0) + float(dense(tensors, site).square().sum())
    assert report.text_layers["TE 1"] == pytest.approx(want["TE 1"] ** 0.5, rel=1e-5)
    whole = sum(float(dense(tensors, site).square().sum()) for site in sites(tensors))
    assert sum(norm**2 for norm in report.blocks.values()) == pytest.approx(whole, rel=1e-5)
    assert (report.ranks, report.alphas, report.problems) == ({4: len(sites(tensors))}, {2.0: len(sites(tensors))}, ())
    assert {table.title for table in report.tables} == {"Tags", "All else"}
    far = "lora_unet_mid_block_attentions_0_proj_in"
    tensors[f"{far}.lora_up.weight"] *= 1000
    (key,) = [k for k in tensors if k.endswith("layers_0_mlp_fc1.lora_down.weight")]
    tensors[key][0, 0] = float("nan")
    del tensors["lora_te_text_model_encoder_layers_0_mlp_fc2.alpha"]
    report = look_into(save(tmp_path / "b.safetensors", tensors, {"sshs_model_hash": "0" * 64}))
    assert [site for site, _ in report.outliers] == [far]
    assert len(report.problems) == 3
    kinds = look_into(save(tmp_path / "kinds.safetensors", every_kind(state)))
    assert len(kinds.kinds) > 5
    assert kinds.unknown > 0


def test_metadata_as_tables() -> None:
    tables = {
        table.title: dict(table.rows)
        for table in metadata_tables({
            "ss_bucket_info": json.dumps({"buckets": {"0": {"resolution": [512, 640], "count": 9}}}),
            "ss_dataset_dirs": json.dumps({"10_mika": {"n_repeats": 10, "img_count": 18}}),
            "ss_network_dim": "16", "ss_seed": "None", "modelspec.title": "Mika", "ss_tag_frequency": "{broken",
        })
    }  # fmt: skip
    assert tables == {
        "About": {"title": "Mika"}, "Training": {"rank": "16"}, "Datasets": {"10_mika": "18 pictures, 10 times"},
        "Buckets": {"512 × 640": "9 pictures"},
    }  # fmt: skip


def test_a_preview_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {"x": torch.ones(1)})
    picture = tmp_path / "picture.jpg"
    Image.new("RGB", (2000, 1000), "red").save(picture)
    target = set_preview(path, picture, dry_run=True)
    assert not target.exists()
    assert set_preview(path, picture) == target == tmp_path / "a.preview.png"
    assert Image.open(target).size == (768, 384)
    with pytest.raises(OutputError, match="has a preview already"):
        set_preview(path, picture)
    set_preview(path, picture, force=True)
    with pytest.raises(SettingsError, match="cannot be read"):
        set_preview(path, path, force=True)
    assert read_card(path)["trigger"] == ""


def test_room_is_looked_for_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = checkpoint(SD1)
    changed: dict[str, Tensor] = {key: tensor + 0.1 * torch.randn_like(tensor) for key, tensor in state.items()}
    paths = [save(tmp_path / "a.safetensors", state), save(tmp_path / "b.safetensors", changed)]
    worked: list[str] = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=(32 << 20) + 1000))
    request = ExtractRequest(*paths, tmp_path / "out.safetensors", Compression(parse("4")))
    with pytest.raises(OutputError, match="no room"):
        extract(request, lambda done, of, what: worked.append(what))
    assert worked == []
