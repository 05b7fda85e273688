"""Results: what a method found, as typed data, as JSON and as pandas tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from code_opt.errors import InputError
from code_opt.files import file_stem, read_text, write_atomically
from code_opt.text import html_table, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

__all__ = [
    "AdapterChange",
    "Change",
    "LinkResult",
    "Objective",
    "Result",
    "SecondOpinion",
    "ServerResult",
    "Status",
    "TaskResult",
    "WinnersCurse",
    "load_result",
    "refuse_results_of_another_state",
    "result_name",
    "save_result",
]

TOLERANCE = 1e-6
"""Relative tolerance of every numeric comparison, unless a place states another."""

LISTED = 5
"""Problems that a message about a file of ours lists; nobody wrote it by hand."""

_TAG = re.compile(r"[A-Za-z0-9._-]{1,40}")

Number = Annotated[float, Field(allow_inf_nan=False)]
Objective = Literal["reward", "throughput", "accuracy", "latency"]
Status = Literal["optimal", "feasible", "infeasible", "unknown"]
Change = Literal["kept", "changed", "forced", "new"]
"""What became of a task's previous path; ``new``: it had none."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TaskResult(_Record):
    """The path and the rate of one task."""

    task: str
    path: tuple[str, ...] = Field(description="block ids in order", strict=False)
    rate: Number = Field(description="[inferences/s]")
    accuracy: Number
    accuracy_source: Literal["measured", "given", "predicted", "guessed"] = Field(
        description="given: of the native path, or of an alternative"
    )
    latency: Number = Field(description="unloaded [s]")
    latency_percentile: Number | None = Field(
        default=None, description="quantile q that is promised; null: none"
    )
    latency_promised: Number | None = Field(
        default=None, description="time within which a share q of the inputs is answered [s]"
    )
    latency_mean: Number | None = Field(default=None, description="mean time under load [s]")
    latency_basis: Literal["theorem", "model"] | None = Field(
        default=None, description="what the promise rests on"
    )
    accuracy_interval: Annotated[tuple[Number, Number], Field(strict=False)] | None = Field(
        default=None, description="95 % interval (Wilson) where the instance tells the samples"
    )
    own_work: Number | None = Field(
        None, description="share of the path's work on the server of the task's own DNN"
    )
    previous: Annotated[tuple[str, ...], Field(strict=False)] | None = Field(
        default=None, description="block ids of the path in the previous result"
    )
    change: Change | None = Field(
        default=None,
        description="forced: the previous path can no longer be taken; null: nothing to compare",
    )


class ServerResult(_Record):
    """Load of one server, in devices and, where the instance gives its FLOP/s, in FLOP/s."""

    server: str
    load: Number | None = Field(description="busy devices in FLOP/s; null where flops are")
    capacity: Number | None = Field(description="flops of the server [FLOP/s]")
    utilization: Number
    devices: Number | None = Field(None, description="null: an older version wrote the file")
    busy_devices: Number | None = Field(None, description="device seconds per second in use")
    wait_scale: Number | None = Field(
        default=None, description="g of its waits [s]; null: no promise"
    )


class LinkResult(_Record):
    """Load of one link [bytes/s]; capacity and utilization are null where it is unlimited."""

    source: str
    target: str
    load: Number
    capacity: Number | None
    utilization: Number | None
    wait_scale: Number | None = Field(
        default=None, description="g of its waits [s]; null: no promise"
    )


class AdapterChange(_Record):
    """An adapter that a server has to load, or may drop, since the previous assignment."""

    server: str
    action: Literal["load", "drop"]
    source: str
    target: str
    adapter: str = Field(description="name by which tasks share it, else the task that owns it")
    bytes: Number = Field(description="size of its parameters")


class WinnersCurse(_Record):
    """By how much accuracy and reward promise too much, being those of the paths that did best.

    Estimated by choosing on one half of the validation images and judging on the other (Efron,
    Journal of the American Statistical Association 99, 2004, calls it optimism), for as many
    images as the accuracies rest on.
    """

    splits: int = Field(description="splits of the validation images; each is used both ways")
    solved: int = Field(description="halves, of two for each split, on which paths were found")
    seed: int = Field(description="of the splits")
    accuracy: Number = Field(description="estimated excess of the average accuracy")
    accuracy_spread: Number = Field(description="standard deviation over the splits")
    reward: Number = Field(description="estimated excess of the reward")
    reward_spread: Number = Field(description="standard deviation over the splits")
    accuracy_corrected: Number = Field(description="average accuracy less the excess, if positive")
    reward_corrected: Number = Field(description="reward at accuracy_corrected")


