"""Which layers take a piece: counts and sizes of kohya's LierLa, in both layouts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from importlib.util import find_spec

import pytest
from torch import nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family
from lora_lab.network.reach import C3LIER, LIERLA, PRESETS
from lora_lab.network.sites import find_sites
from tests.network.models import WIDTHS, World, make_world
from tests.network.test_names import meta_unet

SMALL = 277
"""C3Lier's sites of the small UNet: its third level is as wide as its second, so that one shortcut is not there."""
ATTENTION_BLOCKS = [f"IN{n:02d}" for n in (1, 2, 4, 5, 7, 8)] + ["M00"] + [f"OUT{n:02d}" for n in range(3, 12)]


def test_sd1_has_kohyas_sites(world: World) -> None:
    sites = world.sites()
    assert Counter((site.part, site.kind) for site in sites) == {
        ("unet", "linear"): 160,
        ("unet", "conv1x1"): 32,
        ("text_encoder", "linear"): 72,
    }
    assert Counter(site.block for site in sites) == {**dict.fromkeys(ATTENTION_BLOCKS, 12), "BASE": 72}
    assert len({site.name for site in sites}) == 264


def test_both_layouts_have_the_same_sites_in_the_same_order() -> None:
    ours, theirs = make_world("ldm").sites(), make_world("diffusers").sites()
    assert [(s.name, s.block, s.kind, s.in_features, s.out_features) for s in ours] == [
        (s.name, s.block, s.kind, s.in_features, s.out_features) for s in theirs
    ]


def test_a_site_is_its_live_module(world: World) -> None:
    roots = {"unet": world.unet, "text_encoder": world.encoder}
    for site in world.sites():
        assert roots[site.part].get_submodule(site.path) is site.module
        assert tuple(site.module.weight.shape[:2]) == (site.out_features, site.in_features)  # type: ignore[union-attr]
    assert {s.in_features for s in world.sites() if s.name.endswith("proj_in")} == set(WIDTHS)


def test_layer_ten_comes_after_layer_nine(world: World) -> None:
    text = [site.name for site in world.sites() if site.part == "text_encoder"]
    assert [int(name.split("_")[6]) for name in text] == sorted(n for n in range(12) for _ in range(6))


def test_parts_can_be_chosen(world: World) -> None:
    assert {s.part for s in world.sites(parts=frozenset({"unet"}))} == {"unet"}
    assert {s.part for s in world.sites(parts=frozenset({"text_encoder"}))} == {"text_encoder"}
    assert len(world.sites(parts=frozenset({"unet"}))) == 192


