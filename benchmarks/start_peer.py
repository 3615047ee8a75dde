"""From 'start' to the first step on a full-size SD1.5 checkpoint: ours on the live model, kohya's command from scratch.

    python -m benchmarks.start_peer --peer SD_SCRIPTS --peer-python PYTHON [--rounds N] [--scratch DIR]

The checkpoint has SD1.5's layout and sizes and random weights. Ours is a host that has it loaded, as a webui has;
theirs is the command that a person would type. Both have cached the latents of the same four pictures on disk before.
Told is the time until the first step begins, and until it has ended (the step costs both the same, and most on a CPU).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.harness import Figure, parser, ratios, show
from benchmarks.kinds_world import text_config
from lora_lab.host.base import Host
from lora_lab.host.choose import standalone_host
from lora_lab.training import jobs
from lora_lab.training.events import Event, Progress, RunStarted, StepDone
from lora_lab.training.settings import TrainSettings

SIDE = 256


def write_checkpoint(path: Path) -> None:
    """Random weights in the original layout, in half precision (2.1 GB)."""
    from ldm.modules.diffusionmodules.model import Decoder, Encoder  # type: ignore[import-not-found]
    from ldm.modules.diffusionmodules.openaimodel import UNetModel  # type: ignore[import-not-found]
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNetModel(
            image_size=32, in_channels=4, out_channels=4, model_channels=320, attention_resolutions=[4, 2, 1],
            num_res_blocks=2, channel_mult=[1, 2, 4, 4], num_heads=8, use_spatial_transformer=True,
            transformer_depth=1, context_dim=768, use_checkpoint=False, legacy=False,
        )  # fmt: skip
        size = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
        size |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
        parts = {"encoder": Encoder(**size), "decoder": Decoder(**size)}
        vae = torch.nn.ModuleDict(
            {**parts, "quant_conv": torch.nn.Conv2d(8, 8, 1), "post_quant_conv": torch.nn.Conv2d(4, 4, 1)}
        )
        text = CLIPTextModel(CLIPTextConfig(**text_config()))
    state: dict[str, torch.Tensor] = {}
    g = torch.Generator().manual_seed(0)
    prefixes = {"model.diffusion_model.": unet, "first_stage_model.": vae, "cond_stage_model.transformer.": text}
    for prefix, network in prefixes.items():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point() or name.startswith("loss."):
                continue
            name = name if not prefix.startswith("cond") or name.startswith("text_model.") else f"text_model.{name}"
            fan_in = tensor[0].numel() if tensor.dim() > 1 else 0
            made = torch.randn(tensor.shape, generator=g) / fan_in**0.5 if fan_in else torch.ones(tensor.shape)
            state[prefix + name] = (made if "bias" not in name else made * 0).half()
    save_file(state, path)


def write_pictures(folder: Path) -> None:
    """Four pictures with captions, as kohya's folders are."""
    inner = folder / "1_mika"
    inner.mkdir(parents=True)
    for number in range(4):
        noise = np.random.RandomState(number).randint(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(inner / f"{number}.png")
        (inner / f"{number}.txt").write_text("mika, red hair, hat", encoding="utf-8")


def ours(host: Host, folder: Path, number: int) -> tuple[float, float]:
    """Seconds until the first step begins, and until it has ended."""
    values = {
        "train_data_dir": str(folder / "pictures"), "output_dir": str(folder / "out"), "output_name": f"ours{number}",
        "resolution": SIDE, "enable_bucket": False, "train_batch_size": 1, "max_train_steps": 1, "network_dim": 16,
        "cache_latents_to_disk": True, "learning_rate": 1e-4, "shuffle_caption": False,
    }  # fmt: skip
    times: list[tuple[float, Event]] = []
    began = time.perf_counter()
    run = jobs.queue().start(TrainSettings.from_mapping(values), host)
    run.listen(lambda event: times.append((time.perf_counter() - began, event)))
    if run.wait().ended is None or run.error is not None:
        raise RuntimeError(f"the run failed: {run.error}")
    ready = max(t for t, e in times if isinstance(e, (RunStarted, Progress)) and getattr(e, "stage", "") != "saving")
    first = min(t for t, e in times if isinstance(e, StepDone))
    return min(ready, first), first


def theirs(peer: Path, python: str, folder: Path, number: int) -> tuple[float, float]:
    """The same of the command: told by its progress line."""
    command = [
        python, "train_network.py", "--pretrained_model_name_or_path", str(folder / "random.safetensors"),
        "--train_data_dir", str(folder / "pictures"), "--output_dir", str(folder / "out"),
        "--output_name", f"theirs{number}", "--resolution", str(SIDE), "--train_batch_size", "1",
        "--max_train_steps", "1", "--network_module", "networks.lora", "--network_dim", "16", "--cache_latents",
        "--cache_latents_to_disk", "--mixed_precision", "no", "--max_data_loader_n_workers", "0", "--sdpa",
        "--caption_extension", ".txt", "--learning_rate", "1e-4", "--optimizer_type", "AdamW",
        "--tokenizer_cache_dir", str(folder / "tokenizers"), "--save_model_as", "safetensors",
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=peer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    text, begins, ended = "", 0.0, 0.0
    while piece := process.stdout.read1(4096):  # type: ignore[attr-defined]
        text += piece.decode(errors="replace")
        now = time.perf_counter() - began
        if not begins and "steps:   0%" in text:
            begins = now
        if not ended and re.search(r"steps: 100%\|", text):
            ended = now
    if process.wait() or not ended:
        raise RuntimeError("kohya's command failed:\n" + text[-3000:])
    return begins, ended


def main() -> int:
    """Write, warm the caches, measure in turn."""
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--peer", type=Path, required=True, help="a folder with kohya's sd-scripts")
    options.add_argument("--peer-python", required=True, help="a Python that has its packages")
    options.add_argument("--scratch", type=Path, help="a folder that keeps the checkpoint (default: a temporary one)")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.scratch or Path(name)
        checkpoint = folder / "random.safetensors"
        if not checkpoint.is_file():
            write_checkpoint(checkpoint)
        if not (folder / "pictures").exists():
            write_pictures(folder / "pictures")
        stamp = int(time.time())
        host = standalone_host(checkpoint, data_dir=folder / "data", lora_dir=folder / "out")
        lend_tokenizer(folder / "tokenizers")
        mine, peers = [ours(host, folder, stamp)], [theirs(args.peer, args.peer_python, folder, stamp)]
        for number in range(1, args.rounds + 1):
            mine.append(ours(host, folder, stamp + number))
            peers.append(theirs(args.peer, args.peer_python, folder, stamp + number))
    figures = []
    for place, what in enumerate(("first step begins", "first step has ended")):
        a, b = [m[place] for m in mine[1:]], [p[place] for p in peers[1:]]
        bar = 1 / 3 if place == 0 else None
        figures += [Figure(f"ours: {what}", tuple(a), "s"), Figure(f"kohya: {what}", tuple(b), "s")]
        figures.append(Figure(f"ours / kohya: {what}", ratios(a, b), at_most=bar))
    return show("From start to the first step, SD1.5's size", figures, args.json)


def lend_tokenizer(folder: Path) -> None:
    """Where their loader looks for CLIP's tokenizer, so that nothing is asked of a hub."""
    from lora_lab.host.standalone_clip import full_size_folder

    place = folder / "openai_clip-vit-large-patch14"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        place.symlink_to(full_size_folder())


if __name__ == "__main__":
    sys.exit(main())