class SecondOpinion(_Record):
    """What another solver, or other settings of the same one, proves of the last program."""

    solver: str = Field(description="its name, and what is set otherwise")
    bound: Number | None = Field(description="proven bound of the objective; null: none")
    agrees: bool = Field(description="whether its gap is within the one asked for, too")
    seconds: Number = Field(description="wall time")


class Result(_Record):
    """Outcome of one method on one instance.

    ``status`` is ``optimal`` (gap within ``gap_tolerance``, proven), ``feasible`` (an
    assignment; ``bound`` and ``gap`` only where something proved them), ``infeasible``
    (proven that there is none) or ``unknown`` (stopped with nothing found).
    ``bound`` bounds the value of ``objective`` from above and ``gap`` is
    ``bound / value - 1``, never negative; a latency is bounded from below and its gap is
    ``1 - bound / value``. Without an assignment all figures are null.
    """

    schema_: Literal["code-opt/result/1"] = Field("code-opt/result/1", alias="schema")
    instance: str
    instance_digest: dict[str, str] | None = Field(
        default=None, description="of the instance's content, see code_opt.instance.digest"
    )
    method: str
    formulation: str | None = None
    objective: Objective = "reward"
    status: Status
    reward: Number | None = None
    bound: Number | None = None
    gap: Number | None = None
    root_bound: Number | None = Field(
        None, description="bound by duals and cuts alone, without the solver's tree"
    )
    second_opinion: SecondOpinion | None = Field(None, description="null: none was asked for")
    throughput: Number | None = None
    accuracy: Number | None = None
    latency: Number | None = Field(
        None, description="weighted mean of the tasks' times, promised or unloaded [s]"
    )
    own_work: Number | None = Field(
        None, description="share of all tasks' work on the servers of their own DNNs"
    )
    seconds: Number = 0.0
    tasks: tuple[TaskResult, ...] = Field((), strict=False)
    servers: tuple[ServerResult, ...] = Field((), strict=False)
    links: tuple[LinkResult, ...] = Field((), strict=False)
    gap_tolerance: Number | None = Field(None, description="relative gap asked for")
    min_accuracy: Number | None = Field(None, description="floor asked of the average accuracy")
    min_throughput: Number | None = Field(None, description="floor asked of total throughput")
    latency_percentile: Number | None = Field(
        default=None,
        description="quantile asked of tasks with max_latency and no percentile of their own",
    )
    max_utilization: Number | None = Field(
        None, description="share of their time that servers sell that say nothing themselves"
    )
    measured_only: bool = Field(
        default=False, description="whether only paths of known accuracy were used"
    )
    max_changes: int | None = Field(
        None, description="most tasks that may leave a previous path that they could keep"
    )
    changes: int | None = Field(
        None, description="tasks that left such a path; null: no previous result"
    )
    adapters: Annotated[tuple[AdapterChange, ...], Field(strict=False)] | None = Field(
        None, description="adapters to load and to drop; null: no previous result"
    )
    winners_curse: WinnersCurse | None = Field(
        None, description="what choosing by the validation images adds; null: not estimated"
    )
    message: str | None = Field(None, description="why there is no solution, or why it stopped")
    details: dict[str, int | Number | str | None] = Field(
        default_factory=dict, description="counts of the search (paths, nodes, rounds, ...)"
    )

    def __repr__(self) -> str:
        return f"<Result of {self.method} on {self.instance!r}: {self._summary()}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return status, totals and paths as HTML, for notebooks."""
        columns = ["task", "path", "rate [1/s]", "accuracy", "source", "latency [s]"]
        rows = [
            [t.task, " \u2192 ".join(t.path), t.rate, t.accuracy, t.accuracy_source, t.latency]
            for t in self.tasks
        ]
        title = f"Result of {self.method} on {self.instance}: {self._summary()}"
        return html_table(title, columns if rows else [], rows)

    def _summary(self) -> str:
        """Return status, totals and gap in one line."""
        parts: list[str] = [self.status]
        for name, value in (
            ("reward", self.reward),
            ("throughput", self.throughput),
            ("accuracy", self.accuracy),
            ("latency", self.latency if self.objective == "latency" else None),
        ):
            if value is not None:
                parts.append(f"{name} {value:.6g}")
        if self.gap is not None:
            parts.append(f"gap {percent(self.gap, up=True)}")
        if not self.tasks and self.message:
            parts.append(self.message.split("\n")[0])
        return ", ".join(parts)

    @property
    def has_solution(self) -> bool:
        """Whether the result holds an assignment."""
        return bool(self.tasks)

    @property
    def value(self) -> float | None:
        """Value of the objective, or None without a solution."""
        return {
            "reward": self.reward,
            "throughput": self.throughput,
            "accuracy": self.accuracy,
            "latency": self.latency,
        }[self.objective]

    @property
    def merit(self) -> float | None:
        """The value such that more is better: minus that of a latency."""
        value = self.value
        return value if value is None or self.objective != "latency" else -value

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        """Return the result file's text."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return ``tasks``, ``servers`` and ``links`` as pandas tables."""
        import pandas as pd

        def table(rows: tuple[Any, ...], record: type[BaseModel]) -> pd.DataFrame:
            return pd.DataFrame(
                [row.model_dump(mode="json") for row in rows], columns=list(record.model_fields)
            )

        found = {
            "tasks": table(self.tasks, TaskResult),
            "servers": table(self.servers, ServerResult),
            "links": table(self.links, LinkResult),
        }
        if self.adapters is not None:
            found["adapters"] = table(self.adapters, AdapterChange)
        return found


