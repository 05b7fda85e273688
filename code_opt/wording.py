"""Results in words: sentences about a set of results, and paths in short."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from code_opt.instance.model import IDENTITY, INPUT, OUTPUT, GivenPath
from code_opt.registry import role_of
from code_opt.result import TOLERANCE
from code_opt.text import count, percent, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from code_opt.instance.model import Instance
    from code_opt.result import Result, TaskResult

UNKNOWN_CHANGE = (
    "it keeps no digest of its instance, so whether the instance changed since cannot be told"
)
_NUMBERED = re.compile(r"(.*\D)(\d+)")


def after_change(
    status: str,
    bound: float | None,
    gap: float | None,
    *,
    holds_anything: bool,
    is_else_confirmed: bool,
) -> tuple[str, str]:
    """Return what still holds of a result or plan whose instance changed since, and what not.

    Args:
        status: of the result or plan, found for the instance as it was.
        bound: its bound, if it has one.
        gap: its gap, if it has one.
        holds_anything: whether it has an assignment or a plan.
        is_else_confirmed: whether the independent check found nothing else wrong with it.
    """
    if holds_anything:
        known = "every figure and requirement" if is_else_confirmed else "what is not listed here"
        holds = f"{known}, recomputed from the instance as it is now"
    else:
        holds = "nothing that could be recomputed"
    lost = []
    if status in ("optimal", "infeasible"):
        lost.append(f"that it is {status}")
    if bound is not None:
        lost.append(f"the bound {bound:.6g}")
    if gap is not None:
        lost.append(f"the gap {percent(gap, up=True)}")
    if not lost:
        lost.append("how good it is beside others")
    return holds, f"{', '.join(lost)}: of the instance as it was; solve it again"


def chosen(results: Sequence[Result]) -> Result | None:
    """Return the result to show in detail: the exact one, else the best assignment."""
    solved = [result for result in results if result.value is not None and result.has_solution]
    exact = next((result for result in solved if role_of(result.method) == "exact"), None)
    return exact or max(solved, key=lambda result: result.merit or 0.0, default=None)


def full_shares(result: Result, instance: Instance) -> dict[str, float]:
    """Return at which utilization each server sells no more: below 1 where headroom is kept."""
    asked = 1.0 if result.max_utilization is None else result.max_utilization
    return {
        server.id: asked if server.max_utilization is None else server.max_utilization
        for server in instance.servers
    }


def reading(results: Sequence[Result], confirmed: bool = True) -> list[str]:
    """Return true sentences: what is proven, how far the others are from it, what failed.

    Args:
        results: of one instance and one objective.
        confirmed: whether the independent check found nothing wrong with any of them.
    """
    lines = [_proof(results)]
    reference = chosen(results)
    if reference is not None:
        assignments = [result for result in results if result.has_solution]
        for heuristic in assignments:
            if role_of(heuristic.method) != "heuristic":
                continue
            if heuristic is not reference:
                lines.append(_comparison(heuristic, heuristic.method, reference))
            lines.extend(_effort(heuristic))
        baselines = [r for r in assignments if role_of(r.method) == "baseline"]
        best = max(baselines, key=lambda result: result.merit or 0.0, default=None)
        if best is not None and best is not reference:
            name = "The best baseline, " + best.method + "," if len(baselines) > 1 else best.method
            lines.append(_comparison(best, name, reference, times=False))
        if reference.own_work is not None:
            share = percent(reference.own_work)
            lines.append(f"With {reference.method}, the tasks' own servers do {share} of all work.")
    if reference is not None and confirmed:
        lines.append(
            "Every assignment shown passed the independent check of all requirements."
            if sum(r.has_solution for r in results) > 1
            else "The assignment passed the independent check of all requirements."
        )
    return lines


def changes_in_words(result: Result) -> str:
    """Return how many tasks left their previous paths, in one sentence."""
    tally = Counter(row.change for row in result.tasks)
    most = "" if result.max_changes is None else f" (at most {result.max_changes} allowed)"
    parts = [f"{tally['changed']} changed{most}", f"{tally['kept']} kept"]
    if tally["forced"]:
        parts.append(f"{tally['forced']} had to change")
    if tally["new"]:
        parts.append(f"{tally['new']} new")
    return f"Paths since the previous result: {', '.join(parts)}."


def _proof(results: Sequence[Result]) -> str:
    exact = next((result for result in results if role_of(result.method) == "exact"), None)
    if exact is None:
        if any(result.status == "infeasible" for result in results):
            return "It is proven that no assignment meets all requirements."
        bounded = [r for r in results if r.has_solution and r.gap is not None]
        if bounded:
            best = min(bounded, key=lambda result: result.gap or 0.0)
            return _within(best, f"{best.method} has a bound")
        return "Nothing here is proven: the exact method was not run."
    if exact.status == "infeasible":
        return "exact proves that no assignment meets all requirements."
    if not exact.has_solution:
        return "exact stopped with nothing found; that proves nothing."
    return _of_exact(exact) + _means(exact)


def _of_exact(exact: Result) -> str:
    if exact.status == "optimal":
        if exact.gap is None or exact.gap <= TOLERANCE:
            side = "lower" if exact.objective == "latency" else "higher"
            of_those = "" if exact.max_changes is None else " with so few changes of paths"
            return (
                f"exact is proven optimal: no assignment{of_those} has a {side} {exact.objective}."
            )
        return _within(exact, "exact is proven")
    if exact.gap is None:
        return "exact stopped before anything was proven; its assignment may not be the best."
    return _within(exact, "exact was stopped before its proof was complete")


def _means(exact: Result) -> str:
    """Say what the proof of an assignment rests on, where the result tells it."""
    text, value, root = "", exact.value, exact.root_bound
    if root is not None and exact.bound is not None and value:
        gap = abs(root / value - 1.0) if exact.objective != "latency" else 1.0 - root / value
        if abs(root - exact.bound) <= TOLERANCE * abs(root):
            text += " Duals and cuts prove all of it."
        else:
            shown = percent(gap, up=True)
            text += f" Duals and cuts prove a gap of {shown}, the solver's tree the rest."
    opinion = exact.second_opinion
    if opinion is not None:
        word = "agrees" if opinion.agrees else "did not get as far"
        text += f" Second opinion: {opinion.solver} {word}."
    return text


def _within(result: Result, opening: str) -> str:
    gap = percent(max(result.gap or 0.0, 0.0), up=True)
    side = "lower" if result.objective == "latency" else "higher"
    return f"{opening}: no other assignment's {result.objective} is more than {gap} {side}."


def _effort(result: Result) -> list[str]:
    """Say how many paths a search predicted and wanted measured, where it counted them."""
    keys = ("paths", "paths_predicted", "paths_measured")
    counts = [n for n in (result.details.get(key) for key in keys) if isinstance(n, int)]
    if len(counts) < len(keys):
        return []
    paths, predicted, measured = map(count, counts)
    return [
        f"{result.method} predicted {predicted} of {paths} paths and would have had {measured} of "
        "them measured."
    ]


def _comparison(result: Result, name: str, reference: Result, times: bool = True) -> str:
    value, target = result.value or 0.0, reference.value or 0.0
    objective = result.objective
    if abs(value - target) <= TOLERANCE * max(abs(value), abs(target)):
        sentence = f"{name} reaches the same {objective} as {reference.method}"
    elif target > 0.0:
        side = "below" if value < target else "above"
        sentence = f"{name} is {percent(value / target - 1.0)} {side} {reference.method}"
    else:
        sentence = f"{name} is {'below' if value < target else 'above'} {reference.method}"
    # Times of less than a second say little on a machine that does something else, too.
    if times and reference.seconds >= 1.0 and 0.0 < 2.0 * result.seconds < reference.seconds:
        sentence += f", {reference.seconds / result.seconds:,.0f} times as fast"
    return sentence + "."


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive blocks of one trunk on a path, or an end where a connection begins or ends."""

    blocks: tuple[str, ...]
    """Block ids; empty for ``input`` and ``output``."""
    text: str
    """``alexnet/0…1``, printable as it is."""
    learned: bool = False
    """The step into it is a learned connection (not one that hands on what is there)."""


