"""Records of instances that tests write by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def dnn(name: str, server: str, flops: Sequence[float], sizes: Sequence[float] = ()) -> Any:
    """Return the record of a network.

    Args:
        name: its id; the blocks are called name0, name1, ...
        server: id of its server.
        flops: of each block [FLOP].
        sizes: outputs of the first blocks [bytes]; the others have the format's default.
    """
    blocks: list[dict[str, Any]] = [
        {"id": f"{name}{number}", "flops": of_block} for number, of_block in enumerate(flops)
    ]
    for block, size in zip(blocks, sizes, strict=False):
        block["output_bytes"] = size
    return {"id": name, "server": server, "blocks": blocks}
