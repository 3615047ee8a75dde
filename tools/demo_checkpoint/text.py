"""Train the demo checkpoint's text encoder ahead of the UNet: text.py SCRATCH PACKED_MERGES MINUTES [THREADS]

From shuffled subsets of true tags it learns to say, at every position, which tags have been named so far. So 'red' before 'hair'
is bound to hair before the UNet sees the first picture. Nonsense words stand among the tags now and then, so that a trigger
nobody has heard of leaves the rest as it is. The probe is thrown away; the encoder is frozen from here on.
"""

from __future__ import annotations

import random
import string
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from words import write_tokenizer
from world_data import INDEX

from lora_lab.demo import world

WIDTH = 96
PLACES = 42
"""Positions that are computed; the world's captions fit, and all later ones are padding that repeats the last."""


def config(vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=12, num_attention_heads=4,
        projection_dim=WIDTH, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
    )  # fmt: skip


def some_tags(r: random.Random) -> list[str]:
    tags = world.tags(world.sample(r))
    r.shuffle(tags)
    return tags[: r.randint(1, len(tags))]


def encode(tokenizer: CLIPTokenizer, words: list[str]) -> list[list[int]]:
    return [tokenizer.encode(w, add_special_tokens=False) for w in words]


class Speller:
    """Tags to token ids with a memory, since the same 74 tags come again and again."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.known: dict[str, list[int]] = {}
        self.bos, self.eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.comma = self.ids(",")

    def ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self.known[text]

    def caption(self, tags: list[str]) -> tuple[list[int], list[int]]:
        """Token ids of `PLACES` positions, and for each tag the position of its last token (or -1)."""
        ids, ends = [self.bos], []
        for tag in tags:
            if len(ids) > 1:
                ids += self.comma
            ids += self.ids(tag)
            ends.append(len(ids) - 1 if len(ids) < PLACES else -1)
        ids = ids[: PLACES - 1] + [self.eos]
        return ids + [self.eos] * (PLACES - len(ids)), ends


def batch(speller: Speller, r: random.Random, size: int) -> tuple[Tensor, Tensor]:
    ids, truth = [], torch.zeros(size, PLACES, len(INDEX))
    for row in range(size):
        tags = some_tags(r)
        if r.random() < 0.25:
            tags.insert(r.randint(0, len(tags)), "".join(r.choices(string.ascii_lowercase, k=r.randint(2, 8))))
        tokens, ends = speller.caption(tags)
        ids.append(tokens)
        for tag, end in zip(tags, ends, strict=True):
            if tag in INDEX and end > 0:
                truth[row, end:, INDEX[tag]] = 1
    return torch.tensor(ids), truth


def main() -> None:
    scratch, minutes = Path(sys.argv[1]), float(sys.argv[3])
    torch.set_num_threads(int(sys.argv[4]) if len(sys.argv) > 4 else 2)
    torch.manual_seed(0)
    folder = scratch / "clip"
    cfg = config(write_tokenizer(folder, Path(sys.argv[2])))
    cfg.save_pretrained(folder)
    speller = Speller(folder)
    model = CLIPTextModel(cfg).train()
    final_norm = next(m for n, m in model.named_modules() if n.endswith("final_layer_norm"))
    # The webui divides by the mean of a prompt's embedding: a fresh layer norm's would be zero.
    torch.nn.init.normal_(final_norm.bias, std=0.1)
    probe = torch.nn.Linear(WIDTH, len(INDEX))
    optimizer = torch.optim.AdamW([*model.parameters(), *probe.parameters()], 1e-3, weight_decay=0.01)
    r, started, step = random.Random(0), time.time(), 0
    while (share := (time.time() - started) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1, (step + 1) / 50) * (1 - share) + 1e-5
        ids, truth = batch(speller, r, 48)
        logits = probe(model(input_ids=ids).last_hidden_state)
        loss = F.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            right = ((logits > 0) == (truth > 0)).float().mean().item()
            named = (logits > 0)[truth > 0].float().mean().item()
            print(step, f"loss {loss.item():.4f} right {right:.4f} named {named:.3f} {time.time() - started:.0f}s", flush=True)
            keep(model, scratch)
    keep(model, scratch)


@torch.no_grad()
def keep(model: CLIPTextModel, scratch: Path) -> None:
    """Save; positions that were never trained repeat the last trained one, so that longer prompts see only more padding."""
    places = next(p for n, p in model.named_parameters() if n.endswith("position_embedding.weight"))
    saved = places.clone()
    places[PLACES:] = places[PLACES - 1]
    torch.save(model, scratch / "text.part")
    (scratch / "text.part").replace(scratch / "text.pt")
    places.copy_(saved)


if __name__ == "__main__":
    main()
