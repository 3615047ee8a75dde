"""What operations may ask for beyond the captions: the taggers' probabilities that were kept, and counted tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lora_lab.dataset import pictures as files
from lora_lab.tagging import names
from lora_lab.tagging.combine import combine
from lora_lab.tagging.store import NAME, ProbabilityStore
from lora_lab.tagging.tokens import TokenCounter
from lora_lab.workflow.captions import CaptionProject
from lora_lab.workflow.project_folder import project_folder


def kept_scores(project: CaptionProject, data_dir: Path) -> Callable[[str], Mapping[str, float]] | None:
    """What taggers said of the project's pictures earlier, for `CaptionProject.scores`; None if none has seen them.

    Several taggers count together, by their mean.

    Raises:
        OutputError: the probabilities are there and cannot be read.
    """
    folder = project_folder(project.root, data_dir)
    if not (folder / NAME).is_file():
        return None
    store = ProbabilityStore(folder)
    taggers = store.taggers()
    if not taggers:
        return None
    captions = [caption for caption in project.captions.values() if caption.pictures]
    hashes = store.hashes([caption.pictures[0] for caption in captions], files.content_hash)
    scores = combine([found for t in taggers if (found := store.read(t.identity, hashes)) is not None], "mean")
    rows = {caption.file: row for row, caption in enumerate(captions)}

    def of(file: str) -> Mapping[str, float]:
        if file not in rows:
            return {}
        return {names.key(tag): chance for tag, chance in scores.picture(rows[file]).items()}

    return of


def lazy_counter(find: Callable[[], Path]) -> Callable[[str], int]:
    """A counter of tokens whose tokenizer is looked for when the first caption is counted.

    Args:
        find: the folder of a CLIP tokenizer; may raise.
    """
    made: list[TokenCounter] = []

    def count(caption: str) -> int:
        if not made:
            made.append(TokenCounter(find()))
        return made[0](caption)

    return count
