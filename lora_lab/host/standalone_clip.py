"""Tokenizer and configuration of the full-size CLIP of SD1, made from the vocabulary that open_clip_torch carries."""

from __future__ import annotations

import gzip
import json
from importlib import util
from pathlib import Path

from lora_lab.errors import CheckpointError

PACKED = "bpe_simple_vocab_16e6.txt.gz"


def full_size_folder() -> Path:
    """A folder with the files that transformers wants, written once into the user's cache folder.

    Raises:
        CheckpointError: no installed package has the vocabulary.
    """
    folder = Path.home() / ".cache" / "lora-lab" / "clip-vit-large-patch14"
    if not (folder / "tokenizer_config.json").is_file():
        write(folder)
    return folder


def folder_for(tokens: int) -> Path:
    """The tokenizer of a text encoder that knows so many tokens: the demo's, or SD's.

    Raises:
        CheckpointError: no installed package has SD's vocabulary.
    """
    from lora_lab.demo.assets import tokenizer_dir

    own = json.loads((tokenizer_dir() / "vocab.json").read_text(encoding="utf-8"))
    return tokenizer_dir() if len(own) == tokens else full_size_folder()


def write(folder: Path) -> None:
    """Write the files into `folder`.

    Raises:
        CheckpointError: no installed package has the vocabulary.
    """
    _write(folder, _packed())


def _packed() -> Path:
    for package in ("open_clip", "clip"):
        spec = util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / PACKED).is_file():
                return Path(place) / PACKED
    raise CheckpointError("no tokenizer for this checkpoint is installed", remedy="pip install open_clip_torch")


def _write(folder: Path, packed: Path) -> None:
    with gzip.open(packed, "rt", encoding="utf-8") as file:
        lines = [line for line in file.read().split("\n")[1 : 49152 - 256 - 2 + 1] if line]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    units = [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    words = [*units, *(u + "</w>" for u in units), *("".join(line.split()) for line in lines)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-05, "projection_dim": 768,
        "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    end = "<|endoftext|>"
    special = {"bos_token": "<|startoftext|>", "eos_token": end, "pad_token": end, "unk_token": end}
    settings = {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
