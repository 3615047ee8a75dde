"""Tooltips of the panel Tags."""

from __future__ import annotations

from lora_lab.guide.glossary import meaning

PREVIEW_OF_CAPTIONS = "What every caption would become; nothing is written before Apply."
EDITOR = {
    "tags": "Captions: have them written, look through them, change many at once, take anything back.",
    "tags_folder": meaning("training set") + " Here: the folder that holds the concept folders.",
    "tags_extension": "The ending of caption files.",
    "tags_open": "Reads the pictures and captions of the folder.",
    "tags_suggestions": "What seems wrong or missing in the captions, with a button for each change.",
    "tags_bulk": "One operation on many captions: trigger, replace, delete, sort and more.",
    "tags_operation": "What is done to each caption.",
    "tags_scope": "Which captions are changed.",
    "tags_preview": PREVIEW_OF_CAPTIONS,
    "tags_past": "Every change so far, newest first. Each can be taken back, also tomorrow.",
    "tags_apply": "Writes the previewed captions. History takes it back.",
    "tags_discard": "Drops the preview; captions stay as they are.",
    "tags_filter": "Shows only pictures whose captions fit. Words: AND, OR, NOT, brackets, untagged, tokens>75.",
    "tags_slot0": "The operation's first value.",
    "tags_slot1": "The operation's second value.",
    "tags_slot2": "The operation's third value.",
    "tags_slot3": "The operation's fourth value.",
}
FILES = {
    "tags_files": "Operations kept as a file to be run again, and kohya's json of captions.",
    "tags_recipe_add": "Puts the operation chosen above, with the filter, behind those in the file.",
    "tags_recipe_run": "Runs all operations of the file one after another, as a preview.",
    "tags_json_read": "Captions out of kohya's metadata file, as a preview.",
    "tags_json_write": "Writes all captions into one file as kohya's scripts read it.",
    "tags_convert": "Captions in other encodings as plain UTF-8, as a preview. Their text stays.",
}
AUTOTAG = {
    "autotag": "Taggers look at the pictures and name what they see; you choose what becomes a caption.",
    "autotag_taggers": meaning("interrogator") + " Several may look at once.",
    "autotag_combine": "How the numbers of several taggers become one.",
    "autotag_general": "A tag is taken when the tagger is at least so sure, from 0 to 1. Lower takes more tags.",
    "autotag_character": "The same for names of characters, which taggers often guess wrongly.",
    "autotag_card": "The threshold that the tagger's makers found best, instead of the slider.",
    "autotag_mcut": "A threshold of its own for each picture: at the largest gap between two tags.",
    "autotag_underscores": "Writes long_hair instead of long hair. Checkpoints are mostly trained without.",
    "autotag_exclude": "Tags that are left out, with commas; * stands for anything.",
    "autotag_replace": "Other tags in place of the tagger's: old=new; old= writes none. Several with semicolons.",
    "autotag_most": "Only so many of the surest tags for each picture.",
    "autotag_finer": "Order, ratings, rare tags, thresholds of single tags.",
    "autotag_ratings": "Whether the tagger's rating becomes a tag too.",
    "autotag_per_tag": "Thresholds of their own for these tags, parted by semicolons.",
    "autotag_characters_first": "Puts names of characters in front, where captions are cut last.",
    "autotag_escape": "Backslashes before brackets. A prompt needs them, training text must not have them.",
    "autotag_run": "Shows the pictures to the taggers, in the background. Seen ones cost nothing the second time.",
    "autotag_preview": PREVIEW_OF_CAPTIONS,
}
GET = {
    "tagger_get": "Taggers are files of some hundred megabytes: download one, or use a folder that you have.",
    "tagger_get_which": meaning("interrogator") + " These are offered for download.",
    "tagger_get_size": "Asks how much a download would bring. Nothing is loaded.",
    "tagger_get_get": "Downloads the chosen tagger, in the background.",
    "tagger_get_again": "Reads the folders of taggers again.",
    "tagger_get_folder": "Where a tagger's files are on this machine.",
    "tagger_get_add": "Puts the folder on the list of taggers.",
}
DESCRIBE = {
    "describe": "Sentences instead of tags, by the webui's captioner.",
    "describe_captioner": "The model that writes the sentences.",
    "describe_mode": "What becomes of captions that exist: kept, replaced, or added to.",
    "describe_run": "Looks at all pictures, in the background.",
    "describe_preview": PREVIEW_OF_CAPTIONS,
}
TIPS = {**EDITOR, **FILES, **AUTOTAG, **GET, **DESCRIBE}
