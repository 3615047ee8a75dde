"""A host out of tiny real modules: diffusers' UNet and VAE, transformers' CLIP, with random weights.

Its lease does what every host's must, and counts: what is taken must be given back as it was.
"""

from __future__ import annotations

import hashlib
import random
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from PIL import Image  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lora_lab.errors import HostBusyError  # noqa: E402
from lora_lab.families import Family, ListedCheckpoint, PredictionType  # noqa: E402
from lora_lab.host.base import (  # noqa: E402
    CheckpointInfo,
    Conditioning,
    Host,
    HostPaths,
    LoadedModel,
    MemoryUse,
    PreviewRequest,
    PreviewResult,
    Purpose,
    TokenBatch,
)

WIDTH = 32


def tiny_unet() -> nn.Module:
    """SD1's layout with all its 192 sites, 32 channels wide, 64 at the bottom (a group of one number has no norm)."""
    return diffusers.UNet2DConditionModel(
        block_out_channels=(32, 32, 64, 64), cross_attention_dim=WIDTH, attention_head_dim=8, sample_size=8
    )


def tiny_text_encoder() -> nn.Module:
    """SD1's CLIP with two layers of width 32."""
    config = transformers.CLIPTextConfig(
        vocab_size=1000, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=998, eos_token_id=999, pad_token_id=999,
    )
    return transformers.CLIPTextModel(config)


def tiny_vae() -> nn.Module:
    """Four levels, as SD's, so that 8 pixels become one."""
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    return diffusers.AutoencoderKL(block_out_channels=(8, 8, 16, 16), norm_num_groups=4, latent_channels=4, **kinds)


