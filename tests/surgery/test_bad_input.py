"""The bad input that issue 8 lists, for every tool that can meet it; damaged heads are in test_streams.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_lab.cli import main
from lora_lab.errors import AdapterFileError, CheckpointError, OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.surgery.bake import BakeRequest, bake
from lora_lab.surgery.compress import Compression
from lora_lab.surgery.convert import ConvertRequest, convert
from lora_lab.surgery.extract import ExtractRequest, extract
from lora_lab.surgery.into_checkpoint import MergeRequest, merge_into_checkpoint, unmerge
from lora_lab.surgery.look import compare
from lora_lab.surgery.merge_adapters import MixRequest, merge_adapters
from lora_lab.surgery.ranks import parse
from lora_lab.surgery.report import look_into
from lora_lab.surgery.resize import ResizeTarget, resize
from lora_lab.surgery.split import SplitRequest, split
from lora_lab.surgery.uses import AdapterUse
from tests.surgery.test_extract import merged
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites

SD1 = Family.SD1
FOUR = Compression(parse("4"), dtype=torch.float32)


class World:
    """Two checkpoints and two adapters, and where outputs go."""

    def __init__(self, folder: Path) -> None:
        self.state = checkpoint(SD1)
        self.adapter = lora(self.state, SD1, 4)
        self.base = save(folder / "base.safetensors", self.state)
        self.tuned = save(folder / "tuned.safetensors", merged(self.state, SD1, self.adapter))
        self.a = save(folder / "a.safetensors", self.adapter)
        self.b = save(folder / "b.safetensors", lora(self.state, SD1, 2, seed=7))
        self.out = folder / "out.safetensors"

    def tools(self) -> dict[str, Callable[[], object]]:
        """Every tool that writes, on these files."""
        use, both = AdapterUse(self.a, 0.5), (AdapterUse(self.a), AdapterUse(self.b))
        return {
            "extract": lambda: extract(ExtractRequest(self.base, self.tuned, self.out, FOUR)),
            "merge into a checkpoint": lambda: merge_into_checkpoint(MergeRequest(self.base, (use,), self.out)),
            "concat": lambda: merge_adapters(MixRequest(both, self.out, "concat")),
            "svd": lambda: merge_adapters(MixRequest(both, self.out, "svd", FOUR)),
            "resize": lambda: resize(self.a, [ResizeTarget(self.out, Compression(parse("2")))]),
            "bake": lambda: bake(BakeRequest(use, self.out)),
            "convert": lambda: convert(ConvertRequest(self.a, self.out, "diffusers")),
            "split": lambda: split(SplitRequest(self.a, (2,), self.out)),
        }


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    "name", ["extract", "merge into a checkpoint", "concat", "svd", "resize", "bake", "convert", "split"]
)
def test_no_room_on_the_disk(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = set(tmp_path.iterdir())
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=(32 << 20) + 100))
        with pytest.raises(OutputError, match="no room on the disk"):
            world.tools()[name]()
    assert set(tmp_path.iterdir()) == before
    world.tools()[name]()
    assert set(tmp_path.iterdir()) > before, "with room the same request writes"


def test_undo_without_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.tools()["merge into a checkpoint"]()
    usage = shutil.disk_usage(world.out.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(OutputError, match="no room on the disk"):
        unmerge(world.out, (world.a,), world.out.with_name("back.safetensors"))


def test_nothing_in_common_names_one_of_each(world: World, tmp_path: Path) -> None:
    strange = {key: t for key, t in world.state.items() if not key.startswith(("model.diffusion_model", "cond_stage"))}
    strange["model.diffusion_model.strange.weight"] = torch.ones(4, 4)
    strange["cond_stage_model.transformer.text_model.strange.weight"] = torch.ones(4, 4)
    other = save(tmp_path / "strange.safetensors", strange)
    with pytest.raises(CheckpointError, match=r"no layer in common: lora_te_\S+ here, lora_\S*strange there"):
        extract(ExtractRequest(world.base, other, world.out, FOUR))
    with pytest.raises(AdapterFileError, match=r"no site of the adapter is in the checkpoint: lora_\S+ here, lora_\S+"):
        merge_into_checkpoint(MergeRequest(other, (AdapterUse(world.a),), world.out))


def test_a_missing_alpha_is_the_rank(world: World, tmp_path: Path) -> None:
    """As in the webui, and every tool agrees; Inspect tells it."""
    with_it = {k: torch.tensor(4.0) if k.endswith(".alpha") else t for k, t in world.adapter.items()}
    told = save(tmp_path / "told.safetensors", with_it)
    bare = save(tmp_path / "bare.safetensors", {k: t for k, t in with_it.items() if not k.endswith(".alpha")})
    assert compare(told, bare).distance < 1e-6
    for name in ("merge into a checkpoint", "svd", "resize", "bake"):
        made = []
        for source in (told, bare):
            world.a = source
            world.tools()[name]()
            made.append(world.out.rename(tmp_path / f"{source.stem}-{name[:4]}.safetensors"))
        if name == "merge into a checkpoint":
            one, two = (load(path) for path in made)
            assert all(torch.equal(one[key], two[key]) for key in one)
        else:
            assert compare(*made).distance < 1e-6
    assert any("alpha" in problem for problem in look_into(bare).problems)
    assert not look_into(told).problems


def test_a_rank_larger_than_the_layers(world: World) -> None:
    """Everything is kept, exactly, and no factor is larger than its layer."""
    big = Compression(parse("999"), dtype=torch.float32)
    outcome = extract(ExtractRequest(world.base, world.tuned, world.out, big))
    assert outcome.error < 1e-3
    got = load(world.out)
    for site in sites(world.adapter):
        up, down = got[f"{site}.lora_up.weight"], got[f"{site}.lora_down.weight"]
        assert down.shape[0] <= min(up.shape[0], down[0].numel())
        assert (dense(got, site) - dense(world.adapter, site)).abs().max() < 1e-5
    world.out.unlink()
    both = MixRequest((AdapterUse(world.a), AdapterUse(world.b)), world.out, "svd", big)
    assert merge_adapters(both).error < 1e-3
    with pytest.raises(SettingsError, match="is no rank|rank is|makes no sense|already"):
        resize(world.a, [ResizeTarget(world.out.with_name("r.safetensors"), Compression(parse("4")))])


def test_a_zero_rank_asked_for(world: World) -> None:
    with pytest.raises(SettingsError):
        parse("0")
    for verb in (["extract", world.base, world.tuned], ["resize", world.a]):
        assert main([*map(str, verb), "-o", str(world.out), "--rank", "0"]) == 2


def test_two_files_that_are_the_same(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copy(world.base, copy)
    with pytest.raises(CheckpointError, match="do not differ"):
        extract(ExtractRequest(world.base, copy, world.out, FOUR))
    assert compare(world.a, world.a).distance == 0
    with pytest.raises(OutputError, match="one of the inputs"):
        bake(BakeRequest(AdapterUse(world.a, 0.5), world.a, force=True))
    merge_adapters(MixRequest((AdapterUse(world.a, 0.5, 0.5),) * 2, world.out, "svd", FOUR))
    assert compare(world.a, world.out).distance < 1e-5


@pytest.mark.parametrize("name", ["truncated", "garbage", "empty", "pickle", "text"])
def test_files_that_are_none(world: World, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every verb says one sentence, with status 2, and writes nothing."""
    whole = world.a.read_bytes()
    data = {"truncated": whole[: len(whole) // 2], "garbage": b"\xff" * 4096, "empty": b"",
            "pickle": b"\x80\x02}q\x00.", "text": b"version https://git-lfs.github.com/spec/v1\n"}[name]  # fmt: skip
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(data)
    base, out = str(world.base), str(world.out)
    for words in (
        ["extract", base, bad, "-o", out], ["extract", bad, base, "-o", out], ["merge", bad, "--into", base, "-o", out],
        ["merge", world.a, "--into", bad, "-o", out], ["merge", bad, world.a, "-o", out], ["resize", bad, "-o", out,
        "--rank", "2"], ["bake", f"{bad}:0.5", "-o", out], ["convert", bad, "-o", out], ["inspect", bad],
        ["split", bad, "-o", tmp_path, "--ranks", "2"], ["merge", world.a, "--undo", bad, "-o", out],
    ):  # fmt: skip
        assert main([*map(str, words)]) == 2, words
        told = capsys.readouterr().err.strip().splitlines()
        assert "bad.safetensors" in told[-1], words
        assert "Traceback" not in "".join(told)
    assert not world.out.exists()
