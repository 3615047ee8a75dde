"""Which tokens an adapter changes most in the text encoders: each token alone between begin and end, with and without.

The idea and the measure (the mean absolute change of the last states) are those of kohya's lora_interrogator. The
encoders are computed from the checkpoint's tensors, layer by layer; no model is loaded. Their form: CLIP (Radford et
al., arXiv 2103.00020) as Stable Diffusion uses it, OpenCLIP's with the exact GELU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from lora_lab.errors import AdapterFileError, CheckpointError, SettingsError
from lora_lab.families import Family
from lora_lab.surgery.adapters import AdapterReader
from lora_lab.surgery.checkpoints import CheckpointReader
from lora_lab.surgery.outcome import Progress, silent

HEAD = 64
"""Width of an attention head in every encoder of Stable Diffusion."""
BATCH = 2048
"""Tokens at once: some 200 MB of inner states."""


@dataclass(frozen=True)
class Encoder:
    """One text encoder in a checkpoint.

    Attributes:
        prefix: of its keys. open_clip: whose words its keys are.
        sites: prefix of its sites' names.
        skipped: layers at the end that the family leaves out, though they have sites (SD2's last one has none).
        normed: whether the states that the UNet sees went through the last norm.
    """

    prefix: str
    sites: str
    open_clip: bool
    skipped: int
    normed: bool

    @property
    def table(self) -> str:
        """The tensor of the tokens' embeddings, behind the prefix."""
        return "token_embedding.weight" if self.open_clip else "text_model.embeddings.token_embedding.weight"


ENCODERS: dict[Family, tuple[Encoder, ...]] = {
    Family.SD1: (Encoder("cond_stage_model.transformer.", "lora_te_", False, 0, True),),
    Family.SD2: (Encoder("cond_stage_model.model.", "lora_te_", True, 0, True),),
    Family.SDXL: (
        Encoder("conditioner.embedders.0.transformer.", "lora_te1_", False, 1, False),
        Encoder("conditioner.embedders.1.model.", "lora_te2_", True, 1, False),
    ),
}


@dataclass(frozen=True)
class TokenChange:
    """A token's number and word, and the mean absolute change of its states."""

    token: int
    word: str
    change: float


def token_changes(
    path: Path, base: Path, vocabulary: Sequence[str], wanted: Sequence[int] = (), progress: Progress = silent
) -> list[TokenChange]:
    """The tokens that an adapter at strength 1 changes, the most changed first.

    Args:
        vocabulary: each token's word, by its number; the last two are begin and end.
        wanted: only these tokens; empty: all.

    Raises:
        AdapterFileError: unreadable, of another family, or without a text encoder.
        CheckpointError: unreadable, or its encoder has another vocabulary.
    """
    with CheckpointReader(base) as checkpoint, AdapterReader(path, checkpoint.family) as adapter:
        if adapter.family is not checkpoint.family:
            what = f"this adapter is for {adapter.family.value}, the checkpoint is {checkpoint.family.value}"
            raise AdapterFileError(what, file=path, remedy="give a checkpoint of its family")
        if not any(name.startswith("lora_te") for name in adapter.sites):
            what = "the adapter changes no text encoder, so no token"
            raise AdapterFileError(what, file=path, remedy="look at its blocks instead")
        tokens = sorted(set(wanted)) or list(range(len(vocabulary) - 2))
        if not 0 <= tokens[0] <= tokens[-1] < len(vocabulary):
            raise SettingsError(f"there is no token {tokens[-1]}", remedy=f"give numbers below {len(vocabulary)}")
        encoders = [_Computed(checkpoint, adapter, one, len(vocabulary)) for one in ENCODERS[checkpoint.family]]
        total, width = torch.zeros(len(tokens)), sum(one.embedding.shape[1] for one in encoders)
        for encoder in encoders:
            for start in range(0, len(tokens), BATCH):
                progress(start, len(tokens), encoder.encoder.sites)
                batch = torch.tensor(tokens[start : start + BATCH])
                total[start : start + BATCH] += encoder.changed(batch) / (3 * width)
    found = [TokenChange(t, vocabulary[t], float(c)) for t, c in zip(tokens, total, strict=True)]
    return sorted(found, key=lambda one: -one.change)


def vocabulary_size(base: Path) -> int:
    """How many tokens a checkpoint's first text encoder knows; 0 if it has none.

    Raises:
        CheckpointError: unreadable, or no checkpoint.
    """
    with CheckpointReader(base) as checkpoint:
        first = ENCODERS[checkpoint.family][0]
        spec = checkpoint.file.specs.get(first.prefix + first.table)
        return spec.shape[0] if spec else 0


class _Computed:
    """One encoder, with and without the adapter."""

    def __init__(self, checkpoint: CheckpointReader, adapter: AdapterReader, encoder: Encoder, vocabulary: int) -> None:
        self.checkpoint, self.adapter, self.encoder = checkpoint, adapter, encoder
        self.embedding = self._tensor(encoder.table)
        if self.embedding.shape[0] != vocabulary:
            what = f"its text encoder knows {self.embedding.shape[0]:,} tokens, the tokenizer {vocabulary:,}"
            raise CheckpointError(what, file=checkpoint.path, remedy="give the checkpoint's own tokenizer")
        layers = f"{encoder.sites}text_model_encoder_layers_"
        sites = (name.removeprefix(layers) for name in checkpoint.places if name.startswith(layers))
        numbers = {int(site.split("_")[0]) for site in sites}
        self.layers = len(numbers) - encoder.skipped

    def _tensor(self, name: str) -> Tensor:
        """A tensor that is no layer's, float32."""
        key = self.encoder.prefix + name
        if key not in self.checkpoint.file:
            raise CheckpointError(f"the text encoder lacks {key}", file=self.checkpoint.path, remedy="get it again")
        return self.checkpoint.file.read(key, torch.float32)

    def changed(self, tokens: Tensor) -> Tensor:
        """The summed absolute change of each token's states."""
        text = torch.stack(
            [torch.full_like(tokens, self.embedding.shape[0] - 2), tokens,
             torch.full_like(tokens, self.embedding.shape[0] - 1)], 1,
        )  # fmt: skip
        clip = "text_model.embeddings.position_embedding.weight"
        places = self._tensor("positional_embedding" if self.encoder.open_clip else clip)
        plain = functional.embedding(text, self.embedding) + places[:3]
        other = plain.clone()
        for number in range(self.layers):
            plain, other = self._layer(number, plain, False), self._layer(number, other, True)
        if self.encoder.normed:
            last = "ln_final" if self.encoder.open_clip else "text_model.final_layer_norm"
            weight, bias = self._tensor(f"{last}.weight"), self._tensor(f"{last}.bias")
            plain, other = (functional.layer_norm(x, x.shape[-1:], weight, bias) for x in (plain, other))
        return (plain - other).abs().sum(dim=(1, 2))

    def _layer(self, number: int, x: Tensor, adapted: bool) -> Tensor:
        path = f"{self.encoder.sites}text_model_encoder_layers_{number}_"

        def linear(name: str, value: Tensor) -> Tensor:
            return functional.linear(value, *self._weights(path + name, adapted))

        def norm(name: str, value: Tensor) -> Tensor:
            return functional.layer_norm(value, value.shape[-1:], *self._weights(path + name, adapted))

        inner = norm("layer_norm1", x)
        heads = max(1, x.shape[-1] // HEAD)
        parted = (*x.shape[:2], heads, x.shape[-1] // heads)
        q, k, v = (linear(f"self_attn_{one}_proj", inner).reshape(parted).transpose(1, 2) for one in "qkv")
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        x = x + linear("self_attn_out_proj", seen)
        inner = linear("mlp_fc1", norm("layer_norm2", x))
        inner = functional.gelu(inner) if self.encoder.open_clip else inner * torch.sigmoid(1.702 * inner)
        return x + linear("mlp_fc2", inner)

    def _weights(self, site: str, adapted: bool) -> tuple[Tensor, Tensor]:
        """Weight and bias of a layer or norm."""
        place = self.checkpoint.places.get(site)
        bias = None if place is None else self.checkpoint.bias(place)
        if place is None or bias is None:
            raise CheckpointError(f"the text encoder lacks {site}", file=self.checkpoint.path, remedy="get it again")
        weight = self.checkpoint.weight(place)
        entry = self.adapter.sites.get(site)
        if not adapted or entry is None:
            return weight, bias
        change = self.adapter.delta(entry, weight)
        new_bias = bias if change.bias is None else bias + change.bias
        return weight + cast(Tensor, change.weight), new_bias