def test_the_older_transformers_nests_its_text_model(world: World) -> None:
    class Older(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.text_model = inner

    bare = getattr(world.encoder, "text_model", world.encoder)
    new = find_sites(world.unet, (bare,), Family.SD1, world.layout)
    old = find_sites(world.unet, (Older(bare),), Family.SD1, world.layout)
    assert [(s.name, s.module) for s in new] == [(s.name, s.module) for s in old]
    assert old[-1].path == "text_model." + new[-1].path


@pytest.mark.parametrize(
    ("family", "linear", "conv"), [(Family.SD1, 160, 32), (Family.SD2, 192, 0), (Family.SDXL, 722, 0)]
)
def test_real_sizes_of_every_family(family: Family, linear: int, conv: int) -> None:
    sites = find_sites(meta_unet(family), (), family, "diffusers")
    assert Counter(site.kind for site in sites) == +Counter(linear=linear, conv1x1=conv)
    per_rank = {Family.SD1: 423_936, Family.SD2: 432_128, Family.SDXL: 2_659_840}
    assert sum(site.in_features + site.out_features for site in sites) == per_rank[family]


@pytest.mark.parametrize(("family", "count", "wide"), [(Family.SD1, 278, 50), (Family.SDXL, 788, 38)])
def test_c3lier_adds_the_residual_blocks_and_samplers(family: Family, count: int, wide: int) -> None:
    sites = find_sites(meta_unet(family), (), family, "diffusers", reach=C3LIER)
    assert len(sites) == len({site.name for site in sites}) == count
    assert sum(site.kind == "conv" for site in sites) == wide
    assert {site.kernel for site in sites if site.kind == "conv"} == {(3, 3)}
    assert {s.name for s in find_sites(meta_unet(family), (), family, "diffusers", reach=LIERLA)} <= {
        s.name for s in sites
    }


def test_c3lier_is_the_same_in_both_layouts() -> None:
    ours, theirs = (
        find_sites(w.unet, (w.encoder,), Family.SD1, w.layout, reach=dataclasses.replace(C3LIER, norms=True))
        for w in (make_world("ldm"), make_world("diffusers"))
    )
    assert len(ours) == SMALL + 72 + 108
    said = [[(s.name, s.block, s.kind, s.in_features, s.out_features, s.kernel) for s in w] for w in (ours, theirs)]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("preset", "unet", "text", "xl"),
    [
        ("full", 282, 72, 788), ("full-lin", 230, 72, 750), ("attn-mlp", 192, 72, 722), ("attn-only", 128, 48, 560),
        ("unet-only", 282, 0, 788), ("unet-transformer-only", 192, 0, 722), ("unet-convblock-only", 88, 0, 66),
        ("ia3", 32 * 2 + 16, 36, 70 * 5),
    ],
)  # fmt: skip
def test_the_presets_of_lycoris(some_world: World, preset: str, unet: int, text: int, xl: int) -> None:
    """Counted on the networks that LyCORIS builds; ia3 on what its names mean, since it finds nothing with them."""
    reach = PRESETS[preset]
    found = Counter(site.part for site in some_world.sites(reach=reach))
    assert found == +Counter(unet=unet - ("ResnetBlock2D" in reach.unet), text_encoder=text)
    if find_spec("diffusers"):
        assert len(find_sites(meta_unet(Family.SD1), (), Family.SD1, "diffusers", reach=reach)) == unet
        large = find_sites(meta_unet(Family.SDXL), (), Family.SDXL, "diffusers", reach=PRESETS[preset])
        assert len(large) == xl


def test_names_can_be_left_out_or_chosen_with_wildcards(some_world: World) -> None:
    fewer = dataclasses.replace(LIERLA, exclude=(r".*attn1", r".*\.ff\."), text=frozenset())
    assert len(some_world.sites(reach=fewer)) == 192 - 16 * (4 + 2)
    only = dataclasses.replace(LIERLA, unet=frozenset(), unet_names=("mid_block*.to_?",), wildcards=True)
    names = {site.name.rsplit("0_", 1)[1] for site in some_world.sites(reach=only) if site.part == "unet"}
    assert names == {f"attn{n}_to_{x}" for n in (1, 2) for x in "qkv"}


def test_a_derived_layer_counts_and_a_stranger_does_not() -> None:
    class Patched(nn.Linear):
        """As the webui or another extension might put it."""

    root = nn.Module()
    root.encoder = nn.Module()
    root.encoder.layers = nn.ModuleList([nn.Module()])
    root.encoder.layers[0].mlp = nn.Module()
    root.encoder.layers[0].mlp.fc1 = Patched(4, 8)
    root.encoder.layers[0].mlp.other = nn.Linear(4, 8)
    root.head = nn.Linear(4, 8)
    found = find_sites(nn.Module(), (root,), Family.SD1, "ldm", frozenset({"text_encoder"}))
    assert [site.path for site in found] == ["encoder.layers.0.mlp.fc1"]


def test_a_model_without_sites_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no layer of the unet \(Linear\)"):
        find_sites(nn.Linear(2, 2), (), Family.SD1, "ldm")


def test_finding_sites_changes_nothing(world: World) -> None:
    before = {name: (id(p), p.requires_grad) for name, p in world.unet.named_parameters()}
    world.sites()
    assert before == {name: (id(p), p.requires_grad) for name, p in world.unet.named_parameters()}
