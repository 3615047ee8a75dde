"""The tools on files: against kohya's own functions, the full SVD, and a plain copy.

    python -m benchmarks.surgery [--json] [--rounds N] [--peer SD_SCRIPTS] [--parts quality extract resize merge memory]

quality  residual of our factors over the best possible one, on low-rank-plus-noise and on white noise, 1280 x 1280
extract  rank 32 of every layer of SD1.5 (192 + 72): one matrix of each shape, times its count
resize   128 to 32, counted in the same way
merge    one rank 32 LoRA into a full-size SD1.5 checkpoint in fp16, against a copy of that file, both flushed
memory   peak of each tool on SDXL-sized files in a process of its own, less the largest tensor (needs 25 GB of disk)

`--peer` names a checkout of kohya-ss/sd-scripts, whose own `svd` (extract_lora_from_models.py) and `extract_linear`
(resize_lora.py) are then what we are measured against; without it the full SVD that they call. The largest layers take
the peer most of a minute each, so rounds are few.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import surgery_peer
from benchmarks.harness import Figure, interleave, parser, ratios, show
from lora_lab.families import Family
from lora_lab.network.header import TensorSpec
from lora_lab.network.names import to_ldm
from lora_lab.network.streams import TensorWriter
from lora_lab.surgery import places
from lora_lab.surgery.compress import Compression, Compressor
from lora_lab.surgery.extract import ExtractRequest
from lora_lab.surgery.extract import extract as extract_files
from lora_lab.surgery.into_checkpoint import MergeRequest, merge_into_checkpoint
from lora_lab.surgery.lowrank import factor, factor_product
from lora_lab.surgery.outcome import Tally
from lora_lab.surgery.ranks import RankRule
from lora_lab.surgery.spool import Heap, Spool
from lora_lab.surgery.uses import AdapterUse

PARTS = ("quality", "extract", "resize", "merge", "memory")


def shapes() -> dict[tuple[int, int], int]:
    """Every matrix that a plain LoRA of SD1.5 has a site at, and how often."""
    found: dict[tuple[int, int], int] = {}
    for width, transformers in ((320, 5), (640, 5), (1280, 6)):
        for shape, count in (((width, width), 8), ((width, 768), 2), ((8 * width, width), 1), ((width, 4 * width), 1)):
            found[shape] = found.get(shape, 0) + count * transformers
    for shape, count in (((768, 768), 48), ((3072, 768), 12), ((768, 3072), 12)):
        found[shape] = found.get(shape, 0) + count
    assert sum(found.values()) == 264
    return found


def noise(*shape: int, seed: int = 0) -> Tensor:
    """White noise, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def changed(m: int, n: int) -> Tensor:
    """What fine-tuning leaves: something of low rank, and noise."""
    return 0.02 * noise(m, 24) @ noise(24, n, seed=1) / 24**0.5 + 0.005 * noise(m, n, seed=2)


def quality() -> Iterator[Figure]:
    """Residuals against the full SVD's."""
    for name, matrix, bar in (
        ("low rank + noise", changed(1280, 1280), 1.0),
        ("white noise", noise(1280, 1280), 4.0),
        ("3x3 convolution, 320 x 2880", changed(320, 2880), 1.0),
    ):
        s = torch.linalg.svdvals(matrix.double())
        for rank in (8, 32, 128):
            up, down = factor(matrix, rank).cut(rank)
            value = float((matrix - up @ down).double().norm() / s[rank:].square().sum().sqrt())
            yield Figure(f"residual above the best, {name}, rank {rank}", (1000 * (value - 1),), "per mille", bar)


Pair = tuple[Callable[[], object], Callable[[], object]]


def counted(args: argparse.Namespace, pair: Callable[[int, int], Pair]) -> tuple[list[float], list[float]]:
    """Our seconds and the peer's for a whole file, round by round: one matrix of each shape, times its count."""
    mine, theirs = [0.0] * args.rounds, [0.0] * args.rounds
    for (m, n), count in shapes().items():
        ours, peer = pair(m, n)
        seconds = interleave(args.rounds, {"ours": ours, "peer": peer}, clock=args.clock, warm_up=0)
        mine = [total + count * one for total, one in zip(mine, seconds["ours"], strict=True)]
        theirs = [total + count * one for total, one in zip(theirs, seconds["peer"], strict=True)]
    return mine, theirs


