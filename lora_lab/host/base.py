"""The boundary: what the rest of LoRA Lab may ask of a loaded Stable Diffusion, in our own words.

A `Host` is the place (the running webui, or the standalone app). It lends its live model for a turn, as a
`LoadedModel`, inside a context manager; on leaving, however one leaves, the model is as it was found.
Nothing above this file knows which of the two hosts it talks to.

Shapes: ``b`` batch, ``h w`` picture height and width in pixels (multiples of 8), ``t`` text positions
(77 per chunk of 75 tokens), ``c`` width of the text encoder(s).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lora_lab.errors import CheckpointError, SettingsError
from lora_lab.families import Family, Layout, ListedCheckpoint, PredictionType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn


Purpose = Literal["training", "pictures"]
"""What a lease is for: `training` swaps in what a right backward needs, `pictures` leaves generation as it is."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What is loaded. Two equal `identity` mean the same weights are live."""

    name: str
    """File name with its ending, as the webui's list shows it, e.g. ``demo.safetensors``."""
    identity: str
    """Changes whenever other weights are loaded, also into the same object (path, size, time of the file)."""
    family: Family
    prediction_type: PredictionType
    path: Path | None = None
    sha256: str | None = None
    """Hash of the whole file, 64 hex digits; None until somebody has computed it (see `Host.full_hash`)."""
    short_hash: str | None = None
    """kohya's old `sd_model_hash`: sha256 of 0x10000 bytes at 0x100000, 8 hex digits."""
    vae_name: str | None = None
    """File name of a VAE that was loaded apart; None when it came with the checkpoint."""


@dataclass(frozen=True)
class TokenBatch:
    """Captions as the text encoders read them: plain tokens, never the prompt syntax.

    Each caption becomes ``chunks`` runs of BOS + 75 tokens + EOS, padded as the webui pads when it generates.
    """

    ids: tuple[Tensor, ...]
    """For each text encoder an int64 tensor (b, chunks, 77)."""
    lengths: tuple[int, ...]
    """Number of tokens of each caption before cutting, BOS and EOS not counted."""

    @property
    def cut(self) -> tuple[bool, ...]:
        """For each caption: were tokens lost, because it is longer than the chunks hold?"""
        room = self.ids[0].shape[1] * 75
        return tuple(length > room for length in self.lengths)


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is told about each picture of a batch."""

    context: Tensor
    """Text encoder states (b, t, c)."""
    pooled: Tensor | None = None
    """SDXL: projection of the second encoder's EOS state (b, 1280)."""
    size_ids: Tensor | None = None
    """SDXL: original height, width, crop top, left, target height, width in pixels (b, 6)."""


@dataclass(frozen=True)
class PreviewRequest:
    """Pictures to make with the host's own sampler. One prompt and one seed for each picture of the batch."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    negative: str = ""
    width: int = 512
    height: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "Euler"
    """The webui's name of it: Euler, Euler a, DDIM, DPM++ 2M, UniPC; a host says in an error which ones it has."""
    clip_skip: int | None = None
    """None: as the host is set."""
    init_images: tuple[Image.Image, ...] = ()
    """For img2img: a picture of exactly `width` x `height` for each prompt; none for txt2img."""
    denoise: float = 0.7
    """Share of the steps that changes an init image, above 0 and at most 1."""

    def check(self) -> None:
        """Refuse what no host can make.

        Raises:
            SettingsError: the reason.
        """
        if len(self.prompts) != len(self.seeds) or not self.prompts:
            what = f"pictures need one seed for each prompt, not {len(self.seeds)} for {len(self.prompts)}"
            raise SettingsError(what, remedy="give as many seeds as prompts")
        if self.width % 8 or self.height % 8:
            raise SettingsError(f"pictures of {self.width} x {self.height}", remedy="use multiples of 8")
        if self.init_images and [i.size for i in self.init_images] != [(self.width, self.height)] * len(self.prompts):
            remedy = "give one of the wanted size for each prompt"
            raise SettingsError("the pictures to start from do not fit", remedy=remedy)
        if not 0 < self.denoise <= 1:
            raise SettingsError(f"denoise is {self.denoise:g}", remedy="give a number above 0 and at most 1")


@dataclass(frozen=True)
class PreviewResult:
    """Pictures made, and the text the webui would write into each file."""

    images: tuple[Image.Image, ...]
    infotexts: tuple[str, ...]


