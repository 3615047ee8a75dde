"""Checks that run inside the real webui, on its live model. Each returns plain values; the tests judge them."""

from __future__ import annotations

import base64
import io
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from modules import (
    call_queue,
    devices,
    lowvram,
    processing,
    prompt_parser,
    sd_hijack,
    sd_hijack_optimizations,
    sd_unet,
    shared,
)
from PIL import Image

from lora_lab.errors import LoraLabError
from lora_lab.host.base import PreviewRequest
from lora_lab.host.webui import host
from lora_lab.host.webui_pictures import JOB_FIELDS

sys.path.append(str(Path(__file__).resolve().parents[3] / "host"))
from fingerprint import differences, digest, fingerprint

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lora_lab.host.base import LoadedModel

CAPTION = "1girl, red hair, saber (fate), [white shirt], AND, a BREAK <b>, smile"


def everything() -> dict[str, str]:
    """The model and all else that a lease must give back."""
    found = fingerprint(shared.sd_model)
    state = shared.state
    found |= {f"state.{name}": str(getattr(state, name)) for name in JOB_FIELDS}
    found["random"] = f"{digest(torch.get_rng_state())} {random.getstate()} {np.random.get_state()}"
    found["options"] = str(sorted(shared.opts.data.items(), key=str))
    found["attention"] = f"{sd_hijack.current_optimizer} {sd_hijack.model_hijack.optimization_method}"
    found["circular"] = str(sd_hijack.model_hijack.circular_enabled)
    found["unet"] = f"{sd_unet.current_unet} {sd_unet.current_unet_option}"
    found["hypernetworks"] = str(shared.loaded_hypernetworks)
    found["loras"] = str([(x.name, x.te_multiplier) for x in sys.modules["networks"].loaded_networks])
    found["flags"] = str(sorted(vars(shared.cmd_opts).items()))
    found["lowvram"] = str(id(lowvram.module_in_gpu))
    job, base = processing.StableDiffusionProcessingTxt2Img, processing.StableDiffusionProcessing
    found["caches"] = str([id(x[1]) for x in (base.cached_c, base.cached_uc, job.cached_hr_c, job.cached_hr_uc)])
    return found


