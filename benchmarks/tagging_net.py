"""A tagger of the wd taggers' size with random weights: a ViT-base for 448 px, built from ONNX operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SIDE, PATCH, WIDTH, HEADS, LAYERS = 448, 16, 768, 12, 12
TAGS = 10_000


@dataclass
class Graph:
    """Nodes and weights as they come."""

    r: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def weight(self, *shape: int, value: float | None = None) -> str:
        """A random tensor, small enough for the activations to stay tame; or one number throughout."""
        scale = 1 / np.sqrt(shape[0] if len(shape) == 2 else np.prod(shape[1:]) if len(shape) > 2 else 100)
        made = self.r.standard_normal(shape, np.float32) * scale if value is None else np.full(shape, value)
        return self.constant(made.astype(np.float32))

    def constant(self, array: Any) -> str:  # noqa: ANN401 - anything numpy takes
        """A tensor of the graph."""
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 - ONNX attributes
        """One operator with one output."""
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def norm(self, x: str) -> str:
        """Layer norm."""
        return self.node("LayerNormalization", x, self.weight(WIDTH, value=1), self.weight(WIDTH, value=0), axis=-1)

    def linear(self, x: str, inside: int, outside: int) -> str:
        """Product and bias."""
        return self.node("Add", self.node("MatMul", x, self.weight(inside, outside)), self.weight(outside, value=0))

    def attention(self, x: str) -> str:
        """Softmax attention of all patches to all."""
        shape = self.constant(np.array([0, 0, HEADS, WIDTH // HEADS]))
        parts = [self.node("Reshape", self.linear(x, WIDTH, WIDTH), shape) for _ in range(3)]
        q, v = (self.node("Transpose", part, perm=[0, 2, 1, 3]) for part in (parts[0], parts[2]))
        k = self.node("Transpose", parts[1], perm=[0, 2, 3, 1])
        scale = self.constant(np.float32((WIDTH // HEADS) ** -0.5))
        weights = self.node("Softmax", self.node("Mul", self.node("MatMul", q, k), scale), axis=-1)
        out = self.node("Transpose", self.node("MatMul", weights, v), perm=[0, 2, 1, 3])
        return self.linear(self.node("Reshape", out, self.constant(np.array([0, 0, WIDTH]))), WIDTH, WIDTH)

    def mlp(self, x: str) -> str:
        """Two products with a GELU between them."""
        h = self.linear(x, WIDTH, 4 * WIDTH)
        half, one, root = (self.constant(np.float32(value)) for value in (0.5, 1.0, 2**-0.5))
        erf = self.node("Add", self.node("Erf", self.node("Mul", h, root)), one)
        return self.linear(self.node("Mul", self.node("Mul", h, half), erf), 4 * WIDTH, WIDTH)


def write_vit(folder: Path, layers: int = LAYERS) -> Path:
    """Write the model and its list of tags; gives the folder. 0.4 GB."""
    import onnx
    from onnx import TensorProto, helper

    g = Graph(np.random.default_rng(0))
    x = g.node("Transpose", "pictures", perm=[0, 3, 1, 2])
    x = g.node("Mul", x, g.constant(np.float32(1 / 255)))
    x = g.node("Conv", x, g.weight(WIDTH, 3, PATCH, PATCH), strides=[PATCH, PATCH], kernel_shape=[PATCH, PATCH])
    x = g.node("Reshape", x, g.constant(np.array([0, WIDTH, (SIDE // PATCH) ** 2])))
    x = g.node("Add", g.node("Transpose", x, perm=[0, 2, 1]), g.weight((SIDE // PATCH) ** 2, WIDTH))
    for _ in range(layers):
        x = g.node("Add", x, g.attention(g.norm(x)))
        x = g.node("Add", x, g.mlp(g.norm(x)))
    x = g.node("ReduceMean", g.norm(x), axes=[1], keepdims=0)
    g.nodes.append(helper.make_node("Sigmoid", [g.linear(x, WIDTH, TAGS)], ["tags"]))
    pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["batch", SIDE, SIDE, 3])
    tags = helper.make_tensor_value_info("tags", TensorProto.FLOAT, ["batch", TAGS])
    graph = helper.make_graph(g.nodes, "vit", [pictures], [tags], g.weights)
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    rows = [f"{i},tag_{i},{9 if i < 4 else 4 if i > 8000 else 0},{TAGS - i}" for i in range(TAGS)]
    (folder / "selected_tags.csv").write_text("tag_id,name,category,count\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder
