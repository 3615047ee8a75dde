"""``lora-lab ui``"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lora_lab.cli.output import Output
from lora_lab.errors import UserError

EXAMPLE = "lora-lab ui --checkpoint model.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to load, where to serve."""
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo checkpoint)")
    parser.add_argument(
        "--prediction-type", choices=("epsilon", "v_prediction"), help="of the UNet (default: what the yaml says)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for runs and LoRAs (default: lora-lab-data)")
    parser.add_argument("--port", type=int, default=7870, help="port on this machine (default 7870)")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Serve the tab until Ctrl-C."""
    if find_spec("gradio") is None:
        remedy = "pip install 'lora_lab[ui]' with Python 3.10 to 3.12"
        raise UserError("the tab needs gradio 3.41.2, which is not installed", remedy=remedy)
    from lora_lab.host.choose import standalone_host
    from lora_lab.ui.standalone import launch

    output.line("loading the checkpoint ...")
    out = args.out.resolve() if args.out else None
    host = standalone_host(args.checkpoint, data_dir=out, prediction_type=args.prediction_type)
    output.line(f"LoRA Lab: http://127.0.0.1:{args.port}")
    launch(host, port=args.port)
    return {}
