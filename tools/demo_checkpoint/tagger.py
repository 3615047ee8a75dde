"""Train the demo tagger and write it as ONNX with the contract of the WD taggers: tagger.py SCRATCH [EPOCHS]

Input NHWC float32 BGR 0..255, output probabilities. It learns on drawings, on blurred and noisy ones, and, once the VAE is there
(`vae.pt` in the scratch folder), on what the VAE makes of them: it is to judge soft pictures.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from world_data import TAGS, pictures

from lora_lab.demo import world


def block(i: int, o: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.body = nn.Sequential(block(c, c, 1), nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class Tagger(nn.Module):
    """A small residual net on 64 x 64 pictures; 0.7 M parameters."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.stem = block(3, 24, 2)
        self.s1 = nn.Sequential(block(24, 48, 2), Residual(48))
        self.s2 = nn.Sequential(block(48, 96, 2), Residual(96))
        self.s3 = block(96, 128, 2)
        # The place matters (a hand at the right, a bow on top): keep the 4 x 4 grid.
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(128 * 16, 160), nn.ReLU(), nn.Linear(160, tags))

    def features(self, x: Tensor) -> list[Tensor]:
        """Feature maps of RGB pictures in -1..1 (b, 3, 64, 64), for a perceptual loss."""
        a = self.stem(x)
        b = self.s1(a)
        return [a, b, self.s2(b)]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, tags) of RGB pictures in -1..1 (b, 3, 64, 64)."""
        return self.head(self.s3(self.features(x)[-1]).flatten(1))


class Contract(nn.Module):
    """The tagger behind the WD contract: NHWC, BGR, 0..255, ratings first, probabilities out."""

    def __init__(self, net: Tagger) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        rgb = image.permute(0, 3, 1, 2).flip(1) / 127.5 - 1
        p = torch.sigmoid(self.net(rgb))
        safe = torch.ones_like(p[:, :1])
        return torch.cat([safe, torch.zeros_like(p[:, :3]), p], 1)


def soften(x: Tensor, vae: nn.Module | None) -> Tensor:
    """A third of the batch as it is, a third blurred and noisy, a third through the VAE (or blurred)."""
    n = x.shape[0]
    kind = torch.randint(0, 3, (n,))
    out = x.clone()
    blur = kind == 1
    if blur.any():
        size = int(torch.randint(30, 56, ()))
        small = F.interpolate(x[blur], size=size, mode="area")
        out[blur] = F.interpolate(small, size=64, mode="bilinear") + 0.08 * torch.randn_like(x[blur]) * torch.rand(())
    through = kind == 2
    if vae is not None and through.any():
        with torch.no_grad():
            latents = vae.encode(x[through]).latent_dist.mean
            spread = latents.std()
            out[through] = vae.decode(latents + 0.12 * spread * torch.rand(()) * torch.randn_like(latents)).sample
    return out.clamp(-1, 1)


def macro_f1(net: Tagger, pixels: np.ndarray, truth: np.ndarray, through: nn.Module | None = None) -> float:
    """Mean over tags of F1 at a threshold of 0.5."""
    net.eval()
    found = []
    with torch.no_grad():
        for i in range(0, len(pixels), 250):
            x = torch.from_numpy(pixels[i : i + 250]).permute(0, 3, 1, 2).float() / 127.5 - 1
            if through is not None:
                x = through.decode(through.encode(x).latent_dist.mean).sample.clamp(-1, 1)
            found.append((net(x) > 0).numpy())
    f, t = np.concatenate(found), truth > 0
    hit, wrong, lost = (f & t).sum(0), (f & ~t).sum(0), (~f & t).sum(0)
    scores = 2 * hit / np.maximum(2 * hit + wrong + lost, 1)
    worst = np.argsort(scores)[:6]
    print("  worst:", ", ".join(f"{TAGS[i]} {scores[i]:.2f}" for i in worst), flush=True)
    return float(scores[t.sum(0) > 0].mean())


def export(net: Tagger, folder: Path, counts: np.ndarray) -> None:
    """model.onnx and selected_tags.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    net.eval()
    part = folder / "model.part"
    torch.onnx.export(
        Contract(net).eval(), (torch.zeros(2, 64, 64, 3),), str(part), input_names=["input"], output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}, opset_version=17, dynamo=False,
    )  # fmt: skip
    part.replace(folder / "model.onnx")
    with (folder / "selected_tags.csv").open("w", newline="", encoding="utf-8") as f:
        rows = csv.writer(f)
        rows.writerow(["tag_id", "name", "category", "count"])
        for i, name in enumerate(("general", "sensitive", "questionable", "explicit")):
            rows.writerow([9999999 - i, name, 9, len(TAGS) if i == 0 else 0])
        for i, (name, count) in enumerate(zip(TAGS, counts, strict=True)):
            rows.writerow([i + 1, name.replace(" ", "_"), 4 if name == world.CHARACTER else 0, int(count)])


def main() -> None:
    scratch, epochs = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 6
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    parts = [pictures(scratch, "base", 24000), pictures(scratch, "character", 3000), pictures(scratch, "style", 3000)]
    pixels = np.concatenate([p.pixels for p in parts])
    truth = np.concatenate([p.truth for p in parts])
    tests = [pictures(scratch, kind, n, seed=9) for kind, n in (("base", 1500), ("character", 200), ("style", 200))]
    test_pixels, test_truth = np.concatenate([t.pixels for t in tests]), np.concatenate([t.truth for t in tests])
    vae = torch.load(scratch / "vae.pt", weights_only=False).eval() if (scratch / "vae.pt").is_file() else None
    net = Tagger(len(TAGS))
    if (scratch / "tagger.pt").is_file():
        net.load_state_dict(torch.load(scratch / "tagger.pt"))
    batch = 64
    steps = int(len(pixels) / batch * epochs)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.15)
    started = time.time()
    for step in range(steps):
        net.train()
        rows = np.random.randint(0, len(pixels), batch)
        x = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        y = torch.from_numpy(truth[rows]).float()
        loss = F.binary_cross_entropy_with_logits(net(soften(x, vae)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 199 or step == steps - 1:
            torch.save(net.state_dict(), scratch / "tagger.pt")
            print(step + 1, steps, f"{loss.item():.4f} {time.time() - started:.0f}s", flush=True)
    print("macro F1 fresh", macro_f1(net, test_pixels, test_truth))
    if vae is not None:
        print("macro F1 after the VAE", macro_f1(net, test_pixels, test_truth, vae))
    export(net, scratch / "tagger", truth.sum(0))


if __name__ == "__main__":
    main()
