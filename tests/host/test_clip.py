"""Captions to tokens and states: the shape of the chunks for any text, and diffusers' own encoding as judge."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import CheckpointError  # noqa: E402
from lora_lab.host import clip, standalone_clip  # noqa: E402

BOS, EOS = 1000, 1001
ROOM = st.sampled_from([75, 150, 225])
COUNTS = st.lists(st.integers(0, 260) | st.sampled_from([0, 74, 75, 76, 149, 150, 151, 225, 226]), min_size=1)


class Counting:
    """Stands for a tokenizer where only the number of tokens matters: a caption is a number, and so long it is."""

    bos_token_id, eos_token_id = BOS, EOS

    def __call__(self, text: list[str], *, truncation: bool, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert not truncation
        assert not add_special_tokens
        return {"input_ids": [list(range(int(t))) for t in text]}


def tokens(counts: Sequence[int], room: int) -> Any:
    return clip.tokenize(Counting(), [str(n) for n in counts], room)


@given(COUNTS, ROOM)
def test_tokens_come_in_order_and_are_cut_where_the_room_ends(counts: list[int], room: int) -> None:
    found = tokens(counts, room)
    ids = found.ids[0]
    assert ids.dtype == torch.int64
    assert ids.shape[0] == len(counts)
    assert ids.shape[2] == 77
    assert bool((ids[:, :, 0] == BOS).all())
    assert bool((ids[:, :, -1] == EOS).all())
    for row, count in zip(ids[:, :, 1:-1].reshape(len(counts), -1).tolist(), counts, strict=True):
        kept = min(count, room)
        assert row == list(range(kept)) + [EOS] * (len(row) - kept)
    assert found.lengths == tuple(counts)
    assert found.cut == tuple(n > room for n in counts)


@given(COUNTS, ROOM)
def test_as_many_chunks_as_the_longest_needs(counts: list[int], room: int) -> None:
    needed = max(1, -(-max(counts) // 75))
    assert tokens(counts, room).ids[0].shape[1] == min(needed, room // 75)


BOUNDARIES = [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3), (225, 3), (226, 3)]


@pytest.mark.parametrize(("count", "chunks"), BOUNDARIES)
def test_exact_boundaries(count: int, chunks: int) -> None:
    found = tokens([count], 225)
    assert found.ids[0].shape[1] == chunks
    assert found.cut == (count > 225,)


@pytest.fixture(scope="module")
def demo() -> tuple[Any, Any]:
    """Tokenizer and text encoder of the demo checkpoint's size, with random weights."""
    from lora_lab.demo import assets

    folder = assets.tokenizer_dir()
    torch.manual_seed(0)
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig.from_pretrained(folder)).eval()
    return transformers.CLIPTokenizer.from_pretrained(folder), model


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60))
def test_any_text_is_only_text(demo: tuple[Any, Any], text: str) -> None:
    """What the prompt syntax would take for weights or a break is tokenized like transformers does, nothing more."""
    expected = demo[0](text, add_special_tokens=False, truncation=False)["input_ids"]
    found = clip.tokenize(demo[0], [text], 225)
    assert found.lengths == (len(expected),)
    assert found.ids[0][0, :, 1:-1].flatten().tolist()[: len(expected)] == expected[:225]


@pytest.mark.parametrize("text", ["(red hair:1.3)", "[blue|green]", "<lora:x:0.8>", "\\(fate\\)"])
def test_brackets_have_tokens_of_their_own(demo: tuple[Any, Any], text: str) -> None:
    plain = "".join(c if c.isalnum() else " " for c in text)
    lengths = clip.tokenize(demo[0], [text, plain]).lengths
    assert lengths[0] > lengths[1]


def test_and_and_break_are_words(demo: tuple[Any, Any]) -> None:
    loud, quiet = (clip.tokenize(demo[0], [text]).ids[0] for text in ("a AND b BREAK c", "a and b break c"))
    assert torch.equal(loud, quiet)


def test_each_chunk_is_encoded_apart(demo: tuple[Any, Any]) -> None:
    with torch.no_grad():
        both = clip.tokenize(demo[0], ["red hair, " * 40], 150)
        states = clip.encode(demo[1], both.ids[0], 1)
        apart = [clip.encode(demo[1], both.ids[0][:, i : i + 1], 1) for i in range(both.ids[0].shape[1])]
    assert len(apart) == 2
    assert torch.allclose(states, torch.cat(apart, 1), atol=1e-5)


@pytest.mark.parametrize("clip_skip", [1, 2, 3, 12])
def test_states_are_diffusers(demo: tuple[Any, Any], clip_skip: int) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    tokenizer, model = demo[0], copy.deepcopy(demo[1])
    if not hasattr(model, "text_model"):
        model.__dict__["text_model"] = model  # diffusers looks for it where transformers 5 has it no more
    pipe = type("Pipe", (diffusers.StableDiffusionPipeline,), {"__init__": lambda self: None})()
    pipe.__dict__.update(tokenizer=tokenizer, text_encoder=model, unet=None, _internal_dict={})
    text = "1girl, red hair, (smile)"
    with torch.no_grad():
        skipped = clip_skip - 1 or None
        expected = diffusers.StableDiffusionPipeline.encode_prompt(
            pipe, text, torch.device("cpu"), 1, False, clip_skip=skipped
        )[0]
        found = clip.encode(model, clip.tokenize(tokenizer, [text]).ids[0], clip_skip)
    assert found.shape == (1, 77, model.config.hidden_size)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_gradients_reach_the_encoder(demo: tuple[Any, Any], clip_skip: int) -> None:
    """Every layer that is used has a gradient, the skipped ones have none."""
    tokenizer, model = demo
    model.zero_grad()
    clip.encode(model, clip.tokenize(tokenizer, ["red hair"]).ids[0], clip_skip).square().sum().backward()
    inner = getattr(model, "text_model", model)
    with_gradient = [layer.mlp.fc1.weight.grad is not None for layer in inner.encoder.layers]
    assert with_gradient == [True] * (13 - clip_skip) + [False] * (clip_skip - 1)
    model.zero_grad()


def test_the_full_size_tokenizer_out_of_a_packed_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that are known of SD1's CLIP: ``a`` is 320, the first merge follows the 512 units."""
    packed = tmp_path / standalone_clip.PACKED
    with gzip.open(packed, "wt", encoding="utf-8") as file:
        file.write('"bpe_simple_vocab_16e6.txt#version: 0.2\ni n\nt h\na n\nin g</w>\n')
    monkeypatch.setattr(standalone_clip, "_packed", lambda: packed)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    folder = standalone_clip.full_size_folder()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    assert tokenizer("a in", add_special_tokens=False)["input_ids"][:2] == [320, 72]
    assert json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["in"] == 512
    assert transformers.CLIPTextConfig.from_pretrained(folder).hidden_size == 768


def test_without_a_packed_table_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(standalone_clip.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pip install open_clip_torch"):
        standalone_clip.full_size_folder()
    assert not list(tmp_path.rglob("vocab.json"))
