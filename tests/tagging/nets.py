"""Tiny real ONNX models whose outputs can be worked out by hand: the mean of each channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIDE = 8
CSV = "tag_id,name,category,count\n1,general,9,5\n2,blue,0,7\n3,green_hair,0,\n"


def write_model(
    path: Path, *, batch: str | int = "n", outputs: Any = 3, channels: int = 3, first: bool = False, name: str = "model"
) -> None:
    """Outputs the mean of each channel, divided by 255: blue, green, red of a BGR picture.

    Args:
        path: folder.
        batch: a number fixes it.
        outputs: as the model names them; it has as many as channels.
        channels: of the input.
        first: channels before the sides, and not divided, as a net that gives logits.
        name: of the file.
    """
    import onnx
    from onnx import TensorProto, helper

    shape = [batch, channels, SIDE, SIDE] if first else [batch, SIDE, SIDE, channels]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, outputs])
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [1.0 if first else 255.0])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3] if first else [1, 2], keepdims=0),
        helper.make_node("Div", ["m", "s"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path / f"{name}.onnx"))


def write_tagger(folder: Path, **options: Any) -> Path:
    """A whole tagger; gives its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder, **options)
    (folder / "selected_tags.csv").write_text(CSV, encoding="utf-8")
    return folder
