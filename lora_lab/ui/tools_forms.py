"""The forms of the panel Tools: a table of what each tool asks, from which widgets are made. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

Kind = Literal["lora", "checkpoint", "uses", "text", "choice", "flag"]


@dataclass(frozen=True)
class Ask:
    """One thing that a tool asks.

    Attributes:
        kind: `lora` and `checkpoint` offer the host's files and take a path; `uses` is a LoRA with strengths a line.
        row: asks with the same number stand beside each other.
    """

    name: str
    label: str
    kind: Kind = "text"
    default: Any = ""
    choices: tuple[str, ...] = ()
    info: str = ""
    row: int = 0


@dataclass(frozen=True)
class Tool:
    """A tool: its name (of `tools_work`), its title, what it does, what it asks, and what it writes."""

    name: str
    title: str
    about: str
    asks: tuple[Ask, ...]
    writes: Literal["lora", "checkpoint"] = "lora"


PRECISIONS = ("as the input", "fp16", "bf16", "float")
RANK = "32, or sv_fro=0.9, sv_ratio=20, sv_cumulative=0.9, ratio=0.05, threshold=0.1, error=0.3"
BUDGET = (
    Ask("conv_rank", "rank of 3x3 convolutions", info="empty: the same", row=3),
    Ask("block_rank", "ranks of blocks", info="OUT03=16, M00=8", row=3),
    Ask("max_rank", "largest rank", info="caps a rule", row=3),
    Ask("max_size", "or: largest file", info="50MB; shares the ranks out", row=4),
    Ask("max_error", "or: largest loss", info="0.1; the smallest file that keeps the rest", row=4),
)
USES = (
    "one a line: name, then strengths behind colons: 0.8, unet=1, te=0.5, OUT03=0, IN=0.5, lbw=OUTD, lbwe=ATTNDEEPOFF"
)
PRESETS = "path of an lbwpresets.txt or elempresets.txt, for names of your own"

TOOLS = (
    Tool(
        "extract", "Extract",
        "The LoRA that turns one checkpoint into another, as well as its ranks allow. Text encoders are compared too.",
        (
            Ask("base", "base: what the LoRA will be used on", "checkpoint", row=1),
            Ask("tuned", "what it shall turn it into", "checkpoint", row=1),
            Ask("rank", "rank", default="32", info=RANK, row=2),
            Ask("precision", "precision", "choice", "fp16", PRECISIONS[1:], row=2),
            *BUDGET,
            Ask("convs", "residual blocks and samplers too (LoCon)", "flag", False, row=5),
            Ask("outside", "layers outside the blocks", "flag", False, row=5),
            Ask("norms", "norms", "flag", False, row=5),
            Ask("biases", "biases", "flag", False, row=5),
        ),
    ),
    Tool(
        "merge", "Merge LoRAs", "Several LoRAs, of any kinds and ranks, as one.",
        (
            Ask("uses", "LoRAs", "uses", info=USES, row=1),
            Ask("presets", "presets", info=PRESETS, row=5),
            Ask("method", "method", "choice", "svd", ("svd", "concat", "add", "ties", "dare"),
                "svd: best for the rank; concat: exact, ranks add up; add: exact where one half is shared; "
                "ties (arXiv 2306.01708), dare (arXiv 2311.03099)", 2),
            Ask("rank", "rank", default="32", info=RANK, row=2),
            Ask("density", "density", default="0.5", info="ties and dare: share of entries kept", row=2),
            *BUDGET,
            Ask("base", "checkpoint", "checkpoint", info="only for DoRA, IA3, OFT and GLoRA", row=5),
            Ask("precision", "precision", "choice", PRECISIONS[0], PRECISIONS, row=5),
        ),
    ),
    Tool(
        "into", "Into checkpoint", "A checkpoint that draws what the prompt with these LoRAs draws.",
        (
            Ask("base", "checkpoint", "checkpoint", row=1),
            Ask("uses", "LoRAs", "uses", info=USES, row=2),
            Ask("precision", "precision", "choice", PRECISIONS[0], PRECISIONS, row=3),
            Ask("vae", "VAE to bake in", info="path; empty: its own", row=3),
            Ask("presets", "presets", info=PRESETS, row=3),
        ),
        "checkpoint",
    ),
    Tool(
        "undo", "Out again", "Takes out of a checkpoint what was merged into it here, by the recipe in the file.",
        (
            Ask("base", "merged checkpoint", "checkpoint", row=1),
            Ask("uses", "the LoRAs that were merged", "uses", info="one a line; strengths are in the recipe", row=2),
        ),
        "checkpoint",
    ),
    Tool(
        "resize", "Resize", "Other ranks. Several ranks, parted by commas, become several files in one pass.",
        (
            Ask("source", "LoRA, LoCon, LoHa or LoKr", "lora", row=1),
            Ask("rank", "rank", default="16", info=RANK, row=2),
            Ask("precision", "precision", "choice", PRECISIONS[0], PRECISIONS, row=2),
            *BUDGET,
        ),
    ),
    Tool(
        "bake", "Bake", "Strengths and block weights into a LoRA's own file, exactly: at strength 1 it is as weighted.",
        (
            Ask("uses", "LoRA", "uses", info=USES, row=1),
            Ask("presets", "presets", info=PRESETS, row=2),
            Ask("fold_alpha", "put the scale into the factors: alpha is the rank", "flag", False, row=2),
            Ask("precision", "precision", "choice", PRECISIONS[0], PRECISIONS, row=2),
        ),
    ),
    Tool(
        "convert", "Convert", "Other names of the tensors, and another precision. Reads every maker's names.",
        (
            Ask("source", "LoRA", "lora", row=1),
            Ask("layout", "names", "choice", "kohya", ("kohya", "diffusers", "kohya-diffusers"),
                "kohya: the webui and most programs; diffusers: peft's; kohya-diffusers: SDXL by diffusers' names", 2),
            Ask("precision", "precision", "choice", PRECISIONS[0], PRECISIONS, row=2),
            Ask("fold_alpha", "put the scale into the factors: alpha is the rank", "flag", False, row=3),
        ),
    ),
    Tool(
        "split", "Split", "LoRAs of single ranks out of a DyLoRA, whose leading parts are LoRAs of their own.",
        (
            Ask("source", "DyLoRA", "lora", row=1),
            Ask("ranks", "ranks", default="4, 8", row=2),
            Ask("alpha", "alpha", "choice", "auto", ("auto", "trained", "keep"),
                "trained: as kohya's DyLoRA trains it; keep: as LyCORIS's needs it; auto: by the file", 2),
        ),
    ),
)  # fmt: skip
"""All tools in the order of the tabs."""


@dataclass(frozen=True)
class FormWidgets:
    """One tool's widgets; `pick` adds a line to `uses`."""

    tool: Tool
    asks: dict[str, Any]
    picks: dict[str, gr.Dropdown]
    out: gr.Textbox
    force: gr.Checkbox
    look: gr.Button
    go: gr.Button
    told: gr.HTML

    @property
    def all(self) -> set[Any]:
        """As a handler's inputs."""
        return {*self.asks.values(), self.out, self.force}

    @property
    def files(self) -> dict[Any, Kind]:
        """What offers files, and of which kind."""
        found: dict[Any, Kind] = {self.asks[a.name]: a.kind for a in self.tool.asks if a.kind in ("lora", "checkpoint")}
        return found | dict.fromkeys(self.picks.values(), "lora")


