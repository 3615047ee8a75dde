"""The settings that save memory. Names and meaning are kohya's; `offload_idle` is ours."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class MemoryFields:
    """What is kept in fewer bits, elsewhere, or not at all."""

    full_fp16: bool = setting(
        False, "Keep the adapter and its gradients in 16 bits too; needs mixed_precision fp16.", kind="bool",
        group="speed", cost="small changes are rounded away",
    )
    full_bf16: bool = setting(
        False, "Keep the adapter and its gradients in bfloat16 too; needs mixed_precision bf16.", kind="bool",
        group="speed", cost="small changes are rounded away",
    )
    fp8_base: bool = setting(
        False,
        "Hold the checkpoint's weights in 8 bits while it trains (standalone only; the webui has an option of its "
        "own). Needs mixed_precision fp16 or bf16.",
        kind="bool", group="speed", cost="less exact, and slower",
    )
    fp8_base_unet: bool = setting(
        False, "As fp8_base, for the UNet alone.", kind="bool", group="speed", cost="less exact, and slower"
    )
    fused_backward_pass: bool = setting(
        False,
        "Update each tensor as soon as its gradient is there, and drop it: no two gradients are kept. Needs "
        "max_grad_norm 0 and gradient_accumulation_steps 1.",
        kind="bool", group="speed",
    )
    cpu_offload_checkpointing: bool = setting(
        False, "With gradient_checkpointing: keep the blocks' inputs in the machine's memory until the way back.",
        kind="bool", group="speed", cost="copies between card and machine in each step",
    )
    offload_idle: bool = setting(
        False,
        "Take the VAE, where latents are cached, off the graphics card during the steps, and bring it back after each "
        "turn.",
        kind="bool", group="speed", cost="two copies of it for each second or so",
    )
    no_half_vae: bool = setting(
        False, "Encode pictures with the VAE in 32 bits, also where the host keeps it in half precision.", kind="bool",
        group="speed", cost="twice the VAE's memory, and time",
    )
    lowram: bool = setting(
        False, "Save the machine's memory: the last good epoch is remembered on the graphics card.", kind="bool",
        group="speed", cost="the adapter's size once more on the card",
    )