@dataclass(frozen=True)
class HostPaths:
    """Folders of the host that we may use."""

    lora_dir: Path
    """Where finished LoRAs go, so that the host lists them."""
    data_dir: Path
    """Our own folder (projects, runs, caches), outside the extension's folder."""
    allowed_roots: tuple[Path, ...] = ()
    """When not empty: folders typed by a person must lie below one of these (a webui that listens to a network)."""
    tagger_places: tuple[Path, ...] = ()
    """Where other programs beside the host may keep taggers; not all of them need to be there."""


@dataclass(frozen=True)
class MemoryUse:
    """Memory in MiB; `total` and `free` of the device, `used` by this process on it (or its RSS on a CPU)."""

    used: float
    free: float
    total: float


@dataclass(frozen=True)
class OpenedTagger:
    """A tagger of the host's own, ready to work."""

    words: tuple[str, ...]
    """What each output stands for, with underscores; ratings begin with ``rating:``."""
    side: int
    """Of the square pictures in pixels."""
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """RGB pictures (b, side, side, 3) to probabilities (b, words) in 0..1."""


@dataclass(frozen=True)
class HostTagger(ABC):
    """A tagger that the host has anyway."""

    name: str
    """For people."""
    identity: str
    """Changes with what it computes."""
    card: float | None = None
    """The threshold that is usual for it."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[OpenedTagger]:
        """Load it, and put it back as it was found. The host's queue is only held for each run."""


@dataclass(frozen=True)
class HostCaptioner(ABC):
    """What describes pictures in sentences, and the host has anyway."""

    name: str
    """For people."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[Callable[[Image.Image], str]]:
        """Load it, and put it back as it was found; inside, an RGB picture becomes a sentence."""


@dataclass(frozen=True)
class HostUpscaler(ABC):
    """What makes a picture larger, and needs no download."""

    name: str
    """For people."""

    @abstractmethod
    def enlarge(self, picture: Image.Image, factor: float) -> Image.Image:
        """An RGB picture, both sides times `factor` (above 1), rounded to whole pixels."""


@dataclass(frozen=True)
class Lanczos(HostUpscaler):
    """Pillow's filter: sharp, and invents nothing."""

    name: str = "Lanczos"

    def enlarge(self, picture: Image.Image, factor: float) -> Image.Image:
        """See `HostUpscaler.enlarge`."""
        from PIL import Image

        size = (round(picture.width * factor), round(picture.height * factor))
        return picture.resize(size, Image.Resampling.LANCZOS)


class LoadedModel(ABC):
    """The live model during a lease. Its modules are the host's own: hook them, never change a weight of theirs."""

    info: CheckpointInfo
    layout: Layout
    """Of the UNet's module names; the text encoders' are those of transformers (SD1, SDXL's first) or open_clip."""
    unet: nn.Module
    text_encoders: tuple[nn.Module, ...]
    """The modules whose paths `network.names` knows: SD1 one CLIPTextModel, SDXL two."""
    alphas_cumprod: Tensor
    """Float32 on the CPU, (1000,), as the live schedule has it."""
    device: torch.device
    dtype: torch.dtype
    """Of the UNet's weights (they may be stored in fp8 when `autocast` is on: this is the computing type)."""
    latent_scale: float
    vae: nn.Module | None = None
    """The live VAE, to be moved about; None where a host has none to show."""
    full_vae: bool = False
    """Set by who borrows: encode in 32 bits, whatever the VAE is kept in."""

    @abstractmethod
    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode pictures with the live VAE.

        Args:
            pixels: float (b, 3, h, w) in -1..1, RGB, on any device.
            generator: CPU generator for the sample of the posterior; None takes the mean.

        Returns:
            Latents (b, 4, h/8, w/8), float32 on the CPU, multiplied by `latent_scale`. NaN is left in: the caller
            knows the file's name.
        """

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """The way back: scaled latents (b, 4, h/8, w/8) to pixels (b, 3, h, w), float32 on the CPU, clamped -1..1."""

    @abstractmethod
    def tokenize(self, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
        """Plain tokens of each caption in 75, 150 or 225 places; brackets, AND, BREAK and <...> are only text."""

    @abstractmethod
    def encode_tokens(self, tokens: TokenBatch, clip_skip: int = 1) -> Conditioning:
        """Run the live text encoders, differentiably (under `torch.no_grad` if the caller wants none).

        Args:
            tokens: from `tokenize`.
            clip_skip: 1 takes the last layer, n the n-th from the end. SD1 applies the final layer norm after
                it; SDXL's layers are fixed and ignore this.

        Returns:
            Conditioning with context (b, chunks * 77, c), on `device`.
        """

    @abstractmethod
    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Call the live UNet, differentiably with respect to adapters that hook it.

        Args:
            latents: noisy, scaled (b, 4, h/8, w/8) on `device`.
            timesteps: int64 (b,) in 0..999.
            conditioning: of the same batch.

        Returns:
            The UNet's output (b, 4, h/8, w/8): noise or velocity, see `CheckpointInfo.prediction_type`.
        """

    @abstractmethod
    def generate(self, request: PreviewRequest) -> PreviewResult:
        """Make pictures with the host's sampler (only in a lease for `pictures`). Adapters that hook the modules act.

        Leaves no trace: the host's caches, progress line and random states are as before.

        Raises:
            Interrupted: the person stopped it.
        """


