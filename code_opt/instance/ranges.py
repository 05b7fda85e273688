"""The supported range of numbers: what double precision and a solver's tolerances can hold.

All quantities of one kind are 0 or between :data:`SMALLEST` and :data:`LARGEST` in the unit of
the format, and in one instance the largest is at most :data:`MOST_RATIO` times the smallest that
is not 0. Anything beyond is a slip of a unit far more often than it is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from code_opt.instance.problems import Issue, Locate, Location, shown
from code_opt.instance.records import DEFAULT_PRICE, DEFAULT_WEIGHT

SMALLEST, LARGEST = 1e-12, 1e18
MOST_RATIO = 1e12
LARGEST_DROP = 1e3
"""Largest size of a predicted loss or gain of accuracy; 1 is all of it."""
STEEPEST = 1e6
"""Largest exponent of a reward, and largest steepness and rate of its accuracy: over the whole
range of accuracies, 0 to 1, an even steeper reward is a threshold."""
Data = Mapping[str, Any]
Found = tuple[Location, Any]


class Kind(NamedTuple):
    """Quantities that are compared with each other."""

    name: str
    unit: str
    slip: str
    """The slip of a unit that is most likely."""


CAPACITY = Kind("capacity", "FLOP/s", "TFLOP/s or GFLOP/s typed for FLOP/s?")
WORK = Kind("work", "FLOP", "GFLOP typed for FLOP?")
BANDWIDTH = Kind("bandwidth", "bytes/s", "Gbit/s or MB/s typed for bytes/s?")
SIZE = Kind("size of an activation or input", "bytes", "MB typed for bytes?")
MEMORY = Kind("memory", "bytes", "GB typed for bytes?")
PARAMETERS = Kind("number of parameters", "parameters", "millions typed for parameters?")
TIME = Kind("time", "s", "ms or \N{MICRO SIGN}s typed for s?")
RATE = Kind("rate", "inferences/s", "per hour or per ms typed for per second?")
DEVICES = Kind("number of devices", "devices", "")
WEIGHT = Kind("weight", "", "")
PRICE = Kind("price", "", "")


def is_in_range(value: float) -> bool:
    """Tell whether a quantity that is not negative is supported."""
    return value == 0.0 or SMALLEST <= value <= LARGEST


def range_text(unit: str = "") -> str:
    """Return the supported range in words."""
    return f"0 or between {SMALLEST:g} and {LARGEST:g}" + (f" {unit}" if unit else "")


def range_issues(data: Data, locate: Locate) -> Iterator[Issue]:
    """Yield what lies beyond the range, in the well-formed parts of an instance.

    Args:
        data: plain data, records as mappings.
        locate: the name of a location in the source.
    """
    for kind, found in _quantities(data).items():
        yield from _issues(kind, found, locate)
    for location, value in _accuracies(data):
        if 0.0 < value < SMALLEST:
            yield Issue(location, f"must be 0 or at least {SMALLEST:g}", shown(value))
    for location, value in _drops(data):
        if abs(value) > LARGEST_DROP:
            text = f"must lie between -{LARGEST_DROP:g} and {LARGEST_DROP:g}; 1 is all accuracy"
            yield Issue(location, text, shown(value))
    yield from _reward_issues(data.get("reward"))


def _issues(kind: Kind, found: Sequence[Found], locate: Locate) -> Iterator[Issue]:
    hint = f" ({kind.slip})" if kind.slip else ""
    least: Found | None = None
    most: Found | None = None
    for location, value in found:
        if not is_in_range(value):
            text = f"is beyond the supported range, {SMALLEST:g} to {LARGEST:g}"
            text += f" {kind.unit}" if kind.unit else ""
            yield Issue(location, text + hint, shown(value))
        elif value > 0.0:
            least = (location, value) if least is None or value < least[1] else least
            most = (location, value) if most is None or value > most[1] else most
    # A product, since the quotient is rounded: a ratio of exactly 1e12 is in the range.
    if least and most and most[1] > MOST_RATIO * least[1] * (1.0 + 1e-9):
        yield Issue(
            least[0],
            f"{locate(most[0])} = {shown(most[1])} is more than {MOST_RATIO:g} times as large: "
            f"give every {kind.name} in {kind.unit or 'the same unit'}{hint}",
            shown(least[1]),
        )


def _quantities(data: Data) -> dict[Kind, list[Found]]:
    """Return every quantity that is given, by kind."""
    found: dict[Kind, list[Found]] = {}

    def add(kind: Kind, location: Location, record: Data, *fields: str) -> None:
        for field in fields:
            value = record.get(field)
            if isinstance(value, (int, float)):
                found.setdefault(kind, []).append(((*location, field), float(value)))

    def add_seconds(location: Location, record: Data) -> None:
        value = record.get("seconds")
        times = value.values() if isinstance(value, Mapping) else (value,)
        for time in times:
            add(TIME, location, {"seconds": time}, "seconds")

    def add_price(location: Location, record: Data) -> None:
        # The price of what nobody priced says nothing about the currency.
        if record.get("cost") != DEFAULT_PRICE:
            add(PRICE, location, record, "cost")
        add(PRICE, location, record, "yearly_cost")

    for location, server in _each(data, "servers"):
        add(CAPACITY, location, server, "flops", "unit_flops")
        add(MEMORY, location, server, "memory")
        add(DEVICES, location, server, "devices", "unit_devices")
        add(TIME, location, server, "max_batch_delay")
        add_price(location, server)
    for location, link in _each(data, "links"):
        add(BANDWIDTH, location, link, "bandwidth", "unit_bandwidth")
        add(TIME, location, link, "latency")
        add_price(location, link)
    for outer, dnn in _each(data, "dnns"):
        for location, block in _each(dnn, "blocks", outer):
            add(WORK, location, block, "flops")
            add(SIZE, location, block, "output_bytes")
            add_seconds(location, block)
    for outer, task in _each(data, "tasks"):
        add(RATE, outer, task, "demand", "floor")
        add(WEIGHT, outer, {"weight": DEFAULT_WEIGHT} | dict(task), "weight")
        add(TIME, outer, task, "max_latency")
        add(SIZE, outer, task, "input_bytes")
        for location, connection in _each(task, "connections", outer):
            add(WORK, location, connection, "flops")
            add(SIZE, location, connection, "bytes")
            add(PARAMETERS, location, connection, "params")
            add_seconds(location, connection)
    return found


def _accuracies(data: Data) -> Iterator[Found]:
    for outer, task in _each(data, "tasks"):
        yield from _numbers(outer, task, "accuracy", "min_accuracy")
        for key in ("measured_paths", "alternatives"):
            for location, path in _each(task, key, outer):
                yield from _numbers(location, path, "accuracy")


def _drops(data: Data) -> Iterator[Found]:
    for outer, task in _each(data, "tasks"):
        for location, connection in _each(task, "connections", outer):
            yield from _numbers(location, connection, "drop")


def _reward_issues(reward: Any) -> Iterator[Issue]:
    """Yield the parameters of a reward that are beyond the range."""
    for part, least, most, farthest in (
        ("accuracy", 1.0 / MOST_RATIO, STEEPEST, MOST_RATIO),
        ("throughput", 1.0 / LARGEST, 1.0 / SMALLEST, LARGEST),
    ):
        shape = _plain(_plain(reward).get(part))
        location = ("reward", part)
        for field, smallest, largest in (
            ("exponent", 1.0 / MOST_RATIO, STEEPEST),
            ("steepness", least, most),
            ("rate", least, most),
        ):
            for place, value in _numbers(location, shape, field):
                if value != 0.0 and not smallest <= value <= largest:
                    text = f"must be 0 or between {smallest:g} and {largest:g}"
                    yield Issue(place, text, shown(value))
        for place, value in _numbers(location, shape, "midpoint"):
            if abs(value) > farthest:
                text = f"must lie between -{farthest:g} and {farthest:g}"
                yield Issue(place, text, shown(value))


def _numbers(location: Location, record: Data, *fields: str) -> Iterator[Found]:
    for field in fields:
        value = record.get(field)
        if isinstance(value, (int, float)):
            yield (*location, field), float(value)


def _each(parent: Any, key: str, outer: Location = ()) -> Iterator[tuple[Location, Data]]:
    for i, record in enumerate(_plain(parent).get(key) or ()):
        yield (*outer, key, i), _plain(record)


def _plain(record: Any) -> Data:
    """Return a record as a mapping; what is no record counts as an empty one."""
    if isinstance(record, BaseModel):
        return record.model_dump(by_alias=True)
    return record if isinstance(record, Mapping) else {}
