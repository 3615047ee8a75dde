"""The door: shows LoRA Lab's tab in the webui. What is behind it lives in the package `lora_lab`.

The webui has this extension's folder on its path only while it imports this file, so the package is imported here,
before anything else. At Reload UI this file is imported again and the package is not: running jobs live on.
"""

from __future__ import annotations

import html
import logging
from typing import Any

import gradio as gr
from modules import script_callbacks

import lora_lab

log = logging.getLogger(lora_lab.__name__)
TITLE, ELEM_ID = "LoRA Lab", "lora_lab"


def ui_tabs() -> list[tuple[gr.Blocks, str, str]]:
    """Our tab; if it cannot be built, one line in its place that says what to do. The webui starts in any case."""
    try:
        blocks = build()
    except ImportError as error:
        log.exception("LoRA Lab's tab cannot be shown")
        blocks = one_line(
            f"LoRA Lab needs a package that is missing: {error}. Restart the webui while it can reach "
            "a package index, or run install.py of this extension with the webui's Python."
        )
    except Exception as error:
        log.exception("LoRA Lab's tab cannot be shown")
        blocks = one_line(f"LoRA Lab's tab cannot be shown: {error}. The console says more.")
    for component in blocks.blocks.values():
        component.do_not_save_to_config = True  # or ui-config.json would freeze today's defaults
    return [(blocks, TITLE, ELEM_ID)]


def build() -> gr.Blocks:
    """The tab of `lora_lab.ui` on the running webui."""
    from lora_lab.host.webui import host
    from lora_lab.ui.context import UiContext
    from lora_lab.ui.tab import build as build_tab

    return build_tab(UiContext(host=host()))


def one_line(text: str) -> gr.Blocks:
    """A tab that says why it is empty."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML(f"<p>{html.escape(text)}</p>", elem_id="lora_lab_broken")
    return blocks


def listen() -> None:
    """Let the host hear of checkpoints and of prompts' LoRAs. Reload UI forgets callbacks, so at every import."""
    from lora_lab.host.webui import host
    from lora_lab.host.webui_prompt import door
    from lora_lab.network.prompt_axes import PlotAxes
    from lora_lab.network.prompt_weights import PromptReader

    host().listen()
    reader = PromptReader(host().paths().data_dir)
    door().listen(reader, PlotAxes(reader))


def add_api(_: gr.Blocks | None, app: Any) -> None:  # noqa: ANN401 - gradio's App, or a FastAPI
    """Our routes beside the webui's, where it offers an API. The webui starts in any case."""
    try:
        from lora_lab.api.routes import router
        from lora_lab.host.webui import host
        from lora_lab.host.webui_api import credentials
        from lora_lab.ui.context import UiContext

        known = credentials()
        if known is not None:
            app.include_router(router(UiContext(host=host()), known, app))
    except Exception:
        log.exception("LoRA Lab has no API")


script_callbacks.on_ui_tabs(ui_tabs)
script_callbacks.on_app_started(add_api)
try:
    listen()
except ImportError:
    log.exception("LoRA Lab does not hear of loaded checkpoints")
