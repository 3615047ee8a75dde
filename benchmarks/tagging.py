"""Tagging throughput, decoding included: against the bare session, against one after the other, against wd14-tagger.

    python -m benchmarks.tagging [--net vit|demo] [--pictures N] [--batch N] [--peer DIR] [--json] [--rounds N]

Ours is what a person waits for: content hashes, decoding in threads, the session, probabilities into the store. The
bare session gets the same batches as finished arrays. `sequential` decodes a batch, then runs it, with our functions.
`--peer` names a checkout of picobyte/stable-diffusion-webui-wd14-tagger, which runs on the same session and pictures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import Figure, interleave, parser, ratios, show
from lora_lab.dataset.pictures import content_hash
from lora_lab.demo import assets
from lora_lab.tagging.batches import DECODED, Batching, batch_size, tag_pictures
from lora_lab.tagging.scores import sparse
from lora_lab.tagging.session import Tagger, prepare
from lora_lab.tagging.store import ProbabilityStore
from lora_lab.workflow.tagging import read_picture

SIZES = ((1024, 1024), (832, 1216), (1200, 900), (640, 960))
"""Of the pictures in turn: what people's datasets hold."""


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Soft colours with some noise, as PNG and JPEG in turn: they decode about as slowly as drawings do."""
    folder.mkdir()
    r = np.random.default_rng(1)
    paths = []
    for number in range(count):
        size = SIZES[number % len(SIZES)]
        small = Image.fromarray(r.integers(0, 255, (12, 12, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        noise = r.integers(0, 8, (size[1], size[0], 3), np.uint8)
        picture = Image.fromarray(np.asarray(small) // 2 + noise)
        paths.append(folder / f"{number:04}.{'png' if number % 2 else 'jpg'}")
        picture.save(paths[-1], quality=92)
    return paths


class Work:
    """The candidates, on one opened tagger and the same pictures."""

    def __init__(self, tagger: Tagger, paths: list[Path], batch: int, folder: Path) -> None:
        self._tagger, self._paths, self._folder = tagger, paths, folder
        self._batch = batch or batch_size(tagger)
        self._ready = [prepare(read_picture(path, DECODED * tagger.size), tagger.size) for path in paths]
        self._rounds = 0

    def ours(self) -> None:
        """As a person's tagging does it, nothing known before."""
        self._rounds += 1
        store = ProbabilityStore(self._folder / str(self._rounds))
        hashes = store.hashes(self._paths, content_hash)
        place = dict(zip(self._paths, hashes, strict=True))
        store.add_tagger("t", "t", self._tagger.tags)
        rows = {}
        for part in tag_pictures(self._tagger, self._paths, read_picture, batching=Batching(self._batch)):
            for one in part:
                assert one.probabilities is not None, one.error
                rows[str(place[one.path])] = sparse(one.probabilities)
        store.write("t", rows)

    def bare(self) -> None:
        """The session alone, fed with finished float32 arrays."""
        session, name = self._tagger._session, self._tagger._input
        for begin in range(0, len(self._ready), self._batch):
            session.run(None, {name: self._arrays[begin // self._batch]})

    def prepare_bare(self) -> None:
        """Arrays that `bare` is fed with: made before the clock runs."""
        steps = range(0, len(self._ready), self._batch)
        self._arrays = [np.stack(self._ready[i : i + self._batch]).astype(np.float32) for i in steps]

    def sequential(self) -> None:
        """Decode a batch, run it, decode the next."""
        for begin in range(0, len(self._paths), self._batch):
            part = self._paths[begin : begin + self._batch]
            self._tagger.run([prepare(read_picture(p, DECODED * self._tagger.size), self._tagger.size) for p in part])


def options() -> argparse.Namespace:
    """What the person asks for."""
    made = parser(__doc__ or "", rounds=5)
    made.add_argument("--net", choices=("vit", "demo"), default="demo")
    made.add_argument("--pictures", type=int, default=0, help="default 200 for the demo tagger, 16 for the ViT")
    made.add_argument("--batch", type=int, default=0)
    made.add_argument("--threads", type=int, default=0, help="of the session")
    made.add_argument("--peer", type=Path, help="a checkout of wd14-tagger")
    return made.parse_args()


def main() -> int:
    """Measure and print."""
    args = options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_pictures(folder / "pictures", args.pictures or (200 if args.net == "demo" else 16))
        place = assets.tagger_dir()
        if args.net == "vit":
            from benchmarks.tagging_net import write_vit

            place = write_vit(folder / "vit")
        tagger = Tagger(place, threads=args.threads, device="cpu")
        work = Work(tagger, paths, args.batch, folder)
        work.prepare_bare()
        candidates: dict[str, Callable[[], object]] = {"ours": work.ours, "bare": work.bare}
        if args.net == "demo":
            candidates["sequential"] = work.sequential
        if args.peer:
            from benchmarks.tagging_peer import Peer

            peer = Peer(args.peer, place, tagger._session)
            candidates["wd14-tagger"] = lambda: peer.tag(paths)
        seconds = interleave(args.rounds, candidates, clock=args.clock)
        pace = tuple(len(paths) / value for value in seconds["ours"])
        figures = [Figure("pictures a second", pace, "")]
        bars = {"bare": 1 / 0.9 if args.net == "vit" else None, "sequential": 1.0}
        bars["wd14-tagger"] = 1 / 1.5 if args.net == "demo" else 1.0
        figures += [
            Figure(f"time of ours / {other}", ratios(seconds["ours"], seconds[other]), at_most=bars[other])
            for other in candidates
            if other != "ours"
        ]
        return show(f"tagging, {args.net}, {len(paths)} pictures", figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
