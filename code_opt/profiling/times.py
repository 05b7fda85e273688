"""Device times of blocks and adapters: each measured once, kept at once.

Times are kept under a key of what they rest on: the module (the key of a network, the kind and
shapes of an adapter, whose weights change no time), the batch size, the device, its threads, the
versions of libraries, and for how long they are measured. Other demands, rewards or batch sizes
measure nothing anew that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby

from code_opt.networks.adapters import Adapter, AdapterSpec
from code_opt.networks.compat import torch
from code_opt.networks.stitching import Trunk
from code_opt.networks.threads import device_type
from code_opt.networks.timing import BlockTime, time_parts
from code_opt.profiling.config import TimingConfig
from code_opt.store import Store, key_of

nn = torch.nn
Shape = tuple[int, ...]
WIDEST = 0.2
"""Spread of a time beyond which something else was running, most likely."""


@dataclass(frozen=True)
class TimedPart:
    """A block or an adapter that can be timed."""

    name: str
    """For tables: the block's id, or the adapter's kind and shapes."""
    identity: object
    """Plain data that tells apart what takes different times."""
    shape: Shape
    """Of what enters it, without the batch."""
    make: Callable[[], nn.Module]
    """Returns the module, in evaluation mode."""
    chain: str | None = None
    """Parts of one chain run one after the other on paths; None: it is in none."""


def block_part(dnn: str, identity: object, trunk: Trunk, number: int) -> TimedPart:
    """Return a block as a part.

    Args:
        dnn: id of its network.
        identity: plain data that tells the network from others.
        trunk: the network.
        number: of the block.
    """
    module = trunk.blocks[number]
    return TimedPart(
        f"{dnn}/{number}",
        ("block", identity, number),
        tuple(trunk.shapes[number]),
        lambda: module,
        dnn,
    )


def adapter_part(spec: AdapterSpec) -> TimedPart:
    """Return an adapter as a part: its weights do not matter."""
    source, target = ("x".join(map(str, shape)) for shape in (spec.source, spec.target))
    return TimedPart(
        name=f"{spec.kind} {source} to {target}",
        identity=("adapter", asdict(spec)),
        shape=tuple(spec.source),
        make=lambda: Adapter(spec).eval(),
    )


def part_times(
    parts: Iterable[TimedPart],
    timing: TimingConfig,
    *,
    device: str,
    store: Store | None = None,
    environment: object = (),
    report: Callable[[str, int, int], None] | None = None,
) -> dict[str, dict[int, BlockTime]]:
    """Return the times of parts, by name and batch size; what is not in the store is measured.

    Parts of a chain take turns; every other part is measured by itself.

    Args:
        parts: what to time; of equal names the first.
        timing: batch sizes, and seconds for each part and batch size.
        device: "cpu" or "cuda".
        store: what was measured so far.
        environment: what else times rest on: versions of libraries.
        report: told how many batch sizes of how many are done.
    """
    named = {part.name: part for part in parts}
    where = (device, device_type(device), torch.get_num_threads(), environment, timing.seconds)
    found: dict[str, dict[int, BlockTime]] = {name: {} for name in named}
    for done, batch in enumerate(timing.batches):
        keys = {name: key_of("time", p.identity, batch, where) for name, p in named.items()}
        missing = []
        for name, key in keys.items():
            record = None if store is None else store.get(key)
            if record is None:
                missing.append(name)
            else:
                found[name][batch] = BlockTime(
                    **{field: record[field] for field in BlockTime.__dataclass_fields__}
                )
        if report is not None:
            report("times", done, len(timing.batches))
        groups: dict[str, list[str]] = {}
        for name in missing:
            groups.setdefault(named[name].chain or f"of its own: {name}", []).append(name)
        measured = time_parts(
            [
                [
                    (named[name].make().to(device).requires_grad_(False), named[name].shape)
                    for name in names
                ]
                for names in groups.values()
            ],
            batch=batch,
            device=device,
            seconds=timing.seconds,
        )
        for names, times in zip(groups.values(), measured, strict=True):
            for name, one in zip(names, times, strict=True):
                found[name][batch] = one
                if store is not None:
                    store.add(keys[name], {"kind": "time", "part": name, **asdict(one)})
    if report is not None:
        report("times", len(timing.batches), len(timing.batches))
    return found


def seconds_of(times: Mapping[int, BlockTime]) -> dict[str, float]:
    """Return the median times of a part as an instance's ``seconds``, by batch size."""
    return {str(batch): times[batch].median for batch in sorted(times)}


def unsteady(times: Mapping[str, Mapping[int, BlockTime]]) -> list[str]:
    """Return the parts whose times spread so far that they mean little, with their batch sizes."""
    return [
        f"{name} (batch {', '.join(str(one.batch) for _, one in rows)})"
        for name, rows in groupby(
            (
                (name, one)
                for name, by_batch in times.items()
                for one in by_batch.values()
                if one.spread > WIDEST
            ),
            key=lambda row: row[0],
        )
    ]
