"""Rules on optimizer, rates, schedule and length."""

from __future__ import annotations

import math

from lora_lab.guide import dampening
from lora_lab.guide.bases import DADAPT_ARGS
from lora_lab.guide.facts import Facts
from lora_lab.guide.recommend import method_of, samples_of
from lora_lab.guide.rules.base import Fired, Rule
from lora_lab.guide.source import PRODIGY, SCALING, guide

LEAST = 800
"""Pictures seen in all below which hardly anything sticks."""
ALWAYS_FINE = 5000
FACTOR = 5
"""More than so many times what is needed is learnt by heart."""


def wanted(f: Facts) -> int:
    """Pictures to be seen in all, as far as one knows what it is to be."""
    if f.answers is None:
        return LEAST * (2 if f.reg_pictures else 1)
    doubled = method_of(f.answers).name == "dreambooth" or f.reg_pictures > 0
    return samples_of(f.answers, regularised=doubled)


def epochs_for(f: Facts, samples: float) -> int:
    """Epochs that show so many pictures."""
    return max(1, math.ceil(samples / max(1, f.length.items)))


def _few_steps(f: Facts) -> Fired | None:
    need = wanted(f)
    if not f.samples or f.samples >= 0.75 * need:
        return None
    epochs = epochs_for(f, need)
    text = f"the run shows {f.samples:,.0f} pictures in all, about {need:,} is the least that sticks"
    if f.reg_pictures:
        text += " with regularisation pictures, which double it"
    changes = {"max_train_epochs": epochs, "max_train_steps": None}
    return Fired(text, f"train {epochs} epochs", changes)


def _many_steps(f: Facts) -> Fired | None:
    need = max(ALWAYS_FINE, FACTOR * wanted(f))
    views = f.samples / max(1, f.pictures)
    if f.samples <= need or views < 60 or f.rate("unet") == 0:
        return None
    epochs = epochs_for(f, wanted(f) * 2)
    text = f"each picture is seen {views:,.0f} times, {f.samples:,.0f} in all: it will be learnt by heart"
    changes = {"max_train_epochs": epochs, "max_train_steps": None}
    return Fired(text, f"train {epochs} epochs, or keep snapshots and take an early one", changes)


def _constant(f: Facts) -> Fired | None:
    manual = not (f.adaptive or f.relative) and not str(f.get("optimizer_type")).lower().endswith("schedulefree")
    if not manual or f.get("lr_scheduler_type") or f.get("lr_scheduler") not in ("constant", "constant_with_warmup"):
        return None
    if f.rate("unet") < 1e-4:
        return None
    text = f"the rate stays at {f.rate('unet'):g} to the end with {f.get('lr_scheduler')}"
    warm = {"lr_warmup_steps": 0} if f.get("lr_scheduler") == "constant_with_warmup" else {}
    return Fired(text, "let it fall", {"lr_scheduler": "cosine", **warm})


def _warmup(f: Facts) -> Fired | None:
    length = f.length
    if not length.steps or length.warmup <= 0.25 * length.steps:
        return None
    over = length.warmup >= length.steps
    text = f"the warmup takes {length.warmup:,} of {length.steps:,} steps"
    text += ": the full rate is never reached" if over else ""
    return Fired(text, "make it a twentieth of the run", {"lr_warmup_steps": 0.05})


def _prodigy_warmup(f: Facts) -> Fired | None:
    if f.get("optimizer_type") != "Prodigy" or not f.length.warmup or f.arguments.get("safeguard_warmup") == "True":
        return None
    text = "Prodigy may take d too high during the warmup"
    return Fired(text, "switch its safeguard on", {"optimizer_args": f.with_argument("safeguard_warmup", "True")})


def _prodigy_arguments(f: Facts) -> Fired | None:
    if f.get("optimizer_type") != "Prodigy" or f.arguments.get("use_bias_correction") == "True":
        return None
    changes = {"optimizer_args": f.with_argument("use_bias_correction", "True")}
    return Fired("Prodigy runs without its bias correction", "switch it on", changes)


