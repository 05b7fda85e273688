"""Results of a solve as metrics in the text exposition format of Prometheus (version 0.0.4).

Gauges with the labels ``instance`` and ``method``, and those of the servers with ``server``.
What a result does not have (a bound, anything without an assignment) has no sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from code_opt.result import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from code_opt.result import Result

_HELP = {
    "solve_status": "1 for the status of the solve, 0 for the others.",
    "solve_duration_seconds": "Time that the solve took.",
    "objective_value": "Value of the objective that was asked for, in its unit.",
    "objective_bound": "Proven bound of that value.",
    "objective_gap_ratio": "Relative gap between bound and value.",
    "reward": "Reward of the assignment.",
    "throughput_inferences_per_second": "Total rate of all tasks.",
    "accuracy_ratio": "Average accuracy over all inferences.",
    "latency_seconds": "Weighted mean of the latencies of the tasks.",
    "path_changes": "Tasks that left a previous path that they could have kept.",
    "adapter_load_bytes": "Size of the adapters to load since the previous result.",
    "server_utilization_ratio": "Share of a server's device time in use.",
}


def metrics_text(results: Sequence[Result]) -> str:
    """Return the metrics of results, one for each method on one instance.

    Args:
        results: at least one.
    """
    lines: dict[str, list[str]] = {name: [] for name in _HELP}
    for result in results:
        own = {"instance": result.instance, "method": result.method}
        for name, more, value in _samples(result):
            lines[name].append(f"code_opt_{name}{_labels({**own, **more})} {value!r}")
    return "".join(
        f"# HELP code_opt_{name} {_HELP[name]}\n# TYPE code_opt_{name} gauge\n"
        + "".join(f"{line}\n" for line in found)
        for name, found in lines.items()
        if found
    )


def _samples(result: Result) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield names without prefix, labels beside instance and method, and values."""
    for status in get_args(Status):
        yield "solve_status", {"status": status}, int(result.status == status)
    to_load = None
    if result.adapters is not None:
        to_load = sum(change.bytes for change in result.adapters if change.action == "load")
    values = {
        "solve_duration_seconds": result.seconds,
        "objective_value": result.value,
        "objective_bound": result.bound,
        "objective_gap_ratio": result.gap,
        "reward": result.reward,
        "throughput_inferences_per_second": result.throughput,
        "accuracy_ratio": result.accuracy,
        "latency_seconds": result.latency,
        "path_changes": result.changes,
        "adapter_load_bytes": to_load,
    }
    for name, value in values.items():
        if value is not None:
            yield name, {}, value
    for server in result.servers:
        yield "server_utilization_ratio", {"server": server.server}, server.utilization


def _labels(labels: Mapping[str, str]) -> str:
    """Return labels in braces, with backslashes, quotes and line feeds escaped."""
    pairs = []
    for name, value in labels.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        pairs.append(f'{name}="{escaped}"')
    return "{" + ",".join(pairs) + "}"
