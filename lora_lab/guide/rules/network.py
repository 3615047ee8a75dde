"""Rules on kind and size of the adapter, and on what it starts from."""

from __future__ import annotations

from pathlib import PurePath

from lora_lab.families import Family
from lora_lab.guide.difficulty import BY_LETTER, rank_for
from lora_lab.guide.facts import Facts
from lora_lab.guide.rules.base import Fired, Rule
from lora_lab.guide.source import LYCORIS, Source, guide
from lora_lab.guide.training_part import FEW, SDXL_FACTOR

RANKED = ("lora", "locon", "lora-fa")
OF_LYCORIS = ("loha", "lokr", "ia3", "dylora", "diag-oft", "boft", "glora", "full")


def _factor(f: Facts) -> float:
    return SDXL_FACTOR if f.family is Family.SDXL else 1.0


def _rank(f: Facts, rank: int) -> dict[str, float]:
    return {"network_dim": rank, "network_alpha": rank / 2}


def _alpha_above(f: Facts) -> Fired | None:
    if f.get("algo") not in (*RANKED, "loha", "lokr", "dylora", "glora") or f.scale <= 1:
        return None
    dim = f.number("network_dim")
    text = (
        f"network_alpha {f.number('network_alpha'):g} is above network_dim {dim:g}: all is multiplied by {f.scale:.2g}"
    )
    return Fired(text, "lower it", {"network_alpha": dim})


def _dim_for_few(f: Facts) -> Fired | None:
    rank = f.number("network_dim") / _factor(f)
    if f.get("algo") not in RANKED or not f.pictures or f.pictures >= FEW or rank <= 64 or f.making == "style":
        return None
    proposed = max(4, round(32 * _factor(f) / 4) * 4)
    text = f"a rank of {f.number('network_dim'):g} for {f.pictures} pictures leaves much room to learn them by heart"
    return Fired(text, "make it smaller", _rank(f, proposed))


def _dim_for_difficulty(f: Facts) -> Fired | None:
    a = f.answers
    if a is None or a.making != "character" or f.get("algo") not in RANKED:
        return None
    low, high = (rank * _factor(f) for rank in BY_LETTER[a.difficulty].ranks)
    dim = f.number("network_dim")
    if low / 2 <= dim <= 2 * high:
        return None
    proposed = rank_for(a.difficulty, male=a.male, few=a.pictures < FEW, family_factor=_factor(f))
    what = "wasted on" if dim > high else "too small for"
    return Fired(f"a rank of {dim:g} is {what} category {a.difficulty}", f"take {proposed}", _rank(f, proposed))


def _dim_sdxl(f: Facts) -> Fired | None:
    if f.family is not Family.SDXL or f.get("algo") not in RANKED or f.number("network_dim") <= 64:
        return None
    rank = max(4, round(f.number("network_dim") * SDXL_FACTOR / 4) * 4)
    text = f"a rank of {f.number('network_dim'):g} is SD1's size"
    return Fired(text, f"a third to a quarter holds as much: {rank}", _rank(f, rank))


def _dim_most(f: Facts) -> Fired | None:
    if f.get("algo") not in RANKED or f.number("network_dim") <= 768:
        return None
    return Fired(f"network_dim {f.number('network_dim'):g} is beyond what works", "take 128", _rank(f, 128))


def _many_pictures(f: Facts) -> Fired | None:
    rank = f.number("network_dim") / _factor(f)
    if f.pictures < 10_000 or rank >= 64 or f.get("algo") not in RANKED:
        return None
    text = f"{f.pictures:,} pictures in a rank of {f.number('network_dim'):g}"
    return Fired(text, "give them 128", _rank(f, max(4, round(128 * _factor(f) / 4) * 4)))


def _lokr_complex(f: Facts) -> Fired | None:
    a = f.answers
    if f.get("algo") != "lokr" or a is None or a.making != "character" or a.difficulty < "D":
        return None
    rank = rank_for(a.difficulty, male=a.male, few=a.pictures < FEW, family_factor=_factor(f))
    text = f"lokr cannot hold a character of category {a.difficulty} without much patience"
    return Fired(text, "take a plain LoRA", {"algo": "lora", "factor": -1, **_rank(f, rank)})


