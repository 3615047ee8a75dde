"""Cached text encoder outputs: the run learns the same with them as without, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import SettingsError  # noqa: E402
from lora_lab.host.base import Conditioning  # noqa: E402
from lora_lab.training.events import Progress, Warned  # noqa: E402
from lora_lab.training.text.text_cache import TextCache  # noqa: E402

from .running import MODEL, Training, fresh_host, same, tensors  # noqa: E402
from .tiny import TinyHost  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many captions each call of the text encoder had."""
    calls: list[int] = []
    encode = MODEL.encode_tokens

    def counting(tokens: Any, clip_skip: int = 1) -> Conditioning:
        calls.append(len(tokens.lengths))
        return encode(tokens, clip_skip)

    monkeypatch.setattr(MODEL, "encode_tokens", counting)
    return calls


UNET = {"network_train_unet_only": True, "shuffle_caption": False, "max_train_epochs": 2}
LONG = "mika, " + "word, " * 60


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_token_length": 150, "train_batch_size": 4},
        {"enable_wildcard": True, "caption_prefix": "{p|q}", "caption_dropout_rate": 0.4},
        {"weighted_captions": True, "caption_suffix": "(s:1.3)", "caption_dropout_every_n_epochs": 2},
    ],
    ids=["plain", "long", "variants", "weighted"],
)
def test_cached_and_not_cached_learn_the_same(host: TinyHost, encoded: list[int], more: dict[str, Any]) -> None:
    (host.folder / "train" / "1_mika" / "01.txt").write_text(LONG, encoding="utf-8")
    plain = Training(host, **UNET, **more)
    before = len(encoded)
    cached = Training(host, output_name="cached", cache_text_encoder_outputs=True, **UNET, **more)
    assert cached.unchanged
    assert (plain.ended.error, cached.ended.error) == ("", "")
    a, b = tensors(plain.ended.lora), tensors(cached.ended.lora)
    for key, tensor in a.items():
        torch.testing.assert_close(b[key], tensor, rtol=5e-3, atol=1e-3)
    told = [e for e in cached.of(Progress) if e.stage == "caching captions"]
    assert told[-1].done == told[-1].total == len(encoded) - before, "nothing is encoded in a step"
    assert any("lose their end" in e.text for e in cached.of(Warned)) == (more.get("max_token_length", 75) == 75)


def test_the_disk_keeps_them_for_the_next_run(host: TinyHost, encoded: list[int]) -> None:
    kept = {"cache_text_encoder_outputs_to_disk": True, **UNET}
    first = Training(host, **kept)
    count = len(encoded)
    second = Training(host, output_name="again", **kept)
    assert len(encoded) == count
    assert same(tensors(first.ended.lora), tensors(second.ended.lora))
    Training(host, output_name="skip", clip_skip=2, max_train_steps=1, **kept)
    assert len(encoded) > count, "another layer has other states"
    files = sorted((host.folder / "data" / "text_states").iterdir())
    for file in files:
        file.write_bytes(file.read_bytes()[:40])
    third = Training(host, output_name="third", **kept)
    assert same(tensors(first.ended.lora), tensors(third.ended.lora)), "damaged files are made again"


def test_a_disk_that_takes_nothing_leaves_them_in_memory(host: TinyHost) -> None:
    (host.folder / "data").mkdir(exist_ok=True)
    (host.folder / "data" / "text_states").write_text("a file")
    run = Training(host, cache_text_encoder_outputs_to_disk=True, **UNET)
    assert run.ended.error == ""
    assert any("memory only" in e.text for e in run.of(Warned))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"network_train_unet_only": False}, "while it is trained"),
        ({"shuffle_caption": True}, "shuffle_caption gives tags another order"),
        ({"caption_tag_dropout_rate": 0.1}, "caption_tag_dropout_rate leaves out"),
        ({"token_warmup_step": 10}, "token_warmup_step uses more tags"),
    ],
)
def test_what_a_cache_would_change_is_refused(host: TinyHost, values: dict[str, Any], says: str) -> None:
    for name in ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk"):
        with pytest.raises(SettingsError, match=says):
            Training(host, **UNET | values | {name: True})


def test_too_many_variants_name_the_picture(host: TinyHost) -> None:
    (host.folder / "train" / "1_mika" / "01.txt").write_text("{a|b}" * 9, encoding="utf-8")
    run = Training(host, cache_text_encoder_outputs=True, enable_wildcard=True, **UNET)
    assert "too many for the text encoder's cache" in run.ended.error
    assert "01.png" in run.ended.error
    assert run.unchanged


def test_sdxls_pooled_state_is_kept_too(tmp_path: Path) -> None:
    cache = TextCache("x", tmp_path)
    cache.put("a", Conditioning(torch.ones(1, 77, 4), torch.full((1, 3), 2.0)))
    found = TextCache("x", tmp_path).get("a")
    assert found is not None
    assert found.pooled is not None
    assert (found.context.shape, float(found.pooled[0, 0])) == ((1, 77, 4), 2.0)
    assert TextCache("y", tmp_path).get("a") is None
