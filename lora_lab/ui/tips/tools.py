"""Tooltips of the panel Tools. What all tools ask has one text for all of them."""

from __future__ import annotations

from lora_lab.guide.glossary import meaning
from lora_lab.ui.tools_forms import TOOLS, Tool

EVERYWHERE = {
    "precision": "Of the numbers in the file: fp16 is half as large as float; bf16 is less exact.",
    "out": "What the new file is called, and where it goes.",
    "force": "Off: a file that exists is left alone, and nothing is written.",
    "look": "Reads the files and says what would come of it. Writes nothing.",
    "go": "Does it, in the background.",
    "pick": "Adds a line for this LoRA above; strengths are typed behind its name.",
    "fold_alpha": "The same LoRA in other numbers, for programs that read no alpha. " + meaning("alpha"),
    "convs": meaning("LoCon"),
    "outside": "Input and output convolutions, and those of time and labels.",
    "norms": "Norms too, whole.",
    "biases": "Biases of layers too, whole; the webui does not read them.",
    "ranks": meaning("rank") + " With commas; each becomes a file.",
}
OWN = {
    "extract_base": meaning("checkpoint") + " The one that the LoRA will be laid over.",
    "extract_tuned": "The checkpoint whose drawing the LoRA shall give.",
    "into_base": meaning("checkpoint") + " The one that takes the LoRAs in; its file stays.",
    "undo_base": "A checkpoint that was merged here: its recipe is in the file.",
    "resize_source": "The file whose rank is changed.",
    "convert_source": meaning("LoRA"),
    "split_source": meaning("DyLoRA"),
}
FILES = {
    "tools": "Extract, merge, resize, bake, convert, inspect and find LoRA files.",
    "tools_refresh": "Reads the folders of LoRAs and checkpoints again.",
    "tools_stop": "Stops the tool at work; no half file is left.",
    "tools_inspect": "What is in a LoRA's file, its sizes and training settings; edit its card.",
    "tools_inspect_lora": meaning("LoRA") + " Here the file to look into.",
    "tools_inspect_spectrum": "How many ranks of each layer are used; takes a while. " + meaning("site"),
    "tools_inspect_tokens": meaning("token") + " Those that the LoRA changes most; needs the checkpoint.",
    "tools_inspect_look": "Reads the file, in the background.",
    "tools_inspect_edit": "What the webui shows of a LoRA, and what stands in its file.",
    "tools_inspect_card_trigger": "What the webui adds to a prompt when the card is clicked.",
    "tools_inspect_card_weight": "The strength that the webui writes when the card is clicked.",
    "tools_inspect_card_negative": "What the webui adds to the negative prompt.",
    "tools_inspect_card_notes": "Your notes on the card.",
    "tools_inspect_metadata_title": "In the file itself: its title.",
    "tools_inspect_metadata_author": "In the file itself: who made it.",
    "tools_inspect_metadata_description": "In the file itself: what it is.",
    "tools_inspect_metadata_trigger": "In the file itself: the words that call the subject.",
    "tools_inspect_metadata_usage": "In the file itself: how it is used best.",
    "tools_inspect_metadata_comment": "In the file itself: anything else.",
    "tools_inspect_preview": "The picture that the webui shows on the card.",
    "tools_inspect_force": "Off: a preview that exists is left alone.",
    "tools_inspect_save": "Writes card, metadata and preview; weights stay as they are.",
    "tools_library": "Finds LoRAs by name, tags, trigger and training settings.",
    "tools_library_text": "All words must be there; -word must not.",
    "tools_library_folder": "Where to look, with all folders inside.",
    "tools_library_loaded": "Only LoRAs whose file names the loaded checkpoint.",
    "tools_library_search": "Searches, in the background; the first time reads every file.",
}


def asked(tool: Tool) -> set[str]:
    """Names of what a tool's form has."""
    picks = {"pick"} if any(ask.kind == "uses" for ask in tool.asks) else set()
    return {ask.name for ask in tool.asks} | {"out", "force", "look", "go"} | picks


TIPS = {
    **{f"tools_{tool.name}": tool.about for tool in TOOLS},
    **{f"tools_{tool.name}_{ask}": text for tool in TOOLS for ask, text in EVERYWHERE.items() if ask in asked(tool)},
    **{f"tools_{name}": text for name, text in OWN.items()},
    **FILES,
}