def build(tool: Tool, loras: Sequence[str], checkpoints: Sequence[str]) -> FormWidgets:
    """Layout of one tool."""
    gr.HTML(f'<p class="lora-lab-empty">{tool.about}</p>')
    asks: dict[str, Any] = {}
    picks: dict[str, gr.Dropdown] = {}
    offered = {"lora": list(loras), "checkpoint": list(checkpoints), "uses": list(loras)}
    for row in sorted({ask.row for ask in tool.asks}):
        with gr.Row(elem_classes=["lora-lab-row"]):
            for ask in (one for one in tool.asks if one.row == row):
                asks[ask.name] = _widget(tool, ask, offered.get(ask.kind, []))
                if ask.kind == "uses":
                    picks[ask.name] = gr.Dropdown(
                        offered["uses"], label="add a LoRA", elem_id=f"lora_lab_tools_{tool.name}_pick", scale=3
                    )
    with gr.Row(elem_classes=["lora-lab-row"]):
        where = "the LoRA folder" if tool.writes == "lora" else "the checkpoint's folder"
        out = gr.Textbox(
            label="output", placeholder=f"a name for {where}, or a path; empty: named after the input",
            elem_id=f"lora_lab_tools_{tool.name}_out", scale=6,
        )  # fmt: skip
        force = gr.Checkbox(False, label="overwrite", elem_id=f"lora_lab_tools_{tool.name}_force", scale=1)
    with gr.Row(elem_classes=["lora-lab-actions"]):
        look = gr.Button("What will it do?", elem_id=f"lora_lab_tools_{tool.name}_look")
        go = gr.Button(tool.title, variant="primary", elem_id=f"lora_lab_tools_{tool.name}_go")
    told = gr.HTML("", elem_id=f"lora_lab_tools_{tool.name}_told")
    return FormWidgets(tool, asks, picks, out, force, look, go, told)


def _widget(tool: Tool, ask: Ask, offered: list[str]) -> Any:  # noqa: ANN401 - a component
    common: dict[str, Any] = {"label": ask.label, "elem_id": f"lora_lab_tools_{tool.name}_{ask.name}"}
    if ask.kind == "flag":
        return gr.Checkbox(ask.default, **common)
    common["info"] = ask.info or None
    if ask.kind == "choice":
        return gr.Dropdown(list(ask.choices), value=ask.default, **common)
    if ask.kind in ("lora", "checkpoint"):
        return gr.Dropdown(offered, value=None, allow_custom_value=True, **common)
    return gr.Textbox(ask.default, lines=3 if ask.kind == "uses" else 1, scale=6 if ask.kind == "uses" else 1, **common)