class Piece:
    """A stand-in for an adapter: a trainable low-rank piece beside every attention projection, on hooks."""

    def __init__(self, model: LoadedModel) -> None:
        generator = torch.Generator().manual_seed(0)
        self.parameters: list[Tensor] = []
        self.handles = []
        for root in (model.unet, *model.text_encoders):
            for name, module in root.named_modules():
                if name.endswith(("to_q", "to_v", "to_k", "to_out.0", "q_proj", "v_proj", "proj_in")):
                    self.add(module, generator)

    def add(self, module: nn.Module, generator: torch.Generator) -> None:
        weight = module.weight.flatten(1)
        down = (torch.randn(4, weight.shape[1], generator=generator) * 0.05).to(weight.device).requires_grad_()
        up = (torch.randn(weight.shape[0], 4, generator=generator) * 0.05).to(weight.device).requires_grad_()
        self.parameters += [down, up]
        conv = module.weight.dim() == 4

        def hook(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            x = args[0].movedim(1, -1) if conv else args[0]
            y = x.to(down.dtype) @ down.T @ up.T
            return out + (y.movedim(-1, 1) if conv else y).to(out.dtype)

        self.handles.append(module.register_forward_hook(hook))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def train_steps(model: LoadedModel, count: int = 1, clip_skip: int = 1) -> dict[str, Any]:
    """Real steps of AdamW on text encoder and UNet; what the loss was and how many pieces got a gradient."""
    piece = Piece(model)
    optimizer = torch.optim.AdamW(piece.parameters, lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    losses, reached, seconds = [], 0, []
    try:
        tokens = model.tokenize([CAPTION, "1girl"])
        for _ in range(count):
            begun = time.perf_counter()
            noise = torch.randn((2, 4, 16, 16), generator=generator)
            latents = torch.randn((2, 4, 16, 16), generator=generator)
            when = torch.tensor([700, 200])
            alpha = model.alphas_cumprod[when].view(-1, 1, 1, 1)
            noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
            found = model.predict(noisy, when, model.encode_tokens(tokens, clip_skip))
            loss = torch.nn.functional.mse_loss(found, noise.to(found.device))
            optimizer.zero_grad()
            loss.backward()
            reached = sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in piece.parameters)
            optimizer.step()
            losses.append(float(loss))
            seconds.append(time.perf_counter() - begun)
    finally:
        piece.remove()
    return {"losses": losses, "reached": reached, "pieces": len(piece.parameters), "seconds": seconds}


EXITS = {
    "normal": None,
    "error": ValueError,
    "known_error": LoraLabError,
    "keyboard": KeyboardInterrupt,
    "exit": SystemExit,
    "memory": torch.cuda.OutOfMemoryError,
}


def leave_everything_as_found(way_out: str, purpose: str = "training") -> dict[str, Any]:
    """Train (or make a picture) in a lease that is left in this way; what differs afterwards."""
    before = everything()
    found: dict[str, Any] = {}
    inside: list[str] = []
    kind = EXITS[way_out]
    try:
        with host().lease(purpose) as model:
            torch.rand(3), np.random.rand(), random.random()
            inside = inside_as_promised(model) if purpose == "training" else []
            found = train_steps(model) if purpose == "training" else {"pictures": len(make(model).images)}
            if kind is not None:
                raise kind("on purpose")
    except BaseException as error:
        if kind is None or type(error) is not kind:
            raise
    return {"left": differences(before, everything()), "inside": inside, "locked": locked(), **found}


def locked() -> bool:
    """Is the webui's queue still held?"""
    if not call_queue.queue_lock.acquire(False):
        return True
    call_queue.queue_lock.release()
    return False


def inside_as_promised(model: LoadedModel) -> list[str]:
    """What `Host.lease` promises for training and does not hold."""
    broken = []
    if any(p.requires_grad for p in shared.sd_model.parameters()):
        broken.append("a parameter requires a gradient")
    broken += [f"{name} is in train mode" for name, m in shared.sd_model.named_modules() if m.training]
    broken += [
        f"{name} is circular"
        for name, m in model.unet.named_modules()
        if hasattr(m, "padding_mode") and m.padding_mode != "zeros"
    ]
    if sys.modules["networks"].loaded_networks or shared.loaded_hypernetworks:
        broken.append("networks of a prompt are loaded")
    if not locked():
        broken.append("the queue is free")
    return broken


def weights_in_lease() -> dict[str, str]:
    """Hashes of the live weights inside a lease, and outside of it just before."""
    found = {"outside": weights()}
    with host().lease("training"):
        found["inside"] = weights()
    found["after"] = weights()
    return found


def weights() -> str:
    """One hash of all weights of the live model."""
    return str(hash(tuple(digest(p) for p in shared.sd_model.parameters())))


def tokens_and_states(caption: str, clip_skip: int) -> dict[str, Any]:
    """Our tokens and states of a plain caption beside those that the webui makes of it as a prompt."""
    embedder = shared.sd_model.cond_stage_model
    with call_queue.queue_lock, torch.no_grad(), devices.autocast():
        chunks, count = embedder.tokenize_line(caption)
        chosen = shared.opts.CLIP_stop_at_last_layers
        shared.opts.data["CLIP_stop_at_last_layers"] = clip_skip
        try:
            theirs = torch.cat([embedder.encode_with_transformers(torch.tensor([c.tokens])) for c in chunks], 1)
        finally:
            shared.opts.data["CLIP_stop_at_last_layers"] = chosen
    with host().lease("training") as model, torch.no_grad():
        tokens = model.tokenize([caption], 225)
        ours = model.encode_tokens(tokens, clip_skip).context
    counter = host().token_counter()
    return {
        "counted": counter(caption) if counter else None,
        "length": tokens.lengths[0],
        "theirs": [c.tokens for c in chunks],
        "ours": tokens.ids[0][0].tolist(),
        "equal": theirs.shape == ours.shape and bool(torch.equal(theirs, ours)),
        "shape": list(ours.shape),
    }


def webui_conditioning(caption: str) -> float:
    """Largest difference between our states and the conditioning of the webui's own pipeline, emphasis not rescaled."""
    chosen = shared.opts.emphasis
    try:
        shared.opts.data["emphasis"] = "No norm"
        with call_queue.queue_lock, torch.no_grad(), devices.autocast():
            schedule = prompt_parser.get_learned_conditioning(
                shared.sd_model, prompt_parser.SdConditioning([caption]), 4
            )
    finally:
        shared.opts.data["emphasis"] = chosen
    with host().lease("training") as model, torch.no_grad():
        ours = model.encode_tokens(model.tokenize([caption]), host().default_clip_skip()).context[0]
    return float((ours - schedule[0][0].cond).abs().max())


def predict_and_vae() -> dict[str, Any]:
    """Our calls of UNet and VAE beside the webui's own."""
    sd_model = shared.sd_model
    generator = torch.Generator().manual_seed(3)
    latents, when = torch.randn((2, 4, 8, 8), generator=generator), torch.tensor([10, 900])
    pixels = torch.rand((2, 3, 64, 64), generator=generator) * 2 - 1
    with host().lease("training") as model, torch.no_grad():
        states = model.encode_tokens(model.tokenize(["1girl, hat", "a dog"]))
        ours = model.predict(latents, when, states)
        inside = sd_model.apply_model(latents, when, {"c_crossattn": [states.context]})
        mean, drawn = model.encode_pixels(pixels), model.encode_pixels(pixels, torch.Generator().manual_seed(0))
        back = model.decode_latents(mean)
    with call_queue.queue_lock, torch.no_grad():
        theirs = sd_model.apply_model(latents, when, {"c_crossattn": [states.context]})
        first = sd_model.encode_first_stage(pixels)
        mode = first.mode() * sd_model.scale_factor
        decoded = sd_model.decode_first_stage(mean).clamp(-1, 1)
    return {
        "unet": float((ours - theirs).abs().max() / theirs.abs().max()),
        "unet_same_attention": bool(torch.equal(ours, inside)),
        "vae": bool(torch.equal(mean, mode)),
        "drawn": float((drawn - mean).abs().max()),
        "decoded": bool(torch.equal(back, decoded)),
        "alphas": list(model.alphas_cumprod.shape),
    }


def every_attention() -> dict[str, Any]:
    """Loss and reach of three steps under each attention the webui offers, and whether it was put back."""
    found: dict[str, Any] = {}
    chosen = shared.opts.cross_attention_optimization
    try:
        for one in [*(x.title() for x in sd_hijack.optimizers), "None"]:
            with call_queue.queue_lock:
                sd_hijack.model_hijack.apply_optimizations(one)
            before = everything()
            with host().lease("training") as model:
                steps = train_steps(model, 3)
            found[one] = {**steps, "left": differences(before, everything())}
    finally:
        with call_queue.queue_lock:
            sd_hijack.model_hijack.apply_optimizations(chosen)
    return found


def unsafe_attention() -> dict[str, Any]:
    """An attention without a backward, as an extension might bring it."""
    kind = type(next(m for m in shared.sd_model.modules() if type(m).__name__ == "CrossAttention"))
    chosen, right = kind.forward, sd_hijack_optimizations.scaled_dot_product_attention_forward

    def no_backward(self: nn.Module, x: Tensor, context: Tensor | None = None, mask: Any = None, **_: Any) -> Tensor:
        with torch.no_grad():
            return right(self, x, context, mask)

    try:
        kind.forward = no_backward
        with host().lease("training") as model:
            found = train_steps(model, 1)
        found["back"] = kind.forward is no_backward
    finally:
        kind.forward = chosen
    return found


def request(**changes: Any) -> PreviewRequest:
    """A small picture."""
    found = {"prompts": ("1girl, hat",), "seeds": (5,), "width": 64, "height": 64, "steps": 4, "sampler": "Euler a"}
    return PreviewRequest(**{**found, **changes})


def make(model: LoadedModel, **changes: Any) -> Any:
    return model.generate(request(**changes))


def pictures(trained: bool = False, start_from: str = "", **changes: Any) -> dict[str, Any]:
    """Pictures of a lease (img2img from a PNG in base64): their pixels, the infotexts, what is left behind."""
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    if start_from:
        changes["init_images"] = (Image.open(io.BytesIO(base64.b64decode(start_from))).convert("RGB"),)
    before = everything()
    try:
        with host().lease("pictures") as model:
            piece = Piece(model) if trained else None
            try:
                done = make(model, **changes)
            finally:
                if piece:
                    piece.remove()
    except LoraLabError as error:
        return {"refused": f"{type(error).__name__}: {error}", "left": differences(before, everything())}
    pixels = [[list(image.size), np.asarray(image.convert("RGB")).tobytes().hex()] for image in done.images]
    return {"pixels": pixels, "texts": list(done.infotexts), "left": differences(before, everything())}


def cost(rounds: int = 30) -> dict[str, float]:
    """Median seconds to enter and leave a lease, and what a step with two small pictures takes."""
    both = []
    for _ in range(rounds):
        begun = time.perf_counter()
        with host().lease("training"):
            pass
        both.append(time.perf_counter() - begun)
    with host().lease("training") as model:
        steps = train_steps(model, 5)["seconds"]
    return {"lease": sorted(both)[len(both) // 2], "step": sorted(steps)[2], "first": both[0]}


def interrupts() -> dict[str, Any]:
    """Who is meant by Interrupt, in each situation."""
    state, ours = shared.state, host()
    found: dict[str, Any] = {}
    ours.interrupt_requested()
    found["nobody pressed"] = ours.interrupt_requested()
    state.interrupt()
    found["pressed while idle"] = ours.interrupt_requested()
    found["told once"] = ours.interrupt_requested()
    with host().lease("training"):
        state.interrupt()
        found["pressed in a lease"] = ours.interrupt_requested()
    with host().lease("training"):
        state.interrupt()
    state.begin(job="a picture")
    state.end()
    found["pressed in a lease, a picture began since"] = ours.interrupt_requested()
    state.begin(job="a picture")
    state.interrupt()
    found["pressed in a picture"] = ours.interrupt_requested()
    found["and the picture still knows"] = state.interrupted
    state.end()
    found["after that picture"] = ours.interrupt_requested()
    state.begin(job="a picture")
    state.interrupt()
    state.end()
    with host().lease("training"):
        found["a picture's, left over from before a lease"] = ours.interrupt_requested()
    return found


def settings() -> dict[str, Any]:
    """What the host says of itself."""
    paths, info = host().paths(), host().current()
    memory = host().memory()
    return {
        "lora_dir": str(paths.lora_dir),
        "data_dir": str(paths.data_dir),
        "roots": [str(p) for p in paths.allowed_roots],
        "clip_skip": host().default_clip_skip(),
        "info": None if info is None else [info.name, info.family.value, info.prediction_type, info.identity],
        "hashes": None if info is None else [info.sha256, info.short_hash, host().full_hash(info)],
        "memory": [memory.used, memory.free, memory.total],
    }


def saved(path: str) -> list[str]:
    """Tell the host of a new LoRA; what the webui lists then."""
    host().lora_saved(Path(path))
    return sorted(sys.modules["networks"].available_networks)


def refuse(expect: str) -> str:
    """Ask for a checkpoint that is not live."""
    before = everything()
    try:
        with host().lease("training", expect=expect):
            return "lent"
    except LoraLabError as error:
        return f"{type(error).__name__}: {error} {differences(before, everything())} {locked()}"


def lease_expecting(expect: str) -> str:
    """Ask for a checkpoint by its identity; the name of what was lent."""
    with host().lease("training", expect=expect) as model:
        return model.info.name


def circular(on: bool) -> None:
    """As a tiling picture leaves it."""
    with call_queue.queue_lock:
        sd_hijack.model_hijack.apply_circular(on)


def start_training(values: dict[str, Any]) -> str:
    """Start a run as the tab does; its id."""
    from lora_lab.training.jobs import queue
    from lora_lab.training.settings import TrainSettings

    return queue().start(TrainSettings.from_mapping(values), host()).id


def training(run_id: str, stop: bool = False) -> dict[str, Any]:
    """A run as it is now."""
    from lora_lab.training.jobs import queue

    run = queue().find(run_id)
    if run is None:
        return {"state": "unknown"}
    if stop:
        run.stop()
    status = run.status()
    ended = status.ended
    return {
        "state": status.state,
        "paused": status.paused,
        "step": status.step,
        "losses": [point.loss for point in status.losses],
        "lora": None if ended is None or ended.lora is None else str(ended.lora),
        "error": "" if ended is None else ended.error,
        "reason": "" if ended is None else ended.reason,
        "previews": [str(preview.path) for preview in status.previews],
        "validations": [found.loss for found in status.validations],
        "warnings": list(status.warnings),
        "sites": status.started.sites if status.started else 0,
    }


def state_of_everything() -> dict[str, str]:
    """What `leave_everything_as_found` compares, for a comparison over a longer time."""
    return everything()


def press_interrupt() -> None:
    """As /sdapi/v1/interrupt does."""
    shared.state.interrupt()


def reload_ui() -> None:
    """As the button 'Reload UI' does."""
    shared.state.request_restart()
