"""open_clip's text encoders (the webui's SD2, SDXL's second): the same file and gradients as transformers' of the same
weights, and an attention that is as it was afterwards."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from torch import Tensor, nn  # noqa: E402

from lora_lab.families import Family  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.attention import OpenedAttention, layers  # noqa: E402
from lora_lab.network.reach import ATTENTION, PRESETS  # noqa: E402
from lora_lab.network.recipe import Recipe  # noqa: E402
from lora_lab.network.sites import TEXT_PARTS, Site, find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.testing.making import as_the_webui_reads  # noqa: E402

WIDTH, LAYERS, WORDS = 32, 3, 100


class Block(nn.Module):
    """As open_clip's ResidualAttentionBlock: words first."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 2)
        inner = [("c_fc", nn.Linear(WIDTH, 64)), ("gelu", nn.GELU()), ("c_proj", nn.Linear(64, WIDTH))]
        self.mlp = nn.Sequential(OrderedDict(inner))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Tower(nn.Module):
    """As open_clip's text side."""

    def __init__(self, count: int = LAYERS) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(WORDS, WIDTH)
        self.positional_embedding = nn.Parameter(torch.zeros(77, WIDTH))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList([Block() for _ in range(count)])
        self.ln_final = nn.LayerNorm(WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        x = (self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]).permute(1, 0, 2)
        mask = torch.full((len(x), len(x)), float("-inf")).triu(1)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        found: Tensor = self.ln_final(x.permute(1, 0, 2))
        return found


PLACES = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
PLACES |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


def pair() -> tuple[Tower, Any]:
    """The same weights in both."""
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=2,
        hidden_act="gelu", bos_token_id=98, eos_token_id=99,
    )
    theirs = transformers.CLIPTextModel(config).eval().requires_grad_(False)
    tower, inner = Tower().eval().requires_grad_(False), getattr(theirs, "text_model", theirs)
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.15 if parameter.dim() > 1 else 0.3)
    tower.token_embedding.load_state_dict(inner.embeddings.token_embedding.state_dict())
    tower.positional_embedding.data.copy_(inner.embeddings.position_embedding.weight)
    tower.ln_final.load_state_dict(inner.final_layer_norm.state_dict())
    for block, layer in zip(tower.transformer.resblocks, inner.encoder.layers, strict=True):
        for ours, name in PLACES.items():
            block.get_submodule(ours).load_state_dict(layer.get_submodule(name).state_dict())
        three = [getattr(layer.self_attn, f"{name}_proj") for name in "qkv"]
        block.attn.in_proj_weight.data.copy_(torch.cat([one.weight for one in three]))
        block.attn.in_proj_bias.data.copy_(torch.cat([one.bias for one in three]))
    return tower, theirs


def ids(batch: int = 2) -> Tensor:
    found = torch.randint(0, 97, (batch, 20), generator=torch.Generator().manual_seed(1))
    found[:, 0], found[:, -1] = 98, 99
    return found


def sites(root: nn.Module, family: Family = Family.SDXL) -> tuple[Site, ...]:
    part = "text_encoder_2" if family is Family.SDXL else "text_encoder"
    roots = (nn.Module(), root) if family is Family.SDXL else (root,)
    return find_sites(nn.Module(), roots, family, "ldm", frozenset({part}))  # type: ignore[arg-type]


def adapter(root: nn.Module, seed: int = 5, how: Recipe | None = None) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    found = Adapter.create(sites(root), sizes=Size(4, 2.0), how=how or Recipe(), generator=generator)
    for piece in found.pieces:
        piece.parameters[1].data.normal_(0, 0.3, generator=generator)
    return found


def state(root: nn.Module) -> list[Any]:
    return [
        (name, sorted(map(str, vars(module))), [len(vars(module)[k]) for k in vars(module) if k.endswith("_hooks")])
        for name, module in root.named_modules()
    ] + [(name, id(tensor), tensor.clone()) for name, tensor in root.state_dict(keep_vars=True).items()]


def test_both_have_the_same_sites_in_the_same_order() -> None:
    tower, theirs = pair()
    ours, others = sites(tower), sites(theirs)
    assert len(ours) == 6 * LAYERS
    assert [(s.name, s.kind, s.in_features, s.out_features) for s in ours] == [
        (s.name, s.kind, s.in_features, s.out_features) for s in others
    ]
    assert ours[0].name == "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    for one, other in zip(ours, others, strict=True):
        assert torch.equal(one.module.weight, other.module.weight), one.name
        assert torch.equal(one.module.bias, other.module.bias), one.name


def test_sd2_leaves_the_last_block_out() -> None:
    tower, _ = pair()
    assert len(sites(tower, Family.SD2)) == 6 * (LAYERS - 1)
    assert {site.name.split("_layers_")[1][0] for site in sites(tower, Family.SD2)} == {"0", "1"}


