"""Where a handler meets the page: known errors are warnings, unknown ones are logged whole; fields stay as they are."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab import __version__
from lora_lab.errors import LoraLabError
from lora_lab.ui.context import UiContext

LOG = logging.getLogger("lora_lab")

Values = Mapping[Any, Any]
"""What a handler is given: component -> its value."""
Changes = dict[Any, Any]
"""What a handler returns: component -> its new value or `gr.update`; the rest stay as they are."""
Handler = Callable[[Values], Changes]


@dataclass(frozen=True)
class Guarded:
    """A handler as gradio may call it: one dict in, one dict out, no error past this point.

    A plain object rather than a nested function, so that a test calls it as gradio does.
    """

    handler: Handler
    untouched: Any
    """An output; gradio wants at least one key in what comes back."""
    context: UiContext
    __name__: str = field(default="lora_lab", init=False)

    def __call__(self, values: Values) -> Changes:
        try:
            changes = self.handler(values)
        except LoraLabError as error:
            gr.Warning(str(error))
            changes = {}
        except Exception as error:  # the edge: told in the page, whole in the log
            gr.Warning(unexpected(error, self.context.host.paths().data_dir))
            changes = {}
        return changes or {self.untouched: gr.update()}


def unexpected(error: Exception, folder: Path) -> str:
    """Write an error of ours to the log with its traceback; the sentence that says so."""
    LOG.error("an error of ours in the tab", exc_info=error)
    path = folder / "errors.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} lora_lab {__version__}, gradio {gr.__version__}\n")
            file.write("".join(traceback.format_exception(type(error), error, error.__traceback__)) + "\n")
    except OSError as problem:
        LOG.error("the log cannot be written: %s", problem)
        return f"This failed by an error of ours, {type(error).__name__}: {error}. The console says more."
    return f"This failed by an error of ours, {type(error).__name__}: {error}. The whole story is in {path}."


def told_by_page(inputs: set[Any], into: Any, source: str) -> str:  # noqa: ANN401 - a component
    """JavaScript for `on` that puts what the page says into one of the inputs.

    Args:
        inputs: of the handler, all of them.
        into: the one, among them.
        source: a JavaScript expression; it may be a promise.
    """
    place = sorted(inputs, key=lambda component: component._id).index(into)  # the order gradio sends sets in
    return f"async (...values) => {{ values[{place}] = await {source}; return values; }}"


def on(
    event: Any,  # noqa: ANN401 - a bound method of a component, such as `button.click`
    handler: Handler,
    inputs: set[Any],
    outputs: Sequence[Any],
    context: UiContext,
    *,
    quiet: bool = False,
    queue: bool = True,
    js: str | None = None,
) -> Any:  # noqa: ANN401 - gradio's dependency
    """Wire a handler.

    Args:
        event: what to listen to.
        handler: gets a dict keyed by component, returns a dict of changes.
        inputs: a set, so that order means nothing.
        outputs: every component that the handler may change.
        context: of the tab.
        quiet: no progress animation over the outputs.
        queue: warnings reach the page through the queue only.
        js: a JavaScript function whose returned array is given to the handler in place of the inputs' values.
    """
    guarded = Guarded(handler, outputs[0], context)
    return event(
        guarded,
        inputs=inputs,
        outputs=list(outputs),
        show_progress="hidden" if quiet else "minimal",
        queue=queue,
        api_name=False,
        _js=js,
    )
