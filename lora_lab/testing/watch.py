"""In front of the live UNet while pictures are made: counts its calls, stops at once, and lets pictures share steps.

Works in every host alike, since all that it needs is the UNet's own forward, which is given back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lora_lab.errors import Interrupted


@dataclass
class Trajectory:
    """What the UNet answered at each call on the way to one picture: (rounds, ...) each, rounds being guidance's."""

    answers: list[Tensor] = field(default_factory=list)
    wrapped: Callable[[Tensor], Any] | None = None
    """diffusers' UNet answers an object with the tensor in it: what makes one."""


@dataclass
class Watch:
    """What to do at each call."""

    stop: Callable[[], bool]
    step: Callable[[int], None] = lambda calls: None
    """Called with the number of calls so far, after each."""
    record: Sequence[Trajectory] = ()
    """One for each picture of the batch, filled as they are made."""
    replay: Sequence[Trajectory] = ()
    """One for each picture of the batch: the first `shared` calls are answered from there."""
    shared: int = 0
    lent: int | None = None
    """From this call on the prompt alone is computed, and the way from the negative prompt to it, which guidance goes
    on along, is that of `replay` at the same call; only where a call holds both halves."""
    pictures: int = 1
    """Of the batch."""
    calls: int = 0

    @contextmanager
    def over(self, unet: nn.Module) -> Iterator[None]:
        """Inside, each call of the UNet goes through this.

        Raises:
            Interrupted: `stop` said so before a call.
        """
        absent = object()
        before = unet.__dict__.get("forward", absent)
        forward = unet.forward

        def watched(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - what it stands in front of decides
            return self._call(forward, args, kwargs)

        unet.forward = watched
        try:
            yield
        finally:
            if before is absent:
                del unet.__dict__["forward"]
            else:
                unet.__dict__["forward"] = before

    def _call(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        if self.stop():
            raise Interrupted("the pictures were stopped")
        if self.calls < self.shared:
            answer = torch.cat(list(self._shared_answer()))
            wrapped = self.replay[0].wrapped
            found: Any = answer if wrapped is None else wrapped(answer)
        elif self.lent is not None and self.calls >= self.lent:
            found = self._with_lent_guidance(forward, args, kwargs)
        else:
            found = forward(*args, **kwargs)
        if self.record:
            self._keep(found)
        self.calls += 1
        self.step(self.calls)
        return found

    def _with_lent_guidance(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """The first half of the rows alone, which every host gives the prompt."""
        rows = len(args[0])
        if rows != 2 * self.pictures:
            return forward(*args, **kwargs)
        half = _first(args, rows, self.pictures), _first(kwargs, rows, self.pictures)
        found = forward(*half[0], **half[1])
        prompt = found if isinstance(found, Tensor) else found.sample
        with_prompt, without = self._shared_answer()
        both = torch.cat([prompt, prompt - (with_prompt - without)])
        return both if prompt is found else type(found)(sample=both)

    def _shared_answer(self) -> Iterator[Tensor]:
        """The rows of this call: for each round of guidance, one of every picture."""
        answers = [trajectory.answers[self.calls] for trajectory in self.replay]
        for i in range(len(answers[0])):
            yield torch.stack([answer[i] for answer in answers])

    def _keep(self, found: Any) -> None:  # noqa: ANN401 - ldm answers a tensor, diffusers an object with one
        """Rows are ordered as (round, picture)."""
        answer = found if isinstance(found, Tensor) else found.sample
        rows = answer.detach().view(-1, len(self.record), *answer.shape[1:])
        for i, trajectory in enumerate(self.record):
            trajectory.answers.append(rows[:, i].clone())
            trajectory.wrapped = None if answer is found else _wrapper(type(found))


def _wrapper(kind: type[Any]) -> Callable[[Tensor], Any]:
    return lambda tensor: kind(sample=tensor)


def _first(value: Any, rows: int, count: int) -> Any:  # noqa: ANN401 - whatever a UNet is given
    """Every tensor of `rows` rows cut to the first `count`."""
    if isinstance(value, Tensor) and value.dim() and len(value) == rows:
        return value[:count]
    if isinstance(value, (tuple, list)):
        return tuple(_first(one, rows, count) for one in value)
    if isinstance(value, dict):
        return {name: _first(one, rows, count) for name, one in value.items()}
    return value