def _dadapt_arguments(f: Facts) -> Fired | None:
    if f.get("optimizer_type") not in ("DAdaptAdam", "DAdaptation", "DAdaptAdamPreprint"):
        return None
    if f.arguments.get("decouple") == "True":
        return None
    merged = f.arguments
    args = [a for a in DADAPT_ARGS if a.partition("=")[0] not in merged] + [f"{k}={v}" for k, v in merged.items()]
    args = [a for a in args if not a.startswith("decouple=")]
    changes = {"optimizer_args": ["decouple=True", *args]}
    return Fired(f"{f.get('optimizer_type')} works only half without decouple=True", "give it its arguments", changes)


def _dadapt_schedule(f: Facts) -> Fired | None:
    if not str(f.get("optimizer_type")).startswith("DAdapt") or f.get("lr_scheduler") == "constant":
        return None
    if f.get("lr_scheduler_type"):
        return None
    text = f"{f.get('optimizer_type')} adapts its rate, and {f.get('lr_scheduler')} works against it"
    return Fired(text, "let it alone", {"lr_scheduler": "constant", "lr_warmup_steps": 0})


def _d_coef(f: Facts) -> Fired | None:
    try:
        value = float(f.arguments.get("d_coef", "1"))
    except ValueError:
        return None
    if f.get("optimizer_type") != "Prodigy":
        return None
    small = f.number("network_dim") <= 8 or f.get("algo") in ("lokr", "ia3")
    most = 10.0 if small else 2.0
    if 0.1 <= value <= most:
        return None
    text = f"d_coef {value:g} is {'above' if value > most else 'below'} what is any good here (0.5 to {most:g})"
    return Fired(
        text, "bring it back", {"optimizer_args": f.with_argument("d_coef", f"{min(most, max(0.5, value)):g}")}
    )


def _adaptive_rate(f: Facts) -> Fired | None:
    rates = [rate.value for rate in f.rates]
    if not f.adaptive or not rates or (max(rates) <= 2 and min(rates) == max(rates) and min(rates) > 0.1):
        return None
    text = f"{f.get('optimizer_type')} finds its own rate, and is given {', '.join(f'{r:g}' for r in rates)}"
    changes = {f"{rate.part}_lr" if rate.part != "text_encoder_2" else "text_encoder_lr2": 1.0 for rate in f.rates}
    return Fired(text, "give 1 to all; change d_coef if it learns too little", changes)


def _manual_rate(f: Facts) -> Fired | None:
    rate = f.rate("unet")
    if f.adaptive or f.relative or "SGD" in str(f.get("optimizer_type")):
        return None
    lion = "Lion" in str(f.get("optimizer_type"))
    most, usual = (1e-4, 2e-5) if lion else (1e-3, 1e-4)
    if f.get("algo") == "ia3":
        most, usual = 1e-2, 1e-3
    if rate <= most:
        return None
    text = f"unet_lr {rate:g} is far above the usual {usual:g}: the UNet is the part that burns"
    return Fired(text, f"go back to {usual:g}", {"unet_lr": usual})


def _text_rate(f: Facts) -> Fired | None:
    if f.adaptive or f.relative or not f.text_rate or not f.rate("unet") or f.text_rate < f.rate("unet"):
        return None
    text = f"the text encoder learns as fast as the UNet ({f.text_rate:g}): things stick together then"
    return Fired(text, "halve it", {"text_encoder_lr": float(f"{f.rate('unet') / 2:.2g}")})


def _low_alpha(f: Facts) -> Fired | None:
    if f.adaptive or f.relative or f.get("algo") not in ("lora", "locon", "loha", "lora-fa", "dylora"):
        return None
    if f.scale >= 0.1 or f.rate("unet") > 3e-4:
        return None
    text = f"alpha / dim is {f.scale:.3g}: at a rate of {f.rate('unet'):g} hardly anything is learnt"
    return Fired(text, "raise alpha to half of dim", {"network_alpha": f.number("network_dim") / 2})


