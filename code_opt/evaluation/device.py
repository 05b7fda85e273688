"""How fast the chosen paths run on one device: against native paths, against plain chains.

Everything is timed in turns within one run, so a machine that slows down slows all of it
down; what counts are ratios of medians.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from code_opt.evaluation.routes import Route
from code_opt.networks.compat import torch
from code_opt.networks.multitask import MultiTaskNetwork

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
_WARM_UP = 3


@dataclass(frozen=True)
class PathTime:
    """One task's path on the device; seconds per inference at the batch size."""

    task: str
    batch: int
    seconds: float
    low: float
    high: float
    """Quartiles."""
    native: float
    """The task's own network."""
    plain: float
    """The same layers as one nn.Sequential of their own."""
    share_of_plain: float
    """Speed of the assembled network's path as a share of the plain chain's, from pairs timed
    one right after the other."""
    parts: float
    """Sum of the path's parts, timed one by one."""
    flops: float
    native_flops: float


@dataclass(frozen=True)
class DeviceReport:
    """An assignment on one device."""

    device: str
    dtype: str
    mode: str
    """"eager" or "CUDA graph"."""
    layout: str
    """"contiguous" or "channels last": the one in which the native networks run faster."""
    batch: int
    halved: int
    """How often the batch was halved for want of memory."""
    tasks: tuple[PathTime, ...]
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
    natives: Mapping[str, Chain],
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
        natives: modules of every task's own network.
        inputs: images of every task, shape (n, channels, height, width).
        routes: tasks with their rates and work.
        native_flops: work of every task's own network [FLOP].
        device: "cpu" or "cuda".
        dtype: of weights and activations, a key of :data:`DTYPES`.
        batch: images at once; halved as often as the device's memory asks for.
        seconds: time spent in all.

    Raises:
        torch.OutOfMemoryError: not even one image fits.
    """
    halved = 0
    while True:
        try:
            return _measure(
                network,
                natives,
                inputs,
                routes,
                native_flops,
                device,
                dtype,
                batch,
                halved,
                seconds,
            )
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch, halved = batch // 2, halved + 1
            if device != "cpu":
                torch.cuda.empty_cache()


def _measure(
    network: MultiTaskNetwork,
    natives: Mapping[str, Chain],
    inputs: Mapping[str, torch.Tensor],
    routes: Sequence[Route],
    native_flops: Mapping[str, float],
    device: str,
    dtype: str,
    batch: int,
    halved: int,
    seconds: float,
) -> DeviceReport:
    kind = DTYPES[dtype]
    images = {
        route.task: inputs[route.task][torch.arange(batch) % len(inputs[route.task])].to(
            device, kind
        )
        for route in routes
    }
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    mode = "eager"
    with torch.inference_mode():
        own = {
            route.task: copy.deepcopy(nn.Sequential(*natives[route.task])).to(device, kind).eval()
            for route in routes
        }
        layout = _faster_layout(own, images, {r.task: r.rate for r in routes}, device)
        form = LAYOUTS[layout]
        # A copy: another type or layout would change the shared weights for everybody else. Within
        # it, blocks are shared as ever.
        placed = copy.deepcopy(network).to(device, kind).to(**form)
        for route in routes:
            task = route.task
            x = images[task].to(**form)
            plain = nn.Sequential(*(copy.deepcopy(part) for part in placed.parts(task))).eval()
            native = own[task].to(**form)
            chosen = placed.path(task)
            for name, module in (("path", chosen), ("plain", plain), ("native", native)):
                runs[task, name], mode = _runner(module, x, device)
            for number, part in enumerate(placed.parts(task)):
                runs[task, f"part {number}"], _ = _runner(part, x, device)
                x = part(x)
        times = _in_turns(runs, device, seconds)
    found = []
    for route in routes:
        task = route.task
        middle = {
            name: float(np.median(values)) / batch
            for (other, name), values in times.items()
            if other == task
        }
        low, high = (float(q) / batch for q in np.quantile(times[task, "path"], (0.25, 0.75)))
        found.append(
            PathTime(
                task=task,
                batch=batch,
                seconds=middle["path"],
                low=low,
                high=high,
                native=middle["native"],
                plain=middle["plain"],
                share_of_plain=_paired(times[task, "plain"], times[task, "path"]),
                parts=sum(v for name, v in middle.items() if name.startswith("part ")),
                flops=sum(segment.flops for segment in route.segments),
                native_flops=native_flops[task],
            )
        )
    rate = sum(route.rate for route in routes)

    def total(value: Callable[[PathTime], float]) -> float:
        return sum(r.rate * value(t) for r, t in zip(routes, found, strict=True))

    return DeviceReport(
        device=device,
        dtype=dtype,
        mode=mode,
        layout=layout,
        batch=batch,
        halved=halved,
        tasks=tuple(found),
        throughput=rate / total(lambda t: t.seconds),
        native_throughput=rate / total(lambda t: t.native),
        speedup_flops=total(lambda t: t.native_flops) / total(lambda t: t.flops),
        speedup_parts=total(lambda t: t.native) / total(lambda t: t.parts),
    )


def _faster_layout(
    natives: Mapping[str, nn.Module],
    images: Mapping[str, torch.Tensor],
    rates: Mapping[str, float],
    device: str,
) -> str:
    """Return the layout of activations in which the mix of native paths takes less time.

    Native paths decide for all: chosen paths are never measured against slowed-down ones.
    """
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for layout, form in LAYOUTS.items():
        for task, x in images.items():
            module = copy.deepcopy(natives[task]).to(**form)
            runs[task, layout], _ = _runner(module, x.to(**form), device)
    times = _in_turns(runs, device, 0.0)
    return min(
        LAYOUTS,
        key=lambda layout: sum(
            rates[task] * float(np.median(times[task, layout])) for task in images
        ),
    )


def _runner(module: nn.Module, x: torch.Tensor, device: str) -> tuple[Callable[[], object], str]:
    """Return a call that runs a module on an input, as a CUDA graph where that works."""
    for _ in range(_WARM_UP):
        module(x)
    if device == "cpu":
        return lambda: module(x), "eager"
    with contextlib.suppress(RuntimeError):  # some operators cannot be captured
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            module(x)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            module(x)
        return graph.replay, "CUDA graph"
    return lambda: module(x), "eager"


def _in_turns(
    runs: Mapping[tuple[str, str], Callable[[], object]], device: str, seconds: float
) -> dict[tuple[str, str], list[float]]:
    """Time all runs in turns for so many seconds, each at least five times."""
    times: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
    until = time.perf_counter() + seconds
    names = list(runs)
    for repeat in range(_MOST_REPEATS):
        # Forth and back, so that nobody always finds the caches as the same one left them.
        for name in names if repeat % 2 == 0 else reversed(names):
            started = time.perf_counter()
            runs[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
        if repeat + 1 >= _LEAST_REPEATS and time.perf_counter() >= until:
            break
    return times


def _paired(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how much longer ``one`` takes, the same weight to either coming first."""
    ratio = np.divide(one, other)
    return float(np.sqrt(np.median(ratio[::2]) * np.median(ratio[1::2])))
