"""Words: what they mean, in a sentence or two. For tooltips, the glossary and ``lora-lab explain``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One term."""

    word: str
    meaning: str
    also: tuple[str, ...] = ()
    """Other spellings, and settings that are about it."""


WORDS = (
    Word("adapter", "The small trained network that is laid over a checkpoint: a LoRA, a LoHa and so on.",
         ("network",)),
    Word("adaptive optimizer", "An optimizer that finds the size of its steps itself: Prodigy, DAdaptation. Its rate "
         "is 1.",
         ("optimizer_type", "Prodigy", "DAdaptAdam")),
    Word("alpha", "What is learnt is multiplied by alpha / dim. A brake; as dim it is off.", ("network_alpha",)),
    Word("augmentation", "Pictures changed by chance each time they are shown: mirrored, other colours, other crops.",
         ("flip_aug", "color_aug", "random_crop", "face_crop_aug_range")),
    Word("baking", "What people call training."),
    Word("batch", "Pictures that are shown at once and make one step together.", ("train_batch_size",)),
    Word("block", "A stretch of the UNet: IN00 to IN11 (plan, body, pose), M00, OUT00 to OUT11 (colour, texture). BASE "
         "stands for the text encoders.", ("train_blocks", "down_lr_weight", "up_lr_weight", "mid_lr_weight")),
    Word("body plan", "How a body is put together: where arms, head and eyes are."),
    Word("bucket", "Pictures of nearly one shape, trained at one size. A batch never mixes buckets.",
         ("enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps")),
    Word("C3Lier", "A LoRA on linear layers and 3x3 convolutions; kohya calls it LoCon too.", ("conv_dim",)),
    Word("caption", "The text beside a picture: tags parted by commas, or a sentence.", ("caption_extension",)),
    Word("CFG scale", "How strongly a prompt pulls when a picture is made. High values burn colours."),
    Word("checkpoint", "The large model file that a LoRA is trained on and used with.", ("model",)),
    Word("CLIP", "The text encoder of Stable Diffusion 1; SD2 has OpenCLIP, SDXL both."),
    Word("clip skip", "Which of the text encoder's last layers is read: 2 is the last but one. The same in training "
         "and in "
         "pictures.", ("clip_skip",)),
    Word("concept", "A pose, a composition, a thing; also one folder of a dataset."),
    Word("d", "The rate that Prodigy and DAdaptation find. Charts show d * lr.", ("d*lr",)),
    Word("d_coef", "Multiplies Prodigy's d: 0.5 to 2, up to 10 for very small ranks.", ("optimizer_args",)),
    Word("dampening", "What slows learning: a low alpha, dropout, noise offset, min-SNR above 5, weight norms.",
         ("network_alpha", "noise_offset", "min_snr_gamma", "scale_weight_norms", "network_dropout")),
    Word("DAdaptation", "An adaptive optimizer, the forerunner of Prodigy.", ("DAdaptAdam",)),
    Word("deep-fried", "Pictures with colours and contrasts far too strong.", ("deep-frying",)),
    Word("difficulty", "How much a character differs from what checkpoints know: categories A (plain) to I."),
    Word("distill", "To make a LoRA out of the difference of two checkpoints.", ("extract",)),
    Word("dreambooth", "Training a whole checkpoint on one subject; dreambooth style is a LoRA with regularisation "
         "pictures.", ("reg_data_dir", "prior_loss_weight")),
    Word("dropout", "Leaving out a share of the numbers at random, against learning by heart.",
         ("network_dropout", "rank_dropout", "module_dropout", "caption_dropout_rate")),
    Word("embedding", "Words learnt for the text encoder alone (textual inversion).", ("embed", "textual inversion")),
    Word("epoch", "One pass over all pictures, repeats counted.", ("max_train_epochs", "save_every_n_epochs")),
    Word("extension", "An addition to the webui, such as this one."),
    Word("family", "The generation of a checkpoint: SD1, SD2 or SDXL."),
    Word("finetune style", "Training with captions: tags say what can be switched."),
    Word("held-out pictures", "Pictures that are never trained on: their loss tells learning from copying.",
         ("validation_split", "validation_data_dir", "validate_every_n_epochs")),
    Word("hypernetwork", "An old way to change the UNet's attention; LoRAs have taken its place."),
    Word("inference", "Making pictures with a model."),
    Word("interrogator", "A tagger: a small model that names what it sees.", ("tagger",)),
    Word("keyword style", "Training without captions: the folder's name is the word for all of it."),
    Word("kohya", "The author of the scripts whose settings and files most people use."),
    Word("latent", "A picture as the UNet sees it: an eighth of its sides, four numbers a place.", ("cache_latents",)),
    Word("learning rate", "How far each step goes.", ("learning_rate", "unet_lr", "text_encoder_lr", "rate")),
    Word("LierLa", "A LoRA on linear layers only, the usual one.", ("algo",)),
    Word("LoRA", "Low-rank adaptation: two thin matrices beside each large one of the checkpoint."),
    Word("loss", "How far a guess of the noise was off, mean of squares. Noisy by nature."),
    Word("LyCORIS", "A family of other adapters: LoCon, LoHa, LoKr, (IA)^3, DyLoRA and more.", ("algo",)),
    Word("LoCon", "A LoRA that takes 3x3 convolutions in; good for styles.", ("conv_dim", "conv_alpha")),
    Word("LoHa", "Two products of thin matrices, multiplied: a high rank in a small file, slow.", ("loha",)),
    Word("LoKr", "A Kronecker product of small matrices: very small files, tied to their checkpoint.", ("lokr",
         "factor")),
    Word("(IA)^3", "A factor for each channel: tiny, wants a huge rate, does not travel.", ("ia3",)),
    Word("DyLoRA", "Many ranks trained at once, to be cut down later; slow.", ("dylora", "block_size")),
    Word("min-SNR", "Weighs steps with little noise down, so that all count alike; 5 is usual.", ("min_snr_gamma",)),
    Word("mix", "A checkpoint merged out of others."),
    Word("NAI", "NovelAI's leaked model of 2022: ancestor of most anime checkpoints of SD1."),
    Word("noise offset", "A constant added to the noise, for darker darks and brighter brights.", ("noise_offset",)),
    Word("optimizer", "The rule by which gradients become steps.", ("optimizer_type", "optimizer_args")),
    Word("overfitting", "Copying the pictures in place of learning the subject: good only below strength 1, stiff."),
    Word("project", "A folder of pictures with its settings, runs and marks."),
    Word("prior knowledge", "What a checkpoint draws already when it is asked by name."),
    Word("Prodigy", "An adaptive optimizer; the guide's choice and ours.", ("d_coef",)),
    Word("rank", "How much an adapter can hold; its file grows with it.", ("network_dim", "dim", "net dim")),
    Word("regularisation pictures", "Pictures of the subject's class that are trained beside it, so that the class "
         "stays as "
         "it was.", ("reg_data_dir", "prior_loss_weight")),
    Word("repeats", "How often a folder's pictures come in an epoch: the number in its name. For balance."),
    Word("resolution", "The size of pictures in training; a bucket has about as many pixels.", ("resolution",)),
    Word("run", "One training, from the first step to the file."),
    Word("schedule", "How the learning rate moves over a run.", ("lr_scheduler", "lr_warmup_steps", "scheduler")),
    Word("seed", "Where all chance comes from; the same seed gives the same file.", ("seed",)),
    Word("site", "One layer of the checkpoint that takes a piece of the adapter."),
    Word("snapshot", "An adapter saved on the way.", ("save_every_n_epochs", "save_every_n_steps")),
    Word("step", "One update of the adapter, after one batch (or several, with accumulation).",
         ("max_train_steps", "gradient_accumulation_steps")),
    Word("strength", "How strongly a LoRA acts in a prompt: <lora:name:1>. Two numbers are text encoder and UNet, in "
         "this "
         "order."),
    Word("style", "How something is drawn; also a LoRA for that."),
    Word("subject", "What is trained: a character, a thing, a place."),
    Word("tag", "One piece of a caption between commas.", ("shuffle_caption",)),
    Word("text encoder", "The part that turns words into what the UNet is told.", ("TE", "text_encoder_lr")),
    Word("token", "A piece of a word, as the text encoder reads it; 75 fit in one part.", ("max_token_length",)),
    Word("training set", "Pictures and captions together; a dataset.", ("dataset", "train_data_dir")),
    Word("trigger", "The tag that calls the subject; the first of every caption.", ("keep_tokens", "activation word")),
    Word("UNet", "The part that draws: it takes noise away, step by step.", ("unet_lr",)),
    Word("VAE", "The part that turns pictures into latents and back.", ("cache_latents", "no_half_vae")),
    Word("VRAM", "The graphics card's memory."),
    Word("warmup", "The first steps, in which the rate rises from 0.", ("lr_warmup_steps",)),
    Word("webui", "AUTOMATIC1111's stable-diffusion-webui, in which this tab lives.", ("voldy",)),
    Word("weight norms", "An upper limit for weights: combines better, loses a little style.", ("scale_weight_norms",)),
)  # fmt: skip


def find(text: str) -> Iterator[Word]:
    """Words that `text` is, or that are about the setting of that name."""
    key = _key(text)
    return (word for word in WORDS if key in {_key(word.word), *map(_key, word.also)})


def meaning(word: str) -> str:
    """The sentence of a word, for tooltips.

    Raises:
        KeyError: no such word is in the list.
    """
    found = next((one for one in find(word) if _key(one.word) == _key(word)), None)
    if found is None:
        raise KeyError(word)
    return found.meaning


def _key(text: str) -> str:
    return text.strip().lower().replace("_", " ").replace("-", " ")
