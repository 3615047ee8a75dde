"""The captions of a run before it starts: ten as the text encoder will get them, and where they are cut."""

from __future__ import annotations

from lora_lab.training.text.caption_preview import CaptionPreview, ShownCaption
from lora_lab.ui.words import esc, tag


def captions(preview: CaptionPreview) -> str:
    """A list that can be folded, with a line that says the most of it."""
    if not preview.captions:
        return ""
    rows = "".join(_row(caption, preview.room) for caption in preview.captions)
    return tag("details", tag("summary", esc(_summary(preview))) + tag("ol", rows), "lora-lab-captions", open="open")


def _summary(preview: CaptionPreview) -> str:
    shown = len(preview.captions)
    first = f"The first {shown} of {preview.total:,} captions" if preview.total > shown else f"All {shown} captions"
    text = f"{first}, as the text encoder gets them"
    if not preview.certain:
        text += " (one draw of many: no seed is set)"
    cut = sum(bool(caption.cut) for caption in preview.captions)
    if cut:
        text += f"; {cut} cut at {preview.room} tokens"
    return text


def _row(caption: ShownCaption, room: int) -> str:
    words = esc(caption.read) if caption.read or caption.cut else tag("i", "no words")
    if caption.cut:
        words += tag("del", esc(caption.cut), title=f"does not fit in {room} tokens")
    if caption.weights:
        listed = ", ".join(f"{word} × {weight:.3g}" for word, weight in caption.weights)
        words += tag("span", esc(f" [{listed}]"), "lora-lab-muted")
    count = "" if caption.tokens is None else tag("b", f"{caption.tokens}", title="tokens")
    return tag("li", tag("span", words, translate="no") + count, title=caption.picture.name)
