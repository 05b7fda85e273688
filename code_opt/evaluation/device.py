"""How fast the chosen paths run on one device: against native paths, against plain chains.

Everything is timed in turns within one run, so a machine that slows down slows all of it
down; what counts are ratios of medians.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from code_opt.evaluation.routes import Route
from code_opt.networks.compat import torch
from code_opt.networks.memory import halving
from code_opt.networks.multitask import MultiTaskNetwork, StreamProgram
from code_opt.networks.timing import in_a_row, timed

nn = torch.nn
Chain = Sequence[nn.Module]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {"memory_format": torch.contiguous_format},
    "channels last": {"memory_format": torch.channels_last},
}
"""What ``Module.to`` and ``Tensor.to`` are told."""
_LEAST_REPEATS = 5
_MOST_REPEATS = 2000


@dataclass(frozen=True)
class StreamTime:
    """The path of one task, or those of an input group, on the device.

    Seconds are per input at the batch size.
    """

    tasks: str
    answers: int
    """Tasks that get an answer from every input."""
    batch: int
    seconds: float
    low: float
    high: float
    """Quartiles."""
    native: float
    """The tasks' own networks (each once)."""
    plain: float
    """The same layers written down plainly, as one nn.Sequential (with forks where paths part)."""
    share_of_plain: float
    """Speed of the assembled network as a share of the plain one's, from pairs timed one right
    after the other."""
    parts: float
    """Sum of all parts, timed one by one."""
    flops: float
    native_flops: float


@dataclass(frozen=True)
class DeviceReport:
    """An assignment on one device."""

    device: str
    dtype: str
    mode: str
    """"eager" or "CUDA graph": of everything that is compared."""
    layout: str
    """"contiguous" or "channels last": the one in which the native networks run faster."""
    batch: int
    halved: int
    """How often the batch was halved for want of memory."""
    streams: tuple[StreamTime, ...]
    throughput: float
    """Inferences per second of the assignment's mix."""
    native_throughput: float
    """The same mix by native paths."""
    speedup_flops: float
    """Speed-up over native paths that FLOPs predict."""
    speedup_parts: float
    """Speed-up that the times of single parts predict."""

    @property
    def speedup(self) -> float:
        """Measured speed-up over native paths, for the same mix."""
        return self.throughput / self.native_throughput


def measure_device(
    network: MultiTaskNetwork,
    natives: Mapping[str, tuple[str, Chain]],
    inputs: Mapping[str, torch.Tensor],
    routes: Sequence[Route],
    native_flops: Mapping[str, float],
    *,
    device: str,
    dtype: str = "float32",
    batch: int = 32,
    seconds: float = 2.0,
) -> DeviceReport:
    """Time an assignment's paths on one device.

    Args:
        network: the assembled network.
        natives: name and modules of every task's own network.
        inputs: images of every task, shape (n, channels, height, width).
        routes: tasks with their rates and work.
        native_flops: work of every network [FLOP], by name.
        device: "cpu" or "cuda".
        dtype: of weights and activations, a key of :data:`DTYPES`.
        batch: images at once; halved as often as the device's memory asks for.
        seconds: time spent in all.

    Raises:
        torch.OutOfMemoryError: not even one image fits.
    """

    def measured(batch: int) -> DeviceReport:
        return _measure(
            network, natives, inputs, routes, native_flops, device, dtype, batch, seconds
        )

    found, halved = halving(measured, batch)
    return replace(found, halved=halved)


