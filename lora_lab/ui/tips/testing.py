"""Tooltips of the panel Test."""

from __future__ import annotations

from lora_lab.guide.glossary import meaning

GRID = {
    "test": "What a LoRA does: grids of block weights, strengths and snapshots, and what they say.",
    "test_lora": meaning("LoRA") + " Here the file to look at.",
    "test_keep": "Keeps the prompts under the name at the left; an empty box forgets that list.",
    "test_negative": "What pictures shall not show.",
    "test_mode": "What a row of the grid is.",
    "test_presets": "Lists of block weights by name; each is a row.",
    "test_more": "How pictures are made, and how much of the work cells may share.",
    "test_width": "Of each picture in pixels.",
    "test_height": "Of each picture in pixels.",
    "test_steps": "Sampling steps of each picture: more take longer.",
    "test_cfg_scale": meaning("CFG scale"),
    "test_sampler": "How noise becomes a picture.",
    "test_large": "Grids of more than 500 pictures are made only with this tick.",
    "test_refresh": "Finds files that came into the LoRA folder since the page was opened.",
    "test_make": "Makes the base picture without a change, then the grid.",
    "test_stop": "Stops at once; what is made is kept, and the same grid goes on later.",
    "test_plan": "Counts rows, columns and pictures. Makes none.",
    "test_name": "A name for the LoRA folder, or a path.",
    "test_bake": "A new LoRA that does at strength 1 what the clicked picture's row does.",
    "test_send": "The clicked row's weights as shares of the learning rate in the fold Blocks of Train.",
    "test_save": "The grid as one picture with labels, as a page to look through, and as single files.",
    "test_files": "What was saved.",
}
OWN = {
    "test_own": meaning("block"),
    "test_own_which": "The preset that the sliders begin with.",
    "test_own_look": "Puts the chosen preset onto the sliders.",
    "test_own_weights": "The sliders as a list; type here for values beyond them.",
    "test_own_name": "The preset's name, as it is written in prompts.",
    "test_own_note": "What the preset is for.",
    "test_own_save": "Keeps the sliders under this name, for grids and prompts.",
    "test_own_delete": "Deletes a preset of yours; the built-in ones stay.",
}
ANSWERS = {
    "answers": "Questions that many small pictures answer; a tagger looks at them.",
    "answers_tagger": meaning("interrogator") + " Here it says what is in made pictures.",
    "answers_apart": "Strengths of both apart from each other. " + meaning("text encoder"),
    "answers_checkpoints": "Loads each of them, and in the end the one that is loaded now.",
    "answers_map": "Each block alone and left out: what it draws, and weights that keep the concept.",
    "answers_strengths": "From which strength on the concept is there, and where prompts are no longer obeyed.",
    "answers_diagnose": "Looks for copies of your pictures, burnt colours and other faults, with what to change.",
    "answers_prior": "Pictures without any LoRA: " + meaning("prior knowledge"),
    "answers_try": "The proposed weights as one more row of the grid.",
    "answers_send": "The proposed weights as shares of the learning rate in the fold Blocks of Train.",
}
TIPS = {**GRID, **OWN, **ANSWERS}
