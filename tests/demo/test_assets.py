"""The demo world's files: layout, sizes, tokenizer, tagger, datasets, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_lab.demo import assets, drawing, world
from lora_lab.demo.export import config_for, export
from lora_lab.errors import OutputError


def test_everything_together_is_small() -> None:
    total = sum(f.stat().st_size for f in assets.DATA.rglob("*") if f.is_file())
    assert total <= 40_000_000
    assert sum(f.stat().st_size for f in assets.tagger_dir().iterdir()) <= 3_000_000


def test_the_checkpoint_has_sd1s_layout() -> None:
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    with safe_open(assets.checkpoint_path(), "pt") as file:
        keys = set(file.keys())
        dtypes = {file.get_slice(k).get_dtype() for k in keys}
        finite = all(bool(torch.isfinite(file.get_tensor(k)).all()) for k in keys)
    assert dtypes == {"F16"}
    assert finite
    unet = "model.diffusion_model."
    inputs = {k.split(".")[3] for k in keys if k.startswith(unet + "input_blocks.")}
    outputs = {k.split(".")[3] for k in keys if k.startswith(unet + "output_blocks.")}
    layers = {k.split(".")[5] for k in keys if k.startswith("cond_stage_model.transformer.text_model.encoder.layers.")}
    assert len(inputs) == len(outputs) == len(layers) == 12
    # What a LoRA finds: linear layers and projections of the transformers, all layers of the text encoder.
    sites = [
        k for k in keys
        if k.startswith(unet) and k.endswith(".weight") and ".norm" not in k
        and (".transformer_blocks." in k or ".proj_in." in k or ".proj_out." in k)
    ]  # fmt: skip
    assert len(sites) == 192
    text = [k for k in keys if k.endswith("proj.weight") or k.endswith((".fc1.weight", ".fc2.weight"))]
    assert len([k for k in text if k.startswith("cond_stage_model")]) == 72


def test_the_tokenizer_keeps_every_byte_and_cuts_words_as_clip_does() -> None:
    vocabulary = json.loads((assets.tokenizer_dir() / "vocab.json").read_text(encoding="utf-8"))
    assert vocabulary["<|endoftext|>"] == max(vocabulary.values())
    plain = [t for t in vocabulary if len(t) == 1]
    assert len(plain) == 256
    assert all(t + "</w>" in vocabulary for t in plain)
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(assets.tokenizer_dir())
    assert tokenizer.tokenize("red hair, smile") == ["red</w>", "hair</w>", ",</w>", "smile</w>"]
    for text in ("red hair, smile", "xqkzé", "zuli 漢字"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
        assert tokenizer.eos_token_id not in ids


def test_the_datasets_are_kohya_folders_with_the_trigger_first(tmp_path: Path) -> None:
    made = assets.write_dataset(tmp_path)
    for kind, trigger in (("character", world.CHARACTER), ("style", world.STYLE)):
        folder = made[kind] / f"1_{trigger}"
        pictures = sorted(folder.glob("*.png"))
        assert 15 <= len(pictures) <= 20
        assert all(Image.open(p).size == (assets.DRAWN, assets.DRAWN) for p in pictures)
        captions = [p.with_suffix(".txt").read_text(encoding="utf-8").strip().split(", ") for p in pictures]
        assert all(c[0] == trigger for c in captions)
        held = sorted((made[f"{kind}_validation"] / f"1_{trigger}").glob("*.png"))
        assert len(held) == assets.HELD_OUT
        assert not {p.read_bytes() for p in pictures} & {p.read_bytes() for p in held}
        if kind == "character":
            assert not set(world.CHARACTER_FEATURES) & {tag for c in captions for tag in c}


def test_export_writes_a_yaml_that_finds_its_tokenizer(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    made = export(tmp_path / "out here")
    config = yaml.safe_load(made["config"].read_text(encoding="utf-8"))
    folder = Path(config["model"]["params"]["cond_stage_config"]["params"]["version"])
    assert (folder / "vocab.json").is_file()
    assert made["checkpoint"].stat().st_size == assets.checkpoint_path().stat().st_size
    assert (made["tagger"] / "model.onnx").is_file()


def test_a_windows_path_survives_the_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    text = config_for(Path("it's here"))
    assert yaml.safe_load(text)["model"]["params"]["cond_stage_config"]["params"]["version"].endswith("it's here")


def test_export_into_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(OutputError, match="choose another folder"):
        export(tmp_path / "taken")


def answers(pictures: list[Image.Image]) -> tuple[np.ndarray, list[str]]:
    from lora_lab.tagging.session import Tagger

    tagger = Tagger(assets.tagger_dir())
    return np.asarray(tagger.probabilities(pictures)), [t.name.replace("_", " ") for t in tagger.tags]


def test_the_tagger_finds_the_tags_of_fresh_drawings() -> None:
    pytest.importorskip("onnxruntime")
    import random

    r = random.Random(77)
    people = [world.sample(r) for _ in range(400)]
    found, names = answers([drawing.draw(a, r.randrange(2**31), 64) for a in people])
    truth = np.array([[name in world.tags(a) for name in names] for a in people])
    said = found >= 0.5
    hit, wrong, lost = (said & truth).sum(0), (said & ~truth).sum(0), (~said & truth).sum(0)
    known = truth.sum(0) > 0
    scores = 2 * hit[known] / (2 * hit + wrong + lost)[known]
    assert scores.mean() >= 0.97