def _measure(
    network: MultiTaskNetwork,
    natives: Mapping[str, tuple[str, Chain]],
    inputs: Mapping[str, torch.Tensor],
    routes: Sequence[Route],
    native_flops: Mapping[str, float],
    device: str,
    dtype: str,
    batch: int,
    seconds: float,
) -> DeviceReport:
    kind = DTYPES[dtype]
    images = {}
    for route in routes:
        for task in route.tasks:
            rows = torch.arange(batch) % len(inputs[task])
            images[task] = inputs[task][rows].to(device, kind)
    # Tasks of one input that have the same network run it once, with no coordination too.
    networks = [
        {natives[task][0]: (task, natives[task][1]) for task in route.tasks} for route in routes
    ]
    sides: dict[tuple[int, str], _Side] = {}
    with torch.inference_mode():
        own = [
            _Side(
                [
                    (copy.deepcopy(nn.Sequential(*chain)).to(device, kind).eval(), images[task])
                    for task, chain in found.values()
                ]
            )
            for found in networks
        ]
        layout = _faster_layout(own, [route.rate for route in routes], device)
        form = LAYOUTS[layout]
        # A copy: another type or layout would change the shared weights for everybody else. Within
        # it, blocks are shared as ever.
        placed = copy.deepcopy(network).to(device, kind).to(**form)
        for number, route in enumerate(routes):
            # Differently prepared images of one camera make several programs.
            programs = {id(p): (p, task) for task in route.tasks for p in [placed.stream(task)]}
            chosen = [(p, images[task].to(**form)) for p, task in programs.values()]
            for name, side in (
                ("path", _Side([(p.run, x) for p, x in chosen])),
                ("plain", _Side([(_plain(p), x) for p, x in chosen])),
                ("native", own[number].laid_out(form)),
            ):
                sides[number, name] = side
            for program, (p, x) in enumerate(chosen):
                outputs: list[torch.Tensor] = []
                for place, node in enumerate(p.nodes):
                    value = x if node.parent < 0 else outputs[node.parent]
                    sides[number, f"part {program} {place}"] = _Side([(node.module, value)])
                    outputs.append(node.module(value))
        runs, mode = _runners(sides, device)
        times = _in_turns(runs, device, seconds)
    found = []
    for number, route in enumerate(routes):
        middle = {
            name: float(np.median(values)) / batch
            for (other, name), values in times.items()
            if other == number
        }
        low, high = (float(q) / batch for q in np.quantile(times[number, "path"], (0.25, 0.75)))
        found.append(
            StreamTime(
                tasks=route.name,
                answers=len(route.tasks),
                batch=batch,
                seconds=middle["path"],
                low=low,
                high=high,
                native=middle["native"],
                plain=middle["plain"],
                share_of_plain=_paired(times[number, "plain"], times[number, "path"]),
                parts=sum(v for name, v in middle.items() if name.startswith("part ")),
                flops=sum(segment.flops for segment in route.segments),
                native_flops=sum(native_flops[name] for name in networks[number]),
            )
        )
    answers = sum(route.rate * len(route.tasks) for route in routes)

    def total(value: Callable[[StreamTime], float]) -> float:
        return sum(r.rate * value(t) for r, t in zip(routes, found, strict=True))

    return DeviceReport(
        device=device,
        dtype=dtype,
        mode=mode,
        layout=layout,
        batch=batch,
        halved=0,
        streams=tuple(found),
        throughput=answers / total(lambda t: t.seconds),
        native_throughput=answers / total(lambda t: t.native),
        speedup_flops=total(lambda t: t.native_flops) / total(lambda t: t.flops),
        speedup_parts=total(lambda t: t.native) / total(lambda t: t.parts),
    )


@dataclass(frozen=True)
class _Side:
    """Modules with their inputs, run one after the other."""

    calls: Sequence[tuple[Callable[[torch.Tensor], object], torch.Tensor]]

    def __call__(self) -> object:
        return [module(x) for module, x in self.calls]

    def laid_out(self, form: Mapping[str, Any]) -> _Side:
        """Return copies of modules (not plain functions) and inputs in another layout."""
        return _Side(
            [
                (copy.deepcopy(module).to(**form), x.to(**form))
                for module, x in self.calls
                if isinstance(module, nn.Module)
            ]
        )