@dataclass
class Host(ABC):
    """A place with a loaded Stable Diffusion."""

    kind: Literal["webui", "standalone"] = field(init=False)

    @abstractmethod
    def current(self) -> CheckpointInfo | None:
        """What is loaded now, without touching it; None while nothing is. Cheap: the tab asks every second. While
        `switching` is in force: what was loaded before, and will be again."""

    @abstractmethod
    def lease(self, purpose: Purpose, expect: str | None = None) -> AbstractContextManager[LoadedModel]:
        """Take the live model for a turn (a few steps, or one picture) and give it back as it was found.

        Inside: the host's queue is ours; prompts' LoRAs are out of the live weights; for `training` the attention
        has a right backward, no parameter of the model requires a gradient, all modules are in eval mode and on
        the device. On the way out, whichever way, every weight, buffer, forward, hook, flag and the random states
        of torch, CUDA, numpy and Python are as before. Entering and leaving cost at most 1 % of a training step.
        Not reentrant.

        Args:
            purpose: see `Purpose`.
            expect: a `CheckpointInfo.identity`; when another checkpoint is live, nothing is taken.

        Raises:
            HostBusyError: nothing is loaded, or not what was expected.
        """

    def checkpoints(self) -> tuple[str, ...]:
        """Names of the checkpoints that could be loaded; none where there is but the loaded one. Cheap."""
        return ()

    def checkpoint(self, name: str) -> ListedCheckpoint:
        """One of `checkpoints`, read from its file's header; raises CheckpointError: it is not there, or no such."""
        raise CheckpointError("no other checkpoint can be loaded here", file=name, remedy="use the loaded one")

    def switching(self, checkpoints: Sequence[ListedCheckpoint]) -> AbstractContextManager[None]:
        """Inside, a lease that expects one of these loads it first; one that expects none gets the first one. On the
        way out, whichever, the first one is loaded. Raises HostBusyError: somebody else's is in force.
        """
        return nullcontext()

    @abstractmethod
    def paths(self) -> HostPaths:
        """Folders to use."""

    def interrogators(self) -> tuple[HostTagger | HostCaptioner, ...]:
        """Taggers and captioners of the host's own that work without a download; most hosts have none. Cheap."""
        return ()

    def token_counter(self) -> Callable[[str], int] | None:
        """What counts the live checkpoint's tokens of a caption, BOS and EOS apart; None while nothing is loaded.

        Asks its tokenizer alone: the model is not taken. Ask for another one when the checkpoint changes.
        """
        return None

    def upscalers(self) -> tuple[HostUpscaler, ...]:
        """What can enlarge pictures here. Cheap."""
        return (Lanczos(),)

    @abstractmethod
    def default_clip_skip(self) -> int:
        """The person's clip skip setting, 1 or more."""

    def as_prompt(self, caption: str) -> str:
        """A caption as a prompt for `LoadedModel.generate`: it says the same where prompts have a syntax."""
        return caption

    @abstractmethod
    def interrupt_requested(self) -> bool:
        """True when the person pressed the host's own Interrupt while the host makes no picture."""

    def pictures_wanted(self) -> bool:
        """Does the person wait for a picture, or is one being made? Of ours none. Cheap: a run may ask all the time."""
        return False

    @abstractmethod
    def lora_saved(self, path: Path) -> None:
        """A LoRA was written to `path`: let the host list it at once."""

    @abstractmethod
    def full_hash(self, info: CheckpointInfo) -> str | None:
        """The sha256 of the checkpoint's file, if the host has it by now: computing it reads the whole file."""

    @abstractmethod
    def memory(self) -> MemoryUse:
        """Memory now."""
