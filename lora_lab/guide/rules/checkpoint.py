"""Rules on the checkpoint that is trained on."""

from __future__ import annotations

import re

from lora_lab.families import Family
from lora_lab.guide.facts import Facts
from lora_lab.guide.rules.base import Fired, Rule
from lora_lab.guide.source import guide

MIX = re.compile(r"mix|merge|aom\d|orange|counterfeit|pastel|blend|cocktail|chillout", re.IGNORECASE)


def _skip(f: Facts) -> Fired | None:
    if f.family is not Family.SD1 or f.knows not in ("anime", "realistic"):
        return None
    wanted = 2 if f.knows == "anime" else 1
    value = f.get("clip_skip")
    if value is None or int(value) == wanted:
        return None
    text = f"clip_skip is {value}, and {f.checkpoint or 'the checkpoint'} looks like one that is used with {wanted}"
    return Fired(text, "train as you generate", {"clip_skip": wanted})


def _mix(f: Facts) -> Fired | None:
    if not MIX.search(f.checkpoint) or "anylora" in f.checkpoint.lower():
        return None
    text = f"{f.checkpoint} looks like a mix: what is trained on it may be off on others"
    return Fired(text, "train on what most mixes come from: NAI for drawings, SD 1.5 for photos, SDXL's base")


def _anylora(f: Facts) -> Fired | None:
    if "anylora" not in f.checkpoint.lower().replace("_", "").replace("-", ""):
        return None
    text = "AnyLoRA is made to train on, and few mixes come from it"
    return Fired(text, "train once on NAI too, and compare both on the checkpoints that you use")


def _drawn_on_photo(f: Facts) -> Fired | None:
    if f.knows != "realistic" or f.family is not Family.SD1:
        return None
    if f.answers is None or f.answers.knows != "anime":
        return None
    text = "a drawn subject on a checkpoint of photos comes out poor in mixes of anime"
    return Fired(text, "load a checkpoint of the NAI kind")


def _furry(f: Facts) -> Fired | None:
    if f.answers is None or f.answers.making != "character" or f.answers.knows != "furry" or f.knows != "furry":
        return None
    if f.answers.difficulty in "HI":
        return None
    text = "a furry character can be trained on NAI too, and then works with all that comes from it"
    return Fired(text, "stay on this checkpoint if you need its bodies, e621's tags or artists' names")


def _known_plain(f: Facts) -> Fired | None:
    a = f.answers
    if a is None or a.making != "character" or a.difficulty != "A" or not a.known:
        return None
    text = "a plain character that the checkpoint draws already may need no LoRA"
    return Fired(text, "try a prompt or an embedding first; else 300 to 400 steps are enough")


RULES = (
    Rule("clip-skip", "clip skip against the checkpoint", "it must be the same in training and in pictures",
         guide("CLIP skip"), _skip, "warning", ("clip_skip",)),
    Rule("mix", "trained on a mix", "checkpoints share ancestry: a LoRA of the ancestor fits all of them",
         guide("What model to train from?"), _mix, "note"),
    Rule("anylora", "AnyLoRA", "the guide had worse results with it than with NAI", guide("AnyLoRA"), _anylora, "note"),
    Rule("drawn-on-photo", "a drawing on a checkpoint of photos", "too far from the mixes it will be used on",
         guide("What model to train from?"), _drawn_on_photo, "note"),
    Rule("furry-base", "a furry checkpoint", "exotic bases split what fits together", guide("The furries keep asking"),
         _furry, "note"),
    Rule("known-plain", "no training needed", "what the checkpoint knows is cheap", guide("Prior training"),
         _known_plain, "note"),
)  # fmt: skip
