"""The records that an instance consists of: servers, links, DNNs, tasks and the reward.

Typed and immutable. Field names are the names in the files; units are SI (FLOP, FLOP/s, bytes,
bytes/s, seconds, inferences/s) and accuracies lie in [0, 1]. A fused multiply-add counts as
2 FLOP. The rules and tables of :mod:`code_opt.instance` work on these;
:class:`code_opt.instance.model.Instance` itself stands above them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

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
Percentile = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
# A float, since tables hold floats; no number of units beyond 1e6 is ever meant.
Samples = Annotated[float, Field(ge=1.0, le=1e12, multiple_of=1.0, allow_inf_nan=False)]
Whole = Annotated[float, Field(ge=0.0, le=1e6, multiple_of=1.0, allow_inf_nan=False)]
# A float, for the same reason.
Batch = Annotated[float, Field(ge=1.0, le=1e6, multiple_of=1.0, allow_inf_nan=False)]
_BATCH = re.compile(r"[1-9]\d{0,6}")


def read_seconds(value: Any) -> dict[str, float] | None:
    """Return measured times by batch size, ordered by it: ``{"1": 0.004, "8": 0.013}``.

    Args:
        value: such an object, or a number, which is the time of batch 1 [s].

    Raises:
        PydanticCustomError: it is neither; the message says what would be right.
    """
    if value is None:
        return None
    times = value if isinstance(value, dict) else {"1": value}
    if not times:
        raise PydanticCustomError("seconds", "must hold the time of at least one batch size")
    found: dict[int, float] = {}
    for size, time in times.items():
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not (_BATCH.fullmatch(size) if isinstance(size, str) else whole and size > 0):
            text = "{size} is no batch size: it must be a whole number of at least 1"
            raise PydanticCustomError("seconds", text, {"size": repr(size)})
        of = f"{time!r:.50}, the time of batch {size}, " if isinstance(value, dict) else ""
        if isinstance(time, bool) or not isinstance(time, int | float):
            what = "a number" if of else 'a number, or an object such as {"1": 0.004, "8": 0.013}'
            raise PydanticCustomError("seconds", "{of}must be {what}", {"of": of, "what": what})
        if not (math.isfinite(time) and time >= 0.0):
            text = "{of}must be a finite number of at least 0"
            raise PydanticCustomError("seconds", text, {"of": of})
        found[int(size)] = float(time)
    return {str(size): found[size] for size in sorted(found)}


_TIME_SCHEMA: dict[str, Any] = {"type": "number", "minimum": 0.0}
Seconds = Annotated[
    dict[str, float] | None,
    BeforeValidator(read_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                _TIME_SCHEMA,
                {
                    "type": "object",
                    "minProperties": 1,
                    "patternProperties": {f"^{_BATCH.pattern}$": _TIME_SCHEMA},
                    "additionalProperties": False,
                },
                {"type": "null"},
            ]
        }
    ),
]
"""Time of one batch [s] by its size, of one device; a number is that of batch 1."""


AccuracySource = Literal["measured", "given", "predicted", "guessed"]
"""Where the accuracy of a path comes from: from its own measurement; from the native path or an
alternative; from drops; from drops of which some are guessed."""
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
    flops: Positive | None = Field(
        None,
        description="capacity C[s] of all devices [FLOP/s]; null: all work there has `seconds`",
    )
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
    devices: NonNegative = Field(
        1.0, description="equal devices side by side; one inference runs on one of them"
    )
    batch: Batch = Field(1.0, description="inferences that a device computes at once")
    max_batch_delay: NonNegative = Field(
        0.0, description="longest wait for a batch to fill [s], part of latencies under load"
    )
    max_utilization: Share | None = Field(
        None, description="share of its time that can be sold; null: that of the solve, else all"
    )
    unit_devices: Positive | None = Field(
        None, description="devices in one unit that can be bought, instead of unit_flops"
    )
    yearly_cost: NonNegative = Field(
        0.0, description="price of one bought unit in each year that it stands (capacity planning)"
    )
    site: Identifier | None = Field(
        None, description="where it stands: links lead between sites; null: a site of its own"
    )

    @property
    def place(self) -> str:
        """Between which links lead: its site, or itself where it has none."""
        return self.id if self.site is None else self.site

    @property
    def usable_devices(self) -> float:
        """Device seconds per second that can be sold."""
        return self.devices if self.max_utilization is None else self.max_utilization * self.devices

    @property
    def speed(self) -> float | None:
        """FLOP/s of one device, None where work there is in seconds alone."""
        return None if self.flops is None else self.flops / self.devices

    def batch_time(self, work: Block | Connection) -> float:
        """Return T, the unloaded time of a batch of some work there [s]."""
        devices, times = self.devices, work.seconds
        if times is not None:
            time = times[f"{self.batch:.0f}"]
        else:
            flops = self.flops
            time = 0.0 if flops is None else work.flops / (flops / devices)
        # Less than one device is one slower device.
        return time if devices >= 1.0 or devices == 0.0 else time / devices

    def device_time(self, work: Block | Connection) -> float:
        """Return tau, the time of a device that one inference of some work takes [s]."""
        times = work.seconds
        if times is not None:
            return times[f"{self.batch:.0f}"] / self.batch
        flops = self.flops
        return 0.0 if flops is None else work.flops / (flops / self.devices)


class Link(Record):
    """A directed link between two servers."""

    source: Identifier = Field(description="a server, or the site of servers")
    target: Identifier = Field(description="another server, or another site")
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
    yearly_cost: NonNegative = Field(
        0.0, description="price of one bought unit in each year that it stands (capacity planning)"
    )


class Block(Record):
    """One block of a DNN; it runs on its DNN's server only (no mirroring)."""

    id: Identifier
    flops: NonNegative = Field(description="work of one inference [FLOP]")
    params: NonNegative = Field(0.0, description="number of frozen parameters")
    output_bytes: NonNegative = Field(0.0, description="size of the block's output [bytes]")
    seconds: Seconds = Field(None, description="measured time on one device, by batch size [s]")


