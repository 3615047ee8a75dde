"""Checks of a prompt's LoRAs, made by hand through the webui's own objects."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from modules import script_callbacks


def acting_in(prompt: str, steps: list[int]) -> str:
    """Pixels of a picture whose LoRA the UNet has in some steps only, counted from 0.

    Its strength is set at each step, as sd-webui-lora-block-weight does.
    """
    networks: Any = sys.modules["networks"]

    def before_step(params: Any) -> None:
        for net in networks.loaded_networks:
            net.unet_multiplier = 1.0 if params.sampling_step in steps else 0.0

    script_callbacks.on_cfg_denoiser(before_step)
    try:
        return np.asarray(_picture(prompt)).tobytes().hex()
    finally:
        script_callbacks.remove_callbacks_for_function(before_step)


def _picture(prompt: str) -> Any:
    from modules import call_queue, processing, shared

    with call_queue.queue_lock:
        p = processing.StableDiffusionProcessingTxt2Img(
            sd_model=shared.sd_model, prompt=prompt, seed=5, width=64, height=64, steps=4, sampler_name="Euler a",
            do_not_save_samples=True, do_not_save_grid=True,
        )  # fmt: skip
        try:
            return processing.process_images(p).images[0].convert("RGB")
        finally:
            p.close()


def beside_the_other_extension() -> dict[str, Any]:
    """What becomes of the register, and of the log, where sd-webui-lora-block-weight is installed."""
    import logging
    from types import SimpleNamespace

    from modules import extra_networks, scripts

    from lora_lab.host.webui_prompt import Door, door

    registry = extra_networks.extra_network_registry
    ours = registry["lora"]
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    other = SimpleNamespace(path="extensions/sd-webui-lora-block-weight/scripts/lora_block_weight.py")
    registry["lora"] = ours.theirs
    scripts.scripts_data.append(other)
    logging.getLogger("lora_lab").addHandler(handler)
    try:
        fresh = Door()
        vars(fresh).update(vars(door()))
        fresh.open()
        fresh.open()
        return {"theirs": registry["lora"] is ours.theirs, "said": said, "before": type(ours).__name__}
    finally:
        logging.getLogger("lora_lab").removeHandler(handler)
        scripts.scripts_data.remove(other)
        registry["lora"] = ours
