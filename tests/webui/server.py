"""A real webui as a child process, with a data folder of its own: nothing of the person's webui is written."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--skip-prepare-environment",
    "--skip-install",
    "--skip-torch-cuda-test",
    "--use-cpu",
    "all",
    "--no-half",
    "--precision",
    "full",
    "--api",
    "--do-not-download-clip",
    "--skip-version-check",
    "--no-hashing",
]
START_SECONDS = 600
SITES = (
    "mid_block_attentions_0_transformer_blocks_0_attn1_to_q",
    "mid_block_attentions_0_transformer_blocks_0_attn2_to_v",
    "down_blocks_1_attentions_0_proj_in",
    "up_blocks_1_attentions_2_transformer_blocks_0_ff_net_2",
)


@dataclass
class Webui:
    """A running webui."""

    folder: Path
    python: Path
    data: Path
    flags: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it and wait until a checkpoint is live.

        Raises:
            RuntimeError: it ended, or took too long; with the end of its log.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [str(self.python), "launch.py", *FLAGS, "--port", str(self.port), "--data-dir", str(self.data)]
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "HF_HUB_OFFLINE": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *self.flags], cwd=self.folder, stdout=log, stderr=log, env=environment
            )
        self.wait(starts=1)

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.data / "webui.log"

    @property
    def starts(self) -> int:
        """How often its page and API were started so far: 'Reload UI' starts them again."""
        return self.log.read_text(errors="replace").count("Startup time:")

    def wait(self, starts: int) -> None:
        """Until page and API were started so often, and a checkpoint is live.

        Not asked before it says that it is ready: a question that comes between the page's start and the API's keeps
        the webui from starting ("Cannot add middleware after an application has started").
        """
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process is not None and self.process.poll() is None:
            try:
                if self.starts >= starts and self.check("settings")["info"]:
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise RuntimeError("The webui did not start:\n" + self.log.read_text(errors="replace")[-4000:])

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def url(self, path: str = "/") -> str:
        """An address of its page or API."""
        return f"http://127.0.0.1:{self.port}{path}"

    def post(self, path: str, body: dict[str, Any] | None = None, seconds: float = 300) -> Any:
        """A POST of JSON; the answer's JSON."""
        request = urllib.request.Request(
            self.url(path), json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error} {error.read().decode(errors='replace')[:2000]}") from error

    def get(self, path: str) -> Any:
        """A GET; the answer's JSON."""
        with urllib.request.urlopen(self.url(path), timeout=60) as answer:
            return json.loads(answer.read())

    def check(self, name: str, **arguments: Any) -> Any:
        """Run a check of the probe inside the webui.

        Raises:
            AssertionError: it raised; with its traceback.
        """
        try:
            answer = self.post(f"/lora-lab-probe/{name}", arguments)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    def picture(self, prompt: str = "1girl, hat", seed: int = 5, **changes: Any) -> bytes:
        """Pixels of a txt2img of the API."""
        body = {"prompt": prompt, "seed": seed, "width": 64, "height": 64, "steps": 4, "sampler_name": "Euler a"}
        answer = self.post("/sdapi/v1/txt2img", {**body, **changes})
        image = Image.open(io.BytesIO(base64.b64decode(answer["images"][0])))
        return image.convert("RGB").tobytes()


def lay_out(folder: Path, data: Path) -> None:
    """A data folder with our extension, the probe, a checkpoint, another of the same config, and a LoRA."""
    (data / "extensions").mkdir(parents=True)
    os.symlink(ROOT, data / "extensions" / "lora-lab", target_is_directory=True)
    os.symlink(ROOT / "tests" / "webui" / "probe", data / "extensions" / "lora-lab-probe", target_is_directory=True)
    checkpoints = data / "models" / "Stable-diffusion"
    checkpoints.mkdir(parents=True)
    first = put_checkpoint(folder, checkpoints)
    weights = load_file(first)
    (data / "models" / "Lora").mkdir()
    save_file(random_lora(weights), data / "models" / "Lora" / "probe_lora.safetensors", {"ss_network_dim": "4"})
    weights["model.diffusion_model.out.2.weight"] *= -0.5
    save_file(weights, checkpoints / "other.safetensors")
    shutil.copy(first.with_suffix(".yaml"), checkpoints / "other.yaml")
    # SD1's own live preview wants a decoder from the network. An option that is not in the file stays as a picture's
    # override_settings has left it: clip skip is.
    options = {"live_previews_enable": False, "show_progress_every_n_steps": -1, "CLIP_stop_at_last_layers": 1}
    (data / "config.json").write_text(json.dumps({**options, "sd_model_checkpoint": first.name}))


def add_families(folder: Path, python: Path, data: Path, families: tuple[str, ...] = ("sd2", "sdxl")) -> None:
    """Narrow checkpoints of other families beside the first, made by the webui's own Python."""
    vocabulary = data / "vocabulary"
    script = "import sys; from pathlib import Path; from lora_lab.host import standalone_clip as s; "
    script += "s.write(Path(sys.argv[1]))"
    subprocess.run([python, "-c", script, vocabulary], cwd=ROOT, check=True)
    for family in families:
        maker, out = ROOT / "tests" / "webui" / "tiny_families.py", data / "models" / "Stable-diffusion"
        subprocess.run([python, maker, folder, out, family, vocabulary], check=True, capture_output=True)


def put_checkpoint(folder: Path, checkpoints: Path) -> Path:
    """The demo checkpoint as a person would export it, or the one that LORA_LAB_WEBUI_CHECKPOINT names."""
    if own := os.environ.get("LORA_LAB_WEBUI_CHECKPOINT"):
        shutil.copy(Path(own).with_suffix(".yaml"), checkpoints)
        return Path(shutil.copy(own, checkpoints))
    from lora_lab.demo.export import export

    return export(checkpoints)["checkpoint"]


def random_lora(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A few sites of a LoRA in kohya's names, strong enough to be seen."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, torch.Tensor] = {}
    for name, weight in lora_sites(weights).items():
        rows, columns, *tail = weight.shape
        found[f"{name}.lora_down.weight"] = torch.randn((4, columns, *tail), generator=generator) / columns**0.5
        found[f"{name}.lora_up.weight"] = torch.randn((rows, 4, *tail), generator=generator) * 0.1
        found[f"{name}.alpha"] = torch.tensor(4.0)
    return found


def lora_sites(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the checkpoint by the name of their LoRA site (kohya's, for SD1)."""
    found = {}
    for key, weight in weights.items():
        if m := re.fullmatch(
            r"cond_stage_model\.transformer\.(text_model\.encoder\.layers\.\d\..*(?:proj|fc\d))\.weight", key
        ):
            found["lora_te_" + m[1].replace(".", "_")] = weight
        if name := unet_site(key):
            found["lora_unet_" + name] = weight
    return found


def unet_site(key: str) -> str:
    """The site's name of a weight of the UNet, if it is one of `SITES`."""
    m = re.fullmatch(r"model\.diffusion_model\.(input|middle|output)_blocks?\.(\d+)\.(?:1\.)?(.*)\.weight", key)
    if not m:
        return ""
    i = int(m[2])
    where = {
        "input": f"down_blocks_{(i - 1) // 3}_attentions_{(i - 1) % 3}",
        "middle": "mid_block_attentions_0",
        "output": f"up_blocks_{i // 3}_attentions_{i % 3}",
    }[m[1]]
    name = f"{where}_{m[3].replace('.', '_')}"
    return name if name in SITES else ""
