"""The webui's objects as far as we use them. They are never made here: the types only say what we rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


class CheckpointRecord(Protocol):
    """`modules.sd_models.CheckpointInfo`: one per file, made when the list of checkpoints is read."""

    filename: str
    name: str
    """Path below the checkpoints' folder."""
    title: str
    """The name with the short hash, if known: the value of the option `sd_model_checkpoint`."""
    hash: str
    """The old hash of 8 digits, of a small piece of the file."""
    sha256: str | None


class SdModel(Protocol):
    """The live `LatentDiffusion` (SD1, SD2) or `DiffusionEngine` (SDXL)."""

    model: Any
    """Wraps `diffusion_model`, the UNet."""
    cond_stage_model: Any
    """The webui's wrapper; `wrapped` is ldm's embedder with `transformer` and `tokenizer` (SD1)."""
    conditioner: Any
    """SDXL's: its `embedders`, of which the first two are text encoders in the webui's wrappers."""
    first_stage_model: Any
    """The VAE; with --medvram its `encode` and `decode` are replaced on the instance."""
    sd_checkpoint_info: CheckpointRecord
    sd_model_checkpoint: str
    scale_factor: float
    parameterization: str
    lowvram: bool
    alphas_cumprod: Tensor

    def modules(self) -> Any: ...  # noqa: ANN401 - an iterator of modules
    def parameters(self) -> Any: ...  # noqa: ANN401


class State(Protocol):
    """`modules.shared.state`: the job under way, and the server's commands."""

    job: str
    """Empty while no job runs."""
    time_start: float | None
    """When the last job began."""
    interrupted: bool
    request_restart: Callable[[], None]


class LoraExtension(Protocol):
    """`networks` of the built-in Lora extension."""

    loaded_networks: list[Any]
    networks_in_memory: dict[str, Any]
    available_networks: dict[str, Any]
    """Files by name."""

    def network_apply_weights(self, layer: nn.Module, /) -> None: ...
    def network_restore_weights_from_backup(self, layer: nn.Module, /) -> None: ...
    def process_network_files(self, names: list[str] | None = None) -> None: ...
    def list_available_networks(self) -> None: ...


class Processing(Protocol):
    """`StableDiffusionProcessingTxt2Img` or `...Img2Img`."""

    cached_c: list[Any]
    cached_uc: list[Any]
    cached_hr_c: list[Any]
    """Of txt2img only, as the next."""
    cached_hr_uc: list[Any]

    def close(self) -> None: ...


class Processed(Protocol):
    """What `process_images` returns."""

    images: list[Any]
    infotexts: list[str]
