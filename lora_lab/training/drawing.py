"""Preview pictures of a run: made by the host between the steps, one lease for each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.errors import Interrupted, LoraLabError
from lora_lab.host.base import PreviewRequest
from lora_lab.training.events import Event, PreviewMade, Progress, Warned
from lora_lab.training.memory.out_of_memory import is_out_of_memory
from lora_lab.training.previews import PreviewPrompt

if TYPE_CHECKING:
    from lora_lab.training.turns import Turns

LOG = logging.getLogger("lora_lab")


class Previews:
    """Makes the pictures of sample_prompts. A picture that fails is told of and does not end the run."""

    def __init__(self, prompts: tuple[PreviewPrompt, ...], turns: Turns, folder: Path, clip_skip: int) -> None:
        self._prompts = prompts
        self._turns = turns
        self._folder = folder
        self._clip_skip = clip_skip
        self._given_up = False

    def make(self, step: int, label: str, stop: Callable[[], bool]) -> Iterator[Event]:
        """One picture per prompt with the adapter as it is now.

        Args:
            step: steps done.
            label: in the file names: the epoch, `start` or `end`.
            stop: asked between pictures.
        """
        for index, prompt in enumerate(self._prompts):
            if stop() or self._given_up:
                return
            yield Progress("drawing previews", index, len(self._prompts))
            try:
                path = self._draw(prompt, self._folder / f"{label}_{index:02d}.png")
            except (LoraLabError, OSError, RuntimeError, ValueError) as error:
                yield Warned(self._excuse(error))
                continue
            yield PreviewMade(step, path, prompt.prompt)

    def _draw(self, prompt: PreviewPrompt, path: Path) -> Path:
        from PIL.PngImagePlugin import PngInfo

        request = PreviewRequest(
            prompts=(prompt.prompt,),
            seeds=(prompt.seed,),
            negative=prompt.negative,
            width=prompt.width,
            height=prompt.height,
            steps=prompt.steps,
            cfg_scale=prompt.cfg_scale,
            sampler=prompt.sampler,
            clip_skip=self._clip_skip,
        )
        with self._turns.pictures() as model:
            result = model.generate(request)
        info = PngInfo()
        info.add_text("parameters", result.infotexts[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        result.images[0].save(path, pnginfo=info)
        return path

    def _excuse(self, error: Exception) -> str:
        if isinstance(error, Interrupted):
            return "A preview was interrupted; the training goes on."
        LOG.debug("a preview failed", exc_info=error)
        if is_out_of_memory(error):
            self._given_up = True
            return "There is not enough memory for previews beside the training; no more are made in this run."
        return f"A preview could not be made: {error}"
