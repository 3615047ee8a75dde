"""Rules on pictures, sizes, buckets and regularisation."""

from __future__ import annotations

from statistics import median

from lora_lab.families import Family
from lora_lab.guide.facts import Facts
from lora_lab.guide.pictures_part import USUAL
from lora_lab.guide.rules.base import Fired, Rule
from lora_lab.guide.source import guide

LEAST = {"character": 10, "style": 30, "concept": 15, "outfit": 10, "several": 15}
ONE_SIDED = (
    "eyepatch", "heterochromia", "asymmetrical hair", "asymmetrical clothes", "asymmetrical legwear", "side ponytail",
    "single braid", "single glove", "single thighhigh", "one side up", "prosthetic arm", "scar on face",
    "mismatched legwear",
    "single pauldron", "single wing", "hair over one eye", "single earring",
)  # fmt: skip
OFTEN = 0.3


def _few(f: Facts) -> Fired | None:
    least = LEAST.get(f.making, 10)
    if not f.pictures or f.pictures >= least:
        return None
    text = f"{f.pictures} pictures are few for a {f.making or 'subject'}, {least} is the least"
    return Fired(
        text, "make variants of them in the panel Dataset (img2img at about 0.7, CFG 5 to 7), or crop faces out"
    )


def _flip_sided(f: Facts) -> Fired | None:
    if not f.get("flip_aug"):
        return None
    if f.answers is not None and f.answers.asymmetric:
        return Fired("one side of it differs, and pictures are mirrored", "do not", {"flip_aug": False})
    found = [tag for tag in ONE_SIDED if f.share(tag) >= OFTEN]
    if not found:
        return None
    return Fired(f"pictures are mirrored, and '{found[0]}' is on one side", "do not mirror them", {"flip_aug": False})


def _flip_unused(f: Facts) -> Fired | None:
    if f.get("flip_aug") or not 0 < f.pictures < 30 or (f.answers is not None and f.answers.asymmetric):
        return None
    if any(f.share(tag) >= OFTEN for tag in ONE_SIDED):
        return None
    return Fired(f"{f.pictures} pictures, and none is mirrored", "twice as many for nothing", {"flip_aug": True})


def _side(f: Facts) -> float:
    size = f.get("resolution")
    width, height = (size, size) if isinstance(size, (int, float)) else (size[0], size[1]) if size else (0, 0)
    return float((width * height) ** 0.5)


