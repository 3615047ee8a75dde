"""A tagger in onnxruntime: pictures in, a probability for each tag out.

What it is fed is told by `contracts`. onnxruntime is imported when a tagger is opened, not before. One that knows the
graphics card is used on it; where that fails, silently or aloud, the CPU does the work and `note` says so.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from lora_lab.tagging.contracts import find_files, read_contract
from lora_lab.tagging.tags import Tag, TaggerError, read_tags

if TYPE_CHECKING:
    from numpy.typing import NDArray

Device = Literal["auto", "cpu"]
CPU = "CPUExecutionProvider"
PROVIDERS = (
    "CUDAExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider", "DmlExecutionProvider",
    "OpenVINOExecutionProvider",
)  # fmt: skip
"""onnxruntime's names of what may be faster than the CPU, the best first."""
OPTIONS = {"OpenVINOExecutionProvider": {"device_type": "GPU_FP32"}}
"""OpenVINO's half precision gives wrong numbers (reference: kohya's tagging script)."""
SAMPLES = 64
"""Pieces of a model file that its identity is made from: the whole of it takes seconds to read."""

log = logging.getLogger(__name__)


class Tagger:
    """An opened tagger. Use it as a context manager, or `close` it, to give its memory back."""

    def __init__(self, path: Path | str, *, threads: int = 0, device: Device = "auto") -> None:
        """Open the model and its list of tags, and try it on one blank picture.

        Args:
            path: a folder with ``model.onnx`` and ``selected_tags.csv``, or an ``.onnx`` file with a list beside it.
            threads: of the CPU; 0 leaves the choice to onnxruntime.
            device: `cpu` leaves the graphics card alone.

        Raises:
            TaggerError: a file is missing or damaged, it is no tagger of a kind we know, model and list do not belong
                together, or onnxruntime is not installed.
        """
        self._path, tags = find_files(Path(path))
        self.tags: tuple[Tag, ...] = read_tags(tags)
        self.identity = identity(self._path, tags)
        """Changes with the model's and the list's content, not with their place: 32 hex digits."""
        self.note = ""
        """What the person should know, such as that the graphics card could not be used."""
        self._session, failed = self._opened(threads, device)
        self.contract = read_contract(self._session.get_inputs(), self._path, tags)
        self.size = self.contract.side
        """Side of the square input in pixels."""
        self._input = self._session.get_inputs()[0].name
        self._try_out(threads, failed)

    def __enter__(self) -> Tagger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def on_cpu(self) -> bool:
        """Does the CPU do the work?"""
        return bool(self._session.get_providers()[0] == CPU)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes; None for any."""
        return self.contract.batch

    def close(self) -> None:
        """Give the model's memory back; it cannot be used afterwards."""
        self._session = None

    def probabilities(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Tag pictures of any size and mode.

        Returns:
            float32 (pictures, tags) in 0..1, columns in the order of `tags`.

        Raises:
            TaggerError: the model fails.
        """
        return self.run([prepare(image, self.size) for image in images])

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Tag prepared pictures as one batch; one that takes too much memory is halved until it fits.

        Args:
            pictures: each (size, size, 3), uint8, BGR, from `prepare`.

        Returns:
            float32 (pictures, tags) in 0..1.

        Raises:
            TaggerError: the model fails, or gives no probabilities.
        """
        if not pictures:
            return np.zeros((0, len(self.tags)), dtype=np.float32)
        step = self.contract.batch or len(pictures)
        try:
            return np.concatenate([self._run(pictures[i : i + step]) for i in range(0, len(pictures), step)])
        except _FailedError as error:
            if step == 1 or self.contract.batch:
                raise TaggerError(f"the tagger failed, {error}", file=self._path) from error
            half = len(pictures) // 2
            log.warning("a batch of %d pictures failed (%s): trying halves", len(pictures), error)
            return np.concatenate([self.run(pictures[:half]), self.run(pictures[half:])])

    def _run(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """One call of the session; a model of fixed batch size gets the last rows filled up with zeros."""
        c = self.contract
        batch = np.zeros((c.batch or len(pictures), c.side, c.side, 3), np.float32)
        for row, picture in zip(batch, pictures, strict=False):
            row[:] = picture
        if c.logits:
            batch *= np.float32(c.scale)
            batch += np.float32(c.shift)
        if c.channels_first:
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        try:
            output = self._session.run(None, {self._input: batch})[0]
        except Exception as error:  # onnxruntime has no common base class of its own
            raise _FailedError(_first_line(error)) from error
        found: NDArray[np.float32] = np.asarray(output, dtype=np.float32)[: len(pictures)]
        if found.ndim != 2 or found.shape[1] != len(self.tags):
            what = f"the model has {found.shape[-1] if found.ndim else 1} outputs and the list {len(self.tags)} tags"
            raise TaggerError(what, file=self._path, remedy="take both files from the same place")
        if c.logits:
            found = 1 / (1 + np.exp(-np.clip(found, -60, 60)))
        # A hair outside 0..1 is rounding; more, or no number at all, is another kind of model.
        if not (found.min(initial=0) >= -1e-3 and found.max(initial=0) <= 1 + 1e-3):
            remedy = "take an original model, such as the wd taggers"
            raise TaggerError("the model gives no probabilities between 0 and 1", file=self._path, remedy=remedy)
        return np.asarray(np.clip(found, 0, 1), np.float32)

    def _opened(self, threads: int, device: Device) -> tuple[Any, bool]:
        """A session, and whether the graphics card was wanted in vain."""
        runtime = _runtime()
        wanted = [] if device == "cpu" else [p for p in PROVIDERS if p in runtime.get_available_providers()][:1]
        if wanted:
            try:
                session = _session(runtime, self._path, threads, wanted)
            except TaggerError as error:
                log.warning("%s", error)
            else:
                return session, session.get_providers()[0] == CPU
        return _session(runtime, self._path, threads, []), bool(wanted)

    def _try_out(self, threads: int, failed: bool) -> None:
        """One blank picture shows whether the outputs fit the list, and whether the graphics card really works."""
        blank = [np.full((self.size, self.size, 3), 255, np.uint8)]
        try:
            self.run(blank)
        except TaggerError as error:
            if self.on_cpu or not isinstance(error.__cause__, _FailedError):
                raise
            log.warning("%s", error)
            self._session, failed = _session(_runtime(), self._path, threads, []), True
            self.run(blank)
        if failed:
            self.note = "the graphics card could not be used for tagging (see the log): the CPU does it, more slowly"


class _FailedError(Exception):
    """The session raised."""


def prepare(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """A picture as the model wants it: on white, made square with white, resized, BGR.

    Args:
        image: any size and mode; transparent places become white.
        size: side of the result in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    side = max(image.size)
    square = image
    if image.mode != "RGB" or image.size != (side, side):
        square = Image.new("RGB", (side, side), (255, 255, 255))
        place = ((side - image.width) // 2, (side - image.height) // 2)
        if image.mode == "RGB":
            square.paste(image, place)
        else:
            rgba = image.convert("RGBA")
            square.paste(rgba, place, mask=rgba)
    if side != size:
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square)[:, :, ::-1]


def identity(model: Path, tags: Path) -> str:
    """A name for what a tagger computes: from the list, and the model's size and pieces spread over it.

    Raises:
        TaggerError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        size = model.stat().st_size
        digest.update(f"{size} ".encode() + tags.read_bytes())
        with model.open("rb") as file:
            for number in range(SAMPLES):
                file.seek(size * number // SAMPLES)
                digest.update(file.read(1 << 16))
    except OSError as error:
        remedy = "check its rights"
        raise TaggerError(f"the tagger cannot be read ({error.strerror})", file=model, remedy=remedy) from error
    return digest.hexdigest()[:32]


def _runtime() -> Any:  # noqa: ANN401 - onnxruntime has no types
    try:
        import onnxruntime
    except ImportError as error:
        remedy = "install it: pip install onnxruntime"
        raise TaggerError("tagging needs the package onnxruntime", remedy=remedy) from error
    if PROVIDERS[0] in onnxruntime.get_available_providers() and hasattr(onnxruntime, "preload_dlls"):
        with suppress(Exception):  # torch's own CUDA libraries serve too; the try-out tells whether any did
            onnxruntime.preload_dlls()
    return onnxruntime


def _session(runtime: Any, path: Path, threads: int, wanted: list[str]) -> Any:  # noqa: ANN401
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers = [(name, OPTIONS.get(name, {})) for name in wanted] + [CPU]
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has no common base class of its own
        what = f"the tagger's model cannot be opened, {_first_line(error)}"
        raise TaggerError(what, file=path, remedy="download it again") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
