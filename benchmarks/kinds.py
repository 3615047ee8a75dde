"""A training step of each kind of adapter at SD1.5's real sizes: against the bare networks, lycoris-lora's own modules
and kohya's own network on its own UNet class.

    OMP_NUM_THREADS=1 python -m benchmarks.kinds --clock cpu [--kinds lora locon loha lokr] [--batch 1]
        [--peer SD_SCRIPTS --peer-python PYTHON]

UNet and text encoder with random weights, 256 px, float32, rank 16, AdamW. The bare step is forward and backward to all
activations. Each candidate is a process of its own that steps when asked, all on the same weights. Memory is the peak
above what was resident before the first step, in processes of their own that return at once what they free: to clear
those pages again would weigh on the time. The peer's repository and a Python with its packages lie outside.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.children import Child
from benchmarks.harness import Figure, parser, ratios, show, table
from benchmarks.kinds_world import write_weights

BARS = {"lora": 1.08, "locon": 1.25}
"""At batch 1, against the bare step."""
PEERS = ("lora", "locon")
"""Kinds that kohya's own network has."""


def measure(candidates: dict[str, Child], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; one round before them does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found = candidates[name].step()
            print(f"round {number + 1}, {name}: {found['seconds']:.2f} s", file=sys.stderr, flush=True)
            if number >= 0:
                seconds[name].append(float(found["seconds"]))
    return seconds


def peak(command: list[str], log: Path) -> list[float]:
    """MiB above the weights, of two steps in a process of their own."""
    child = Child(command, log, counted=True)
    try:
        return [float(child.step()["grown"]) for _ in range(2)][1:]
    finally:
        child.close()


def figures_of(kind: str, batch: int, seconds: dict[str, list[float]], grown: dict[str, list[float]]) -> list[Figure]:
    """Ratios round by round, with the issue's bars."""
    title = f"{kind}, batch {batch}"
    bar = BARS.get(kind) if batch == 1 else None
    found = [
        Figure(f"{title}: bare", tuple(seconds["bare"]), "s"),
        Figure(f"{title}: ours / bare", ratios(seconds["ours"], seconds["bare"]), at_most=bar),
    ]
    for peer in ("lycoris", "kohya"):
        if peer in seconds:
            found.append(Figure(f"{title}: {peer} / bare", ratios(seconds[peer], seconds["bare"])))
            found.append(Figure(f"{title}: ours / {peer}", ratios(seconds["ours"], seconds[peer]), at_most=1.0))
            most = 0.9 if peer == "kohya" else None
            found.append(Figure(f"{title}: memory, ours / {peer}", ratios(grown["ours"], grown[peer]), at_most=most))
    found.append(Figure(f"{title}: memory, ours", tuple(grown["ours"]), "MiB"))
    return found


def main() -> int:
    """The command line."""
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--kinds", nargs="+", default=["lora", "locon", "loha", "lokr"])
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--rank", type=int, default=16)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--peer", help="a folder with kohya's sd-scripts")
    options.add_argument("--peer-python", help="a Python that has its packages")
    options.add_argument("--scratch", type=Path, help="a folder for 4 GB of weights (default: a temporary one)")
    asked = options.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = asked.scratch or Path(name)
        weights = scratch / "weights.bin"
        if not weights.is_file():
            write_weights(weights)
        for kind in asked.kinds:
            same = ["--weights", str(weights), "--kind", kind, "--clock", asked.clock, "--batch", str(asked.batch)]
            same += ["--rank", str(asked.rank), "--threads", str(asked.threads)]
            here = [sys.executable, "-m", "benchmarks.kinds_step", *same]
            commands = {"bare": [*here, "--who", "bare"], "ours": [*here, "--who", "ours"]}
            if kind not in PEERS:
                commands["lycoris"] = [*here, "--who", "lycoris"]
            if kind in PEERS and asked.peer:
                script = str(Path(__file__).with_name("kinds_peer.py"))
                commands["kohya"] = [asked.peer_python or sys.executable, script, "--peer", asked.peer, *same]
            children = {who: Child(command, Path(name) / f"{who}.log") for who, command in commands.items()}
            try:
                seconds = measure(children, asked.rounds)
            finally:
                for child in children.values():
                    child.close()
            compared = ("ours", *(who for who in ("lycoris", "kohya") if who in commands))
            grown = {who: peak(commands[who], Path(name) / f"{who}.log") for who in compared}
            found = figures_of(kind, asked.batch, seconds, grown)
            figures += found
            if not asked.json:
                print(table(f"... {kind}", found), flush=True)
    return show("A step of each kind, SD1.5's sizes", figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