def load_result(path: str | Path) -> Result:
    """Read one result file.

    Raises:
        InputError: the file is missing, not JSON, or not a result; the first problems are
            named, the others counted.
    """
    text = read_text(path)
    try:
        return Result.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path}: not a result\n{wrong_fields(error)}") from None


def result_name(stem: str, method: str, tag: str | None = None) -> str:
    """Return the name of a result file: ``STEM.METHOD.json``, or ``STEM.METHOD.TAG.json``.

    Args:
        stem: harmless beginning, such as :func:`code_opt.files.file_stem` returns.
        method: name of the method, perhaps with what else tells results apart.
        tag: 1 to 40 letters a to z, digits, ``.``, ``_`` and ``-``.

    Raises:
        InputError: the tag has other characters, or more.
    """
    if tag is not None and not _TAG.fullmatch(tag):
        raise InputError(
            f"--tag: {tag!r}: is part of a file's name: 1 to 40 letters (a to z), digits, "
            "'.', '_' and '-'"
        )
    return ".".join([stem, file_stem(method), *([] if tag is None else [tag]), "json"])


def refuse_results_of_another_state(paths: Iterable[Path], digest: Mapping[str, str]) -> None:
    """Refuse to replace results that belong to another state of the instance.

    Files that are missing, no results, or of an older version without a digest may be replaced.

    Args:
        paths: files that are about to be written.
        digest: of the instance as it is, see :mod:`code_opt.instance.digest`.

    Raises:
        InputError: a file is a result of another digest; the first such file is named.
    """
    others = []
    for path in paths:
        if not path.is_file():
            continue
        try:
            recorded = load_result(path).instance_digest
        except InputError:
            continue
        if recorded is not None and recorded.get("sha256") != digest["sha256"]:
            others.append(path)
    if others:
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise InputError(
            f"{others[0]}{more}: is the result of another state of the instance; --overwrite "
            "replaces it, --tag TEXT puts TEXT into the names of the new files, --out may name "
            "another folder"
        )


def wrong_fields(error: ValidationError) -> str:
    """Return a line for each of the first problems of a file, and how many more there are."""
    found = error.errors(include_url=False)
    lines = []
    for item in found[:LISTED]:
        place = ".".join(map(str, item["loc"])) or "file"
        lines.append(f"  {place}: {item['msg'].removeprefix('Value error, ')}")
    if len(found) > LISTED:
        lines.append(f"  ... and {len(found) - LISTED} more")
    return "\n".join(lines)


def save_result(result: Result, path: str | Path) -> None:
    """Write one result file, whole or not at all."""
    write_atomically(path, result.to_json())
