"""The demo's LoRA against full fine-tuning of all weights, at as many steps.

    python -m benchmarks.finetune [--json] [--steps N]

Both start from the demo checkpoint, see the same batches of the demo character with the same noise, and are judged by
the demo tagger on the trigger alone. Fine-tuning trains every weight of UNet and text encoder, at a tenth of the
LoRA's rates, on a copy of the checkpoint of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.harness import Figure, parser, show
from lora_lab.dataset.dataset import BatchPlan, Dataset
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import scan
from lora_lab.demo import assets, world
from lora_lab.host.base import Host, LoadedModel
from lora_lab.host.choose import standalone_host
from lora_lab.training import objective
from lora_lab.training.objective.loss import LossOptions, item_losses, snr_weights
from lora_lab.workflow.demo import SCORED, SETTINGS, concept_score, generate, run_demo

RATE = 0.1
"""Full weights take a tenth of the adapter's rates."""


def finetune(host: Host, folder: Path, steps: int) -> float:
    """Train all weights in place for `steps`; the seconds it took."""
    size = world.PICTURE_SIZE
    options = DatasetOptions(
        resolution=(size, size), min_bucket_reso=size, max_bucket_reso=2 * size, bucket_reso_steps=size,
        train_batch_size=SETTINGS["train_batch_size"], shuffle_caption=True, keep_tokens=1, seed=1,
    )  # fmt: skip
    dataset = Dataset(scan(folder / "character", options))
    with host.lease("training") as model:
        for _ in dataset.prepare(model.encode_pixels, "demo"):
            pass
        began = time.perf_counter()
        parts = ((model.unet, SETTINGS["unet_lr"]), (model.text_encoders[0], SETTINGS["text_encoder_lr"]))
        groups = [{"params": list(part.requires_grad_(True).parameters()), "lr": lr * RATE} for part, lr in parts]
        optimizer = torch.optim.AdamW(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        done, epoch = 0, 0
        while done < steps:
            epoch += 1
            for plan in dataset.epoch(epoch)[: steps - done]:
                done += 1
                _step(model, dataset, plan, done, optimizer)
                schedule.step()
        for part, _ in parts:
            part.requires_grad_(False)
        return time.perf_counter() - began


def _step(
    model: LoadedModel, dataset: Dataset, plan: BatchPlan, step: int, optimizer: torch.optim.Optimizer
) -> None:
    batch = dataset.load(plan)
    draw = objective.draw(batch.latents, 1, step, 0)
    noisy = objective.add_noise(batch.latents, draw.noise, draw.timesteps, model.alphas_cumprod)
    conditioning = model.encode_tokens(model.tokenize(batch.captions))
    how = LossOptions(min_snr_gamma=5.0)
    losses = item_losses(model.predict(noisy, draw.timesteps, conditioning), draw.noise, how)
    weight = snr_weights(draw.timesteps, model.alphas_cumprod, how, "epsilon")
    objective.combine(losses, batch.weights, weight).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main() -> int:
    """Train both, look at both."""
    made = parser(__doc__ or "", rounds=1)
    made.add_argument("--epochs", type=int, default=SETTINGS["max_train_epochs"], help="default %(default)s")
    args = made.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        host = standalone_host(data_dir=folder / "data", lora_dir=folder)
        began = time.perf_counter()
        lora = run_demo(host, folder, lambda event: None, {"max_train_epochs": args.epochs})
        lora_seconds = time.perf_counter() - began
        seconds = finetune(host, folder / "dataset", lora.steps)
        with host.lease("pictures") as model:
            tuned = concept_score(generate(model, [world.CHARACTER] * SCORED))
        size = lora.lora.stat().st_size / 1e6
    figures = [
        Figure("concept, bare checkpoint", (lora.concept_before,), "share"),
        Figure("concept, LoRA", (lora.concept_after,), "share"),
        Figure("concept, full fine-tuning", (tuned,), "share"),
        Figure("seconds, the whole demo with LoRA", (lora_seconds,), "s"),
        Figure("seconds, full fine-tuning's steps", (seconds,), "s"),
        Figure("file, LoRA", (size,), "MB"),
        Figure("file, full fine-tuning", (assets.checkpoint_path().stat().st_size / 1e6,), "MB"),
    ]
    return show(f"LoRA against full fine-tuning, {lora.steps} steps each", figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
