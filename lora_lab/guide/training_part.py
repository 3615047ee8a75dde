"""The recommended network, optimizer, rates, schedule and noise."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.families import Family
from lora_lab.guide.answers import Answers
from lora_lab.guide.bases import PRODIGY_ARGS
from lora_lab.guide.difficulty import rank_for
from lora_lab.guide.source import KOHYA_SDXL, LYCORIS, OURS, PRODIGY, SCALING, guide
from lora_lab.guide.value import Value

FEW = 20
"""Fewer pictures of a character cannot fill a high rank."""
SDXL_FACTOR = 0.3
"""Between a third and a quarter of SD1's rank."""


def parts(a: Answers) -> Iterator[Value]:
    """All of them."""
    yield from _network(a)
    batch = batch_of(a)
    why = "as many as the card bears" if batch > 1 else "the safe start for this card's memory"
    yield Value("train_batch_size", batch, f"{why}; steps count a batch as one", guide("Number of steps/epochs"))
    yield from _optimizer(a, batch)
    yield from _noise(a)
    yield from _memory(a)


def batch_of(a: Answers) -> int:
    """Pictures at once that the card's memory allows."""
    if a.vram == 0:
        return 4  # a CPU: its memory is large
    vram = 8.0 if a.vram is None else a.vram
    if a.family is Family.SDXL:
        return 4 if vram >= 24 else 2 if vram >= 16 else 1
    return 4 if vram >= 16 else 2 if vram >= 10 else 1


def rank_of(a: Answers) -> int:
    """The rank, of SD1's or SDXL's size."""
    factor = SDXL_FACTOR if a.family is Family.SDXL else 1.0
    if a.making == "character":
        return rank_for(a.difficulty, male=a.male, few=a.pictures < FEW, family_factor=factor)
    if a.making == "style":
        base = 128 if a.pictures >= 10_000 else 64 if a.pictures >= 500 else 32
    elif a.making == "several":
        base = 64
    else:
        base = 16 if a.pictures < 50 else 32
    return max(4, round(base * factor / 4) * 4)


def algo_of(a: Answers) -> tuple[str, str]:
    """The kind, and why."""
    if a.making == "style":
        return "locon", "the 3x3 convolutions carry brush and texture, which is what a style is"
    if a.small_file and a.making == "character" and a.difficulty <= "C":
        return "lokr", "a plain character fits into a file of a few MB; it is tied to this checkpoint, and slower"
    return "lora", "the plain kind learns a subject fastest, and any checkpoint of the family takes it"


