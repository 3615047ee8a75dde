"""How far an adapter has moved each block's weights."""

from __future__ import annotations

import math
from collections import defaultdict

from lora_lab.network.adapter import Adapter
from lora_lab.network.inspect import delta_norm_squared


def block_norms(adapter: Adapter) -> dict[str, float]:
    """The Frobenius norm of what the adapter adds to the weights of each block, at strength 1.

    By rank x rank products alone, so that an epoch does not feel it. Sites whose kind has no such form are left out.
    """
    squares: defaultdict[str, float] = defaultdict(float)
    for piece in adapter.pieces:
        found = delta_norm_squared({name: tensor.detach() for name, tensor in piece.tensors().items()})
        if found is not None:
            squares[piece.site.block] += found
    return {block: math.sqrt(max(0.0, squares[block])) for block in adapter.blocks if block in squares}
