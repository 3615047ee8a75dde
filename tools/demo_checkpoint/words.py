"""The tokenizer of the demo checkpoint: CLIP's own merges, cut to those that the words of the world use.

All 256 byte units are kept, with and without the end-of-word mark, so any trigger can be written; the words of the world come
out as CLIP itself would cut them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from lora_lab.demo import world

EXTRA = "a an the of and with in on style picture girl boy by man woman hair eyes background , . - _ ( ) : ! solo drawing"


def bytes_to_unicode() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes, in CLIP's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in table):
        table[b] = chr(256 + n)
    return table


def world_words() -> list[str]:
    text = " ".join([*world.vocabulary(), world.CHARACTER, world.STYLE, EXTRA]).replace("1", "1 ")
    return sorted(set(text.split()))


def used_merges(words: list[str], merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The merges that byte pair encoding applies to these words, in CLIP's order."""
    rank = {pair: i for i, pair in enumerate(merges)}
    used: set[tuple[str, str]] = set()
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pairs = [p for p in zip(pieces, pieces[1:], strict=False) if p in rank]
            if not pairs:
                break
            best = min(pairs, key=rank.__getitem__)
            used.add(best)
            joined: list[str] = []
            i = 0
            while i < len(pieces):
                if tuple(pieces[i : i + 2]) == best:
                    joined.append(pieces[i] + pieces[i + 1])
                    i += 2
                else:
                    joined.append(pieces[i])
                    i += 1
            pieces = joined
    return sorted(used, key=rank.__getitem__)


def write_tokenizer(folder: Path, packed_merges: Path) -> int:
    """vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json; returns the size of the vocabulary.

    Args:
        folder: where to.
        packed_merges: CLIP's `bpe_simple_vocab_16e6.txt.gz`, which the package open_clip_torch carries.
    """
    with gzip.open(packed_merges, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = used_merges(world_words(), [(a, b) for a, b in (line.split() for line in lines)])
    units = list(bytes_to_unicode().values())
    vocab = [*units, *(u + "</w>" for u in units), *(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    assert len(set(vocab)) == len(vocab)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1), encoding="utf-8")
    config = {**special, "model_max_length": 77, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer", "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return len(vocab)
