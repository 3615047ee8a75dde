"""Pictures made by the webui's own sampler, leaving no trace in it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from modules import devices, processing, sd_hijack, sd_models, sd_samplers, shared

from lora_lab.errors import HostBusyError, Interrupted, LoraLabError, SettingsError
from lora_lab.host.base import PreviewRequest, PreviewResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_lab.host.webui_types import Processed, Processing

JOB_FIELDS = (
    "skipped",
    "interrupted",
    "stopping_generation",
    "job",
    "job_no",
    "job_count",
    "job_timestamp",
    "processing_has_refined_job_count",
    "sampling_step",
    "sampling_steps",
    "current_latent",
    "current_image",
    "current_image_sampling_step",
    "id_live_preview",
    "textinfo",
)
"""What of `shared.state` a picture writes. The server's commands live there too, and are left alone."""

ABSENT = object()


def make_pictures(request: PreviewRequest) -> PreviewResult:
    """Make the pictures of a request in one batch, as txt2img or img2img would with no script and no hires fix.

    Raises:
        SettingsError: the webui has no such sampler, or the request is empty or lopsided.
        HostBusyError: the webui would load another checkpoint first.
        Interrupted: the person stopped it.
        LoraLabError: the pictures came out as NaN.
    """
    sampler, scheduler = find_sampler(request.sampler)
    request.check()
    with ExitStack() as stack:
        stack.enter_context(job_left_alone())
        stack.enter_context(options_as_wanted(request))
        job = new_job(request, sampler, scheduler)
        stack.callback(job.close)
        own_caches(job)
        done = run(job)
    if done is None or len(done.images) < len(request.prompts):
        raise Interrupted("The pictures were stopped")
    return PreviewResult(tuple(done.images), tuple(done.infotexts))


def run(job: Processing) -> Processed | None:
    """The webui's own loop; None when the person interrupted it."""
    try:
        done: Processed = processing.process_images(job)
    except devices.NansException as error:
        raise LoraLabError(
            "The pictures came out as NaN", remedy="start the webui with --no-half, or choose another VAE"
        ) from error
    finally:
        shared.total_tqdm.clear()
    state = shared.state
    return None if state.interrupted or state.skipped or state.stopping_generation else done


def find_sampler(name: str) -> tuple[str, str]:
    """The webui's sampler and schedule type; `name` may end with a schedule type, as in `DPM++ 2M Karras`.

    Raises:
        SettingsError: there is none of that name.
    """
    sampler, scheduler = sd_samplers.get_sampler_and_scheduler(name, None)
    if not name.startswith(sampler):
        known = ", ".join(found.name for found in sd_samplers.all_samplers)
        raise SettingsError(f"The webui has no sampler '{name}'", remedy=f"choose one of {known}")
    return sampler, scheduler


def new_job(request: PreviewRequest, sampler: str, scheduler: str) -> Processing:
    """The webui's job of a request."""
    fields = fields_of(request, sampler, scheduler)
    job: Processing
    if request.init_images:
        start = {"init_images": list(request.init_images), "denoising_strength": request.denoise, "mask": None}
        job = processing.StableDiffusionProcessingImg2Img(resize_mode=0, **start, **fields)
    else:
        job = processing.StableDiffusionProcessingTxt2Img(enable_hr=False, **fields)
    return job


def fields_of(request: PreviewRequest, sampler: str, scheduler: str) -> dict[str, Any]:
    """The request in the webui's words."""
    count = len(request.prompts)
    return {
        "prompt": list(request.prompts),
        "negative_prompt": [request.negative] * count,
        "seed": list(request.seeds),
        "subseed": [0] * count,
        "batch_size": count,
        "n_iter": 1,
        "steps": request.steps,
        "cfg_scale": request.cfg_scale,
        "width": request.width,
        "height": request.height,
        "sampler_name": sampler,
        "scheduler": scheduler,
        "restore_faces": False,
        "tiling": False,
        "do_not_save_samples": True,
        "do_not_save_grid": True,
        "do_not_reload_embeddings": True,
    }


def own_caches(job: Processing) -> None:
    """Caches of this job alone: in the shared ones the person's next picture would find our text encoder's states."""
    job.cached_c, job.cached_uc = [None, None], [None, None]
    if hasattr(job, "cached_hr_c"):  # img2img has no second pass
        job.cached_hr_c, job.cached_hr_uc = [None, None], [None, None]


def forget_prompts() -> None:
    """Let the webui encode the next picture's prompt anew, also if it is the same as the last one's."""
    txt2img = processing.StableDiffusionProcessingTxt2Img
    for cache in (txt2img.cached_c, txt2img.cached_uc, txt2img.cached_hr_c, txt2img.cached_hr_uc):
        cache[0] = None  # the key; the states stay, since a picture may be reading them


@contextmanager
def job_left_alone() -> Iterator[None]:
    """The progress bar's job, the last prompt's file, the prompt's comments and the console: as before."""
    state, flags, hijack = shared.state, shared.cmd_opts, sd_hijack.model_hijack
    found = {name: getattr(state, name) for name in JOB_FIELDS}
    notes = hijack.comments, hijack.extra_generation_params
    quiet = flags.no_prompt_history, flags.disable_console_progressbars
    try:
        state.skipped = state.interrupted = state.stopping_generation = False
        flags.no_prompt_history = flags.disable_console_progressbars = True
        yield
    finally:
        flags.no_prompt_history, flags.disable_console_progressbars = quiet
        hijack.comments, hijack.extra_generation_params = notes
        for name, value in found.items():
            setattr(state, name, value)


@contextmanager
def options_as_wanted(request: PreviewRequest) -> Iterator[None]:
    """Clip skip as asked for, and the live checkpoint as the chosen one, so that the webui loads no other.

    The values are written past `opts.set`: its callbacks take the queue lock, which is ours, and it refuses while
    settings are frozen.

    Raises:
        HostBusyError: the live checkpoint is not in the webui's list any more.
    """
    data = shared.opts.data
    live = shared.sd_model
    wanted = {"sd_model_checkpoint": live.sd_checkpoint_info.title}
    if request.clip_skip is not None:
        wanted["CLIP_stop_at_last_layers"] = request.clip_skip
    found = {name: data.get(name, ABSENT) for name in wanted}
    try:
        data.update(wanted)
        if sd_models.select_checkpoint().filename != live.sd_model_checkpoint:
            raise HostBusyError(
                f"The live checkpoint {live.sd_checkpoint_info.name} is not in the webui's list any more",
                remedy="put its file back, or load another checkpoint",
            )
        yield
    finally:
        for name, value in found.items():
            if value is ABSENT:
                data.pop(name, None)
            else:
                data[name] = value