class Dnn(Record):
    """A deep neural network: a chain of blocks (its trunk) on one server."""

    id: Identifier
    server: Identifier
    blocks: tuple[Block, ...] = Field(min_length=1, strict=False)


class Connection(Record):
    """A learnable connection of one task: cross, skip, exit or entry.

    Where ``bytes`` is null, the source block's ``output_bytes`` cross (an entry: the task's
    ``input_bytes``, and only where its inputs travel, see :attr:`Task.sends_inputs`).
    Where ``server`` is null, the adapter runs on the server of the source block
    (an entry: of the target block). Two tasks of one input group have the same adapter
    where the ends and ``share`` are the same; where it is null, the adapter is the task's own.
    """

    source: Identifier = Field(description="a block id, or 'input' (an entry)")
    target: Identifier = Field(description="a block id, or 'output' (an exit)")
    drop: Finite = Field(description="predicted loss of accuracy; may be negative")
    drop_low: Finite | None = Field(
        None, description="least drop that is likely, where `drop` is a guess; null: it is none"
    )
    drop_high: Finite | None = Field(
        None, description="largest drop that is likely, where `drop` is a guess; null: it is none"
    )
    flops: NonNegative = Field(0.0, description="work of the adapter for one inference [FLOP]")
    params: NonNegative = Field(0.0, description="parameters of the adapter (4 bytes each)")
    bytes: NonNegative | None = Field(None, description="activation (or input) handed on [bytes]")
    server: Identifier | None = Field(None, description="server that runs the adapter")
    share: Identifier | None = Field(
        None,
        description="adapter that tasks of the input group share; 'identity': none is needed",
    )
    seconds: Seconds = Field(None, description="measured time on one device, by batch size [s]")

    @property
    def is_guessed(self) -> bool:
        """Whether nobody measured or predicted the drop: it is a typical one, with its range."""
        return self.drop_low is not None


class MeasuredPath(Record):
    """The measured accuracy of exactly this path."""

    blocks: tuple[Identifier, ...] = Field(min_length=1, strict=False)
    accuracy: Fraction
    samples: Samples | None = Field(None, description="images behind the accuracy")


class Alternative(Record):
    """Another DNN that answers a task all by itself: its whole trunk and a head of its own.

    One indivisible path with a measured accuracy; no connection joins or leaves it.
    """

    dnn: Identifier
    accuracy: Fraction
    samples: Samples | None = Field(None, description="images behind the accuracy")


class GivenPath(tuple[str, ...]):
    """Blocks of a path that runs one DNN alone: the native path or an alternative.

    Connections may lead along the same blocks; that is another path, a plain tuple.
    """

    __slots__ = ()

    @classmethod
    def of(cls, blocks: Iterable[str], accuracy_source: str | None) -> tuple[str, ...]:
        """Return blocks as the path that they are, by where its accuracy comes from."""
        return cls(blocks) if accuracy_source == "given" else tuple(blocks)


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
    max_latency: Positive | None = Field(
        None, description="latency limit L[t] [s], unloaded where there is no percentile"
    )
    latency_percentile: Percentile | None = Field(
        None, description="quantile q of the time under load that is promised, and limited"
    )
    input_group: Identifier | None = Field(
        None, description="tasks of one group look at the same input, at one rate"
    )
    input_bytes: NonNegative = Field(0.0, description="size of one input as it is sent [bytes]")
    origin: Identifier | None = Field(
        None, description="server at which inputs arrive; null: that of the task's own DNN"
    )
    samples: Samples | None = Field(None, description="images behind the accuracy")
    connections: tuple[Connection, ...] = Field((), strict=False)
    measured_paths: tuple[MeasuredPath, ...] = Field((), strict=False)
    alternatives: tuple[Alternative, ...] = Field((), strict=False)

    @property
    def sends_inputs(self) -> bool:
        """Whether inputs start at a server, from which they cross links; else they are everywhere.

        Then every entry, the native one included, is a connection from that server.
        """
        return self.origin is not None or self.input_bytes > 0.0


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
