"""From what is seen in pictures to the settings of the next bake: the guide's tests and troubleshooting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lora_lab.guide.source import Source, guide

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Symptom:
    """Something that pictures show."""

    id: str
    seen: str
    means: str
    source: Source
    change: Callable[[Settings, bool], dict[str, Any]]
    """Settings of this bake, and whether its optimizer is adaptive -> changes for the next."""
    by_hand: str = ""
    """What settings cannot do."""


def _rates(s: Settings, factor: float, names: tuple[str, ...], *, adaptive: bool) -> dict[str, Any]:
    """Rates times a factor; an adaptive optimizer's d_coef instead."""
    if adaptive and names == ("unet_lr", "text_encoder_lr"):
        pairs = dict(str(a).partition("=")[::2] for a in s.get("optimizer_args") or ())
        pairs["d_coef"] = f"{max(0.1, min(10.0, float(pairs.get('d_coef', 1)) * factor)):.3g}"
        return {"optimizer_args": [f"{k}={v}" for k, v in pairs.items()]}
    usual = {"unet_lr": 1.0 if adaptive else 1e-4, "text_encoder_lr": 1.0 if adaptive else 5e-5}
    return {n: float(f"{float(s.get(n) or s.get('learning_rate') or usual[n]) * factor:.2g}") for n in names}


BOTH = ("unet_lr", "text_encoder_lr")


def _longer(s: Settings, factor: float) -> dict[str, Any]:
    epochs = s.get("max_train_epochs")
    if epochs:
        return {"max_train_epochs": max(1, round(int(epochs) * factor))}
    steps = s.get("max_train_steps")
    if steps:
        return {"max_train_steps": max(1, round(int(steps) * factor))}
    return {"max_train_epochs": round(10 * factor)}


def _text(s: Settings, factor: float, *, adaptive: bool) -> dict[str, Any]:
    """The text encoder's rate; an adaptive optimizer has one rate for all."""
    return {} if adaptive else _rates(s, factor, ("text_encoder_lr",), adaptive=False)


def _twice_the_rank(s: Settings, adaptive: bool) -> dict[str, Any]:
    dim = min(192, 2 * int(s.get("network_dim") or 32))
    return {"network_dim": dim, "network_alpha": dim / 2}


def _nothing(s: Settings, adaptive: bool) -> dict[str, Any]:
    return {}


SYMPTOMS = (
    Symptom(
        "noise", "blobs of colour, nothing in particular", "the UNet's rate is far too high",
        guide("Unet learning rate"), lambda s, a: _rates(s, 1 / 8, BOTH, adaptive=a),
    ),
    Symptom(
        "overfit", "good only below a strength of 1, stiff, colours too strong", "it is overfit",
        guide("Strength (at generation time)"), lambda s, a: _longer(s, 0.7),
        "first try the snapshots: an earlier one may be right",
    ),
    Symptom(
        "weak", "good only above a strength of 1, or hardly to be seen", "there is room for more training",
        guide("Strength (at generation time)"), lambda s, a: _longer(s, 1.5),
    ),
    Symptom(
        "overfit-always", "overfit even in the first snapshot", "the rate is too high, or the rank too large",
        guide("Overfitting"), lambda s, a: _rates(s, 0.5, BOTH, adaptive=a),
        "an adaptive optimizer takes the guessing away",
    ),
    Symptom(
        "no-detail", "likeness is there, small details are not", "the rank or the resolution is too small",
        guide("Resolution"), _twice_the_rank, "add close-ups of these details",
    ),
    Symptom(
        "te-weak", "parts come only when weighted in the prompt", "the text encoder has learnt too little",
        guide("Text encoder learning rate"), lambda s, a: _text(s, 1.5, adaptive=a),
    ),
    Symptom(
        "te-strong", "things appear that nobody asked for", "the text encoder ties too much together",
        guide("Text encoder learning rate"), lambda s, a: _text(s, 0.5, adaptive=a),
        "tag that thing on every picture that shows it, and add pictures without it",
    ),
    Symptom(
        "stuck", "one element cannot be got rid of", "it is tagged wrongly or seldom", guide("Tag debugging"), _nothing,
        "tag it wherever it is visible, drop false tags, edit it out of a few pictures",
    ),
    Symptom(
        "samey", "always the same pose", "poses are not tagged, or all alike", guide("What to tag"), _nothing,
        "tag poses, add pictures with others",
    ),
    Symptom(
        "style", "the pictures' style comes along", "it was never shown as something apart",
        guide('"Dreambooth style"'), lambda s, a: {"scale_weight_norms": 1.0, **_longer(s, 2)},
        "make regularisation pictures, which need twice the steps",
    ),
    Symptom(
        "clothes", "clothes do not change", "they are part of the subject for it", guide("Tags and details"),
        lambda s, a: {"scale_weight_norms": 1.0}, "tag clothes, add pictures with others or without a layer",
    ),
    Symptom(
        "edges", "hands or faces at the borders", "there are some of others in the pictures",
        guide("Selecting images"), _nothing, "cut or paint them out",
    ),
    Symptom(
        "flat", "dull colours", "the range of light is small", guide("Noise offset"),
        lambda s, a: {"noise_offset": 0.06},
    ),
    Symptom(
        "fried", "colours burn as with a high CFG", "noise offset or alpha is too high", guide("Noise offset"),
        lambda s, a: {"noise_offset": 0.0, "network_alpha": float(int(s.get("network_dim") or 32)) / 2},
    ),
    Symptom(
        "elsewhere", "good on this checkpoint, poor on others", "it was tested on one only",
        guide("Test your model with multiple checkpoints"), _nothing,
        "raise the strength there, train on the common ancestor, or say which checkpoint it works best with",
    ),
    Symptom(
        "humanoid", "a creature becomes a human", "its body was not learnt", guide("Intended results"),
        lambda s, a: _longer(s, 1.5),
    ),
)  # fmt: skip
BY_ID = {symptom.id: symptom for symptom in SYMPTOMS}


def from_strengths(s: Settings, text_encoder: float, unet: float) -> dict[str, Any]:
    """Rates of the next bake from the strengths at which this one looks right.

    What works at half the UNet's strength was learnt twice too fast, and so on: rates move by the same factor.

    Args:
        s: settings of this bake; rates of an optimizer that does not adapt.
        text_encoder: strength of the text encoder's part that looks right.
        unet: the same of the UNet's part. In a prompt the text encoder's stands first: ``<lora:name:te:unet>``.
    """
    found: dict[str, Any] = {}
    if abs(unet - 1) > 0.05:
        found |= _rates(s, unet, ("unet_lr",), adaptive=False)
    if abs(text_encoder - 1) > 0.05:
        found |= _rates(s, text_encoder, ("text_encoder_lr",), adaptive=False)
    return found
