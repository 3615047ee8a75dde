"""Rules on noise, loss weights and memory."""

from __future__ import annotations

from lora_lab.families import Family
from lora_lab.guide.facts import Facts
from lora_lab.guide.rules.base import Fired, Rule
from lora_lab.guide.source import KOHYA_SDXL, guide


def _noise_high(f: Facts) -> Fired | None:
    offset = f.number("noise_offset")
    if offset <= 0.1:
        return None
    text = f"noise_offset {offset:g} may burn colours, as a CFG scale of 11 does"
    return Fired(text, "0.06 is enough for a touch of it", {"noise_offset": 0.06})


def _min_snr_range(f: Facts) -> Fired | None:
    gamma = f.number("min_snr_gamma")
    if not gamma or 1 <= gamma <= 20:
        return None
    return Fired(f"min_snr_gamma {gamma:g} is outside of 1 to 20", "5 is usual", {"min_snr_gamma": 5.0})


def _min_snr_kind(f: Facts) -> Fired | None:
    gamma = f.number("min_snr_gamma")
    if f.get("optimizer_type") != "Prodigy" or not gamma or not f.making:
        return None
    if f.making == "character" and gamma > 5:
        return Fired(f"min_snr_gamma {gamma:g} learns a character too softly", "5 or less", {"min_snr_gamma": 5.0})
    if f.making in ("style", "concept") and gamma < 5:
        text = f"min_snr_gamma {gamma:g} is rough on a {f.making}"
        return Fired(text, "5 or more bakes it slowly", {"min_snr_gamma": 5.0})
    return None


def _norms(f: Facts) -> Fired | None:
    norms = f.get("scale_weight_norms")
    if not norms or 0.5 <= float(norms) <= 10:
        return None
    text = f"scale_weight_norms {float(norms):g} " + ("cuts nearly all" if float(norms) < 0.5 else "does nothing")
    return Fired(text, "1 is the usual value", {"scale_weight_norms": 1.0})


def _half_sdxl(f: Facts) -> Fired | None:
    if f.family is not Family.SDXL or f.get("mixed_precision") != "fp16" or f.get("no_half_vae"):
        return None
    text = "SDXL's VAE makes numbers that are none in fp16"
    return Fired(text, "use bf16 where the card has it", {"mixed_precision": "bf16"})


def _memory_adaptive(f: Facts) -> Fired | None:
    if f.vram is None or not 0 < f.vram < 6.5 or not f.adaptive or f.get("gradient_checkpointing"):
        return None
    text = f"{f.get('optimizer_type')} needs a little over 6 GB at a batch of one, the card has {f.vram:.1f}"
    return Fired(text, "save memory", {"gradient_checkpointing": True, "train_batch_size": 1})


def _memory_sdxl(f: Facts) -> Fired | None:
    if f.family is not Family.SDXL or f.vram is None or not 0 < f.vram < 12 or f.get("gradient_checkpointing"):
        return None
    return Fired(f"SDXL does not fit into {f.vram:.0f} GB as it is", "compute the blocks' values again on the way back",
                 {"gradient_checkpointing": True, "train_batch_size": 1})  # fmt: skip


def _sdxl_text(f: Facts) -> Fired | None:
    if f.family is not Family.SDXL or not f.text_rate:
        return None
    return Fired("SDXL's two text encoders are trained too", "train the UNet alone",
                 {"network_train_unet_only": True, "text_encoder_lr": None})  # fmt: skip


RULES = (
    Rule("noise-offset-high", "a high noise offset", "it widens the range of light until colours burn",
         guide("Noise offset"), _noise_high, "warning", ("noise_offset",)),
    Rule("min-snr-range", "min_snr_gamma out of range", "20 has hardly any effect, below 1 nothing is left",
         guide("Min. SNR Gamma"), _min_snr_range, "note", ("min_snr_gamma",)),
    Rule("min-snr-kind", "min_snr_gamma for this subject", "with Prodigy it scales what is learnt: at most 5 for "
         "characters, "
         "at least 5 for styles and concepts", guide("Min. SNR Gamma"), _min_snr_kind, "note", ("min_snr_gamma",)),
    Rule("weight-norms", "scale_weight_norms out of range", "lower acts more, above 10 not at all",
         guide("Scale Weight Norms"), _norms, "note", ("scale_weight_norms",)),
    Rule("sdxl-half", "SDXL in fp16", "bf16 has the range of 32 bits", KOHYA_SDXL, _half_sdxl, "note",
         ("mixed_precision",)),
    Rule("memory-adaptive", "an adaptive optimizer on a small card", "it keeps more numbers for each weight",
         guide("DAdaptation"), _memory_adaptive, "warning", ("gradient_checkpointing", "train_batch_size")),
    Rule("memory-sdxl", "SDXL on a small card", "8 GB do, with all that saves memory", KOHYA_SDXL, _memory_sdxl,
         "warning", ("gradient_checkpointing",)),
    Rule("sdxl-text", "SDXL's text encoders", "the guide leaves them out, kohya's notes call the result unexpected",
         KOHYA_SDXL, _sdxl_text, "warning", ("network_train_unet_only", "text_encoder_lr")),
)  # fmt: skip
