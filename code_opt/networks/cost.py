"""What blocks and adapters cost: FLOPs, parameters, sizes of activations.

FLOPs are those of ``torch.utils.flop_counter``: 2 per multiply-add of convolutions, matrix
products and attention; normalisation, activation functions, pooling and resizing count 0.
Everything is found on the meta device, without computing anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from code_opt.errors import InputError
from code_opt.networks.blocks import counted_attention, on_meta
from code_opt.networks.compat import FlopCounterMode, torch

if TYPE_CHECKING:
    from collections.abc import Sequence

nn = torch.nn

FLOAT_BYTES = 4
"""Size of one activation value (float32) [bytes]."""


@dataclass(frozen=True)
class BlockCost:
    """Cost of one block for one inference."""

    flops: int
    params: int
    output_shape: tuple[int, ...]
    """Without the batch dimension."""

    @property
    def output_bytes(self) -> int:
        """Size of the output in float32 [bytes]."""
        return FLOAT_BYTES * prod(self.output_shape)


@dataclass(frozen=True)
class AdapterCost:
    """Cost of one adapter for one inference."""

    flops: int
    params: int


def block_costs(
    blocks: Sequence[nn.Module], input_shape: Sequence[int], batch: int = 1
) -> list[BlockCost]:
    """Return the cost of each block of a chain, in evaluation mode.

    Args:
        blocks: modules that follow each other, each with one input and one output tensor.
        input_shape: shape of one input of the first block, without the batch dimension.
        batch: batch that the blocks are run with; FLOPs are per inference all the same.

    Returns:
        One cost per block, in order. A parameter that several blocks share counts in the first.

    Raises:
        InputError: a block does not run on the shape that it is given.
    """
    costs: list[BlockCost] = []
    value = torch.empty((batch, *input_shape), device="meta")
    seen: set[int] = set()
    for number, block in enumerate(blocks):
        counter = FlopCounterMode(display=False)
        try:
            with torch.no_grad(), counted_attention(), counter:
                value = on_meta(block).eval()(value)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise InputError(
                f"block {number} does not run on shape {tuple(value.shape)}: {error}"
            ) from None
        own = {id(p): p.numel() for p in block.parameters() if id(p) not in seen}
        seen.update(own)
        costs.append(
            BlockCost(
                flops=counter.get_total_flops() // batch,
                params=sum(own.values()),
                output_shape=tuple(value.shape[1:]),
            )
        )
    return costs


def network_cost(network: nn.Module, input_shape: Sequence[int]) -> BlockCost:
    """Return the cost of a whole network (see :func:`block_costs`)."""
    return block_costs([network], input_shape)[0]


def adapter_cost(source: Sequence[int], target: Sequence[int]) -> AdapterCost:
    """Return the cost of the plain adapter between two activations.

    Maps (channels, height, width): the input is resized to the target's height and width (free),
    then a 1x1 convolution changes the channels. Tokens (length, features): resized along the
    length, then one linear layer for all tokens. Vectors: one linear layer; a map or tokens
    before a vector are averaged first. All with a bias, which adds parameters and no FLOPs.

    Args:
        source: shape of the activation handed on, without the batch dimension.
        target: shape of the input of the block that takes it. ``(classes,)`` for an exit.

    Raises:
        InputError: no such adapter between these kinds of activation.
    """
    kinds = {1: "a vector", 2: "tokens", 3: "a map"}
    if not (len(source) in kinds and len(target) in kinds and len(target) in (1, len(source))):
        raise InputError(
            f"no plain adapter from shape {tuple(source)} to {tuple(target)}: it leads from "
            "maps to maps, tokens to tokens, and anything to a vector"
        )
    features = [shape[-1] if len(shape) == 2 else shape[0] for shape in (source, target)]
    times = prod(target) // features[1]
    return AdapterCost(
        flops=2 * features[0] * features[1] * times,
        params=features[0] * features[1] + features[1],
    )
