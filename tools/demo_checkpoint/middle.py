"""Teach the demo checkpoint to listen to its middle block: middle.py SCRATCH MINUTES [RANK]

At 64 px the middle block (M00) is a single pixel, and the demo's UNet has learnt to pass over what comes out of it: no
LoRA in M00 alone can show anything. For the tests of the influence map this makes another checkpoint of it, in which
one can. Half of the training pictures have no caption; what is in them is told by a vector that is added to M00's
output (a row of numbers for each tag, learnt too and thrown away in the end), so that all that follows learns to read
that output. Down blocks are left alone. At first nothing of M00 arrives, as skips drown it: each shortcut and upsampler
begins with a share of the identity for what comes from below, which training then adapts around.

Needs what `disassemble.py` writes; goes on from `middle.pt`. Without RANK all weights are free; with RANK, afterwards,
what has changed is trained on as factors of that rank, small enough to be kept as a LoRA. The one that is kept took 40
and 22 minutes on one core, with 5,000 pictures and, in the first part, a moving average of the weights:

    lora-lab extract demo.safetensors tuned.safetensors --rank 16 --convs --outside --norms --biases -o through-middle

where `tuned` is what `assemble.py` makes of `unet.pt`, which this writes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
import unet as base
from text import Speller
from torch import Tensor, nn
from torch.nn.utils import parametrize
from world_data import pictures

from lora_lab.demo import assets
from lora_lab.host.standalone_load import load

BATCH, WIDTH = 32, 128
SHARE = 0.85
"""Of the identity, that is put into shortcuts and upsamplers."""
TRAINED = ("mid_block", "up_blocks", "conv_norm_out", "conv_out")


class Factors(nn.Module):
    """A weight that is the first one and a product of two factors."""

    def __init__(self, first: Tensor, now: Tensor, rank: int) -> None:
        super().__init__()
        self.register_buffer("first", first.clone())
        u, s, v = torch.linalg.svd((now - first).flatten(1), full_matrices=False)
        root = s[:rank].sqrt()
        self.up, self.down = nn.Parameter(u[:, :rank] * root), nn.Parameter(root[:, None] * v[:rank])

    def forward(self, weight: Tensor) -> Tensor:
        first = self.first
        assert isinstance(first, Tensor)
        return first + (self.up @ self.down).view_as(first)


@torch.no_grad()
def let_through(unet: nn.Module) -> None:
    """What comes from below arrives, beside what the skips bring."""
    for number, block in enumerate(unet.up_blocks):  # type: ignore[arg-type]
        for place, resnet in enumerate(block.resnets):
            weight = resnet.conv_shortcut.weight
            below = weight.shape[0] if number == 3 and place else WIDTH
            weight[:, :below, 0, 0] += SHARE * nn.init.eye_(torch.empty(weight.shape[0], below))
        for upsampler in block.upsamplers or ():
            upsampler.conv.weight[:, :, 1, 1] += SHARE * torch.eye(WIDTH)


def factorise(unet: nn.Module, first: dict[str, Tensor], rank: int) -> list[str]:
    """Each trained weight as factors from now on; their names."""
    found = []
    for name, module in list(unet.named_modules()):
        if name.startswith(TRAINED) and isinstance(module, (nn.Linear, nn.Conv2d)):
            factors = Factors(first[f"{name}.weight"], module.weight.detach(), rank)
            parametrize.register_parametrization(module, "weight", factors, unsafe=True)
            module.parametrizations.weight.original.requires_grad_(False)  # type: ignore[union-attr, operator]
            found.append(name)
    return found


def plain(unet: nn.Module, factorised: list[str]) -> dict[str, Tensor]:
    """The weights by their own names."""
    held = {name: t.clone() for name, t in unet.state_dict().items() if ".parametrizations." not in name}
    return held | {f"{name}.weight": unet.get_submodule(name).weight.detach().clone() for name in factorised}  # type: ignore[union-attr, operator]


def main() -> None:
    scratch, minutes = Path(sys.argv[1]), float(sys.argv[2])
    rank = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    torch.manual_seed(0)
    torch.set_num_threads(1)
    z, states = base.latents(scratch), base.text_states(scratch)
    truth = torch.from_numpy(pictures(scratch, "base", base.COUNT).truth).float()
    with torch.no_grad():
        text = torch.load(scratch / "text.pt", weights_only=False).eval()
        nothing = text(input_ids=torch.tensor([Speller(scratch / "clip").caption([])[0]])).last_hidden_state
    first = load(assets.checkpoint_path(), assets.tokenizer_dir()).unet.state_dict()
    unet, rows = base.fresh().train(), nn.Linear(truth.shape[1], WIDTH, bias=False)
    unet.load_state_dict(first)
    if (scratch / "middle.pt").is_file():
        kept = torch.load(scratch / "middle.pt")
        unet.load_state_dict(kept["unet"])
        rows.load_state_dict(kept["rows"])
    else:
        let_through(unet)
        nn.init.normal_(rows.weight, std=4.4)  # as large as what M00 puts out
    factorised = factorise(unet, first, rank) if rank else []
    for name, parameter in unet.named_parameters():
        if not name.startswith(TRAINED) or name.endswith(".original"):
            parameter.requires_grad_(False)
    told: list[Tensor] = []
    unet.mid_block.register_forward_hook(lambda module, inputs, output: output + told[-1][:, :, None, None])
    train(unet, rows, (z, states, truth, nothing), told, minutes)
    torch.save({"unet": plain(unet, factorised), "rows": rows.state_dict()}, scratch / "middle.pt")
    torch.save({"unet": plain(unet, factorised), "ema": plain(unet, factorised), "steps": 0}, scratch / "unet.pt")


def train(
    unet: nn.Module, rows: nn.Linear, data: tuple[Tensor, Tensor, Tensor, Tensor], told: list[Tensor], minutes: float
) -> None:
    """Of a batch one half has the vector only, a quarter the caption only, a quarter both."""
    z, states, truth, nothing = data
    noise = base.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    snr, mask = noise.alphas_cumprod / (1 - noise.alphas_cumprod), base.padding(BATCH)
    own = [p for p in unet.parameters() if p.requires_grad]
    groups = [{"params": own, "pace": 1.0}, {"params": rows.parameters(), "pace": 3.0}]
    optimizer = torch.optim.AdamW(groups, 1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    started, done, mean = time.time(), 0, 0.0
    while (share := (time.time() - started) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["pace"] * (1e-3 * min(1, (done + 1) / 50) * min(1, 1.6 * (1 - share)) + 1e-5)
        some = torch.randint(0, base.COUNT, (BATCH,))
        x, e = z[some], torch.randn(BATCH, 4, 8, 8)
        t = (1000 * torch.rand(BATCH) ** 0.6).long().clamp(max=999)  # more noise: there the tags decide
        text, tags = states[done % base.VARIANTS, some].float(), truth[some]
        text[: BATCH // 2] = nothing
        tags = tags * (torch.rand(tags.shape) < 0.5 + 0.5 * torch.rand(BATCH, 1))
        tags[BATCH // 2 : 3 * BATCH // 4] = 0
        told[:] = [rows(tags)]
        out = unet(noise.add_noise(x, e, t), t, text, encoder_attention_mask=mask).sample
        loss = ((out - e).pow(2).mean((1, 2, 3)) * snr[t].clamp(max=5) / snr[t]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
        done += 1
        mean = 0.98 * mean + 0.02 * loss.item() if done > 1 else loss.item()
        if done % 50 == 0:
            print(done, f"loss {mean:.4f} {time.time() - started:.0f}s", flush=True)


if __name__ == "__main__":
    main()
