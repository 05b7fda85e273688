"""The records that an instance consists of: servers, links, DNNs, tasks and the reward.

Typed and immutable. Field names are the names in the files; units are SI (FLOP, FLOP/s, bytes,
bytes/s, seconds, inferences/s) and accuracies lie in [0, 1]. A fused multiply-add counts as
2 FLOP. The rules and tables of :mod:`code_opt.instance` work on these;
:class:`code_opt.instance.model.Instance` itself stands above them.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "code-opt/instance/1"
INPUT, OUTPUT = "input", "output"
IDENTITY = "identity"
"""Value of :attr:`Connection.share` for no adapter at all, as on native arcs."""
BYTES_PER_PARAMETER = 4

Identifier = Annotated[str, Field(min_length=1, max_length=200)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
# A float, since tables hold floats; no number of units beyond 1e6 is ever meant.
Whole = Annotated[float, Field(ge=0.0, le=1e6, multiple_of=1.0, allow_inf_nan=False)]


DEFAULT_PRICE = 1.0
DEFAULT_WEIGHT = 1.0


class Record(BaseModel):
    """Base of everything in an instance: frozen, no unknown fields, no coercion of types.

    Only the tuples of records are not strict, so that they can be read from lists.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Server(Record):
    """A server at the edge."""

    id: Identifier
    flops: Positive = Field(description="capacity C[s] [FLOP/s]")
    memory: NonNegative | None = Field(
        None, description="free memory for adapters [bytes]; null is unlimited"
    )
    cost: NonNegative = Field(
        DEFAULT_PRICE, description="price of one unit of capacity (capacity planning)"
    )
    unit_flops: Positive | None = Field(
        None, description="size of one unit of capacity that can be bought [FLOP/s]"
    )
    max_units: Whole | None = Field(
        None, description="most units that can be bought; null is unlimited"
    )


class Link(Record):
    """A directed link between two servers."""

    source: Identifier
    target: Identifier
    bandwidth: Positive | None = Field(None, description="B[s,s'] [bytes/s]; null is unlimited")
    latency: NonNegative = Field(0.0, description="delay of one transfer [s]")
    cost: NonNegative = Field(
        DEFAULT_PRICE, description="price of one unit of bandwidth (capacity planning)"
    )
    unit_bandwidth: Positive | None = Field(
        None, description="size of one unit of bandwidth that can be bought [bytes/s]"
    )
    max_units: Whole | None = Field(
        None, description="most units that can be bought; null is unlimited"
    )


class Block(Record):
    """One block of a DNN; it runs on its DNN's server only (no mirroring)."""

    id: Identifier
    flops: NonNegative = Field(description="work of one inference [FLOP]")
    params: NonNegative = Field(0.0, description="number of frozen parameters")
    output_bytes: NonNegative = Field(0.0, description="size of the block's output [bytes]")


class Dnn(Record):
    """A deep neural network: a chain of blocks (its trunk) on one server."""

    id: Identifier
    server: Identifier
    blocks: tuple[Block, ...] = Field(min_length=1, strict=False)


class Connection(Record):
    """A learnable connection of one task: cross, skip, exit or entry.

    Where ``bytes`` is null, the source block's ``output_bytes`` cross (an entry: 0).
    Where ``server`` is null, the adapter runs on the server of the source block
    (an entry: of the target block). Two tasks of one input group have the same adapter
    where the ends and ``share`` are the same; where it is null, the adapter is the task's own.
    """

    source: Identifier = Field(description="a block id, or 'input' (an entry)")
    target: Identifier = Field(description="a block id, or 'output' (an exit)")
    drop: Finite = Field(description="predicted loss of accuracy; may be negative")
    flops: NonNegative = Field(0.0, description="work of the adapter for one inference [FLOP]")
    params: NonNegative = Field(0.0, description="parameters of the adapter (4 bytes each)")
    bytes: NonNegative | None = Field(None, description="activation handed on [bytes]")
    server: Identifier | None = Field(None, description="server that runs the adapter")
    share: Identifier | None = Field(
        None,
        description="adapter that tasks of the input group share; 'identity': none is needed",
    )


class MeasuredPath(Record):
    """The measured accuracy of exactly this path."""

    blocks: tuple[Identifier, ...] = Field(min_length=1, strict=False)
    accuracy: Fraction


class Task(Record):
    """A task, with the DNN that serves it natively and the connections trained for it."""

    id: Identifier
    dnn: Identifier
    accuracy: Fraction = Field(description="accuracy of the native path")
    demand: NonNegative | None = Field(
        None, description="most inferences/s asked for; null: saturated"
    )
    floor: NonNegative | Literal["standalone"] = Field(
        0.0, description="least rate [inferences/s], or 'standalone': its rate without coordination"
    )
    weight: NonNegative = Field(DEFAULT_WEIGHT, description="weight w[t] in the average accuracy")
    min_accuracy: Fraction = Field(0.0, description="least accuracy of the task's path")
    max_latency: Positive | None = Field(None, description="latency limit L[t], unloaded [s]")
    input_group: Identifier | None = Field(
        None, description="tasks of one group look at the same input, at one rate"
    )
    connections: tuple[Connection, ...] = Field((), strict=False)
    measured_paths: tuple[MeasuredPath, ...] = Field((), strict=False)


class Power(Record):
    """x ** exponent."""

    kind: Literal["power"]
    exponent: NonNegative = 1.0


class Logistic(Record):
    """1 / (1 + exp(-steepness * (x - midpoint)))."""

    kind: Literal["logistic"]
    steepness: NonNegative
    midpoint: Finite


class Exponential(Record):
    """exp(rate * x)."""

    kind: Literal["exponential"]
    rate: NonNegative


Shape = Annotated[Power | Logistic | Exponential, Field(discriminator="kind")]
SHAPES: dict[str, type[Record]] = {
    kind: shape
    for shape in get_args(get_args(Shape)[0])
    for kind in get_args(shape.model_fields["kind"].annotation)
}
"""The record of each kind of shape."""


class Reward(Record):
    """F = xi(average accuracy) * zeta(total throughput); both log-concave and nondecreasing."""

    accuracy: Shape = Field(default_factory=lambda: Power(kind="power"))
    throughput: Shape = Field(default_factory=lambda: Power(kind="power"))