@pytest.mark.parametrize("how", [Recipe(), Recipe(dropout=0.3), Recipe(rank_dropout=0.3)])
def test_the_same_adapter_gives_the_same_states_and_gradients(how: Recipe) -> None:
    tower, theirs = pair()
    ours, others = adapter(tower, how=how), adapter(theirs, how=how)
    for a, b in zip(ours.to_tensors().items(), others.to_tensors().items(), strict=True):
        assert a[0] == b[0]
        assert torch.equal(a[1], b[1])
    weights = torch.randn(2, 20, WIDTH, generator=torch.Generator().manual_seed(2))
    found = []
    for one, root in ((ours, lambda x: tower(x)), (others, lambda x: theirs(x).last_hidden_state)):
        plain = root(ids())
        with one.attached(), one.training():
            torch.manual_seed(11)
            states = root(ids())
            (states * weights).sum().backward()
        assert float((states.detach() - plain).abs().max()) > 0.1
        found.append((plain, states.detach(), [p.grad for p in one.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-3, atol=1e-3)


def test_a_strength_for_each_sample() -> None:
    tower, _ = pair()
    one = adapter(tower)
    with one.attached():
        whole = tower(ids())
        with one.scaled(per_sample=torch.tensor([0.0, 1.0])):
            mixed = tower(ids())
    torch.testing.assert_close(mixed[0], tower(ids())[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed[1], whole[1], rtol=1e-4, atol=1e-4)


def act_and_fail(tower: Tower) -> None:
    tower(ids())
    raise ValueError("on purpose")


def test_nothing_is_left_whichever_way_it_ends() -> None:
    tower, _ = pair()
    before, plain = state(tower), tower(ids())
    one = adapter(tower)
    with pytest.raises(ValueError, match="on purpose"), one.attached():
        act_and_fail(tower)
    after = state(tower)
    assert [x[:2] for x in after] == [x[:2] for x in before]
    assert all(torch.equal(a[2], b[2]) for a, b in zip(after, before, strict=True) if isinstance(a[2], torch.Tensor))
    assert torch.equal(tower(ids()), plain)


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_adapters_act_together_and_leave_in_any_order(first_out: int) -> None:
    tower, theirs = pair()
    plain = tower(ids())
    ours, others = [adapter(tower, 5), adapter(tower, 6)], [adapter(theirs, 5), adapter(theirs, 6)]
    for one in (*ours, *others):
        one.attach()
    wanted = theirs(ids()).last_hidden_state
    torch.testing.assert_close(tower(ids()), wanted, rtol=1e-4, atol=1e-4)
    ours[first_out].detach()
    others[first_out].detach()
    torch.testing.assert_close(tower(ids()), theirs(ids()).last_hidden_state, rtol=1e-4, atol=1e-4)
    ours[1 - first_out].detach()
    assert torch.equal(tower(ids()), plain)
    assert not any("forward" in vars(module) for module in tower.modules())


def test_what_the_instance_had_of_its_own_is_back() -> None:
    tower, _ = pair()
    attention = tower.transformer.resblocks[0].attn
    attention.forward = own = attention.forward
    with adapter(tower).attached():
        assert attention.__dict__["forward"] is not own
    assert attention.__dict__["forward"] is own


def test_batch_first_and_what_a_text_encoder_never_asks() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True).eval()
    x, mask = torch.randn(2, 5, WIDTH), torch.full((5, 5), float("-inf")).triu(1)
    wanted = attention(x, x, x, need_weights=False, attn_mask=mask)[0]
    opened = OpenedAttention(attention)
    opened.open()
    torch.testing.assert_close(attention(x, x, x, need_weights=False, attn_mask=mask)[0], wanted)
    with pytest.raises(RuntimeError, match="not called as a text encoder"):
        attention(x, x, x)
    opened.close()
    opened.close()
    assert "forward" not in vars(attention)
    assert [path for path, _, _ in layers(attention)] == [".q_proj", ".k_proj", ".v_proj", ".out_proj"]


@pytest.mark.parametrize(("family", "part"), [(Family.SD2, "text_encoder"), (Family.SDXL, "text_encoder_2")])
def test_an_attention_is_taken_whole_also_where_a_part_of_it_is_named(family: Family, part: str) -> None:
    """The webui adds to it only where a file has its four layers; the other encoder of SDXL has layers of its own."""
    towers = [pair()[1], Tower()] if family is Family.SDXL else [Tower()]
    sites = find_sites(nn.Module(), towers, family, "ldm", frozenset(TEXT_PARTS), PRESETS["ia3"])
    last = {site.name.rsplit("_layers_0_", 1)[1] for site in sites if site.part == part and "_layers_0_" in site.name}
    assert last == {"mlp_fc2", *(f"self_attn_{place}" for place in ATTENTION)}
    first = {site.name.rsplit("_layers_0_", 1)[1] for site in sites if site.part != part and "_layers_0_" in site.name}
    assert first == ({"mlp_fc2", "self_attn_k_proj", "self_attn_v_proj"} if family is Family.SDXL else set())


def test_a_half_attention_is_passed_over_as_the_webui_does() -> None:
    found = adapter(Tower())
    tensors = found.to_tensors()
    assert as_the_webui_reads(found.sites, tensors).keys() == tensors.keys()
    gone = "lora_te2_text_model_encoder_layers_1_self_attn"
    half = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{gone}_q_proj")}
    read = as_the_webui_reads(found.sites, half)
    assert {name.partition(".")[0] for name in half.keys() - read.keys()} == {
        f"{gone}_{place}" for place in ("k_proj", "v_proj", "out_proj")
    }
