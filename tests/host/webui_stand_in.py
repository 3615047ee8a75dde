"""A small stand-in for the webui's `modules`, around real ldm and transformers modules: never a mocked UNet.

It plays what the real one was seen to do (tests/webui holds the real one to it): the queue, the job's state, the
Lora extension's backup and restore, attention swapped on the class, circular padding, and --medvram's hooks.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
import threading
import types
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("transformers")
pytest.importorskip("ldm.modules.diffusionmodules.openaimodel", reason="stable-diffusion-sdkit is not installed")

from ldm.modules.attention import CrossAttention
from ldm.modules.diffusionmodules.model import Decoder, Encoder
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH, VOCABULARY = 32, 300


class Tokenizer:
    """One token per letter."""

    bos_token_id, eos_token_id = 298, 299

    def __call__(self, texts: list[str], **_: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) % 256 for letter in text] for text in texts]}


class Wrapped(nn.Module):
    """ldm's text embedder."""

    def __init__(self) -> None:
        super().__init__()
        config = CLIPTextConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, projection_dim=WIDTH, bos_token_id=298, eos_token_id=299,
        )  # fmt: skip
        self.transformer = CLIPTextModel(config)
        self.tokenizer = Tokenizer()


class Wrapper(nn.Module):
    """The webui's wrapper around a module. Made anew by the webui, so in train mode."""

    def __init__(self, field: str, inner: nn.Module) -> None:
        super().__init__()
        setattr(self, field, inner)


class Vae(nn.Module):
    """ldm's AutoencoderKL without pytorch_lightning."""

    def __init__(self) -> None:
        super().__init__()
        sizes: dict[str, Any] = {
            "ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "in_channels": 3,
            "out_ch": 3, "resolution": 32, "z_channels": 4, "double_z": True,
        }  # fmt: skip
        self.encoder, self.decoder = Encoder(**sizes), Decoder(**sizes)

    def encode(self, x: torch.Tensor) -> SimpleNamespace:
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return SimpleNamespace(mean=mean, std=logvar.mul(0.5).exp())

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.decoder(z)
        return found


class SdModel(nn.Module):
    """What is `shared.sd_model`."""

    def __init__(self) -> None:
        super().__init__()
        unet = UNetModel(
            image_size=8, in_channels=4, out_channels=4, model_channels=32, attention_resolutions=[1, 2],
            num_res_blocks=1, channel_mult=[1, 2], num_heads=4, use_spatial_transformer=True, transformer_depth=1,
            context_dim=WIDTH, use_checkpoint=False, legacy=False,
        )  # fmt: skip
        for parameter in unet.parameters():
            if not parameter.abs().max():
                nn.init.normal_(parameter, std=0.05)  # or no gradient would pass the output's zeros
        self.model = Wrapper("diffusion_model", unet)
        self.first_stage_model = Vae()
        self.eval()
        self.cond_stage_model = Wrapper("wrapped", Wrapped().eval())
        self.register_buffer("alphas_cumprod", torch.linspace(0.999, 0.005, 1000))
        self.lowvram, self.scale_factor, self.parameterization = False, 0.18215, "eps"
        self.applied_token_merged_ratio = 0


class SkipWritingToConfig:
    """The webui's own word to its loading: the choice in the settings stays."""

    skip = False

    def __enter__(self) -> None:
        SkipWritingToConfig.skip = True

    def __exit__(self, *_: object) -> None:
        SkipWritingToConfig.skip = False


def record(path: Path) -> SimpleNamespace:
    """A line of the webui's list of checkpoints."""
    return SimpleNamespace(filename=str(path), name=path.name, title=path.name, hash="12345678", sha256=None)


class State:
    """`shared.state`."""

    def __init__(self) -> None:
        self.job, self.time_start, self.interrupted, self.restarted = "", None, False, 0

    def begin(self, when: float) -> None:
        self.job, self.time_start, self.interrupted = "a picture", when, False

    def end(self) -> None:
        self.job = ""

    def interrupt(self) -> None:
        self.interrupted = True

    def request_restart(self) -> None:
        self.interrupt()
        self.restarted += 1