def extract(args: argparse.Namespace) -> Iterator[Figure]:
    """Every layer from its two weights to the rounded factors, and the whole tool on full-size files."""
    name, peer = surgery_peer.extract(args.peer)
    how = Compression(RankRule("fixed", 32))

    def pair(m: int, n: int) -> Pair:
        base = 0.03 * noise(m, n, seed=7)
        tuned = base + changed(m, n)

        def ours() -> None:
            with Spool(Path(tempfile.gettempdir()) / "unwritten.safetensors") as spool, Heap(spool.path.parent) as heap:
                to = Compressor(how, spool, heap, Tally(), Family.SD1)
                to.add_matrix("lora_unet_mid_block_attentions_0_proj_in", tuned - base)

        return ours, lambda: peer(base, tuned, 32)

    mine, theirs = counted(args, pair)
    yield Figure(f"extract SD1.5, rank 32, all layers, ours / {name}", ratios(mine, theirs), at_most=1 / 20)
    yield Figure("extract SD1.5, rank 32, all layers, ours", tuple(mine), "s")
    yield Figure(f"extract SD1.5, rank 32, all layers, {name}", tuple(theirs), "s")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        whole = whole_extract(args, Path(folder))
        yield Figure("the whole tool on 2 GB files, reading and writing too", whole, "s")
        yield Figure(f"the whole tool / {name}, all layers, without its loading and saving", ratios(whole, theirs))
    if args.peer:
        base, tuned = 0.03 * noise(1280, 1280, seed=7), 0.03 * noise(1280, 1280, seed=7) + changed(1280, 1280)
        up, down = (part.float() for part in peer(base, tuned, 32) or ())
        best = torch.linalg.svdvals((tuned - base).double())[32:].square().sum().sqrt()
        value = float((tuned - base - up @ down).norm() / best)
        yield Figure(f"residual above the best, {name} (its clamp), 1280 x 1280", (1000 * (value - 1),), "per mille")


def whole_extract(args: argparse.Namespace, folder: Path) -> tuple[float, ...]:
    """Seconds of the tool from two full-size checkpoints to the LoRA."""
    for file, seed in (("base", 0), ("tuned", 1)):
        write_checkpoint(folder / f"{file}.safetensors", Family.SD1, seed)
    paths = (folder / f"{file}.safetensors" for file in ("base", "tuned", "lora"))
    request = ExtractRequest(*paths, Compression(RankRule("fixed", 32)), force=True)
    return tuple(interleave(args.rounds, {"ours": lambda: extract_files(request)}, clock=args.clock, warm_up=0)["ours"])


def resize(args: argparse.Namespace) -> Iterator[Figure]:
    """128 to 32. The peer multiplies the factors out first, which is not counted."""
    name, peer = surgery_peer.resize(args.peer)

    def pair(m: int, n: int) -> Pair:
        up, down = noise(m, 128), noise(128, n, seed=1)
        dense = up @ down
        return lambda: factor_product(up, down).cut(32), lambda: peer(dense, 32)

    mine, theirs = counted(args, pair)
    yield Figure(f"resize SD1.5, 128 to 32, ours / {name}", ratios(mine, theirs), at_most=1 / 30)
    yield Figure("resize SD1.5, 128 to 32, ours", tuple(mine), "s")
    worst = 0.0
    for m, n in ((1280, 1280), (320, 768)):
        up, down = noise(m, 128), noise(128, n, seed=1)
        u, s, vh = torch.linalg.svd(up.double() @ down.double(), full_matrices=False)
        best = (u[:, :32] * s[:32]) @ vh[:32]
        up, down = factor_product(up, down).cut(32)
        worst = max(worst, float(((up @ down) - best).norm() / best.norm()))
    yield Figure("resize, distance to the full SVD's", (worst,), at_most=1e-5)