def _loha_rank(f: Facts) -> Fired | None:
    if f.get("algo") != "loha" or f.number("network_dim") <= 32:
        return None
    text = f"loha with a rank of {f.number('network_dim'):g} may end in numbers that are none"
    return Fired(text, "32 or less: its rank counts squared", _rank(f, 16))


def _loha_memory(f: Facts) -> Fired | None:
    if f.get("algo") != "loha" or f.vram is None or not 0 < f.vram < 8:
        return None
    return Fired(f"loha wants more memory than {f.vram:.0f} GB give", "take a plain LoRA", {"algo": "lora"})


def _tied(f: Facts) -> Fired | None:
    if f.get("algo") not in ("lokr", "ia3"):
        return None
    text = f"{f.get('algo')} is tied to {f.checkpoint or 'the checkpoint that it is trained on'}"
    return Fired(text, "train on the checkpoint that you will use it with, or take a plain LoRA")


def _slow_kind(f: Facts) -> Fired | None:
    if f.get("algo") not in OF_LYCORIS or f.making == "style" or not f.samples or f.samples >= 2000:
        return None
    text = f"{f.get('algo')} learns more slowly than a plain LoRA: {f.samples:,.0f} pictures seen are few for it"
    epochs = max(1, f.length.epochs) * 2
    return Fired(text, "train twice as long", {"max_train_epochs": epochs, "max_train_steps": None})


def _ia3_rate(f: Facts) -> Fired | None:
    if f.get("algo") != "ia3":
        return None
    if f.get("optimizer_type") == "Prodigy":
        try:
            value = float(f.arguments.get("d_coef", "1"))
        except ValueError:
            return None
        if value >= 8:
            return None
        changes = {"optimizer_args": f.with_argument("d_coef", "8")}
        return Fired(f"(IA)^3 wants a huge rate, and d_coef is {value:g}", "8 to 10 is right for it", changes)
    if f.adaptive or f.relative or f.rate("unet") >= 8e-4:
        return None
    text = f"(IA)^3 wants 8 to 10 times the usual rate, and has {f.rate('unet'):g}"
    return Fired(text, "raise it, and let it fall", {"unet_lr": 1e-3, "lr_scheduler": "cosine"})


def _locon_character(f: Facts) -> Fired | None:
    if f.making != "character" or f.get("algo") not in ("lora", "locon") or not f.get("conv_dim"):
        return None
    text = "3x3 convolutions carry the pictures' style into the character and make it stiffer"
    return Fired(text, "leave them out", {"algo": "lora", "conv_dim": None, "conv_alpha": None})


