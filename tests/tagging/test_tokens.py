"""Tokens counted without transformers, against transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_lab.demo import assets
from lora_lab.errors import UserError
from lora_lab.tagging.tokens import TokenCounter


def test_as_many_as_transformers_finds() -> None:
    transformers = pytest.importorskip("transformers")
    hypothesis = pytest.importorskip("hypothesis")
    text = hypothesis.strategies.text(alphabet="abDEnorsth (),^_:;'’é日½² 1239.\\-!?\U0001f600\n", max_size=40)
    # transformers 4's slow one straightens quotation marks first, where ftfy is installed; 5 has the fast one only.
    kind = getattr(transformers, "CLIPTokenizerFast", transformers.CLIPTokenizer)
    tokenizer = kind.from_pretrained(str(assets.tokenizer_dir()))
    count = TokenCounter(assets.tokenizer_dir())

    @hypothesis.settings(deadline=None)
    @hypothesis.given(text)
    def same(caption: str) -> None:
        found = tokenizer([caption], truncation=False, add_special_tokens=False)["input_ids"][0]
        assert count(caption) == len(found)

    same()
    assert count("don't, 1girl, ^_^, :d") == len(
        tokenizer("don't, 1girl, ^_^, :d", add_special_tokens=False)["input_ids"]
    )


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CLIP tokenizer"):
        TokenCounter(tmp_path)
