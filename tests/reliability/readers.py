"""Every parser and file reader of ours, with good samples: what `fuzz` damages."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save

from lora_lab.dataset import caption_files, kohya_json, pictures
from lora_lab.dataset.buckets import Placement
from lora_lab.dataset.options import DatasetOptions
from lora_lab.network import files, inspect, presets
from lora_lab.surgery import ranks, uses
from lora_lab.tagging import filters, names, recipe
from lora_lab.training import dataset_config, previews
from lora_lab.training.importing import files as importing
from lora_lab.training.importing import lora_file, script
from lora_lab.training.record import report, state, wish
from lora_lab.training.settings import TrainSettings, preset_file, stages
from lora_lab.training.text import brackets
from lora_lab.workflow.run_list import list_runs
from tests.reliability.fuzz import FORGIVEN, Reader

SETTINGS = TrainSettings(train_data_dir="x", output_name="x")
LORA = {
    f"lora_unet_mid_block_attentions_0_proj_in.{name}": torch.ones(shape)
    for name, shape in (("lora_down.weight", (2, 8)), ("lora_up.weight", (8, 2)), ("alpha", ()))
}
METADATA = {
    "ss_network_dim": "4", "ss_network_alpha": "1.0", "ss_tag_frequency": '{"1_mika": {"hat": 3}}', "ss_seed": "7",
    "ss_optimizer": "torch.optim.AdamW(weight_decay=0.1,betas=[0.9, 0.99])", "ss_bucket_info": '{"buckets": {}}',
}  # fmt: skip
EVENTS = [
    {"event": "RunStarted", "steps": 9, "name": "x"}, {"event": "StepDone", "step": 1, "loss_average": 0.1},
    {"event": "RunEnded", "reason": "failed", "step": 9, "error": "/home/x/y"},
]  # fmt: skip
TOML = b"""[general]
shuffle_caption = true
[[datasets]]
resolution = 512
[[datasets.subsets]]
image_dir = 'x'
num_repeats = 3
"""
SCRIPT = b"""accelerate launch --num_processes 1 train_network.py \\
  --train_data_dir="/x y" --network_dim=8 --learning_rate 1e-4 --optimizer_args "a=1" b=2 $EXTRA
