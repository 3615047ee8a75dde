"""A WD tagger in onnxruntime: pictures in, a probability for each tag out.

The contract (reference: the model cards of SmilingWolf's wd taggers): input NHWC float32, BGR, 0..255, square, its
side read from the model; output one probability per row of ``selected_tags.csv``, the sigmoid is in the graph.
onnxruntime is imported when a tagger is opened, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lora_lab.tagging.tags import Tag, TaggerError, read_tags

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL, TAGS = "model.onnx", "selected_tags.csv"


class Tagger:
    """An opened tagger."""

    def __init__(self, folder: Path | str, *, threads: int = 0) -> None:
        """Open the model and its list of tags.

        Args:
            folder: with `model.onnx` and `selected_tags.csv`.
            threads: of the CPU; 0 leaves the choice to onnxruntime.

        Raises:
            TaggerError: a file is missing or damaged, it is no tagger of this kind, model and list do not belong
                together, or onnxruntime is not installed.
        """
        self._path = Path(folder) / MODEL
        self.tags: tuple[Tag, ...] = read_tags(Path(folder) / TAGS)
        self._session = _open(self._path, threads)
        self._input = self._session.get_inputs()[0].name
        self.size = _side(self._session.get_inputs(), self._path)
        """Side of the square input in pixels."""
        batch = self._session.get_inputs()[0].shape[0]
        self._fixed_batch = batch if isinstance(batch, int) else None
        self._check_outputs()

    def probabilities(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Tag pictures of any size and mode.

        Returns:
            float32 (pictures, tags) in 0..1, columns in the order of `tags`.

        Raises:
            TaggerError: the model fails.
        """
        if not images:
            return np.zeros((0, len(self.tags)), dtype=np.float32)
        batch = np.stack([prepare(image, self.size) for image in images])
        step = self._fixed_batch or len(batch)
        return np.concatenate([self._run(batch[i : i + step]) for i in range(0, len(batch), step)])

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """A model of fixed batch size gets the last rows filled up with zeros."""
        count = len(batch)
        if self._fixed_batch and count < self._fixed_batch:
            batch = np.concatenate([batch, np.zeros((self._fixed_batch - count, *batch.shape[1:]), np.float32)])
        try:
            found = self._session.run(None, {self._input: batch})[0]
        except Exception as error:  # onnxruntime has no common base class of its own
            raise TaggerError(f"the tagger failed, {_first_line(error)}", file=self._path) from error
        return np.asarray(found, dtype=np.float32)[:count]

    def _check_outputs(self) -> None:
        shape = self._session.get_outputs()[0].shape
        blank = np.zeros((1, self.size, self.size, 3), np.float32)
        width = shape[-1] if isinstance(shape[-1], int) else self._run(blank).shape[-1]
        if len(shape) != 2 or width != len(self.tags):
            what = f"the model has {width} outputs and the list {len(self.tags)} tags"
            raise TaggerError(what, file=self._path, remedy="take both files from the same place")


def prepare(image: Image.Image, size: int) -> NDArray[np.float32]:
    """A picture as the model wants it: on white, made square with white, resized, BGR.

    Args:
        image: any size and mode; transparent places become white.
        size: side of the result in pixels.

    Returns:
        float32 (size, size, 3), 0..255.
    """
    rgba = image.convert("RGBA")
    side = max(rgba.size)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    square.alpha_composite(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
    rgb = square.convert("RGB")
    if side != size:
        rgb = rgb.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(rgb, dtype=np.float32)[:, :, ::-1])


def _open(path: Path, threads: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
    if not path.is_file():
        raise TaggerError(f"there is no {MODEL}", file=path.parent, remedy="choose the folder of a WD tagger")
    try:
        import onnxruntime
    except ImportError as error:
        remedy = "install it: pip install onnxruntime"
        raise TaggerError("tagging needs the package onnxruntime", remedy=remedy) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base class of its own
        what = f"the tagger's model cannot be opened, {_first_line(error)}"
        raise TaggerError(what, file=path, remedy="download it again") from error


def _side(inputs: Iterable[Any], path: Path) -> int:
    """Side of the input, if it is the one picture input of a WD tagger."""
    shapes = [tuple(i.shape) for i in inputs]
    shape = shapes[0] if shapes else ()
    if len(shapes) == 1 and len(shape) == 4 and shape[3] == 3 and isinstance(shape[1], int) and shape[1] == shape[2]:
        return int(shape[1])
    remedy = "take one whose input is (batch, side, side, 3), such as the wd taggers"
    raise TaggerError(f"the model is no WD tagger, its inputs are {shapes}", file=path, remedy=remedy)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