def _too_large(f: Facts) -> Fired | None:
    side = _side(f)
    if not f.sizes or not side:
        return None
    middle = median((w * h) ** 0.5 for w, h in f.sizes)
    if middle >= 0.8 * side:
        return None
    lower = max(64, int(middle // 64) * 64)
    low = min(lower, int(f.number("min_bucket_reso")) or lower)
    text = f"half of the pictures have fewer than {middle:.0f} x {middle:.0f} pixels, and are enlarged to {side:.0f}"
    return Fired(text, f"train at {lower}, or find larger ones", {"resolution": lower, "min_bucket_reso": low})


def _off_the_family(f: Facts) -> Fired | None:
    side, usual = _side(f), USUAL[f.family]
    if not side or not f.checkpoint or f.checkpoint.lower().startswith("demo"):
        return None
    low, high = (384, 768) if f.family is Family.SD1 else (512, 1024) if f.family is Family.SD2 else (768, 1408)
    if low <= side <= high:
        return None
    text = f"a resolution of {side:.0f} is far from the {usual} that {f.family.value} was made for"
    changes = {"resolution": usual, "max_bucket_reso": max(usual, int(f.number("max_bucket_reso")))}
    changes["min_bucket_reso"] = min(usual, int(f.number("min_bucket_reso")) or usual)
    return Fired(text, f"take {usual}", changes)


def _detail(f: Facts) -> Fired | None:
    a = f.answers
    if a is None or f.family is not Family.SD1 or _side(f) != 512 or (f.vram is not None and 0 < f.vram < 8):
        return None
    if not (a.making == "character" and (a.difficulty >= "E" or a.knows == "furry")):
        return None
    text = "scales, spikes and small parts blur at 512"
    high = max(576, int(f.number("max_bucket_reso")))
    return Fired(text, "576 shows more, for some time and memory", {"resolution": 576, "max_bucket_reso": high})


def _scattered(f: Facts) -> Fired | None:
    if not f.get("enable_bucket") or len(f.buckets) < 6 or not f.pictures:
        return None
    total = sum(f.buckets.values())
    fullest = max(f.buckets.values()) / total
    if fullest >= 0.4 or f.pictures / len(f.buckets) >= 8:
        return None
    side = int(_side(f))
    low, high = max(64, side * 5 // 8 // 64 * 64), max(side, -(-side * 3 // 2 // 64) * 64)
    text = f"{f.pictures} pictures lie in {len(f.buckets)} buckets, the fullest has {fullest:.0%}"
    tighter = f.number("min_bucket_reso") < low or f.number("max_bucket_reso") > high
    changes = {"min_bucket_reso": low, "max_bucket_reso": high} if tighter else {}
    return Fired(text, "allow fewer sizes, or crop pictures to one shape", changes)


def _lonely(f: Facts) -> Fired | None:
    batch = f.number("train_batch_size")
    if batch < 2 or not f.length.batches or not f.length.items:
        return None
    full = f.length.items / batch
    if f.length.batches <= 1.5 * full + 1:
        return None
    text = f"an epoch has {f.length.batches} batches where {full:.0f} would do: many buckets end in a short batch"
    return Fired(text, "crop pictures to fewer shapes, or take a smaller batch", {"train_batch_size": 1})


def _reg_for_style(f: Facts) -> Fired | None:
    if f.making != "style" or not f.reg_pictures:
        return None
    return Fired("a style is trained with regularisation pictures", "leave them out", {"reg_data_dir": ""})


def _reg_for_bad(f: Facts) -> Fired | None:
    a = f.answers
    if a is None or a.making == "style" or f.reg_pictures or (a.good and a.look != "free") or not a.captions:
        return None
    return Fired("the pictures' style or flaws are not wanted, and nothing holds against them",
                 "make regularisation pictures in the panel Dataset")  # fmt: skip


def _reg_few(f: Facts) -> Fired | None:
    if not f.reg_pictures or f.reg_pictures >= 0.5 * f.pictures:
        return None
    text = f"{f.reg_pictures} regularisation pictures come again and again beside {f.pictures} pictures"
    return Fired(text, "make as many as there are training pictures")


def _bent(f: Facts) -> Fired | None:
    found = next((tag for tag in ("chibi", "3d", "sketch", "monochrome", "lineart") if f.share(tag) >= 0.5), None)
    if found is None or f.reg_pictures or f.making in ("style", "concept"):
        return None
    text = f"most pictures are tagged '{found}', and the subject will come out so"
    return Fired(text, "add regularisation pictures, or redraw some by img2img")


def _backgrounds(f: Facts) -> Fired | None:
    if len(f.concepts) < 2:
        return None
    empty = {c.name for c in f.concepts if c.captioned and c.tags.get("no humans", 0) >= 0.6 * c.captioned}
    scenes = sum(c.pictures * c.repeats for c in f.concepts if c.name in empty)
    people = sum(c.pictures * c.repeats for c in f.concepts if c.name not in empty)
    if not empty or scenes <= people:
        return None
    text = f"backgrounds come {scenes} times in an epoch, subjects {people} times: pictures will be empty"
    return Fired(text, "give the backgrounds fewer repeats")


def _drowned(f: Facts) -> Fired | None:
    counts = {c.name: c.pictures * c.repeats for c in f.concepts}
    if len(counts) < 2:
        return None
    low, high = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    if counts[high] < 1.5 * counts[low]:
        return None
    text = f"'{high}' comes {counts[high]} times in an epoch, '{low}' {counts[low]} times: the first takes over"
    return Fired(text, "balance the repeats in the panel Dataset, which proposes them")


RULES = (
    Rule("few-pictures", "few pictures", "10 to 25 are the least for a rare character, 100 the ideal",
         guide("Image preparation"), _few, "warning"),
    Rule("flip-sided", "mirrored, and not the same on both sides", "mirrored pictures put the eye patch on either eye",
         guide("Augmentations"), _flip_sided, "warning", ("flip_aug",)),
    Rule("flip-unused", "not mirrored", "useful wherever left and right do not matter", guide("Augmentations"),
         _flip_unused, "note", ("flip_aug",)),
    Rule("enlarged", "a resolution above the pictures", "what is enlarged is soft, and soft is what is learnt",
         guide("Selecting images"), _too_large, "warning", ("resolution",)),
    Rule("off-the-family", "a resolution far from the checkpoint's", "too high spoils pictures of the usual size",
         guide("Resolution"), _off_the_family, "warning", ("resolution",)),
    Rule("more-detail", "room for details", "small steps up have been better each time", guide("Resolution"), _detail,
         "note", ("resolution",)),
    Rule("scattered", "pictures in too many buckets", "it goes best with most pictures in one bucket, or evenly spread",
         guide("Image size/aspect ratio"), _scattered, "note", ("min_bucket_reso", "max_bucket_reso")),
    Rule("short-batches", "short batches", "a batch holds pictures of one bucket only",
         guide("Image size/aspect ratio"), _lonely, "note", ("train_batch_size",)),
    Rule("reg-for-style", "a style, regularised", "regularisation takes out style: nothing would be left",
         guide('"Dreambooth style"'), _reg_for_style, "warning", ("reg_data_dir",)),
    Rule("reg-for-bad", "bad pictures without regularisation", "it parts the subject from the style of its pictures",
         guide('When to use "finetune" or "dreambooth style" training'), _reg_for_bad, "note", ("reg_data_dir",)),
    Rule("few-reg", "few regularisation pictures", "there should be as many as training pictures",
         guide("Easy route"), _reg_few, "note", ("reg_data_dir",)),
    Rule("bent-style", "pictures of one odd style", "chibi, renders and scribbles come along with the subject",
         guide("Image preparation"), _bent, "note", ("reg_data_dir",)),
    Rule("more-backgrounds", "more backgrounds than subjects", "pictures come out empty then",
         guide("Multiple concept support"), _backgrounds, "warning"),
    Rule("drowned", "one subject drowns another", "all should come about equally often",
         guide("Multiple concept support"), _drowned, "warning"),
)  # fmt: skip