def _dampened(f: Facts) -> Fired | None:
    share = dampening.left(f)
    if share >= dampening.STRONG or _low_alpha(f) is not None or not f.samples:
        return None
    if f.samples * share >= 0.75 * wanted(f):
        return None  # long enough all the same
    parts = "; ".join(brake.text for brake in dampening.brakes(f))
    text = f"brakes leave about {share:.0%} of the learning: {parts}"
    changes = {"max_train_epochs": epochs_for(f, wanted(f) / share), "max_train_steps": None}
    return Fired(text, "train longer, or take one of them away", changes)


def _full_half(f: Facts) -> Fired | None:
    if not f.get("full_fp16") or not f.adaptive:
        return None
    return Fired("d is rounded away in full_fp16", "keep the adapter in 32 bits", {"full_fp16": False})


def _lion(f: Facts) -> Fired | None:
    if "Lion" not in str(f.get("optimizer_type")) or f.adaptive:
        return None
    return Fired("Lion can give odd results, such as hair of all colours", "compare it with another optimizer once")


def _slow_sgd(f: Facts) -> Fired | None:
    if "SGD" not in str(f.get("optimizer_type")) or f.adaptive or f.length.steps >= 4000:
        return None
    text = f"{f.get('optimizer_type')} learns very slowly: {f.length.steps:,} steps are not enough"
    return Fired(text, "take AdamW, which needs no more memory than it has to", {"optimizer_type": "AdamW"})


def _batch_rate(f: Facts) -> Fired | None:
    batch = f.number("train_batch_size") * max(1.0, f.number("gradient_accumulation_steps"))
    if f.adaptive or f.relative or batch < 4 or not f.length.steps or f.rate("unet") > 1.01e-4 or f.rate("unet") < 9e-5:
        return None
    rate = float(f"{1e-4 * batch**0.5:.2g}")
    text = f"{batch:.0f} pictures make one step, at the rate for a batch of one"
    return Fired(text, f"raise unet_lr by the root of it, to {rate:g}", {"unet_lr": rate})


