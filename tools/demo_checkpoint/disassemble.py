"""Take the committed demo checkpoint apart again, to train on from it: disassemble.py SCRATCH

Writes vae.pt, text.pt, clip/ and unet.pt as the other scripts read them. The tagger is not taken back out of its ONNX file; it
learns anew in minutes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from lora_lab.demo import assets
from lora_lab.host.standalone_load import load


def main() -> None:
    scratch = Path(sys.argv[1])
    scratch.mkdir(parents=True, exist_ok=True)
    parts = load(assets.checkpoint_path(), assets.tokenizer_dir())
    torch.save(parts.vae, scratch / "vae.pt")
    torch.save(parts.text_encoder, scratch / "text.pt")
    shutil.copytree(assets.tokenizer_dir(), scratch / "clip", dirs_exist_ok=True)
    weights = parts.unet.state_dict()
    # Far enough on for the average of the weights to be slow from the first step.
    torch.save({"unet": weights, "ema": weights, "steps": 2000}, scratch / "unet.pt")


if __name__ == "__main__":
    main()
