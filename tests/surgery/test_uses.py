"""How strongly an adapter is used: as people write it, and what merging and baking make of it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from torch import Tensor

from lora_lab.cli import main
from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network import elements
from lora_lab.network.blocks import block_names
from lora_lab.network.vectors import vector
from lora_lab.surgery.bake import BakeRequest, bake
from lora_lab.surgery.into_checkpoint import MergeRequest, merge_into_checkpoint, unmerge
from lora_lab.surgery.places import block_of
from lora_lab.surgery.uses import AdapterUse, Names, open_uses, parse_use
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites

HALF = ",".join(["0.5"] * 17)


def strengths(path: Path, text: str, names: Names | None = None) -> dict[str, float]:
    """By site, as an open use tells them."""
    use = parse_use(f"{path}{text}", names)
    with ExitStack() as stack:
        opened = open_uses(stack, [use])[0]
        return {entry.name: opened.strength(entry) for entry in opened.reader}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save(tmp_path / "a.safetensors", lora(checkpoint(Family.SD1), Family.SD1, 2, conv=True))


def test_strengths_are_read_as_people_write_them() -> None:
    assert parse_use("a.safetensors") == AdapterUse(Path("a.safetensors"))
    assert parse_use("a.safetensors:0.8") == AdapterUse(Path("a.safetensors"), 0.8, 0.8)
    assert parse_use("d/a:te=0.5:OUT03=0:in=2") == AdapterUse(Path("d/a"), 1.0, 0.5, {"OUT03": 0.0, "IN": 2.0})
    assert str(parse_use("C:\\x\\a.safetensors:-1").path) == "C:\\x\\a.safetensors"
    assert parse_use("a:lbwe=attndeepoff:0.5") == AdapterUse(Path("a"), 0.5, 0.5, elements="IN05-OUT05:attn:0")
    assert parse_use("a:0.5:lbwe=:attn:0,BASE::2") == AdapterUse(Path("a"), 0.5, 0.5, elements=":attn:0,BASE::2")


@pytest.mark.parametrize(
    "wrong", ["a:x", "a:te=y", "a:lbw=1,2", "a:lbw=OUTQ", "a:lbwe=NOPE", "a:lbwe=IN05:attn", "a:IN44=1", "a:te=nan",
              "a:lbw=" + ",".join(["R"] * 17), "a:lbw=" + ",".join(["1"] * 12), "a:x=0.5",
              "a:lbw=OUTD:x=0.5", "a:lbw=OUTX:x=inf"]
)  # fmt: skip
def test_what_is_no_strength_is_refused(adapter: Path, wrong: str) -> None:
    with pytest.raises(SettingsError):
        strengths(adapter, wrong[1:])


def test_a_list_means_what_it_means_in_the_prompt(adapter: Path) -> None:
    values = ",".join(f"{n / 10}" for n in range(17))
    want = vector(values, Family.SD1).blocks
    for site, strength in strengths(adapter, f":te=0.5:unet=2:lbw={values}").items():
        block = block_of(site, Family.SD1)
        assert strength == pytest.approx((0.5 if block == "BASE" else 2.0) * want[block]), site
    assert {block for block, number in want.items() if number == 0} > {"IN00", "IN03", "OUT02"}


def test_names_x_and_single_blocks_over_them(adapter: Path) -> None:
    found = strengths(adapter, ":lbw=outx:x=0.25:IN05=3")
    by_block = {block_of(site, Family.SD1): strength for site, strength in found.items()}
    assert (by_block["IN04"], by_block["IN05"], by_block["OUT04"], by_block["BASE"]) == (0.25, 3.0, 1.0, 1.0)
    assert {block_of(s, Family.SD1) for s, w in strengths(adapter, ":lbw=OUTS").items() if w} == {
        "BASE", *(f"OUT{n:02d}" for n in range(7, 12))
    }  # fmt: skip
    rules = strengths(adapter, ":lbw=BASE=1 OUT03-OUT05=0.5")
    assert {w for s, w in rules.items() if block_of(s, Family.SD1).startswith("IN")} == {0.0}


def test_elements_replace_the_blocks_weight(adapter: Path) -> None:
    rules = elements.rules("IN05-OUT05:attn:0,BASE::0.5", Family.SD1)
    found = strengths(adapter, f":0.5:lbw={HALF}:lbwe=IN05-OUT05:attn:0,BASE::0.5")
    for site, strength in found.items():
        single = elements.weight_of(rules, site, Family.SD1)
        block = block_of(site, Family.SD1)
        usual = 0.5 if block in vector(HALF, Family.SD1).blocks and vector(HALF, Family.SD1).blocks[block] else 0.0
        assert strength == 0.5 * (usual if single is None else single), site
    assert 0.0 in found.values()
    assert 0.25 in found.values()


def test_names_of_files(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "lbwpresets.txt").write_text(f"MINE:{HALF}\nXMINE:{','.join(['X'] * 26)}\n#{HALF}\nALL0.5:1,2,3\n")
    (tmp_path / "elempresets.txt").write_text("NOFF:IN05-OUT05:ff_net:0\nBASE:mlp:0\n\nHALFOUT:OUT::0.5\n")
    names = Names.of_files([tmp_path / "lbwpresets.txt", tmp_path / "elempresets.txt"])
    assert set(strengths(adapter, ":lbw=xmine:x=0.3", names).values()) == {0.3}
    off = strengths(adapter, ":lbw=MINE:lbwe=noff", names)
    assert {w for s, w in off.items() if "_mlp_" in s} == {0.0}
    assert parse_use("a:lbwe=ATTNDEEPON", names).elements
    (tmp_path / "empty.txt").write_text("nothing here\n")
    with pytest.raises(SettingsError, match="no preset"):
        Names.of_files([tmp_path / "empty.txt"])
    with pytest.raises(SettingsError, match="cannot be read"):
        Names.of_files([tmp_path / "missing.txt"])


@pytest.mark.parametrize("family", list(Family))
def test_baking_and_merging_agree_on_single_layers(tmp_path: Path, family: Family) -> None:
    """The strengths are the rules' own, whichever tool applies them; and a merge with them is taken out again."""
    state = checkpoint(family)
    base = save(tmp_path / "base.safetensors", state)
    path = save(tmp_path / "a.safetensors", lora(state, family, 2))
    use = parse_use(f"{path}:0.75:lbw=BASE=0.5 IN=1 OUT=0.5:lbwe=IN05-OUT05:attn:0,OUT:ff:2")
    baked = tmp_path / "baked.safetensors"
    bake(BakeRequest(use, baked))
    before, after, rules = load(path), load(baked), elements.rules(use.elements, family)
    usual = {"BASE": 0.5, "IN": 1.0, "M": 0.0, "OUT": 0.5}
    for site in sites(before):
        single = elements.weight_of(rules, site, family)
        side = block_of(site, family).rstrip("0123456789")
        want = 0.75 * (usual[side] if single is None else single)
        if want == 0:
            assert not any(key.startswith(f"{site}.") for key in after)
        else:
            assert (dense(after, site) - want * dense(before, site)).abs().max() < 1e-6, site
    one, two, back = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "back"))
    merge_into_checkpoint(MergeRequest(base, (use,), one))
    merge_into_checkpoint(MergeRequest(base, (AdapterUse(baked),), two))
    assert equal(load(one), load(two))
    assert not equal(load(one), state)
    unmerge(one, (path,), back)
    assert equal(load(back), state)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all((a[key] - b[key]).abs().max() < 1e-6 for key in a)


def test_the_verb_knows_names_of_a_file(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = tmp_path / "p.txt"
    presets.write_text(f"MINE:{HALF}\n")
    out = tmp_path / "out.safetensors"
    assert main(["bake", f"{adapter}:lbw=mine", "-o", str(out), "--presets", str(presets), "--json"]) == 0
    assert main(["bake", f"{adapter}:lbw=mine", "-o", str(out), "--force", "--json"]) == 2
    assert "no block weights named 'mine'" in capsys.readouterr().out
    names = {block_of(site, Family.SD1) for site in sites(load(out))}
    assert names < set(block_names(Family.SD1))
    assert "OUT02" not in names
