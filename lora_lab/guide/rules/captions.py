"""Rules on captions and triggers."""

from __future__ import annotations

from lora_lab.guide.facts import Facts
from lora_lab.guide.rules.base import Fired, Rule
from lora_lab.guide.source import guide

COMMON = frozenset(
    {
        "girl", "boy", "woman", "man", "person", "cat", "dog", "fox", "wolf", "dragon", "robot", "car", "house",
        "flower", "rose", "lily", "red", "blue", "green", "white", "black", "king", "queen", "princess", "knight",
        "angel", "demon", "witch", "style", "anime", "art", "drawing", "character", "style1", "char", "concept",
        "outfit", "dress", "armor", "sword", "star", "moon", "sun", "sky", "rain", "snow", "ice", "fire", "water",
        "light", "shadow", "solo", "1girl", "1boy", "masterpiece",
    }
)  # fmt: skip
"""Words that checkpoints know already, which pull their own meaning in."""
FURRY = ("anthro", "feral", "mammal", "canid", "canine", "felid", "feline", "equid", "scalie", "avian")
BOORU = ("1girl", "1boy", "2girls", "looking at viewer", "solo", "cowboy shot", "upper body", "multiple girls")


def _not_first(f: Facts) -> Fired | None:
    for concept in f.concepts:
        if concept.captioned >= 4 and 0.6 <= concept.trigger_share < 1:
            without = round((1 - concept.trigger_share) * concept.captioned)
            text = f"{without} captions of '{concept.name}' do not begin with '{concept.trigger}'"
            return Fired(text, "put it first everywhere, in the panel Tags")
    return None


def _no_trigger(f: Facts) -> Fired | None:
    if f.making not in ("character", "concept", "outfit", "several") or f.get("caption_prefix"):
        return None
    for concept in f.concepts:
        if concept.captioned >= 4 and concept.trigger_share < 0.6:
            text = f"captions of '{concept.name}' begin with this and that: there is no trigger"
            return Fired(text, "put one tag first in all of them, in the panel Tags")
    return None


def _keep(f: Facts) -> Fired | None:
    if not f.get("shuffle_caption") or f.get("keep_tokens") or f.get("keep_tokens_separator"):
        return None
    if not any(c.captioned and c.trigger_share >= 0.6 for c in f.concepts):
        return None
    return Fired("tags are shuffled, and the trigger with them", "keep the first one in place", {"keep_tokens": 1})


def _unshuffled(f: Facts) -> Fired | None:
    if f.get("shuffle_caption") or f.get("cache_text_encoder_outputs") or f.get("cache_text_encoder_outputs_to_disk"):
        return None
    if not any(c.captioned and len(c.tags) >= 6 for c in f.concepts):
        return None
    return Fired("tags always come in the same order, and the last ones count least", "shuffle them",
                 {"shuffle_caption": True, "keep_tokens": max(1, int(f.number("keep_tokens")))})  # fmt: skip


def _common(f: Facts) -> Fired | None:
    if f.answers is not None and f.answers.known:
        return None
    for concept in f.concepts:
        word = (concept.trigger if concept.trigger_share >= 0.6 else concept.name).lower()
        if word in COMMON and concept.pictures:
            text = f"the trigger '{word}' means something to the checkpoint already"
            return Fired(text, "take a word of your own, in the panel Tags (or name the folder so)")
    return None


def _many_tokens(f: Facts) -> Fired | None:
    for concept in f.concepts:
        if concept.trigger_tokens is not None and concept.trigger_tokens > 4 and concept.trigger_share >= 0.6:
            text = f"the trigger '{concept.trigger}' is {concept.trigger_tokens} tokens long"
            return Fired(text, "a short, rare word works better and leaves more room")
    return None


def _too_long(f: Facts) -> Fired | None:
    room = int(f.number("max_token_length")) or 75
    if not f.over_limit or room >= 225:
        return None
    wider = 150 if f.longest <= 150 else 225
    text = f"{f.over_limit} captions are longer than {room} tokens, and are cut"
    return Fired(text, "make more room", {"max_token_length": wider})


def _keyword_many(f: Facts) -> Fired | None:
    bare = [c for c in f.concepts if c.pictures and not c.captioned]
    if len(f.concepts) < 2 or not bare:
        return None
    text = f"'{bare[0].name}' has no captions: what its pictures share with others cannot be told apart"
    return Fired(text, "tag them, in the panel Tags")


def _keyword_hard(f: Facts) -> Fired | None:
    a = f.answers
    if a is None or a.making != "character" or not f.concepts or any(c.captioned for c in f.concepts):
        return None
    if a.difficulty < "C" or a.difficulty >= "F":
        return None
    text = f"no captions for a character of category {a.difficulty}: odd parts will come and go by chance"
    return Fired(text, "tag wings, tails and unusual clothes at least")


def _plain_background(f: Facts) -> Fired | None:
    if f.making == "style" or f.share("simple background") < 0.6:
        return None
    share = f.share("simple background")
    text = f"'simple background' is on {share:.0%} of the captions, and pictures will tend to it"
    return Fired(text, "drop the tag, or put it into the negative prompt later")


def _dialect(f: Facts) -> Fired | None:
    if f.knows == "anime" and (share := f.share(*FURRY)) >= 0.3 and f.share(*BOORU) < 0.3:
        text = f"{share:.0%} of the captions speak e621's dialect, and the checkpoint knows booru tags"
        return Fired(text, "tag with a WD tagger, or train on a furry checkpoint")
    if f.knows == "furry" and (share := f.share(*BOORU)) >= 0.3 and f.share(*FURRY) < 0.3:
        text = f"{share:.0%} of the captions speak booru's dialect, and the checkpoint knows e621's"
        return Fired(text, "tag with e621's words, or train on an anime checkpoint")
    if f.knows == "realistic" and f.share("1girl", "1boy") >= 0.5:
        text = "booru tags on a realistic checkpoint, which was taught in sentences"
        return Fired(text, "use plain sentences, or train drawn subjects on an anime checkpoint")
    return None


def _unet_only(f: Facts) -> Fired | None:
    from lora_lab.families import Family

    if f.family is Family.SDXL or not f.rate("unet") or f.text_rate or not any(c.captioned for c in f.concepts):
        return None
    if f.making == "style" or f.get("train_blocks"):
        return None
    text = "the text encoder is not trained: new words stay loosely tied to what they mean"
    return Fired(text, "train it too", {"network_train_unet_only": False, "text_encoder_lr": None})


RULES = (
    Rule("trigger-first", "the trigger is missing somewhere", "one caption without it makes the word unreliable",
         guide("When to tag characters/styles"), _not_first, "warning"),
    Rule("no-trigger", "no trigger", "a first tag that all captions share glues the rest to it",
         guide("When to tag characters/styles"), _no_trigger, "note"),
    Rule("keep-tokens", "the trigger is shuffled away", "the trigger belongs in front, always",
         guide("When to tag characters/styles"), _keep, "warning", ("keep_tokens", "shuffle_caption")),
    Rule("unshuffled", "tags always in one order", "the guide's scripts shuffle them", guide("Sample PowerShell "
         "script"),
         _unshuffled, "note", ("shuffle_caption",)),
    Rule("common-trigger", "a trigger that means something", "what the checkpoint knows by that word comes along",
         guide("Prior training"), _common, "note"),
    Rule("long-trigger", "a long trigger", "short, rare tokens are learnt more surely", guide('"Keyword style"'),
         _many_tokens, "note"),
    Rule("captions-cut", "captions that are cut", "what is cut off is not learnt", guide('The "Easy settings"'),
         _too_long, "warning", ("max_token_length",)),
    Rule("keyword-several", "several subjects, one of them untagged", "several at once need tags and balance",
         guide("Multiple concept support"), _keyword_many, "warning"),
    Rule("keyword-hard", "an elaborate character without captions", "the text encoder cannot name its parts then",
         guide('"Keyword style"'), _keyword_hard, "note"),
    Rule("plain-background", "plain backgrounds by tag", "what is tagged is drawn more often", guide("What not to tag"),
         _plain_background, "note"),
    Rule("dialect", "tags of another dialect", "tags that the checkpoint does not know point to the wrong places",
         guide("What model to train from?"), _dialect, "warning"),
    Rule("unet-only", "the text encoder is left out", "it is what ties tags to what is seen",
         guide("Text encoder learning rate"), _unet_only, "note", ("network_train_unet_only", "text_encoder_lr")),
)  # fmt: skip