"""
PRESET = b'unet_target_name = ["a"]\nunet_target_module = ["Attention"]\n'
GUI = json.dumps({"train_data_dir": "x", "LoRA_type": "Standard", "network_dim": 8, "learning_rate": "1e-4"}).encode()
TRAIN = b"train_data_dir = 'x'\nnetwork_dim = 8\nbetas = [0.9, 0.99]\n[section]\nseed = 1\n"
RECIPE = b'{"lora_lab_recipe": 1, "steps": [{"operation": "add", "tags": ["a"], "where": "1girl"}]}'
FILTERS = (b"1girl AND (hat OR NOT cap), tags>30, tokens<=75", b'"a b" OR over_limit:150 AND folder:x*')
PROMPTS = (b"1girl --n bad --w 512 --h 768 --d 5 --s 20 --l 7", b"a (b:1.2) [c] --d 7")


def readers(folder: Path) -> list[Reader]:
    """All of them; files are written below `folder`."""
    return [*_files(folder), *_folders(folder), *_texts()]


def _at(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def from_file(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return from_file


def _files(folder: Path) -> list[Reader]:
    large = {key: value.repeat(16, 16) if value.dim() else value for key, value in LORA.items()}
    lora = (save(LORA, METADATA), save(large, {**METADATA, "a": "é"}))
    out: list[tuple[str, str, tuple[bytes, ...], Callable[[Path], object]]] = [
        ("LoRA file", "a.safetensors", lora, files.read),
        ("LoRA inspected", "b.safetensors", lora, inspect.inspect),
        ("LoRA as settings", "c.safetensors", lora, lora_file.read),
        ("settings of a LoRA", "d.safetensors", lora, importing.read),
        ("settings TOML", "a.toml", (TRAIN,), importing.read),
        ("settings JSON", "a.json", (GUI,), importing.read),
        ("script sh", "a.sh", (SCRIPT,), importing.read),
        ("script bat", "a.bat", (SCRIPT.replace(b"\\\n", b"^\r\n"),), importing.read),
        ("script ps1", "a.ps1", (SCRIPT.replace(b"\\\n", b"`\r\n"),), importing.read),
        ("dataset config", "b.toml", (TOML,), lambda p: dataset_config.read(p, SETTINGS, DatasetOptions())),
        ("in_json", "b.json", (b'{"a.png": {"caption": "x", "tags": "a, b"}}',), _entries),
        ("caption file", "a.txt", (b"1girl, red hair, (x:1.2)", "é日, b".encode()), caption_files.read_caption),
        ("network preset", "e.toml", (PRESET,), lambda p: preset_file.read(str(p))),
        ("block presets", "b.txt", (b"NONE:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0\nALL:1,1,1\n",), presets.read_file),
        ("tag recipe", "c.json", (RECIPE,), recipe.read_recipe),
    ]
    return [Reader(name, samples, _at(folder / file, read)) for name, file, samples, read in out]


def _weighted(typed: str) -> str:
    return brackets.plain(brackets.parse(typed))


def _entries(path: Path) -> object:
    found = kohya_json.read_entries(path)
    return [kohya_json.caption_of(entry, path) for entry in found.values() if isinstance(entry, dict)]


def _folders(folder: Path) -> list[Reader]:
    run = folder / "runs" / "x"
    run.mkdir(parents=True)
    (run / "settings.json").write_bytes(GUI)
    stood = state.Standing(1, 0.0, 7, 5, 60, 0, 10, "x", {"name": "x", "family": "sd1", "short_hash": "1"})
    state.write(run, state.State(stood, (torch.zeros(2),), {"optimizer": {"state": {0: {"step": 1}}, "x": [1.0]}}))
    events = "\n".join(map(json.dumps, EVENTS)).encode()
    kept = (run / state.FILE).read_bytes()
    return [
        Reader("state of a run", (kept,), _at(run / state.FILE, lambda p: state.read(run))),
        Reader("standing of a run", (kept,), _at(run / state.FILE, lambda p: state.standing(run))),
        Reader("events of a run", (events,), _at(run / "events.jsonl", lambda p: list_runs(folder / "runs"))),
        Reader("report of a run", (events,), _at(run / "events.jsonl", lambda p: report.text(run))),
        Reader("log of a run", (b'File "/home/x/lora_lab/a.py"',), _at(run / "log.txt", lambda p: report.text(run))),
        Reader("wish for a run", (b"pause", b"stop"), _at(run / wish.FILE, lambda p: wish.read(run))),
        Reader("settings of a run", (GUI,), _at(run / "settings.json", lambda p: list_runs(folder / "runs"))),
        *(_picture(folder, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")),
    ]


def _picture(folder: Path, kind: str) -> Reader:
    buffer = io.BytesIO()
    Image.effect_noise((40, 24), 80).convert("RGB").save(buffer, kind)
    path = folder / f"a.{kind.lower()}"

    def read(path: Path) -> object:
        header = pictures.read_header(path)
        if isinstance(header, pictures.Problem):
            return header
        return pictures.load(path, Placement((16, 16), (16, 16), 0.0), size=header.size)

    return Reader(f"picture {kind}", (buffer.getvalue(),), _at(path, read), (*FORGIVEN, OSError))


def _texts() -> list[Reader]:
    def text(read: Callable[[str], Any]) -> Callable[[bytes], object]:
        return lambda data: read(data.decode("utf-8", "replace"))

    def setting(typed: str) -> object:
        specs = TrainSettings.specs()
        return TrainSettings.from_mapping({specs[zlib.crc32(typed.encode()) % len(specs)].name: typed})

    return [
        Reader("sample prompt", PROMPTS, text(lambda t: previews.parse_line(t, SETTINGS))),
        Reader("weighted caption", (b"a (b:1.2) [c] \\(d\\)", *PROMPTS), text(_weighted)),
        Reader("tag filter", FILTERS, text(filters.parse)),
        Reader("LoRA with strengths", (b"x:unet=1:te=0.5:OUT03=0:IN=0.5", b"x:lbw=OUTX:x=0.2",), text(uses.parse_use)),
        Reader("rank rule", (b"sv_fro=0.9", b"32"), text(ranks.parse)),
        Reader("stage", (b"max_train_epochs=2 unet_lr=1e-4",), text(stages.parse_line)),
        Reader("tags", (b"a, b_c, (d), \\(e\\)",), text(lambda t: names.join(names.split(t)))),
        Reader("script text", (SCRIPT,), text(lambda t: script.read(t, ".sh"))),
        Reader("a setting", (b"8", b"0.5", b"a=1 b=2", b"512,768", b"true"), text(setting), anything=True),
    ]

