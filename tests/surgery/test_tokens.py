"""Which tokens an adapter changes most, judged by transformers' own text encoder and by the tokenizer's files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lora_lab.cli import main
from lora_lab.demo.assets import tokenizer_dir
from lora_lab.errors import AdapterFileError, CheckpointError, SettingsError, UserError
from lora_lab.families import Family
from lora_lab.surgery.tokens import token_changes
from lora_lab.tagging.tokens import TokenCounter, readable, vocabulary
from tests.surgery.worlds import checkpoint, dense, lora, save

VOCABULARY = [f"t{n}" for n in range(20)]
WIDTH = 128  # two heads


def encoder(**more: Any) -> Any:
    """A small CLIP text encoder with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=20, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=18, eos_token_id=19, pad_token_id=19, **more,
    )  # fmt: skip
    model = transformers.CLIPTextModel(config).eval()
    for parameter in model.parameters():  # the fresh ones are too small for the layers to matter
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return model


def state_of(model: Any) -> dict[str, Tensor]:
    return {
        "text_model." + key.removeprefix("text_model."): tensor.clone()
        for key, tensor in model.state_dict().items() if "position_ids" not in key
    }  # fmt: skip


def adapted(model: Any, adapter: dict[str, Tensor], prefix: str) -> None:
    """Add the adapter's deltas to the model's own layers."""
    for name, module in model.named_modules():
        site = prefix + "text_model." + name.removeprefix("text_model.")
        site = site.replace(".", "_")
        if f"{site}.lora_up.weight" in adapter:
            module.weight.data.add_(dense(adapter, site))


def states(model: Any, token: int, layer: int, normed: bool) -> Tensor:
    with torch.no_grad():
        found = model(torch.tensor([[18, token, 19]]), output_hidden_states=True)
        inner = getattr(model, "text_model", model)
        hidden = found.hidden_states[layer]
        return inner.final_layer_norm(hidden) if normed else hidden