class _Fork(nn.Module):
    """A chain, and what runs behind it."""

    def __init__(self, trunk: nn.Sequential, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> list[Any]:
        x = self.trunk(x)
        return [branch(x) for branch in self.branches]


def _plain(program: StreamProgram) -> nn.Module:
    """Return copies of a program's modules, written down plainly."""
    below: dict[int, list[int]] = {}
    for place, node in enumerate(program.nodes):
        below.setdefault(node.parent, []).append(place)

    def behind(place: int) -> nn.Module:
        chain: list[nn.Module] = []
        while len(below.get(place, ())) == 1:
            (place,) = below[place]
            chain.append(copy.deepcopy(program.nodes[place].module))
        trunk = nn.Sequential(*chain)
        return _Fork(trunk, [after(p) for p in below[place]]) if place in below else trunk

    def after(place: int) -> nn.Module:
        return nn.Sequential(copy.deepcopy(program.nodes[place].module), behind(place))

    return behind(-1).eval()


def _faster_layout(natives: Sequence[_Side], rates: Sequence[float], device: str) -> str:
    """Return the layout of activations in which the mix of native paths takes less time.

    Native paths decide for all: chosen paths are never measured against slowed-down ones.
    """
    sides = {
        (number, layout): side.laid_out(form)
        for layout, form in LAYOUTS.items()
        for number, side in enumerate(natives)
    }
    runs, _ = _runners(sides, device)
    times = _in_turns(runs, device, 0.0)
    return min(
        LAYOUTS,
        key=lambda layout: sum(
            rate * float(np.median(times[number, layout])) for number, rate in enumerate(rates)
        ),
    )


@dataclass(frozen=True)
class Replay:
    """A CUDA graph of a call, with all that it reads and writes.

    A graph knows addresses, not tensors: without this, inputs and copied weights would be freed
    and their memory given to others.
    """

    graph: Any
    side: _Side
    outputs: object

    def __call__(self) -> object:
        """Run the graph; the outputs are written over those of the last time."""
        self.graph.replay()
        return self.outputs


def captured(side: _Side) -> Replay:
    """Return a call as a CUDA graph.

    Raises:
        torch.OutOfMemoryError: the graph does not fit beside what is there.
        RuntimeError: an operator cannot be captured.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what libraries set up at a first run is not captured
        side()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = side()
    return Replay(graph, side, outputs)


def _runners(
    sides: Mapping[tuple[int, str], _Side], device: str
) -> tuple[dict[tuple[int, str], Callable[[], object]], str]:
    """Return calls that do the same: CUDA graphs if all can be captured, else none of them.

    A graph beside a call without one would compare ways of launching, not networks.

    Raises:
        torch.OutOfMemoryError: the device's memory is full.
    """
    if device == "cpu":
        return dict(sides), "eager"
    try:
        return {name: captured(side) for name, side in sides.items()}, "CUDA graph"
    except torch.OutOfMemoryError:  # a RuntimeError, but a smaller batch helps
        raise
    except RuntimeError:
        return dict(sides), "eager"


def _in_turns(
    runs: Mapping[tuple[int, str], Callable[[], object]], device: str, seconds: float
) -> dict[tuple[int, str], list[float]]:
    """Time all runs in turns for so many seconds, each at least five times, warmed up."""
    times: dict[tuple[int, str], list[float]] = {name: [] for name in runs}
    rows = {name: in_a_row(run, device) for name, run in runs.items()}
    until = time.perf_counter() + seconds
    names = list(runs)
    for repeat in range(_MOST_REPEATS):
        # Forth and back, so that nobody always finds the caches as the same one left them.
        for name in names if repeat % 2 == 0 else reversed(names):
            times[name].append(timed(runs[name], device, rows[name]))
        if repeat + 1 >= _LEAST_REPEATS and time.perf_counter() >= until:
            break
    return times


def _paired(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how much longer ``one`` takes, the same weight to either coming first."""
    ratio = np.divide(one, other)
    return float(np.sqrt(np.median(ratio[::2]) * np.median(ratio[1::2])))