class TinyModel(LoadedModel):
    """The live model. `during` is called at each forward of the UNet, to make it fail."""

    layout = "diffusers"
    family = Family.SD1

    def __init__(self, prediction_type: PredictionType = "epsilon") -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.unet, self.text_encoders = self.networks()
            self.vae = tiny_vae().eval()
        self.info = CheckpointInfo("tiny.safetensors", "tiny|1", self.family, prediction_type, short_hash="0badf00d")
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.latent_scale = 0.18215
        self.encode_tokens(self.tokenize(["transformers hangs hooks of its own on first use"]), 2)
        self.during: Callable[[], None] = lambda: None
        self.drawing: Callable[[], None] = lambda: None
        self.forwards = 0

    def networks(self) -> tuple[nn.Module, tuple[nn.Module, ...]]:
        """UNet and text encoders, drawn from torch's generator."""
        return tiny_unet().eval(), (tiny_text_encoder().eval(),)

    @property
    def roots(self) -> tuple[nn.Module, ...]:
        return (self.unet, *self.text_encoders, self.vae)

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        with torch.no_grad():
            found = self.vae.encode(pixels.float()).latent_dist
            return (found.mean if generator is None else found.sample(generator)) * self.latent_scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        with torch.no_grad():
            return self.vae.decode(latents / self.latent_scale).sample.clamp(-1, 1)

    def tokenize(self, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
        words = [[zlib.crc32(w.encode()) % 998 for w in c.replace(",", " , ").split()] for c in captions]
        chunks = min(max_token_length // 75, max(1, -(-max(map(len, words)) // 75)))
        rows = []
        for ids in words:
            padded = (ids + [999] * chunks * 75)[: chunks * 75]
            rows.append([[998, *padded[i * 75 : (i + 1) * 75], 999] for i in range(chunks)])
        return TokenBatch((torch.tensor(rows),), tuple(map(len, words)))

    def encode_tokens(self, tokens: TokenBatch, clip_skip: int = 1) -> Conditioning:
        count, chunks, length = tokens.ids[0].shape
        found = self.text_encoders[0](tokens.ids[0].reshape(-1, length), output_hidden_states=True)
        norm = next(m for n, m in self.text_encoders[0].named_modules() if n.endswith("final_layer_norm"))
        states = found.last_hidden_state if clip_skip == 1 else norm(found.hidden_states[-clip_skip])
        return Conditioning(states.reshape(count, chunks * length, -1))

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        self.forwards += 1
        self.during()
        return self.unet(latents, timesteps, conditioning.context).sample

    def generate(self, request: PreviewRequest) -> PreviewResult:
        """One denoising step is picture enough; draws from the global generator, as a webui's sampler does."""
        self.drawing()
        torch.manual_seed(request.seeds[0])
        latents = torch.randn(1, 4, request.height // 8, request.width // 8)
        with torch.no_grad():
            context = self.encode_tokens(self.tokenize(request.prompts))
            found = self.predict(latents, torch.tensor([999]), context)
            pixels = self.decode_latents(found)[0]
        array = ((pixels.permute(1, 2, 0) + 1) * 127.5).byte().numpy()
        return PreviewResult((Image.fromarray(array),), (request.prompts[0],))


class TinySd2(TinyModel):
    """SD2's shape: linear layers around the transformers, states from a text encoder that lacks its last layer."""

    family = Family.SD2

    def __init__(self, prediction_type: PredictionType = "v_prediction") -> None:
        super().__init__(prediction_type)

    def networks(self) -> tuple[nn.Module, tuple[nn.Module, ...]]:
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(32, 32, 64, 64), cross_attention_dim=WIDTH, attention_head_dim=(4, 4, 8, 8),
            sample_size=8, use_linear_projection=True,
        )
        return unet.eval(), (tiny_text_encoder().eval(),)

    def encode_tokens(self, tokens: TokenBatch, clip_skip: int = 1) -> Conditioning:
        return super().encode_tokens(tokens)


class TinySdxl(TinyModel):
    """SDXL's shape with all 722 sites of its UNet, two text encoders of two layers, and its size conditioning."""

    family = Family.SDXL

    def networks(self) -> tuple[nn.Module, tuple[nn.Module, ...]]:
        unet = diffusers.UNet2DConditionModel(**SDXL_UNET)
        config = transformers.CLIPTextConfig(
            vocab_size=1000, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            bos_token_id=998, eos_token_id=999, pad_token_id=0, projection_dim=WIDTH, hidden_act="gelu",
        )
        return unet.eval(), (tiny_text_encoder().eval(), transformers.CLIPTextModelWithProjection(config).eval())

    def tokenize(self, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
        found = super().tokenize(captions, max_token_length)
        second = found.ids[0].clone()
        second[(second == 999).cumsum(-1) > 1] = 0  # zeros after the first end of each chunk
        return TokenBatch((found.ids[0], second), found.lengths)

    def encode_tokens(self, tokens: TokenBatch, clip_skip: int = 1) -> Conditioning:
        count, chunks, length = tokens.ids[0].shape
        rows = [ids.reshape(-1, length) for ids in tokens.ids]
        one, two = (e(r, output_hidden_states=True) for e, r in zip(self.text_encoders, rows, strict=False))
        context = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], 2).reshape(count, chunks * length, -1)
        return Conditioning(context, two.text_embeds.reshape(count, chunks, -1)[:, 0])

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        self.forwards += 1
        self.during()
        sizes = conditioning.size_ids
        if sizes is None:  # a preview of `generate`
            side = 8 * latents.shape[-1]
            sizes = torch.tensor([[side, side, 0, 0, side, side]]).repeat(len(latents), 1)
        more = {"text_embeds": conditioning.pooled, "time_ids": sizes}
        return self.unet(latents, timesteps, conditioning.context, added_cond_kwargs=more).sample


SDXL_UNET: dict[str, Any] = {
    "block_out_channels": (32, 32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (2, 4, 8),
    "cross_attention_dim": 2 * WIDTH,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": WIDTH + 6 * 256,
    "sample_size": 8,
}
"""diffusers' configuration of a narrow SDXL UNet."""


class TinyHost(Host):
    """Lends one `TinyModel` (or `TinySd2`, `TinySdxl`), and those that are put into `others` by their names."""

    def __init__(self, folder: Path, model: TinyModel | None = None) -> None:
        self.kind = "standalone"
        self.model = model or TinyModel()
        self.folder = folder
        self.others: dict[str, TinyModel] = {}
        self.loads: list[str] = []
        self.leases: list[Purpose] = []
        self.saved: list[Path] = []
        self.interrupts = 0
        self.away = 0
        self._lock = threading.Lock()

    def current(self) -> CheckpointInfo | None:
        return self.model.info

    @contextmanager
    def lease(self, purpose: Purpose, expect: str | None = None) -> Iterator[LoadedModel]:
        assert self._lock.acquire(blocking=False), "a lease within a lease"
        try:
            if expect in self.switched:
                self.load(self.switched[expect])
            if self.away or (expect is not None and expect != self.model.info.identity):
                self.away = max(0, self.away - 1)
                raise HostBusyError("another checkpoint is live")
            self.leases.append(purpose)
            with restored(self.model.roots):
                yield self.model
        finally:
            self._lock.release()

    switched: Mapping[str | None, TinyModel] = MappingProxyType({})

    def load(self, model: TinyModel) -> None:
        if self.model is not model:
            self.loads.append(model.info.name)
            self.model = model

    def checkpoints(self) -> tuple[str, ...]:
        return tuple(self.others)

    def checkpoint(self, name: str) -> ListedCheckpoint:
        if name not in self.others:
            return super().checkpoint(name)
        info = self.others[name].info
        return ListedCheckpoint(info.name, info.identity, info.family, self.folder / info.name, info.short_hash)

    @contextmanager
    def switching(self, checkpoints: Sequence[ListedCheckpoint]) -> Iterator[None]:
        first = self.model
        self.switched = {self.others[one.name].info.identity: self.others[one.name] for one in checkpoints}
        try:
            yield
        finally:
            self.switched = {}
            self.load(first)

    def paths(self) -> HostPaths:
        return HostPaths(lora_dir=self.folder / "loras", data_dir=self.folder / "data")

    def default_clip_skip(self) -> int:
        return 1

    def interrupt_requested(self) -> bool:
        self.interrupts, pressed = max(0, self.interrupts - 1), self.interrupts == 1
        return pressed

    def lora_saved(self, path: Path) -> None:
        self.saved.append(path)

    def full_hash(self, info: CheckpointInfo) -> str | None:
        return None

    def memory(self) -> MemoryUse:
        return MemoryUse(100.0, 900.0, 1000.0)


@contextmanager
def restored(roots: Sequence[nn.Module]) -> Iterator[None]:
    """Random states and requires_grad as they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    flags = [(p, p.requires_grad) for root in roots for p in root.parameters()]
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def fingerprint(model: TinyModel) -> str:
    """Changes with any weight, buffer, hook, forward, flag or random state."""
    found = hashlib.sha256()
    for root in model.roots:
        for name, module in root.named_modules():
            own = {k: v for k, v in module.__dict__.items() if isinstance(v, (bool, int, float, str)) or callable(v)}
            hooks = [len(v) for k, v in sorted(module.__dict__.items()) if k.endswith("_hooks") and isinstance(v, dict)]
            found.update(repr((name, sorted(map(str, own.items())), hooks)).encode())
        for name, tensor in (*root.named_parameters(), *root.named_buffers()):
            found.update(f"{name}{tensor.requires_grad}{tensor.dtype}".encode())
            found.update(tensor.detach().contiguous().numpy().tobytes())
    found.update(torch.get_rng_state().numpy().tobytes())
    found.update(repr(random.getstate()).encode() + np.random.get_state()[1].tobytes())  # type: ignore[index]
    return found.hexdigest()


def write_pictures(folder: Path, count: int, size: int = 64, captions: Sequence[str] = ("mika, red hair",)) -> Path:
    """`count` pictures of coloured noise below `folder`, with captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        noise = np.random.RandomState(index).randint(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((size, size)).save(folder / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(captions[index % len(captions)], encoding="utf-8")
    return folder


def run_settings(folder: Path, **values: Any) -> dict[str, Any]:
    """Settings of a run of seconds on four pictures."""
    return {
        "train_data_dir": str(folder / "train"),
        "output_name": "mika",
        "resolution": 64,
        "min_bucket_reso": 64,
        "max_bucket_reso": 128,
        "network_dim": 2,
        "network_alpha": 1,
        "max_train_epochs": 2,
        "learning_rate": 1e-3,
        "seed": 7,
        **values,
    }
