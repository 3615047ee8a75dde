"""Each heading of the guide: what it asks, where in the tool that lives, and what holds it there (a test)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """One row of docs/guide.md."""

    title: str
    asks: str
    where: str
    link: str
    """A document, or a file of the source, from the root."""
    test: str
    """A file of tests, from the root; empty where there is nothing to hold."""


_INSTALL = ("install.py", "tests/host/test_webui_install.py")
_RECOMMEND = ("lora_lab/guide/recommend.py", "tests/guide/test_numbers.py")
_RULES = "tests/guide/test_rules.py"
_LEARNING = ("lora_lab/guide/rules/learning.py", _RULES)
_NETWORK = ("lora_lab/guide/rules/network.py", _RULES)
_PICTURES = ("lora_lab/guide/rules/pictures.py", _RULES)
_CAPTIONS = ("lora_lab/guide/rules/captions.py", _RULES)
_CHECKPOINT = ("lora_lab/guide/rules/checkpoint.py", _RULES)
_NOISE = ("lora_lab/guide/rules/noise.py", _RULES)
_DIAGNOSIS = ("lora_lab/guide/diagnosis.py", "tests/guide/test_numbers.py")
_KINDS = ("lora_lab/guide/rules/network.py", "tests/training/test_kinds.py")
_TAGS = ("docs/tags.md", "tests/tagging/test_suggestions.py")
_REG = ("lora_lab/workflow/regularisation.py", "tests/workflow/test_regularisation.py")
_OPTIMIZERS = ("docs/settings.md", "tests/training/test_optimizers.py")
_WORDS = ("lora_lab/guide/glossary.py", "tests/ui/test_advice_part.py")
_BLOCKS = ("lora_lab/network/block_words.py", "tests/training/test_blocks.py")
_LOOP = ("lora_lab/ui/train_panel.py", "tests/ui/test_train_panel.py")
_CHECKS = ("docs/datasets.md", "tests/dataset/test_checks.py")
_GACHAMAX = ("docs/gachamax.md", "tests/workflow/test_gachamax.py")
_MERGE = ("docs/tools.md", "tests/surgery/test_into_checkpoint.py")

HEADINGS = (
    Heading("Installing kohya's scripts (Ubuntu, Python 3.10, phantom versions)", "a second Python beside the webui's",
            "nothing to install beside: the tab trains on the live checkpoint, and no package of the webui is moved",
            *_INSTALL),
    Heading("Kohya-ss by bmaltais", "kohya's GUI in place of scripts", "its JSON files are read, and written for the "
            "scripts",
            "docs/kohya.md", "tests/training/importing/test_files.py"),
    Heading("Glossary", "what the words mean", "Words in the panel Train; `lora-lab explain`; below", *_WORDS),
    Heading("Why so many scripts, it's confusing!", "why there are launch scripts", "a tab and a command line; "
            "launch scripts are "
            "read as text and never run", "docs/kohya.md", "tests/training/importing/test_scripts.py"),
    Heading("Why aren't there more precise numbers?", "why only ranges are given", "each value is told with its "
            "reason and "
            "source, and can be changed back", *_RECOMMEND),
    Heading("I want to make a perfect LORA...", "not to plan too long", "Recommend settings, Start: two clicks to a "
            "first bake",
            *_LOOP),
    Heading("So what do I do first?", "to bake first and mend later", "the same; then the diagnosis from what is seen",
            *_DIAGNOSIS),
    Heading("Is dreambooth useless now?", "what whole checkpoints are still for", "not trained here: LoRAs are "
            "merged into "
            "checkpoints, and algo full trains all weights of a layer", *_MERGE),
    Heading("But I heard LoRA sucks compared to dreambooth", "whether a LoRA is as good",
            "measured side by side with full "
            "fine-tuning", "docs/performance.md", ""),
    Heading("Are hypernetworks useless now?", "hypernetworks", "left out: the guide calls them obsolete itself",
            "docs/guide.md", ""),
    Heading("Are embeds (textual inversion) useless now?", "embeddings", "left out: another format for another use; "
            "proposed "
            "where they are enough (rule known-plain)", *_CHECKPOINT),
    Heading('Making LORAs from the difference between two models ("distill")', "a LoRA out of two checkpoints",
            "Tools, extract; `lora-lab extract`", "docs/tools.md", "tests/surgery/test_extract.py"),
    Heading("Mixing LoRAs into checkpoints", "LoRAs as ingredients of a mix", "Tools, merge; `lora-lab merge`",
            *_MERGE),
    Heading("What do I need to get started?", "pictures, a card, a base model, a tagger",
            "rule few-pictures; memory is told before "
            "the start; WD taggers in the panel Tags", *_PICTURES),
    Heading("Character difficulty", "categories A to I and their ranks", "What are you making?; `lora-lab advise` asks",
            "lora_lab/guide/difficulty.py", "tests/guide/test_numbers.py"),
    Heading("Female bias", "half a category more for male characters", "the switch 'a male character'",
            "lora_lab/guide/difficulty.py", "tests/guide/test_numbers.py"),
    Heading("Prior training", "what the checkpoint knows already", "the switch 'draws it already'; rules known-plain "
            "and "
            "common-trigger", *_CHECKPOINT),
    Heading("Intended results", "what it is to be used for", "'how it is to look'; rules skin-only and reg-for-bad; "
            "diagnosis",
            *_NETWORK),
    Heading("Character difficulty and settings", "ranks by category; LoKr up to C only",
            "rules dim-for-difficulty, lokr-complex",
            *_NETWORK),
    Heading("Vehicles", "C to G, up for realism", "`difficulty.vehicle`", "lora_lab/guide/difficulty.py",
            "tests/guide/test_numbers.py"),
    Heading("Starting settings", "a table of ranges", "named bases: `lora-lab advise --base list`",
            "lora_lab/guide/bases.py",
            "tests/guide/test_numbers.py"),
    Heading("Optimal settings", "that there are none", "tries are compared: sweeps, the ranking of runs",
            "docs/queue.md",
            "tests/workflow/test_sweep.py"),
    Heading('The "Easy settings"', "DAdaptAdam's preset", "the bases easy and easy-prodigy", "lora_lab/guide/bases.py",
            "tests/cli/test_advise.py"),
    Heading("What model to train from?", "shared ancestry; NAI or SD 1.5; matching tags",
            "rules mix, drawn-on-photo, dialect",
            *_CHECKPOINT),
    Heading("Legal concerns over NAI", "whether one may", "left out: no question of settings", "docs/guide.md", ""),
    Heading("AnyLoRA", "a checkpoint made to train on", "rule anylora", *_CHECKPOINT),
    Heading("The furries keep asking", "NAI or fluffyrock", "rules furry-base, dialect, more-detail", *_CHECKPOINT),
    Heading("Learning rates", "one for all, or one for each part", "the settings unet_lr, text_encoder_lr, "
            "learning_rate",
            *_OPTIMIZERS),
    Heading("Text encoder learning rate", "what it does, and how high", "rules text-rate, unet-only, sdxl-text; "
            "diagnosis",
            *_LEARNING),
    Heading("Unet learning rate", "1e-4; signs of too much", "rules high-rate, low-alpha; diagnosis", *_LEARNING),
    Heading("Optimizers", "which, with which arguments", "all of them by kohya's names; recommended with arguments",
            *_OPTIMIZERS),
    Heading("Lion", "odd results", "rules lion, high-rate (its rates are 3 to 10 times smaller)", *_LEARNING),
    Heading("AdaFactor", "weak, little memory", "Adafactor with kohya's rules for it", *_OPTIMIZERS),
    Heading("DAdaptation", "its arguments, constant, rates of 1, alpha 1 to half", "rules dadapt-arguments, "
            "dadapt-schedule, "
            "adaptive-rate, memory-adaptive", *_LEARNING),
    Heading("Prodigy", "its arguments, as an upgrade", "recommended; rules prodigy-arguments, prodigy-warmup",
            *_LEARNING),
    Heading("d", "the rate that acts", "shown while it trains as d * lr, and drawn in TensorBoard; read aloud beside "
            "the curve",
            "lora_lab/guide/loss.py", "tests/guide/test_numbers.py"),
    Heading("d_coef", "0.5 to 2, up to 10 for tiny ranks", "rules d-coef, ia3-rate", *_LEARNING),
    Heading("Schedulers (Prodigy)", "constant, warmup, cosine", "recommended: cosine, as its authors say; rule "
            "prodigy-warmup",
            *_LEARNING),
    Heading("Min. SNR Gamma (Prodigy)", "5 or less for characters, more for styles", "rule min-snr-kind", *_NOISE),
    Heading("Scheduler", "what each does; a graph is to be made", "drawn before the start, with warmup, restarts and "
            "ends",
            "lora_lab/ui/schedule_view.py", "tests/ui/test_svg.py"),
    Heading('"Finetune style" (Default)', "captions beside pictures", "captions are found, told of, edited in the "
            "panel Tags", *_TAGS),
    Heading("Multiple concept support", "balance; fewer backgrounds", "rules drowned, more-backgrounds, "
            "keyword-several; repeats "
            "are proposed in the panel Dataset", *_PICTURES),
    Heading('"Dreambooth style"', "regularisation, twice the steps, never for styles", "recommended where it fits; "
            "rules "
            "reg-for-style, few-steps", *_PICTURES),
    Heading('When to use "finetune" or "dreambooth style" training', "bad pictures, unwanted style",
            "the method stands above the "
            "recommended settings; rule reg-for-bad", *_RECOMMEND),
    Heading('"Keyword style"', "no captions, the folder's word", "works as in kohya's scripts; rules keyword-hard, "
            "long-trigger",
            *_CAPTIONS),
    Heading("Resuming training", "going on from a LoRA; credit", "network_weights, stages; rules resume-rank, "
            "resumed-adaptive, "
            "credit", "docs/starting.md", "tests/training/test_starting.py"),
    Heading("LyCORIS (LoHA/LoCon/Etc)", "the other kinds", "the setting algo: all of them and more", *_KINDS),
    Heading("Pros", "small files, styles, huge datasets", "recommended for styles and for small files", *_RECOMMEND),
    Heading("Cons", "slow, dampened, more memory", "rules slow-kind, loha-memory", *_KINDS),
    Heading("LyCORIS-LoCon", "for styles; stiff characters", "rules style-kind, locon-character", *_KINDS),
    Heading("LyCORIS-LoHA", "slow, burns at high ranks", "rules loha-rank, loha-memory", *_KINDS),
    Heading("LyCORIS-LoKR", "tiny files, simple characters", "rules lokr-complex, tied-kind", *_KINDS),
    Heading("LyCORIS-(IA)^3", "huge rates, does not travel", "rules ia3-rate, tied-kind", *_KINDS),
    Heading("Conclusion (character-oriented)", "LoRA for characters, LyCORIS for styles", "recommended so",
            *_RECOMMEND),
    Heading("SDXL", "bf16, a third of the rank, the UNet alone", "recommended so; rules dim-sdxl, sdxl-text, "
            "sdxl-half, memory-sdxl",
            *_NOISE),
    Heading("Be careful (SDXL)", "that its mixes are young", "outdated: three years have passed", "docs/guide.md", ""),
    Heading("Weighted training", "training some blocks only", "train_blocks, rates and ranks by block, on a U of "
            "sliders", *_BLOCKS),
    Heading("The Unet and its blocks", "IN, MID, OUT", "Words; names of blocks everywhere", *_BLOCKS),
    Heading("LoRA blocks", "OUT for styles, IN for concepts, skins", "rule skin-only; 'how it is to look'", *_NETWORK),
    Heading("Testing weights before training", "presets of lora-block-weight", "the panel Test: grids by preset and "
            "block, no other "
            "extension", "lora_lab/testing/grid.py", "tests/testing/test_grid.py"),
    Heading("LyCORIS (block presets)", "longer lists", "all lengths are read, and too short or long ones are refused "
            "by name",
            "lora_lab/network/vectors.py", "tests/network/test_vectors.py"),
    Heading("Setting up (weighted training)", "promised, never written", "the fold Blocks in the panel Train",
            *_BLOCKS),
    Heading("Formats and folders", "png, jpg, webp, bmp; `<repeats>_<name>`", "the dataset check names each file "
            "that is passed "
            "over", "docs/files.md", "tests/dataset/test_scan.py"),
    Heading("Selecting images", "accurate, sharp, nobody else at the edges, close-ups",
            "checks for blur, bars, light, duplicates, "
            "cut and covered subjects; rule enlarged", *_CHECKS),
    Heading("The short version", "30 to 100 decent pictures", "rule few-pictures", *_PICTURES),
    Heading("The long version", "a strategy for flexible models", "suggestions for tags that switch", *_TAGS),
    Heading("Consistency of individual elements", "a logo that appears everywhere", "suggestions on tags that are on "
            "nearly all "
            "pictures", *_TAGS),
    Heading("Teaching individual elements", "pictures with and without it", "suggestions toggles, few-toggles", *_TAGS),
    Heading("Image size/aspect ratio", "few, balanced buckets; 320 to 768", "recommended so; rules scattered, "
            "short-batches; buckets "
            "as a chart", *_PICTURES),
    Heading("Regularisation images", "folders, amount, repeats", "Regularisation in the panel Dataset; kohya's "
            "counting",
            *_REG),
    Heading("Easy route", "as many as pictures, of the class", "made with the loaded checkpoint; rule few-reg", *_REG),
    Heading("Hard route", "one for each picture: its caption, DDIM, the training's seed", "made so on a click", *_REG),
    Heading("Random images", "any nice pictures", "any folder can be reg_data_dir", *_REG),
    Heading("Tagging", "an interrogator, and its gun safety", "tagging writes only what is shown first, with undo",
            *_TAGS),
    Heading("When to tag characters/styles", "the trigger first, everywhere", "rules trigger-first, no-trigger, "
            "keep-tokens",
            *_CAPTIONS),
    Heading("Tags and details", "on and off", "suggestions toggles and shared tags", *_TAGS),
    Heading("What to tag", "obvious things, poses", "what the tagger nearly saw; suggestions on poses", *_TAGS),
    Heading("What not to tag", "plain backgrounds, faces", "rule plain-background; suggestions", *_CAPTIONS),
    Heading("False positives/autotagging", "wrong colours, sparkles for stars", "contradictions, odd colours, rare "
            "tags", *_TAGS),
    Heading("Consolidating tags", "boots, red footwear, red boots", "the suggestion consolidate", *_TAGS),
    Heading("Tag debugging", "what is too insistent is tagged wrong", "diagnosis: one element cannot be got rid of",
            *_DIAGNOSIS),
    Heading("CLIP skip", "the same as in pictures", "rule clip-skip; empty takes the webui's own", *_CHECKPOINT),
    Heading("Number of steps/epochs", "steps as arithmetic, 1,000 and more", "drawn in the panel Train, with what "
            "each number does; "
            "rules few-steps, many-steps, snapshots, repeats", "lora_lab/guide/arithmetic.py",
            "tests/guide/test_numbers.py"),
    Heading("Learn dampening", "what slows learning", "the table under Words and below; rule dampened",
            "lora_lab/guide/dampening.py", _RULES),
    Heading("Net dim (network dimensions)/Rank", "64; less for plain, 128 at most", "recommended by subject; rules "
            "dim-for-few, "
            "dim-for-many, dim-most", *_NETWORK),
    Heading("Network Alpha", "a brake; never above the rank", "rules alpha-above-dim, low-alpha", *_NETWORK),
    Heading("Noise offset", "0.06 to 0.1; burns", "rule noise-offset-high; 'dull colours'", *_NOISE),
    Heading("Resolution", "512 or 576", "recommended; rules more-detail, off-the-family, enlarged", *_PICTURES),
    Heading("Augmentations", "flip, colour, crop; what forbids the cache", "refused together with the cache, with "
            "what to do; rules "
            "flip-sided, flip-unused", "lora_lab/dataset/options.py", "tests/dataset/test_augment.py"),
    Heading("Min. SNR Gamma", "5; 1 is strong, 20 nothing", "our default; rule min-snr-range", *_NOISE),
    Heading("Scale Weight Norms", "1; combines better", "the switch for flexible LoRAs; rule weight-norms", *_NOISE),
    Heading("Seed", "a bad one is rare", "rule bad-seed", *_LEARNING),
    Heading("Loss", "0.05 to 0.15, and what it is not", "'What this curve says' under each run",
            "lora_lab/guide/loss.py",
            "tests/guide/test_numbers.py"),
    Heading("Why testing?", "many prompts, many pictures", "previews at each snapshot; grids in the panel Test",
            "lora_lab/testing/grid.py", "tests/testing/test_grid.py"),
    Heading("Strength (at generation time)", "1.0 is right", "diagnosis: good only below, or above 1", *_DIAGNOSIS),
    Heading("Test your model with multiple checkpoints", "others use others", "rules tied-kind, works-best-with; a "
            "note goes into the "
            "file", *_NETWORK),
    Heading("Overfitting", "what it looks like, and remedies", "diagnosis; rules by-heart, many-steps; snapshots "
            "side by side",
            *_DIAGNOSIS),
    Heading("If you have the additional-networks extension", "UNet and text encoder apart",
            "rates from the strengths that look "
            "right", *_DIAGNOSIS),
    Heading("Debugging tagging", "straps and bags that stay", "diagnosis; suggestions", *_DIAGNOSIS),
    Heading("Rare character/OC HOWTO", "few crappy pictures", "variants by img2img, GACHAMAX, regularisation",
            *_GACHAMAX),
    Heading("Image preparation", "10 to 25 pictures, renders, odd styles", "rules few-pictures, bent-style",
            *_PICTURES),
    Heading("Image editing", "Krita", "left out: a paint program; repairs, crops and flips are in the panel Dataset",
            "docs/datasets.md", "tests/dataset/test_repairs.py"),
    Heading("Quick Krita starter pack", "four brushes", "left out, as above", "docs/guide.md", ""),
    Heading("Using the AI to help you out", "img2img at about 0.7, inpainting", "variants in the panel Dataset "
            "(img2img at 0.7); "
            "inpainting is the webui's", "lora_lab/workflow/variants.py", "tests/ui/test_pictures_panel.py"),
    Heading("Using raw AI outputs as inputs", "CFG 5 to 7, be picky", "variants and GACHAMAX hold it there",
            *_GACHAMAX),
    Heading("The GACHAMAX Temporary LoRA approach (last resort)", "rounds from one picture",
            "GACHAMAX in the panel Dataset",
            *_GACHAMAX),
    Heading("General advice", "several tries, several checkpoints", "the list of runs; sweeps", "docs/queue.md",
            "tests/workflow/test_sweep.py"),
    Heading("For readers with art skills", "own pictures", "nothing to build: own pictures are pictures",
            "docs/guide.md", ""),
    Heading("Sample PowerShell script", "its values", "read as it stands; the base script-powershell", "docs/kohya.md",
            "tests/training/importing/test_scripts.py"),
    Heading("Sample bash script", "its values", "read as it stands; the base script-bash", "docs/kohya.md",
            "tests/training/importing/test_scripts.py"),
)  # fmt: skip


@dataclass(frozen=True)
class Correction:
    """Something in the guide that is wrong or outdated."""

    says: str
    so: str
    evidence: str


CORRECTIONS = (
    Correction("`<lora:name:A:B>`: A is the UNet's strength, B the text encoder's", "the first number is the text "
               "encoder's, the "
               "second the UNet's; one number is both", "the webui's Lora extension reads `positional[1]` as te and "
               "`positional[2]` "
               "as unet; lora-block-weight counts the same way"),
    Correction("block weights are given as `lwb=`", "the word is `lbw=` (or `w=`)", "sd-webui-lora-block-weight, "
               "`syntaxdealer(items, "
               "\"lbw=\")`; an unknown item is passed over in silence"),
    Correction("presets for LyCORIS with 25 values", "they need 26: BASE comes first", "the extension's table of "
               "lengths is 12, 17, "
               "20, 26, 61; another length is refused"),
    Correction("both scripts set alpha to the rank", "its own text calls that pretty bad for adaptive optimizers and "
               "puts alpha "
               "between 1 and half of the rank; with AdamW8bit at 1e-4 it "
               "works", "`--network_alpha=\"$network_dim\"` and "
               "`$network_alpha = 128` beside `$network_dim = 128`"),
    Correction("alpha scales weights when they are saved", "it scales what the adapter adds in every step (alpha / "
               "dim), and stands in "
               "the file as a number of its own", "kohya's `lora.py`: `scale = alpha / lora_dim` in the forward pass"),
    Correction("`$noise_offset` of the PowerShell script", "it is set and never handed to the trainer",
               "the launch line has no "
               "`--noise_offset`"),
    Correction("`--face_crop_aug_range` beside buckets (bash script)", "with buckets it has no effect",
               "kohya's dataset code crops "
               "faces only where buckets are off; we say so before the start"),
    Correction("learning rates 0.005 to 0.0001 with AdamW", "0.005 burns; 1e-4 is the usual, 1e-3 the most",
               "its own section on the "
               "UNet; rule high-rate"),
    Correction("Prodigy with d_coef=2 and safeguard_warmup=False", "its authors advise safeguard_warmup=True, "
               "use_bias_correction=True, "
               "weight_decay=0.01 and the usual d_coef of 1 for diffusion models", "README of konstmish/prodigy"),
    Correction("the batch is multiplied into the rate", "the root of it suits Adam's kin", "arXiv 2205.10287"),
    Correction("fp16 in both scripts", "bf16 where the card has it (RTX 30 and later): no overflow, no gradient "
               "scaling",
               "kohya's notes on SDXL; the guide's own section on SDXL"),
    Correction("SDXL's training will not start with a text encoder's rate", "it does today, and is still advised "
               "against",
               "kohya's docs/train_SDXL-en.md"),
    Correction("loss is the likeness to the training pictures", "it is the error in guessing noise, and differs by "
               "the amount of noise "
               "far more than by likeness", "see *What this curve says*; held-out loss at fixed noise tells more"),
    Correction("a LyCORIS extension is needed", "the webui reads them itself since 1.5", "its built-in Lora extension"),
    Correction("a maximum rank of 768", "a rank above a layer's width holds no more: 320 is the narrowest of SD1",
               "a warning names "
               "the layers"),
)  # fmt: skip