def _style_kind(f: Facts) -> Fired | None:
    if f.making != "style" or f.get("algo") != "lora" or f.get("conv_dim"):
        return None
    dim = int(max(4, f.number("network_dim") // 2))
    changes = {"algo": "locon", "conv_dim": dim, "conv_alpha": dim / 2}
    return Fired("a style is trained without the 3x3 convolutions", "LoCon takes them in", changes)


def _skin(f: Facts) -> Fired | None:
    if f.answers is None or f.answers.look != "skin" or f.get("train_blocks") or f.get("down_lr_weight"):
        return None
    text = "it is to lend colours and details only, and all blocks are trained, the body's too"
    return Fired(text, "train the OUT blocks", {"train_blocks": ["OUT", "BASE"]})


def _resume_rank(f: Facts) -> Fired | None:
    if not f.get("network_weights") or f.get("dim_from_weights"):
        return None
    text = f"the run goes on from {PurePath(str(f.get('network_weights'))).name}, whose rank must be the same"
    return Fired(text, "take sizes from the file", {"dim_from_weights": True})


def _credit(f: Facts) -> Fired | None:
    names = [str(f.get("network_weights") or ""), *map(str, f.get("base_weights") or ())]
    stems = [PurePath(name.replace("\\", "/")).stem for name in names if name]
    comment = str(f.get("training_comment") or "")
    missing = [stem for stem in stems if stem.lower() not in comment.lower()]
    if not missing:
        return None
    said = f"{comment}; " if comment else ""
    text = f"it builds on {', '.join(missing)}, and its file does not say so"
    return Fired(text, "name them in the file", {"training_comment": f"{said}built on {', '.join(missing)}"})


def _works_best(f: Facts) -> Fired | None:
    comment = str(f.get("training_comment") or "").lower()
    if f.get("algo") not in ("lokr", "ia3") or not f.checkpoint or "best with" in comment:
        return None
    stem = PurePath(f.checkpoint).stem
    said = f"{f.get('training_comment')}; " if comment else ""
    text = "who gets the file should know the checkpoint that it works with"
    return Fired(text, "say it in the file", {"training_comment": f"{said}works best with {stem}"})


_RANKS: Source = guide("Character difficulty and settings")
RULES = (
    Rule("alpha-above-dim", "alpha above dim", "weights come out multiplied, and pictures burn", guide("Network Alpha"),
         _alpha_above, "warning", ("network_alpha", "network_dim"), instead_of=("is above network_dim",)),
    Rule("dim-for-few", "a high rank for few pictures", "what has room for more than the subject learns the pictures",
         guide("Net dim (network dimensions)/Rank"), _dim_for_few, "warning", ("network_dim",)),
    Rule("dim-for-difficulty", "rank against difficulty", "low ranks cannot hold odd bodies; high ones are a waste "
         "on plain "
         "characters", _RANKS, _dim_for_difficulty, "note", ("network_dim",)),
    Rule("dim-sdxl", "SD1's rank on SDXL", "a rank of SDXL holds three to four times as much", guide("SDXL"), _dim_sdxl,
         "warning", ("network_dim",)),
    Rule("dim-most", "a rank beyond 768", "it is known to cause trouble", guide("Net dim (network dimensions)/Rank"),
         _dim_most, "warning", ("network_dim",)),
    Rule("dim-for-many", "a small rank for very many pictures", "tens of thousands of pictures fill 128",
         guide("Net dim (network dimensions)/Rank"), _many_pictures, "note", ("network_dim",)),
    Rule("lokr-complex", "lokr for a hard character", "its reduced rank lacks the room from category D on", _RANKS,
         _lokr_complex, "warning", ("algo",)),
    Rule("loha-rank", "loha with a high rank", "its two products multiply: 16 reaches what 256 of a LoRA does",
         guide("LyCORIS-LoHA"), _loha_rank, "warning", ("network_dim", "algo")),
    Rule("loha-memory", "loha on a small card", "it is slow and needs 8 GB or more", guide("LyCORIS-LoHA"),
         _loha_memory, "warning", ("algo",)),
    Rule("tied-kind", "a kind that does not travel", "lokr and (IA)^3 lose their effect on mixes",
         guide("LyCORIS-LoKR"), _tied, "note", ("algo",)),
    Rule("works-best-with", "which checkpoint it works with", "people test it with another one and think it bad",
         guide("Test your model with multiple checkpoints"), _works_best, "note", ("training_comment",)),
    Rule("slow-kind", "a kind that learns slowly", "LyCORIS needs about twice the steps for a character", guide("Cons"),
         _slow_kind, "note", ("algo", "max_train_epochs")),
    Rule("ia3-rate", "(IA)^3's rate", "it has few numbers, and moves them far", guide("LyCORIS-(IA)^3"), _ia3_rate,
         "warning", ("unet_lr", "optimizer_args")),
    Rule("locon-character", "convolutions for a character", "LoCon carries style more than other kinds do",
         guide("LyCORIS-LoCon"), _locon_character, "note", ("conv_dim", "algo")),
    Rule("style-kind", "a style without convolutions", "texture lives in them", LYCORIS, _style_kind, "note",
         ("algo", "conv_dim")),
    Rule("skin-only", "only the skin", "IN blocks hold the body, OUT blocks colour and detail", guide("LoRA blocks"),
         _skin, "note", ("train_blocks",)),
    Rule("resume-rank", "the rank of the LoRA to go on from", "another rank cannot be continued",
         guide("Resuming training"), _resume_rank, "warning", ("network_weights", "dim_from_weights")),
    Rule("credit", "credit", "who builds on a work of others names it", guide("Resuming training"), _credit, "note",
         ("network_weights", "base_weights", "training_comment")),
)  # fmt: skip
