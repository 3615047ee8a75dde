"""The standalone host: a checkpoint file, loaded and sampled through diffusers."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lora_lab.errors import HostBusyError
from lora_lab.families import Family, Layout, ListedCheckpoint, PredictionType
from lora_lab.host import clip, headers, standalone_load, standalone_pictures
from lora_lab.host.base import (
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
from lora_lab.host.standalone_folder import family_of_folder


class StandaloneModel(LoadedModel):
    """The loaded checkpoint during a lease."""

    layout: Layout = "diffusers"

    def __init__(self, parts: standalone_load.Parts, info: CheckpointInfo, host: StandaloneHost) -> None:
        self._parts = parts
        self._host = host
        self.info = info
        self.unet = parts.unet
        self.text_encoders = parts.text_encoders
        self.vae = parts.vae
        self.device = next(parts.unet.parameters()).device
        self.dtype = next(parts.unet.parameters()).dtype
        self.latent_scale = parts.latent_scale
        betas = torch.linspace(parts.betas[0] ** 0.5, parts.betas[1] ** 0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0).float()

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `LoadedModel.encode_pixels`."""
        vae = self._parts.vae
        with torch.no_grad():
            found = vae.encode(pixels.to(self.device, next(vae.parameters()).dtype)).latent_dist  # type: ignore[operator]
        mean, std = found.mean.float().cpu(), found.std.float().cpu()
        noise = 0 if generator is None else std * torch.randn(mean.shape, generator=generator)
        latents: Tensor = (mean + noise) * self.latent_scale
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """See `LoadedModel.decode_latents`."""
        vae = self._parts.vae
        with torch.no_grad():
            scaled = (latents / self.latent_scale).to(self.device, next(vae.parameters()).dtype)
            pixels: Tensor = vae.decode(scaled).sample  # type: ignore[operator]
        return pixels.float().cpu().clamp(-1, 1)

    def tokenize(self, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
        """See `LoadedModel.tokenize`."""
        tokenizer, family = self._parts.tokenizer, self.info.family
        eos = tokenizer.eos_token_id
        ends = clip.Marks(tokenizer.bos_token_id, eos, eos), clip.Marks(tokenizer.bos_token_id, eos, clip.OPEN_CLIP_PAD)
        marks = {Family.SD1: ends[:1], Family.SD2: ends[1:], Family.SDXL: ends}[family]
        return clip.pack([clip.ids_of(tokenizer, captions)] * len(marks), marks, max_token_length)

    def encode_tokens(self, tokens: TokenBatch, clip_skip: int = 1) -> Conditioning:
        """See `LoadedModel.encode_tokens`."""
        ids = [rows.to(self.device) for rows in tokens.ids]
        if self.info.family is Family.SDXL:
            return clip.encode_two(self.text_encoders[0], self.text_encoders[1], ids)
        skip = clip_skip if self.info.family is Family.SD1 else 1
        return Conditioning(clip.encode(self.text_encoders[0], ids[0], skip))

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """See `LoadedModel.predict`."""
        context = conditioning.context.to(self.device, self.dtype)
        more: dict[str, Any] = {}
        if conditioning.pooled is not None and conditioning.size_ids is not None:
            pooled = conditioning.pooled.to(self.device, self.dtype)
            more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": conditioning.size_ids.to(self.device)}}
        x = latents.to(self.device, self.dtype)
        found: Tensor = self.unet(x, timesteps.to(self.device), context, **more).sample
        return found.float()

    def generate(self, request: PreviewRequest) -> PreviewResult:
        """See `LoadedModel.generate`."""
        skip = (request.clip_skip or self._host.default_clip_skip()) if self.info.family is Family.SD1 else 1
        return standalone_pictures.make(self, self._parts.betas, request, skip, self._host.interrupt_pending)


class StandaloneHost(Host):
    """A checkpoint file as a host. float32 on a CPU, float16 on a CUDA device."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        data_dir: Path,
        lora_dir: Path | None = None,
        tokenizer: Path | None = None,
        clip_skip: int = 1,
        prediction_type: PredictionType | None = None,
    ) -> None:
        """Load it.

        Args:
            checkpoint: ``.safetensors`` in the original layout, or a folder in diffusers' layout.
            data_dir: our folder for runs and caches; made when needed.
            lora_dir: where finished LoRAs go; ``data_dir/loras`` if None.
            tokenizer: folder of the text encoder's tokenizer and config, where the checkpoint does not name one.
            clip_skip: what generation uses, and training by default.
            prediction_type: what the UNet predicts; None takes what the checkpoint's yaml or folder says.

        Raises:
            CheckpointError: it cannot be loaded; the reason.
        """
        self.kind = "standalone"
        self._first, self._how = checkpoint, (tokenizer, prediction_type)
        self._data_dir, self._lora_dir = data_dir, lora_dir or data_dir / "loras"
        self._clip_skip = clip_skip
        self._lock = threading.Lock()
        self._interrupt = threading.Event()
        self._home: CheckpointInfo | None = None
        self._others: dict[str, Path] = {}
        self._hashes: dict[str, str] = {}
        self._load(checkpoint)
        self._hashing = threading.Thread(target=self._hash, args=(checkpoint, self._info.identity), daemon=True)

    def _load(self, path: Path) -> None:
        """Make this checkpoint the live one.

        Raises:
            CheckpointError: it cannot be loaded; the one before is still live.
        """
        self._parts = standalone_load.load(path, *(self._how if path == self._first else ()))
        self._info = _describe(path, self._parts)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        for module in self._modules():
            # SD1's VAE overflows in half precision on some pictures. Past diffusers' own `to`, which warns of any cast.
            kind = torch.float32 if module is self._parts.vae else dtype
            nn.Module.to(module, device=device, dtype=kind).eval().requires_grad_(False)

    def current(self) -> CheckpointInfo | None:
        """See `Host.current`."""
        info = self._home or self._info
        return replace(info, sha256=self._hashes.get(info.identity))

    @contextmanager
    def lease(self, purpose: Purpose, expect: str | None = None) -> Iterator[LoadedModel]:
        """See `Host.lease`."""
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            stack.enter_context(_random_states())
            wanted = expect or (self._home or self._info).identity
            if wanted != self._info.identity:
                if wanted not in self._others:
                    what = "another checkpoint is loaded"
                    raise HostBusyError(what, file=self._info.name, remedy="load the one before")
                self._load(self._others[wanted])
            for module in self._modules():
                stack.enter_context(_still(module))
            yield StandaloneModel(self._parts, self._info, self)

    def checkpoints(self) -> tuple[str, ...]:
        """See `Host.checkpoints`: the files beside the first one."""
        return tuple(sorted(path.name for path in self._first.parent.glob("*.safetensors")))

    def checkpoint(self, name: str) -> ListedCheckpoint:
        """See `Host.checkpoint`; a path will do too."""
        path = self._first.parent / Path(name).expanduser()
        path = self._first if path.resolve() == self._first.resolve() else path
        family = family_of_folder(path) if path.is_dir() else headers.family_of_file(path)
        short = headers.short_hash(path) if path.is_file() else None
        return ListedCheckpoint(path.name, _identity(path), family, path, short)

    @contextmanager
    def switching(self, checkpoints: Sequence[ListedCheckpoint]) -> Iterator[None]:
        """See `Host.switching`."""
        with self._lock:
            if self._home is not None:
                raise HostBusyError("other checkpoints are being tried already", remedy="wait for that, or stop it")
            self._home = self._info
            self._others = {self._home.identity: self._first, **{one.identity: one.path for one in checkpoints}}
        try:
            yield
        finally:
            with self._lock, _random_states():
                try:
                    if self._info.path != self._first:
                        self._load(self._first)
                finally:
                    self._home, self._others = None, {}

    def paths(self) -> HostPaths:
        """See `Host.paths`."""
        self._lora_dir.mkdir(parents=True, exist_ok=True)
        return HostPaths(self._lora_dir, self._data_dir)

    def token_counter(self) -> Callable[[str], int] | None:
        """See `Host.token_counter`."""
        return partial(clip.count, self._parts.tokenizer)

    def default_clip_skip(self) -> int:
        """See `Host.default_clip_skip`."""
        return self._clip_skip

    def interrupt(self) -> None:
        """Ask what is under way to stop: a run at its next step, pictures between two of their steps."""
        self._interrupt.set()

    def interrupt_pending(self) -> bool:
        """Was `interrupt` called and not yet answered? Does not clear it."""
        return self._interrupt.is_set()

    def interrupt_requested(self) -> bool:
        """See `Host.interrupt_requested`; answers, and so clears it."""
        asked = self._interrupt.is_set()
        self._interrupt.clear()
        return asked

    def lora_saved(self, path: Path) -> None:
        """Nothing lists LoRAs here."""

    def full_hash(self, info: CheckpointInfo) -> str | None:
        """See `Host.full_hash`; the first call begins to compute it in the background."""
        if info.path == self._first and self._first.is_file() and not self._hashing.ident:
            self._hashing.start()
        return self._hashes.get(info.identity)

    def memory(self) -> MemoryUse:
        """See `Host.memory`."""
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            return MemoryUse(torch.cuda.memory_allocated() / 2**20, free / 2**20, total / 2**20)
        import psutil

        system = psutil.virtual_memory()
        return MemoryUse(psutil.Process().memory_info().rss / 2**20, system.available / 2**20, system.total / 2**20)

    def _modules(self) -> tuple[nn.Module, ...]:
        return self._parts.unet, *self._parts.text_encoders, self._parts.vae

    def _hash(self, path: Path, identity: str) -> None:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while piece := file.read(1 << 22):
                    digest.update(piece)
        except OSError:
            return
        self._hashes[identity] = digest.hexdigest()


def _describe(path: Path, parts: standalone_load.Parts) -> CheckpointInfo:
    return CheckpointInfo(
        name=path.name,
        identity=_identity(path),
        family=parts.family,
        prediction_type=parts.prediction_type,
        path=path,
        short_hash=headers.short_hash(path) if path.is_file() else None,
    )


def _identity(path: Path) -> str:
    state = path.stat()
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"


@contextmanager
def _random_states() -> Iterator[None]:
    """Whatever is drawn inside, the generators go on outside as if nothing had been."""
    own, numbers = random.getstate(), np.random.get_state()
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numbers)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """No parameter wants a gradient, every module is in eval mode; afterwards each is as it was."""
    learning = [p for p in module.parameters() if p.requires_grad]
    training = [m for m in module.modules() if m.training]
    for parameter in learning:
        parameter.requires_grad_(False)
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for part in training:
            part.training = True
