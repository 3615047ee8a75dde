"""The tab without a webui: gradio's own server with our style and JavaScript."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from lora_lab.errors import LoraLabError
from lora_lab.host.base import Host
from lora_lab.ui import tab
from lora_lab.ui.context import UiContext

ROOT = Path(__file__).resolve().parent.parent.parent
"""The webui finds `style.css` and `javascript/` at the top of an extension, so that is where they are in a clone."""
SCRIPTS = (
    "lora_lab.js", "lora_lab_tags.js", "lora_lab_blocks.js", "lora_lab_pictures.js", "lora_lab_queue.js",
    "lora_lab_testing.js", "lora_lab_advice.js", "lora_lab_words.js",
)  # fmt: skip
ASSETS = Path(__file__).resolve().parent / "assets"
"""Where a wheel has them (see setup.py)."""

FONT = ("Source Sans Pro", "ui-sans-serif", "system-ui", "sans-serif")
PAGE_STYLE = ".gradio-container { max-width: 1560px !important; } footer { display: none !important; }"
"""Only here: in the webui the page is not ours."""
MONO = ("IBM Plex Mono", "ui-monospace", "Consolas", "monospace")


def page(host: Host, *, listens: bool = False) -> gr.Blocks:
    """The whole page; `listens` says that it is open to a network.

    Raises:
        LoraLabError: our style and JavaScript are missing.
    """
    style = _read("style.css")
    script = "\n".join(_read(f"javascript/{name}") for name in SCRIPTS)
    # Fonts by name: gradio's default theme would fetch them from the network.
    theme = gr.themes.Default(font=FONT, font_mono=MONO)
    # Outside: a page made within another's `with` would be shown twice.
    inner = tab.build(UiContext(host, listens=listens))
    with gr.Blocks(analytics_enabled=False, title="LoRA Lab", css=style + PAGE_STYLE, theme=theme) as blocks:
        inner.render()
        blocks.load(None, None, None, _js="() => {\n" + script + "\n}")
    return blocks


def launch(
    host: Host, port: int | None = None, *, listen: bool = False, open_browser: bool = False, wait: bool = True
) -> gr.Blocks:
    """Serve the tab.

    Args:
        host: with its checkpoint.
        port: None takes the first free one from 7860.
        listen: open to the network: everybody there can start runs. Off, only this machine can.
        open_browser: show the page at once.
        wait: return only when the server has ended (Ctrl-C).

    Raises:
        LoraLabError: the port is taken, or our files are missing.
    """
    blocks = page(host, listens=listen).queue(concurrency_count=8, api_open=False)
    try:
        blocks.launch(
            server_name="0.0.0.0" if listen else "127.0.0.1",
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            show_api=False,
            quiet=True,
        )
    except OSError as error:
        raise LoraLabError(f"the page cannot be served, {error}", remedy="choose another --port") from error
    _close_to_other_sites(blocks)
    if wait:
        blocks.block_thread()
    return blocks


def _close_to_other_sites(blocks: gr.Blocks) -> None:
    """gradio lets scripts of any web site ask its server; ours answers its own page only, as the webui does."""
    app = blocks.server_app
    app.user_middleware = [m for m in app.user_middleware if m.cls.__name__ != "CORSMiddleware"]
    app.middleware_stack = app.build_middleware_stack()


def _read(name: str) -> str:
    wheel = ASSETS / Path(name).name
    path = wheel if wheel.is_file() else ROOT / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LoraLabError("a file of the page is missing", file=path, remedy="install LoRA Lab again") from error