def _snapshots(f: Facts) -> Fired | None:
    if f.get("save_every_n_epochs") or f.get("save_every_n_steps") or f.length.epochs < 4:
        return None
    every = max(1, f.length.epochs // 5)
    return Fired("no snapshot is kept on the way", f"keep one every {every} epochs", {"save_every_n_epochs": every})


def _repeats(f: Facts) -> Fired | None:
    if len(f.concepts) != 1 or f.concepts[0].repeats < 5 or not 0 < f.length.epochs < 5 or f.reg_pictures:
        return None
    concept = f.concepts[0]
    text = f"{concept.repeats} repeats and {f.length.epochs} epochs leave few places for snapshots"
    return Fired(text, f"name the folder 1_{concept.name} and train {concept.repeats} times as many epochs")


def _bad_seed(f: Facts) -> Fired | None:
    if f.same_seed_bakes < 3:
        return None
    text = f"{f.same_seed_bakes} bakes with this seed, and none was good"
    seed = (int(f.number("seed")) * 7919 + 104729) % 2**31
    return Fired(text, "try another one", {"seed": seed})


def _resumed_adaptive(f: Facts) -> Fired | None:
    if not f.get("network_weights") or not (f.adaptive and 0 < f.length.steps < 400):
        return None
    text = f"of {f.length.steps} steps the first 50 to 200 go by while {f.get('optimizer_type')} finds its rate"
    return Fired(text, "train at least 400 steps more", {"max_train_epochs": None, "max_train_steps": 400})


RULES = (
    Rule("few-steps", "too few steps", "about 1,000 steps at batch 1 are needed for anything to stick, 1,500 for "
         "what the "
         "checkpoint has never seen, twice that with regularisation", guide("Number of steps/epochs"), _few_steps,
         "warning", ("max_train_epochs", "max_train_steps", "train_batch_size")),
    Rule("many-steps", "too many steps", "what is shown too often is copied, not understood", guide("Overfitting"),
         _many_steps, "warning", ("max_train_epochs", "max_train_steps")),
    Rule("constant-rate", "a rate that never falls", "without an adaptive optimizer a constant rate overtrains",
         guide("Scheduler"), _constant, "note", ("lr_scheduler",)),
    Rule("long-warmup", "a warmup as long as the run", "what rises the whole time never trains at its rate",
         guide("Scheduler"), _warmup, "warning", ("lr_warmup_steps",)),
    Rule("prodigy-warmup", "Prodigy with a warmup", "its rate starts small, so it overestimates d",
         PRODIGY, _prodigy_warmup, "warning", ("optimizer_args", "lr_warmup_steps")),
    Rule("prodigy-arguments", "Prodigy's arguments", "its authors advise use_bias_correction for diffusion models",
         PRODIGY, _prodigy_arguments, "note", ("optimizer_args",)),
    Rule("dadapt-arguments", "DAdaptation's arguments", "it needs decouple=True, weight_decay=0.01 and its betas",
         guide("DAdaptation"), _dadapt_arguments, "warning", ("optimizer_args",)),
    Rule("dadapt-schedule", "DAdaptation with a schedule", "the schedule must be constant for it",
         guide("DAdaptation"), _dadapt_schedule, "note", ("lr_scheduler",)),
    Rule("d-coef", "d_coef out of range", "0.5 to 2 is right, up to 10 at very low ranks and for LoKr and (IA)^3",
         guide("d_coef"), _d_coef, "warning", ("optimizer_args",)),
    Rule("adaptive-rate", "rates for an adaptive optimizer", "rates belong near 1, the same for all parts",
         guide("DAdaptation"), _adaptive_rate, "warning", ("unet_lr", "text_encoder_lr"),
         instead_of=("finds its own rate", "takes one learning rate for all")),
    Rule("high-rate", "a rate that burns", "the UNet is easy to overcook; blobs of noise mean eight times too much",
         guide("Unet learning rate"), _manual_rate, "warning", ("unet_lr",), instead_of=("is very high for",)),
    Rule("text-rate", "the text encoder's rate", "lower, it separates things better; too low, and prompts need weights",
         guide("Text encoder learning rate"), _text_rate, "note", ("text_encoder_lr",)),
    Rule("low-alpha", "a very low alpha", "alpha / dim multiplies all that is learnt; only adaptive optimizers make "
         "up for it",
         guide("Network Alpha"), _low_alpha, "warning", ("network_alpha", "network_dim")),
    Rule("dampened", "many brakes at once", "each is small, together they stop the learning",
         guide("Learn dampening"), _dampened, "note",
         ("network_alpha", "network_dropout", "noise_offset", "min_snr_gamma", "scale_weight_norms",
         "lr_warmup_steps")),
    Rule("full-half", "full_fp16 with an adaptive optimizer", "its d is a tiny number that half precision rounds away",
         guide("SDXL"), _full_half, "warning", ("full_fp16",)),
    Rule("lion", "Lion", "it has a taste of its own that some like", guide("Lion"), _lion, "note", ("optimizer_type",)),
    Rule("slow-sgd", "SGD", "thousands of steps are nowhere near enough for it", guide("Optimizers"), _slow_sgd,
         "warning", ("optimizer_type",)),
    Rule("batch-rate", "the rate for a large batch", "fewer steps are made; the guide's script multiplies the rate "
         "by the "
         "batch, later work takes its root for Adam's kin", SCALING, _batch_rate, "note", ("unet_lr",
         "train_batch_size")),
    Rule("snapshots", "no snapshots", "if the end is burnt, an earlier epoch may be right", guide("Overfitting"),
         _snapshots, "note", ("save_every_n_epochs",)),
    Rule("repeats", "repeats in place of epochs", "repeats are for balancing several subjects; adaptive optimizers "
         "do better "
         "with epochs", guide("Starting settings"), _repeats, "note", ("max_train_epochs",)),
    Rule("bad-seed", "a bad seed", "rare, but it happens that another seed mends all", guide("Seed"), _bad_seed, "note",
         ("seed",), "after"),
    Rule("resumed-adaptive", "a short continuation", "an adaptive optimizer begins anew from a tiny rate",
         guide("Resuming training"), _resumed_adaptive, "note", ("network_weights", "max_train_steps")),
)  # fmt: skip
