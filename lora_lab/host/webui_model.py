"""The webui's live checkpoint, in the words of `host.base`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from modules import devices, sd_hijack

from lora_lab.families import Family, Layout
from lora_lab.host import clip
from lora_lab.host.base import CheckpointInfo, Conditioning, LoadedModel, PreviewRequest, PreviewResult, TokenBatch
from lora_lab.host.webui_pictures import make_pictures
from lora_lab.host.webui_text import text_side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from lora_lab.host.base import Purpose
    from lora_lab.host.webui_types import SdModel


class WebuiModel(LoadedModel):
    """The live model during a lease."""

    layout: Layout = "ldm"

    def __init__(self, sd_model: SdModel, info: CheckpointInfo, purpose: Purpose) -> None:
        self._sd_model = sd_model
        self._purpose = purpose
        self._text = text_side(sd_model, info.family)
        self.info = info
        self.unet = sd_model.model.diffusion_model
        self.text_encoders = self._text.modules
        self.vae = sd_model.first_stage_model
        self.device = devices.device
        self.dtype = devices.dtype_unet
        self.latent_scale = float(sd_model.scale_factor)
        self._alphas: Tensor | None = None

    @property
    def alphas_cumprod(self) -> Tensor:  # type: ignore[override]
        """The checkpoint's own schedule, without the webui's sampling options (half precision, zero terminal SNR)."""
        if self._alphas is None:
            own = getattr(self._sd_model, "alphas_cumprod_original", self._sd_model.alphas_cumprod)
            self._alphas = own.detach().to(device="cpu", dtype=torch.float32)
        return self._alphas

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `LoadedModel.encode_pixels`. What half precision turns into NaN is encoded again in float32,
        and all is if the borrower wants it so."""
        vae = self._sd_model.first_stage_model
        with torch.no_grad(), devices.without_autocast():
            half = devices.dtype_vae != torch.float32
            found = None if half and self.full_vae else self._posterior(pixels)
            if found is None or (half and bool(found[0].isnan().any())):
                try:
                    vae.float()
                    found = self._posterior(pixels)
                finally:
                    vae.to(devices.dtype_vae)  # the same bits again: every half is a float
        mean, std = found
        noise = 0 if generator is None else std * torch.randn(mean.shape, generator=generator)
        return (mean + noise) * self.latent_scale

    def _posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, float32 on the CPU, not scaled."""
        vae = self._sd_model.first_stage_model
        dtype = next(vae.parameters()).dtype
        if self.info.family is not Family.SDXL:
            found = vae.encode(pixels.to(devices.device, dtype))
            return found.mean.float().cpu(), found.std.float().cpu()
        moments: list[Tensor] = []
        # SDXL's VAE draws a sample and gives only that; what it draws from is known one step before.
        handle = vae.quant_conv.register_forward_hook(lambda module, args, output: moments.append(output))
        try:
            vae.encode(pixels.to(devices.device, dtype))
        finally:
            handle.remove()
        mean, log_variance = moments[0].float().cpu().chunk(2, 1)
        return mean, torch.exp(0.5 * log_variance.clamp(-30, 20))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """See `LoadedModel.decode_latents`."""
        vae = self._sd_model.first_stage_model
        dtype = next(vae.parameters()).dtype
        with torch.no_grad(), devices.without_autocast():
            pixels: Tensor = vae.decode((1.0 / self.latent_scale) * latents.to(devices.device, dtype))
        return pixels.float().cpu().clamp(-1, 1)

    def tokenize(self, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
        """See `LoadedModel.tokenize`. The checkpoint's own tokenizer, past the webui's prompt parser."""
        return self._text.tokenize(captions, max_token_length)

    def encode_tokens(self, tokens: TokenBatch, clip_skip: int = 1) -> Conditioning:
        """See `LoadedModel.encode_tokens`. No emphasis, no textual inversion, no rescaling by the mean."""
        sd_hijack.model_hijack.fixes = None
        with self._autocast():
            return self._text.encode([ids.to(self.device) for ids in tokens.ids], clip_skip)

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """See `LoadedModel.predict`. Computed in the webui's precision, returned in float32."""
        told: dict[str, Tensor] = {"context": conditioning.context.to(self.device, self.dtype)}
        if conditioning.pooled is not None and conditioning.size_ids is not None:
            sizes = clip.size_vector(conditioning.size_ids.to(self.device))
            told["y"] = torch.cat([conditioning.pooled.to(self.device), sizes], 1).to(self.dtype)
        with self._autocast():
            found: Tensor = self.unet(latents.to(self.device, self.dtype), timesteps.to(self.device), **told)
        return found.float()

    def generate(self, request: PreviewRequest) -> PreviewResult:
        """See `LoadedModel.generate`.

        Raises:
            RuntimeError: the lease is for training.
        """
        if self._purpose != "pictures":
            raise RuntimeError("Pictures are made in a lease for `pictures`")
        return make_pictures(request)

    def _autocast(self) -> AbstractContextManager[Any]:
        """The webui's own autocast, unless the caller has opened one (of another type, perhaps)."""
        found: AbstractContextManager[Any] = nullcontext() if torch.is_autocast_enabled() else devices.autocast()
        return found
