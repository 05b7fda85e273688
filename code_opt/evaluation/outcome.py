"""What an evaluation asked and found, as tables; needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from code_opt.checker import CHANGED, check
from code_opt.errors import InputError
from code_opt.evaluation.flow import Pace
from code_opt.evaluation.traffic import Arrivals, Feed
from code_opt.evaluation.verdict import Evaluated, average
from code_opt.files import write_atomically
from code_opt.instance import Instance
from code_opt.result import Result

FEEDS: tuple[Feed, ...] = ("rates", "saturated", "overloaded")


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        device: "cpu" or "cuda".
        dtype: of weights and activations in the timing on the device.
        batch: images at once, on the device and at most on a server of the paced edge.
        seconds: of every measurement on the edge, and of the timing of every result.
        pace: of the edge's servers: the instance's, or what this device can do; None: the device's
            where the instance holds its measured times, else the instance's.
        arrivals: at the edge; None: Poisson where a task has a latency limit, else evenly spaced.
        feeds: ways of feeding the edge; none: the edge is not run.
        fine_tune: train the adapters of paths that were never trained together first.
        threads: of torch, per process.
        seed: of Poisson arrivals.
    """

    device: str = "cpu"
    dtype: str = "float32"
    batch: int = 32
    seconds: float = 4.0
    pace: Pace | None = None
    arrivals: Arrivals | None = None
    feeds: tuple[Feed, ...] = FEEDS
    fine_tune: bool = False
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What was measured about all results."""

    instance: Instance
    results: tuple[Evaluated, ...]
    ranking: str
    ranking_holds: bool | None
    written_back: Instance | None
    """The instance with the accuracies of the evaluated paths added, where that was asked for."""

    @property
    def confirmed(self) -> bool:
        """Every result was confirmed."""
        return all(one.verdict.confirmed for one in self.results)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return results, tasks, flows (tasks and servers on the edge) and device as tables."""
        return {
            "results": _results(self.results),
            "tasks": _tasks(self.results),
            "edge_tasks": _edge(self.results, "tasks"),
            "edge_servers": _edge(self.results, "servers"),
            "device": _device(self.results),
        }


def refuse_alternatives(instance: Instance, name: str, result: Result) -> None:
    """Refuse results with alternatives: a bundle holds no heads of other networks for a task.

    Raises:
        InputError: a task is answered by one.
    """
    dnn_of = {block.id: dnn.id for dnn in instance.dnns for block in dnn.blocks}
    own = {task.id: task.dnn for task in instance.tasks}
    for row in result.tasks:
        if row.accuracy_source == "given" and dnn_of.get(row.path[0]) != own.get(row.task):
            raise InputError(
                f"{name}: task {row.task!r} is answered by the alternative "
                f"{dnn_of.get(row.path[0])!r}, whose head for the task the bundle does not hold; "
                "evaluate it without the bundle"
            )


def refusals(instance: Instance, name: str, result: Result) -> tuple[str, ...]:
    """Return what the independent checker finds wrong with a result.

    That the instance changed since keeps no result that fits it from being run.

    Raises:
        InputError: it belongs to another instance or holds no assignment.
    """
    if result.instance != instance.name:
        raise InputError(
            f"{name}: a result of instance {result.instance!r}, not of {instance.name!r}"
        )
    if not result.has_solution:
        raise InputError(f"{name}: holds no assignment (status {result.status})")
    violations = check(result, instance)
    if [violation.rule for violation in violations] == [CHANGED]:
        return ()
    return tuple(map(str, violations))


# Tables


def _results(found: Sequence[Evaluated]) -> pd.DataFrame:
    rows = []
    for one in found:
        flow, speed = one.flow, one.device
        saturated, overloaded = one.fed("saturated"), one.fed("overloaded")
        rows.append(
            {
                "result": one.name,
                "method": one.result.method,
                "throughput_predicted": one.result.throughput,
                "pace": None if flow is None else flow.pace,
                "throughput_fed": None if flow is None else flow.offered,
                "throughput_measured": None if flow is None else flow.measured,
                "throughput_error_percent": None if flow is None else 100.0 * flow.error,
                "steady": None if flow is None else flow.steady,
                "accuracy_predicted": one.result.accuracy,
                "accuracy_measured": one.accuracy,
                "accuracy_reduced": average(one.tasks, reduced=True),
                "saturated_predicted": None if saturated is None else saturated.predicted,
                "saturated_measured": None if saturated is None else saturated.measured,
                "overload_shows": None if overloaded is None else not overloaded.steady,
                "slow_motion": None if flow is None else flow.factor,
                "device_speedup": None if speed is None else speed.speedup,
                "device_speedup_flops": None if speed is None else speed.speedup_flops,
                "device_speedup_parts": None if speed is None else speed.speedup_parts,
                "confirmed": one.verdict.confirmed,
                "verdict": one.verdict.text,
            }
        )
    return pd.DataFrame(rows)


def _tasks(found: Sequence[Evaluated]) -> pd.DataFrame:
    rows = []
    for one in found:
        for task in one.tasks:
            low, high = task.measured.interval()
            rows.append(
                {
                    "result": one.name,
                    "task": task.task,
                    "path": " > ".join(task.path),
                    "accuracy_predicted": task.predicted,
                    "source": task.source,
                    "adapters": task.adapters,
                    "accuracy_measured": task.measured.value,
                    "low_95": low,
                    "high_95": high,
                    "test_images": task.measured.images,
                }
            )
    return pd.DataFrame(rows)


def _edge(found: Sequence[Evaluated], what: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "result": one.name,
                "pace": flow.pace,
                "feed": flow.feed,
                "factor": flow.factor,
                **asdict(row),
            }
            for one in found
            for flow in one.flows
            for row in getattr(flow, what)
        ]
    )


def _device(found: Sequence[Evaluated]) -> pd.DataFrame:
    rows = []
    for one in found:
        if one.device is None:
            continue
        # What FLOPs predict needs one number of the device: its speed on the native paths.
        pace = sum(t.native for t in one.device.streams) / sum(
            t.native_flops for t in one.device.streams
        )
        rows += [
            {
                "result": one.name,
                "device": one.device.device,
                "dtype": one.device.dtype,
                "mode": one.device.mode,
                "layout": one.device.layout,
                **asdict(stream),
                "seconds_by_flops": stream.flops * pace,
            }
            for stream in one.device.streams
        ]
    return pd.DataFrame(rows)


def save_tables(evaluation: Evaluation, folder: Path) -> dict[str, pd.DataFrame]:
    """Write one CSV file per table into a folder; return the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = evaluation.tables()
    for name, table in tables.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    return tables