def text_lora(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for site, (out, width) in shapes.items():
        made[f"{site}.lora_up.weight"] = 0.3 * torch.randn(out, 2)
        made[f"{site}.lora_down.weight"] = 0.3 * torch.randn(2, width)
        made[f"{site}.alpha"] = torch.tensor(1.0)
    return made


def sites_of(model: Any, prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        (prefix + "text_model." + name.removeprefix("text_model.")).replace(".", "_"): tuple(module.weight.shape)
        for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    }  # fmt: skip


def rest_of(family: Family) -> dict[str, Tensor]:
    """A checkpoint without its text encoders."""
    return {k: t for k, t in checkpoint(family).items() if not k.startswith(("cond_stage", "conditioner"))}


def close(found: list[Any], want: dict[int, Tensor]) -> None:
    assert [one.change for one in found] == sorted((one.change for one in found), reverse=True)
    for one in found:
        assert one.word == VOCABULARY[one.token]
        assert one.change == pytest.approx(float(want[one.token]), rel=1e-4)


def test_sd1_equals_transformers(tmp_path: Path) -> None:
    model = encoder()
    base = save(tmp_path / "base.safetensors", rest_of(Family.SD1) | {
        f"cond_stage_model.transformer.{key}": t for key, t in state_of(model).items()
    })  # fmt: skip
    adapter = text_lora(sites_of(model, "lora_te_"))
    path = save(tmp_path / "a.safetensors", adapter)
    found = token_changes(path, base, VOCABULARY)
    assert len(found) == 18
    before = {token: states(model, token, -1, True) for token in range(18)}
    adapted(model, adapter, "lora_te_")
    close(found, {t: (states(model, t, -1, True) - before[t]).abs().mean() for t in range(18)})
    assert {one.token for one in token_changes(path, base, VOCABULARY, [3, 7, 3])} == {3, 7}


def open_clip(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """transformers' names in open_clip's: query, key and value in one tensor."""
    table = {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "layer_norm1": "ln_1", "layer_norm2": "ln_2"}  # fmt: skip
    made = {"token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
            "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
            "ln_final.weight": state["text_model.final_layer_norm.weight"],
            "ln_final.bias": state["text_model.final_layer_norm.bias"]}  # fmt: skip
    for n in range(layers):
        old, new = f"text_model.encoder.layers.{n}.", f"transformer.resblocks.{n}."
        for leaf in ("weight", "bias"):
            made[f"{new}attn.in_proj_{leaf}"] = torch.cat([state[f"{old}self_attn.{q}_proj.{leaf}"] for q in "qkv"])
            made |= {f"{new}{ours}.{leaf}": state[f"{old}{theirs}.{leaf}"] for theirs, ours in table.items()}
    return made


def test_sdxl_equals_transformers(tmp_path: Path) -> None:
    """Two encoders, both left before their last layer; the states stand beside each other."""
    one, two = encoder(), encoder(hidden_act="gelu")
    base = save(tmp_path / "base.safetensors", {
        **rest_of(Family.SDXL),
        **{f"conditioner.embedders.0.transformer.{key}": t for key, t in state_of(one).items()},
        **{f"conditioner.embedders.1.model.{key}": t for key, t in open_clip(state_of(two), 3).items()},
    })  # fmt: skip
    adapter = text_lora(sites_of(one, "lora_te1_") | sites_of(two, "lora_te2_"))
    path = save(tmp_path / "a.safetensors", adapter)

    def both(token: int) -> Tensor:
        return torch.cat([states(model, token, -2, False) for model in (one, two)], -1)

    before = {token: both(token) for token in range(18)}
    found = token_changes(path, base, VOCABULARY)
    adapted(one, adapter, "lora_te1_")
    adapted(two, adapter, "lora_te2_")
    close(found, {token: (both(token) - before[token]).abs().mean() for token in range(18)})


def test_what_cannot_be_asked_is_told(tmp_path: Path) -> None:
    state = checkpoint(Family.SD1)
    base = save(tmp_path / "base.safetensors", state)
    whole = lora(state, Family.SD1, 2)
    path = save(tmp_path / "a.safetensors", whole)
    unet = save(tmp_path / "unet.safetensors", {k: t for k, t in whole.items() if "lora_unet" in k})
    with pytest.raises(AdapterFileError, match="no text encoder"):
        token_changes(unet, base, VOCABULARY)
    with pytest.raises(CheckpointError, match="knows 20 tokens, the tokenizer 9"):
        token_changes(path, base, VOCABULARY[:9])
    with pytest.raises(SettingsError, match="no token 55"):
        token_changes(path, base, VOCABULARY, [55])
    with pytest.raises(CheckpointError, match="lacks cond_stage"):  # this world's encoder has no positions
        token_changes(path, base, VOCABULARY)
    large = save(tmp_path / "xl.safetensors", lora(checkpoint(Family.SDXL), Family.SDXL, 2))
    with pytest.raises(AdapterFileError, match="for sdxl, the checkpoint is sd1"):
        token_changes(large, base, VOCABULARY)


def test_the_tokenizers_files(tmp_path: Path) -> None:
    words = vocabulary(tokenizer_dir())
    numbers = json.loads((tokenizer_dir() / "vocab.json").read_text(encoding="utf-8"))
    assert all(numbers[word] == number for number, word in enumerate(words))
    pieces = TokenCounter(tokenizer_dir()).pieces("a girl, hat 7")
    assert set(pieces) <= set(words)
    assert "".join(map(readable, pieces)) == "a girl , hat 7 "
    assert readable("Ã©</w>") == "é "
    with pytest.raises(UserError, match=r"vocab\.json"):
        vocabulary(tmp_path)
    (tmp_path / "vocab.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"vocab\.json"):
        vocabulary(tmp_path)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.safetensors", lora(checkpoint(Family.SD1), Family.SD1, 2))
    table = tmp_path / "a.csv"
    for words in (["--tokens", "3"], ["--words", "hat"], ["--tokens", "0", "--base", str(path)]):
        assert main(["inspect", str(path), *words]) == 2
    capsys.readouterr()
    assert main(["inspect", str(path), "--csv", str(table), "--json"]) == 0
    rows = list(csv.reader(table.open(encoding="utf-8", newline="")))
    assert rows[0] == ["site", "block", "kind", "rank", "alpha", "norm"]
    assert len(rows) - 1 == json.loads(capsys.readouterr().out.splitlines()[-1])["sites"]
    assert all(float(row[5]) > 0 and row[3] == "2" for row in rows[1:])
    assert main(["inspect", str(path), "--csv", str(table)]) == 2
    assert main(["inspect", str(path), "--csv", str(table), "--force"]) == 0