class PathWords:
    """Writes paths as runs of blocks; between two runs lies a connection, mostly a learned one."""

    def __init__(self, instance: Instance, span: str = "…") -> None:
        """Index the trunks of an instance; ``span`` stands between a run's first and last block."""
        self._span = span
        self._trunk = {
            (a.id, b.id)
            for dnn in instance.dnns
            for a, b in zip(dnn.blocks, dnn.blocks[1:], strict=False)
        }
        ends = {dnn.id: (dnn.blocks[0].id, dnn.blocks[-1].id) for dnn in instance.dnns}
        self._ends = {task.id: ends[task.dnn] for task in instance.tasks if task.dnn in ends}
        self._given = {
            (task.id, c.source, c.target)
            for task in instance.tasks
            for c in task.connections
            if c.share == IDENTITY
        }

    def __call__(self, task: str, path: Sequence[str]) -> list[Run]:
        """Return the runs of a task's path; a single one is the native path or an alternative.

        ``input`` and ``output`` stand where a connection (an entry or an exit) starts or
        ends there.
        """
        if isinstance(path, GivenPath):
            return [Run(tuple(path), self._text(list(path)))]
        runs: list[list[str]] = []
        for block in path:
            if runs and (runs[-1][-1], block) in self._trunk:
                runs[-1].append(block)
            else:
                runs.append([block])
        first, last = self._ends.get(task, (None, None))
        found: list[Run] = []
        before = INPUT
        if path and path[0] != first:
            found.append(Run((), INPUT))
        for run in runs:
            learned = bool(found) and (task, before, run[0]) not in self._given
            found.append(Run(tuple(run), self._text(run), learned))
            before = run[-1]
        if path and path[-1] != last:
            found.append(Run((), OUTPUT, (task, before, OUTPUT) not in self._given))
        return found

    def of(self, row: TaskResult) -> list[Run]:
        """Return the runs of the path of a result's task."""
        return self(row.task, GivenPath.of(row.path, row.accuracy_source))

    def name(self, task: str, path: Sequence[str]) -> str:
        """Return what a path without connections is called."""
        first, _ = self._ends.get(task, (None, None))
        return "native" if not path or path[0] == first else "alternative"

    def _text(self, run: list[str]) -> str:
        if len(run) == 1:
            return plain(run[0])
        first, last = _NUMBERED.fullmatch(run[0]), _NUMBERED.fullmatch(run[-1])
        if first and last and first[1] == last[1]:
            return plain(run[0]) + self._span + last[2]
        return f"{plain(run[0])} {self._span} {plain(run[-1])}"