class Loras:
    """`networks` of the Lora extension: backups beside the layer, copied back over what a prompt added."""

    def __init__(self) -> None:
        self.loaded_networks: list[Any] = []
        self.networks_in_memory: dict[str, Any] = {}
        self.listed: list[str] = []

    def write_into(self, layer: nn.Module, name: str) -> None:
        """As a picture with `<lora:name:1>` leaves a layer."""
        layer.network_weights_backup = layer.weight.detach().clone()
        with torch.no_grad():
            layer.weight += 0.5
        layer.network_current_names = ((name, 1.0),)

    def network_restore_weights_from_backup(self, layer: nn.Module) -> None:
        layer.weight.copy_(layer.network_weights_backup)

    def process_network_files(self, names: list[str] | None = None) -> None:
        self.listed += names or []

    def list_available_networks(self) -> None:
        raise AssertionError("a rescan empties the list first")


def scaled_dot_product(self: Any, x: torch.Tensor, context: Any = None, mask: Any = None, **_: Any) -> torch.Tensor:
    """The webui's sdp attention, in short."""
    context = x if context is None else context
    q, k, v = (
        layer(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        for layer, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
    )
    found = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return self.to_out(found)  # type: ignore[no-any-return]


def no_backward(self: Any, x: torch.Tensor, context: Any = None, mask: Any = None, **_: Any) -> torch.Tensor:
    """An attention as an extension may bring it: right forward, no way back."""
    with torch.no_grad():
        return scaled_dot_product(self, x, context)


class Lowvram(types.ModuleType):
    """`modules.lowvram`: one module at a time on the device, brought by forward pre-hooks."""

    def __init__(self) -> None:
        super().__init__("modules.lowvram")
        self.module_in_gpu: nn.Module | None = None
        self.moves: list[tuple[str, str]] = []

    def send_everything_to_cpu(self) -> None:
        self.module_in_gpu = None

    def set_up(self, sd_model: SdModel) -> None:
        def send_me_to_gpu(module: nn.Module, _: Any) -> None:
            self.module_in_gpu = module

        send_me_to_gpu.__module__ = self.__name__
        sd_model.lowvram = True
        for module in (sd_model.cond_stage_model.wrapped.transformer, sd_model.model, sd_model.first_stage_model):
            module.register_forward_pre_hook(send_me_to_gpu)


class Webui:
    """The stand-in: `modules` and `networks` in `sys.modules`, one live model."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.sd_model = SdModel()
        self.state, self.loras, self.lowvram = State(), Loras(), Lowvram()
        self.lock = threading.Lock()
        self.callbacks: list[Callable[[Any], None]] = []
        self.reloads = 0
        self.broken: set[str] = set()
        path = folder / "first.safetensors"
        path.write_bytes(b"first")
        self.sd_model.sd_checkpoint_info = record(path)
        self.sd_model.sd_model_checkpoint = str(path)
        self.hijack = SimpleNamespace(circular_enabled=False, fixes=None, apply_circular=self.apply_circular)
        self.data = {"sd_model_checkpoint": path.name, "CLIP_stop_at_last_layers": 2}

    def apply_circular(self, on: bool) -> None:
        if self.hijack.circular_enabled != on:
            self.hijack.circular_enabled = on
            for layer in self.sd_model.modules():
                if type(layer) is nn.Conv2d:
                    layer.padding_mode = "circular" if on else "zeros"

    def load(self, path: Path) -> None:
        """Other weights into the same object, as the webui loads a checkpoint of one config."""
        if self.sd_model.sd_model_checkpoint != str(path):
            with torch.no_grad():
                self.sd_model.model.diffusion_model.out[-1].weight.mul_(-1)
        self.sd_model.sd_checkpoint_info = record(path)
        self.sd_model.sd_model_checkpoint = str(path)
        for callback in self.callbacks:
            callback(self.sd_model)

    def reload_model_weights(self, info: SimpleNamespace | None = None, forced_reload: bool = False) -> SdModel:
        """Writes the choice down unless it is told not to, and the hash always, as seen in the real one.

        A file that it cannot read leaves the model without the text encoder's wrapper, which only a forced load mends.
        """
        self.reloads += 1
        path = Path(info.filename) if info else self.folder / self.data["sd_model_checkpoint"]
        if self.sd_model.sd_model_checkpoint != str(path) or forced_reload:
            torch.rand(1)
            bare = getattr(self.sd_model.cond_stage_model, "wrapped", self.sd_model.cond_stage_model)
            self.sd_model.cond_stage_model = bare
            if path.name in self.broken:
                raise RuntimeError("a bad file")
            self.sd_model.cond_stage_model = Wrapper("wrapped", bare)
            self.load(path)
            self.data["sd_checkpoint_hash"] = f"hash of {path.name}"
            if not SkipWritingToConfig.skip:
                self.data["sd_model_checkpoint"] = path.name
        return self.sd_model

    def listed(self) -> dict[str, SimpleNamespace]:
        """The webui's list."""
        return {path.name: record(path) for path in sorted(self.folder.glob("*.safetensors"))}

    def select_checkpoint(self) -> SimpleNamespace:
        return self.listed()[self.data["sd_model_checkpoint"]]

    def modules(self) -> dict[str, Any]:
        """What to put into `sys.modules`."""
        cpu = torch.device("cpu")
        flags = SimpleNamespace(lora_dir=str(self.folder / "Lora"), webui_is_non_local=False, gradio_allowed_path=[])
        shared = SimpleNamespace(
            state=self.state, opts=SimpleNamespace(data=self.data, **self.data), cmd_opts=flags,
            loaded_hypernetworks=[], sd_model=self.sd_model,
        )  # fmt: skip
        parts: dict[str, Any] = {
            "shared": shared,
            "call_queue": SimpleNamespace(queue_lock=self.lock),
            "progress": SimpleNamespace(current_task=None, pending_tasks={}),
            "devices": SimpleNamespace(
                device=cpu, cpu=cpu, dtype_unet=torch.float32, dtype_vae=torch.float32,
                autocast=contextlib.nullcontext, without_autocast=contextlib.nullcontext, NansException=ArithmeticError,
            ),
            "rng": types.ModuleType("modules.rng"),
            "lowvram": self.lowvram,
            "sd_hijack": SimpleNamespace(model_hijack=self.hijack, current_optimizer=SimpleNamespace(name="InvokeAI")),
            "sd_hijack_optimizations": SimpleNamespace(scaled_dot_product_attention_forward=scaled_dot_product),
            "sd_unet": SimpleNamespace(current_unet=None, current_unet_option=None),
            "sd_models": SimpleNamespace(
                model_data=SimpleNamespace(sd_model=self.sd_model), reload_model_weights=self.reload_model_weights,
                checkpoint_aliases=self.listed(), checkpoints_list=self.listed(),
                SkipWritingToConfig=SkipWritingToConfig,
                select_checkpoint=self.select_checkpoint, checkpoint_tiles=lambda: list(self.listed()),
                apply_token_merging=lambda model, ratio: setattr(model, "applied_token_merged_ratio", ratio),
            ),
            "sd_vae": SimpleNamespace(get_loaded_vae_name=lambda: None),
            "sd_samplers": SimpleNamespace(),
            "hashes": SimpleNamespace(sha256_from_cache=lambda path, title: f"{title} of {Path(path).name}"),
            "paths": SimpleNamespace(
                data_path=str(self.folder), models_path=str(self.folder / "models"),
                extensions_dir=str(self.folder / "extensions"),
            ),
            "script_callbacks": SimpleNamespace(on_model_loaded=self.callbacks.append),
            "processing": SimpleNamespace(
                StableDiffusionProcessingTxt2Img=SimpleNamespace(
                    cached_c=["key", 1], cached_uc=["key", 1], cached_hr_c=["key", 1], cached_hr_uc=["key", 1]
                )
            ),
        }  # fmt: skip
        package = types.ModuleType("modules")
        for name, part in parts.items():
            setattr(package, name, part)
        self.parts = SimpleNamespace(**parts)
        return {"modules": package, "networks": self.loras, **{f"modules.{name}": part for name, part in parts.items()}}


def random_state() -> str:
    """All random states in one text."""
    return f"{torch.get_rng_state().tolist()} {random.getstate()} {np.random.get_state()}"


def forget_our_webui() -> None:
    """Our files that import `modules`, so that the next import finds the stand-in, or none."""
    package = importlib.import_module("lora_lab.host")
    for name in [name for name in sys.modules if name.startswith("lora_lab.host.webui")]:
        del sys.modules[name]
        vars(package).pop(name.rsplit(".", 1)[1], None)


__all__ = ["CrossAttention", "Webui", "forget_our_webui", "no_backward", "random_state", "record"]