UNETS: dict[Family, dict[str, Any]] = {
    Family.SD1: {"cross_attention_dim": 768, "attention_head_dim": 8},
    Family.SDXL: {
        "cross_attention_dim": 2048,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
ENCODERS = {
    Family.SD1: ("cond_stage_model.transformer.",),
    Family.SDXL: ("conditioner.embedders.0.transformer.",),
}


def checkpoint_specs(family: Family) -> dict[str, TensorSpec]:
    """The tensors of a full-size checkpoint in fp16; the VAE and SDXL's second text encoder only by their sizes."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[family])
    specs = {}
    for key, tensor in unet.state_dict().items():
        path, _, leaf = key.rpartition(".")
        specs[f"{places.UNET}{to_ldm(path, family)}.{leaf}"] = TensorSpec(torch.float16, tuple(tensor.shape))
    for prefix in ENCODERS[family]:
        for n in range(12):
            layer = f"{prefix}text_model.encoder.layers.{n}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                specs[f"{layer}.self_attn.{name}.weight"] = TensorSpec(torch.float16, (768, 768))
            specs[f"{layer}.mlp.fc1.weight"] = TensorSpec(torch.float16, (3072, 768))
            specs[f"{layer}.mlp.fc2.weight"] = TensorSpec(torch.float16, (768, 3072))
    if family is Family.SDXL:
        for n in range(32):
            layer = f"conditioner.embedders.1.model.transformer.resblocks.{n}"
            specs[f"{layer}.attn.in_proj_weight"] = TensorSpec(torch.float16, (3840, 1280))
            specs[f"{layer}.attn.out_proj.weight"] = TensorSpec(torch.float16, (1280, 1280))
            specs[f"{layer}.mlp.c_fc.weight"] = TensorSpec(torch.float16, (5120, 1280))
            specs[f"{layer}.mlp.c_proj.weight"] = TensorSpec(torch.float16, (1280, 5120))
    for n in range(4):
        specs[f"first_stage_model.decoder.part{n}.weight"] = TensorSpec(torch.float16, (10_000, 1046))
    return specs


def write_checkpoint(path: Path, family: Family, seed: int) -> None:
    """A full-size checkpoint of random weights; the seed moves them a little, as fine-tuning does."""
    specs = checkpoint_specs(family)
    with TensorWriter(path, specs, {}) as out:
        for number, (key, spec) in enumerate(specs.items()):
            weight = 0.03 * noise(*spec.shape, seed=number)
            if seed and weight.dim() == 2:
                weight += 0.3 * changed(*spec.shape)
            out.put(key, weight.half())


def write_lora(path: Path, family: Family, rank: int) -> None:
    """A rank-`rank` LoRA in fp16 for all sites of a checkpoint."""
    found = places.places(checkpoint_specs(family), family)
    tensors: dict[str, Tensor] = {}
    for site, place in found.items():
        if places.is_lierla(site) and len(place.shape) > 1:
            ones = (1,) * (len(place.shape) - 2)
            tensors[f"{site}.lora_up.weight"] = (0.01 * noise(place.shape[0], rank, *ones)).half()
            tensors[f"{site}.lora_down.weight"] = (0.1 * noise(rank, *place.shape[1:])).half()
            tensors[f"{site}.alpha"] = torch.tensor(float(rank))
    with TensorWriter(path, {k: TensorSpec(t.dtype, tuple(t.shape)) for k, t in tensors.items()}, {}) as out:
        for key, tensor in tensors.items():
            out.put(key, tensor)


def merge(args: argparse.Namespace) -> Iterator[Figure]:
    """Into a checkpoint, against a copy of it."""
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_checkpoint(folder / "base.safetensors", Family.SD1, 0)
        write_lora(folder / "lora.safetensors", Family.SD1, 32)
        use = AdapterUse(folder / "lora.safetensors")
        request = MergeRequest(folder / "base.safetensors", (use,), folder / "merged.safetensors", force=True)

        def copy() -> None:
            with (folder / "base.safetensors").open("rb") as old, (folder / "copy.safetensors").open("wb") as new:
                shutil.copyfileobj(old, new, 16 << 20)
                new.flush()
                os.fsync(new.fileno())

        seconds = interleave(args.rounds, {"ours": lambda: merge_into_checkpoint(request), "copy": copy})
        yield Figure("merge into SD1.5, ours / copy", ratios(seconds["ours"], seconds["copy"]), at_most=2.0)
        yield Figure("merge into SD1.5, ours", tuple(seconds["ours"]), "s")


def memory(args: argparse.Namespace) -> Iterator[Figure]:
    """Peak of each tool on SDXL-sized files, less the largest tensor in float32."""
    largest = max(spec.count for spec in checkpoint_specs(Family.SDXL).values()) * 4 / 1e6
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        for file, seed in (("base", 0), ("tuned", 1)):
            write_checkpoint(folder / f"{file}.safetensors", Family.SDXL, seed)
        write_lora(folder / "lora.safetensors", Family.SDXL, 128)
        base, tuned, lora = (folder / f"{n}.safetensors" for n in ("base", "tuned", "lora"))
        idle = peak(folder, "inspect", lora, "--compare", lora)[1]
        for verb, words in (
            ("extract", (base, tuned, "--rank", "32")),
            ("merge", (lora, "--into", base)),
            ("resize", (lora, "--rank", "32")),
            ("bake", (f"{lora}:0.5",)),
        ):
            value, _ = peak(folder, verb, *words, "-o", folder / f"{verb}.safetensors")
            yield Figure(f"peak of {verb}, SDXL, beyond the largest tensor", (value - largest,), "MB", 1000.0)
            (folder / f"{verb}.safetensors").unlink()
        yield Figure("peak of a Python that has only loaded torch and compared", (idle,), "MB")


def peak(folder: Path, verb: str, *words: object) -> tuple[float, float]:
    """The peak that a verb tells, and that of its process, in MB."""
    code = (
        "import sys; from lora_lab.cli import main; status = main(sys.argv[1:]);"
        "from lora_lab.surgery.outcome import peak_mb; print(peak_mb()); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, verb, *map(str, words), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    told, whole = done.stdout.strip().splitlines()[-2:]
    return float(json.loads(told).get("peak_mb", 0.0)), float(whole)


def main() -> int:
    """Run the parts asked for."""
    options = parser("the tools on files", rounds=1)
    options.add_argument("--peer", type=Path, help="a checkout of kohya-ss/sd-scripts")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=[p for p in PARTS if p != "memory"])
    options.add_argument("--folder", type=Path, help="where the large files go for a while (default: the system's)")
    args = options.parse_args()
    ways: dict[str, Callable[[], Iterator[Figure]]] = {
        "quality": quality,
        "extract": lambda: extract(args),
        "resize": lambda: resize(args),
        "merge": lambda: merge(args),
        "memory": lambda: memory(args),
    }
    figures = [figure for part in args.parts for figure in ways[part]()]
    return show("surgery", figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
