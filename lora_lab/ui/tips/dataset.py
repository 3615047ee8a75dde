"""Tooltips of the panel Dataset."""

from __future__ import annotations

from lora_lab.guide.glossary import meaning

REPAIRS = {
    "flip": "A mirrored picture beside the original, with its caption. Not for a subject whose sides differ.",
    "turn": "A picture turned by a quarter clockwise beside the original, with its caption.",
    "flatten": "See-through parts laid on white, as a new picture beside the original.",
    "away": "Takes the picture and its caption out of training; both are kept and can be brought back.",
}
PLACES = {
    "dataset": "Choose the folder of pictures, and see what of it would hurt before anything is trained.",
    "dataset_more": meaning("bucket"),
    "dataset_check": "Looks through the folder: names what will hurt, why, and what to do. Changes nothing.",
    "dataset_use": "Hands the folder and the sizes to Train. Check first.",
    "dataset_pictures": "Pictures of the folder, as they were found.",
}
CONCEPTS = {
    "concepts": meaning("concept"),
    "concepts_concept": meaning("concept") + " Here the folder to change.",
    "concepts_repeats": meaning("repeats"),
    "concepts_name": "The folder's new name, without the number in front.",
    "concepts_reg": "A new concept holds regularisation pictures. " + meaning("regularisation pictures"),
    "concepts_rename": "Gives the chosen concept the repeats and the name above.",
    "concepts_create": "A new folder with the repeats and the name above, to put pictures into.",
    "picture": "One picture as training will see it: crop, repair, put aside.",
    "picture_picture": "The picture to look at.",
    "picture_view": "Scaled and cropped to its bucket, as a step sees it.",
    "picture_crop": "Cuts the box above out of the picture into a new one, with the caption. The original stays.",
    "picture_aside": "Pictures that were put aside.",
    "picture_back": "Brings the chosen pictures back into training.",
    **{f"picture_{name}": text for name, text in REPAIRS.items()},
}
PICTURES = {
    "pictures": "The same for several pictures at once, and new variants of them. Click pictures to choose.",
    "pictures_concept": meaning("concept") + " Here the folder that is shown.",
    "pictures_page": "Which page of the pictures is shown.",
    "pictures_upscaler": "What makes small pictures larger: those of the webui, or plain Lanczos.",
    "pictures_factor": "How many times larger each side becomes.",
    "pictures_upscale": "Larger copies of the chosen pictures beside the originals, with their captions.",
    "pictures_steps": "Sampling steps of each variant: more take longer.",
    "pictures_negative": "What variants shall not show.",
    "pictures_make": "Variants of the chosen pictures by img2img with the loaded checkpoint; you keep or drop each.",
    "pictures_img2img": "The first chosen picture into the webui's tab img2img, with its caption as prompt.",
    "pictures_inpaint": "The first chosen picture into the webui's inpainting, with its caption as prompt.",
    "pictures_take": "What img2img has made of the sent picture, as new pictures of the dataset.",
    **{f"pictures_{name}": text for name, text in REPAIRS.items()},
}
REGULARISATION = {
    "regularisation": meaning("regularisation pictures"),
    "regularisation_route": "Hard answers each of your pictures by one; easy repeats one prompt; random mixes tags.",
    "regularisation_negative": "What the pictures shall not show.",
    "regularisation_steps": "Sampling steps of each picture: more take longer.",
    "regularisation_cfg_scale": meaning("CFG scale"),
    "regularisation_batch_size": meaning("batch") + " Here: made at once. A larger one takes more memory.",
    "regularisation_sampler": "How noise becomes a picture; DDIM is usual for these.",
    "regularisation_captions": "Writes each prompt beside its picture as a caption.",
    "regularisation_look": "How many, where to and from which prompts, before anything is made.",
    "regularisation_make": "Makes them with the loaded checkpoint, in the background.",
    "regularisation_use": "Sets reg_data_dir to their folder, here and in Train.",
    "regularisation_pictures": meaning("regularisation pictures") + " These were made.",
}
TIPS = {**PLACES, **CONCEPTS, **PICTURES, **REGULARISATION}