def _network(a: Answers) -> Iterator[Value]:
    algo, why = algo_of(a)
    yield Value("algo", algo, why, guide("LyCORIS (LoHA/LoCon/Etc), conclusion"))
    rank = rank_of(a)
    sdxl = a.family is Family.SDXL
    if a.making == "character":
        text = f"category {a.difficulty}"
        text += ", half a step up for a male character" if a.male and a.difficulty <= "D" else ""
        text += ", the low end for few pictures" if a.pictures < FEW else ""
        where = "SDXL" if sdxl else "Character difficulty and settings"
    else:
        text = {"style": "by the number of pictures", "several": "room for several subjects"}.get(
            a.making, "a simple thing needs little room"
        )
        where = "SDXL" if sdxl else "Net dim (network dimensions)/Rank"
    text += "; SDXL's ranks hold three to four times as much" if sdxl else ""
    yield Value("network_dim", rank, text, guide(where))
    why = "half of the rank: a mild brake, and rounding does no harm"
    yield Value("network_alpha", rank / 2, why, guide("Network Alpha, DAdaptation"))
    if algo == "locon":
        conv = max(4, rank // 2)
        yield Value("conv_dim", conv, "half of the rank is enough for the convolutions", LYCORIS)
        yield Value("conv_alpha", conv / 2, "as alpha to the rank", LYCORIS)
    if a.look == "skin":
        why = "the OUT blocks hold colour and detail, the body comes from the checkpoint"
        yield Value("train_blocks", ["OUT", "BASE"], why, guide("LoRA blocks"))
    if a.flexible:
        why = "keeps single weights small: easier to combine and to redress, at a little loss of style"
        yield Value("scale_weight_norms", 1.0, why, guide("Scale Weight Norms"))
    if sdxl:
        why = "two text encoders trained at once give what nobody expects: train the UNet alone"
        yield Value("network_train_unet_only", True, why, KOHYA_SDXL)


def _optimizer(a: Answers, batch: int) -> Iterator[Value]:
    if a.adaptive and (a.vram is None or a.vram == 0 or a.vram >= 6.5):
        why = (
            "finds the rate itself, so that nothing is guessed or burnt; the guide calls it the upgrade of DAdaptation"
        )
        yield Value("optimizer_type", "Prodigy", why, guide("Prodigy"))
        args = [*PRODIGY_ARGS, *(["d_coef=2"] if rank_of(a) <= 8 or algo_of(a)[0] == "lokr" else [])]
        why = "what its authors advise for diffusion models; the guide has d_coef=2 and no safeguard"
        why += " (2 is kept here: small ranks want more)" if "d_coef=2" in args else ""
        yield Value("optimizer_args", args, why, PRODIGY)
        yield Value("unet_lr", 1.0, "1 is its unit: d does the rest", guide("Prodigy"))
        if a.family is not Family.SDXL:
            yield Value("text_encoder_lr", 1.0, "it has one d for both parts: leave them equal", guide("DAdaptation"))
        yield Value(
            "lr_scheduler", "cosine", "its authors: none, or cosine without restarts, which ends softly", PRODIGY
        )
        return
    name = "AdamW8bit" if a.bits8 else "AdamW"
    why = "well tested and small in memory" if a.bits8 else "well tested, and nothing to install"
    yield Value("optimizer_type", name, why, guide("Optimizers"))
    factor = batch**0.5
    root = f", times the root of the batch ({factor:.2g})" if batch > 1 else ""
    source = SCALING if batch > 1 else guide("Unet learning rate")
    if a.family is Family.SDXL:
        source = KOHYA_SDXL
    yield Value("unet_lr", _round(1e-4 * factor), f"the standard rate{root}", source)
    if a.family is not Family.SDXL:
        text = 5e-5 if a.making == "character" and a.good else 4e-5 if a.making == "style" else 4.5e-5
        yield Value("text_encoder_lr", _round(text * factor), "about half of the UNet's", guide("Starting settings"))
    yield Value("lr_scheduler", "cosine_with_restarts", "the guide's usual one", guide("Scheduler"))
    if a.making == "style":
        yield Value("lr_scheduler_num_cycles", 3, "a long bake peaks more than once", guide("Scheduler"))


def _round(rate: float) -> float:
    return float(f"{rate:.2g}")


def _noise(a: Answers) -> Iterator[Value]:
    why = "smooths the loss; 5 or below suits characters, 5 and above styles and concepts"
    yield Value("min_snr_gamma", 5.0, why, guide("Min. SNR Gamma"))
    offset = 0.06 if a.dull else 0.0
    why = (
        "a touch more contrast, as your pictures are dull" if a.dull else "off: it slows learning and can burn colours"
    )
    yield Value("noise_offset", offset, why, guide("Noise offset"))


def _memory(a: Answers) -> Iterator[Value]:
    if a.bf16:
        why = "the range of 32 bits in 16: no overflow, no scaling of gradients (the guide's scripts have fp16)"
        yield Value("mixed_precision", "bf16", why, KOHYA_SDXL)
    else:
        yield Value("mixed_precision", "auto", "the live model's own format", OURS)
    if a.vram is not None and 0 < a.vram < (16 if a.family is Family.SDXL else 7):
        source = KOHYA_SDXL if a.family is Family.SDXL else OURS
        yield Value("gradient_checkpointing", True, "much less memory for about a third more time", source)
