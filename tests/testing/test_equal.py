"""Each cell of a batched grid is the picture made alone with the weights written into the model: kinds and families."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.testing.small import PROMPT, difference, host_of, plan_of, write_lora

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from lora_lab.families import Family  # noqa: E402
from lora_lab.host.base import PreviewRequest  # noqa: E402
from lora_lab.network import deltas, files  # noqa: E402
from lora_lab.network.lora_file import by_site  # noqa: E402
from lora_lab.network.reach import C3LIER, LIERLA, WIDEST, Reach  # noqa: E402
from lora_lab.network.recipe import Recipe  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.surgery.bake import BakeRequest, bake  # noqa: E402
from lora_lab.surgery.uses import AdapterUse  # noqa: E402
from lora_lab.testing import rows  # noqa: E402
from lora_lab.testing.cells import NOTHING, WHOLE, Cell, Weights  # noqa: E402
from lora_lab.testing.grid import run_grid  # noqa: E402
from lora_lab.testing.making import Adapters, make  # noqa: E402
from lora_lab.testing.watch import Watch  # noqa: E402
from tests.testing.small import LOOK  # noqa: E402
from tests.training.tiny import TinyHost  # noqa: E402

NORMS = dataclasses.replace(C3LIER, norms=True)
KINDS: dict[str, tuple[Recipe, Reach]] = {
    "lora": (Recipe(), LIERLA),
    "locon": (Recipe("locon"), C3LIER),
    "loha": (Recipe("loha"), C3LIER),
    "lokr": (Recipe("lokr", factor=4), C3LIER),
    "ia3": (Recipe("ia3"), LIERLA),
    "oft": (Recipe("oft"), LIERLA),
    "full": (Recipe("full"), WIDEST),
    "norm": (Recipe("locon"), NORMS),
    "glora": (Recipe("glora"), LIERLA),
    "dora": (Recipe(dora_wd=True), C3LIER),
}
LISTS = {
    Family.SD1: ["ALL", "OUTALL", "INALL", "MID=0.3,0,0,0,0,0,0,1.2,0,0,0.5,0,0,0,0,0,0"],
    Family.SDXL: ["ALL", "OUTALL", "MIX=1,0,0.4,0,0,1,0,0,0,0.7,0,0"],
}


def some_rows(family: Family) -> list[Weights]:
    """Presets, a list of its own, layers by rules, and unlike strengths."""
    found = [rows.of_text(text, family) for text in LISTS.get(family, LISTS[Family.SD1])]
    found.append(rows.of_blocks("no attention", {}, family, "IN-OUT:attn:0".replace("IN-OUT", "IN04-OUT04")))
    return [*found, dataclasses.replace(found[1], label="half", unet=0.5)]


def written(host: TinyHost, lora: Path, weights: Weights) -> Image.Image:
    """The picture of a model that has the deltas in its weights, made alone: the oracle."""
    from lora_lab.network import elements

    model = type(host.model)()
    family = model.info.family
    held = by_site(files.read(lora).tensors)
    rules = elements.rules(weights.elements, family)
    sites = find_sites(model.unet, model.text_encoders, family, model.layout, reach=WIDEST)
    with torch.no_grad():
        for site in sites:
            if site.name not in held:
                continue
            own = elements.weight_of(rules, site.name, family)
            number = weights.blocks.get(site.block, 1.0) if own is None else own
            number *= weights.unet if site.part == "unet" else weights.text_encoder
            kind = deltas.kind_of({name: tuple(t.shape) for name, t in held[site.name].items()}, site.name)
            change = deltas.delta(kind, held[site.name], site.module.weight, site.name)  # type: ignore[arg-type]
            for live, added in ((site.module.weight, change.weight), (site.module.bias, change.bias)):
                if added is not None:
                    live.add_(number * added.reshape(live.shape))  # type: ignore[operator, union-attr]
    shared = dataclasses.asdict(LOOK)
    return model.generate(PreviewRequest((PROMPT,), (7,), **shared)).images[0]


def check(host: TinyHost, lora: Path, folder: Path) -> None:
    wanted = some_rows(host.model.info.family)
    result = run_grid(host, plan_of(lora, wanted, folder))
    seen = set()
    for i, row in enumerate(wanted):
        made = result.at(i, 0)
        assert made is not None
        assert difference(made.image, written(host, lora, row)) <= 2, row.label
        seen.add(made.image.tobytes())
    assert len(seen) == len(wanted), "pictures that are all the same show nothing"
    base = result.at(None, 0)
    assert base is not None
    assert difference(base.image, result.at(0, 0).image) <= 2  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_the_picture_made_alone(kind: str, tmp_path: Path) -> None:
    host = host_of(tmp_path)
    how, reach = KINDS[kind]
    if how.algo not in ("lora", "locon", "oft", "full") or how.dora_wd:
        pytest.importorskip("lycoris", reason="lycoris-lora is not installed")
    check(host, write_lora(tmp_path / f"{kind}.safetensors", host.model, how, reach), tmp_path)


@pytest.mark.parametrize("family", [Family.SD2, Family.SDXL])
def test_every_family(family: Family, tmp_path: Path) -> None:
    host = host_of(tmp_path, family)
    check(host, write_lora(tmp_path / "mika.safetensors", host.model, Recipe("locon"), C3LIER), tmp_path)


def test_a_baked_file_gives_the_same_picture(tmp_path: Path) -> None:
    """The file that `lora-lab bake` writes, at strength 1."""
    host = host_of(tmp_path)
    lora = write_lora(tmp_path / "mika.safetensors", host.model, reach=C3LIER)
    row = rows.of_text(LISTS[Family.SD1][-1], Family.SD1)
    cell = run_grid(host, plan_of(lora, [row, WHOLE, NOTHING], tmp_path)).at(0, 0)
    out = tmp_path / "baked.safetensors"
    bake(BakeRequest(AdapterUse(lora, blocks=row.blocks), out))
    alone = run_grid(host, plan_of(out, [WHOLE], tmp_path)).at(None, 0)
    assert cell is not None
    assert alone is not None
    assert difference(cell.image, alone.image) <= 2


@pytest.mark.parametrize("kind", ["lora", "dora", "oft"])
def test_weights_of_zero_are_the_bare_checkpoint_to_the_byte(kind: str, tmp_path: Path) -> None:
    """In a batch whose other pictures have the LoRA, at the same size, seed and position."""
    host = host_of(tmp_path)
    lora = write_lora(tmp_path / "mika.safetensors", host.model, *KINDS[kind])
    zeros = dict.fromkeys(rows.of_text("ALL", Family.SD1).blocks, 0.0)
    some = [rows.of_blocks("zeros", zeros, Family.SD1), rows.of_blocks("out", {**zeros, "OUT05": 1.0}, Family.SD1)]
    cells = [Cell(row, PROMPT, 7 + i, lora) for i, row in enumerate(some)]
    bare = [dataclasses.replace(cell, weights=NOTHING) for cell in cells]
    with host.lease("pictures") as model:
        with_it, without = (make(model, Adapters(), batch, LOOK, Watch(lambda: False)) for batch in (cells, bare))
    assert with_it.images[0].tobytes() == without.images[0].tobytes()
    assert difference(with_it.images[1], without.images[1]) > 2
