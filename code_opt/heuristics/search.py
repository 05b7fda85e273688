"""Assignments in a search: one column of each task, their rates and merit, what is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from code_opt.core.allocation import Allocation
from code_opt.core.columns import ColumnTable
from code_opt.core.evaluator import LEAST_GAIN, VIOLATION_WEIGHT, Evaluator, Solution
from code_opt.heuristics.estimates import AccuracyEstimates
from code_opt.paths import Duals
from code_opt.paths.graph import FloatArray, IntArray


@dataclass(frozen=True)
class LearntColumns:
    """What a search's master learnt, for the next one."""

    table: ColumnTable
    columns: IntArray
    """Columns of the table that the master held at its optimum."""
    duals: Duals
    """At its optimum, in the search's own objective."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found and what it cost."""

    solution: Solution | None = None
    predicted: int = 0
    """Paths whose accuracy was predicted."""
    measured: int = 0
    """Paths whose measurement was asked for (each once)."""
    moves: int = 0
    """Changes of the assignment that were kept."""
    iterations: int = 0
    """Iterations of large neighbourhood search."""
    assignments: int = 0
    """Assignments that were evaluated."""
    learnt: LearntColumns | None = None


@dataclass(frozen=True)
class State:
    """An assignment (one column of each joint task), its rates and its value."""

    choice: IntArray
    rates: FloatArray
    """Throughput of each joint task [inferences/s], its floor where the floors do not fit."""
    load: FloatArray
    """Load of each resource as a share of its capacity."""
    accuracy: float
    throughput: float
    violation: float
    value: float

    @property
    def merit(self) -> float:
        """The value, less a high cost of every requirement that is missed."""
        return self.value - VIOLATION_WEIGHT * self.violation

    def is_better_than(self, other: State) -> bool:
        """Tell whether the assignment is better by more than rounding."""
        return self.merit > other.merit + LEAST_GAIN


class AssignmentSearch:
    """Evaluates assignments of a table's columns, by the accuracies known so far."""

    def __init__(self, evaluator: Evaluator, table: ColumnTable | None = None) -> None:
        self.evaluator = evaluator
        self.table = ColumnTable(evaluator.pool) if table is None else table
        self.objective = evaluator.objective.for_search
        self.estimates = AccuracyEstimates(self.table)
        self.moves = self.iterations = self.assignments = 0

    @property
    def accuracy(self) -> FloatArray:
        """w[t] A[p] of each column as it is expected now, shape (P,)."""
        return self.estimates.weighted

    def evaluate(self, choice: IntArray) -> State:
        """Return an assignment at its best rates; its paths are measured.

        Args:
            choice: column of each joint task, shape (T,).
        """
        self.estimates.measure(choice)
        allocation = self.allocate(choice)
        rates = self.table.floor if allocation is None else allocation.group_throughput
        return self.state(choice, rates)

    def allocate(self, choice: IntArray) -> Allocation | None:
        """Return the best rates of an assignment, None where floors or memories do not fit."""
        table, groups = self.table, self.evaluator.groups
        use = np.where(
            groups.is_rate,
            table.padded_rate_use[:, choice].T * groups.size[:, None],
            table.padded_need[:, choice].T,
        )
        return self.evaluator.allocate(use)

    def state(self, choice: IntArray, rates: FloatArray) -> State:
        """Return an assignment at given rates, valued by the accuracies known now."""
        self.assignments += 1
        load = self.table.load(choice, rates)
        accuracy = np.array(self.accuracy[choice].sum())
        throughput = np.array(rates.sum())
        violation = Evaluator.overload(load)
        violation += float(self.objective.floors_missed(accuracy, throughput))
        time = np.array(self.table.time[choice].sum())
        value = float(self.objective.search_values(accuracy, throughput, time))
        return State(choice, rates, load, float(accuracy), float(throughput), violation, value)

    def slopes(self, state: State) -> tuple[float, float]:
        """Return d objective / dA and d objective / dTh (per inference/s) at an assignment."""
        return self.objective.slopes(state.accuracy, state.throughput, self.table.largest_rate)

    def outcome(self, state: State | None, learnt: LearntColumns | None = None) -> SearchOutcome:
        """Return an assignment as the outcome of a search."""
        solution = None
        if state is not None:
            paths = self.evaluator.paths(self.table.paths_of(state.choice))
            solution = self.evaluator.solution(paths)
        return SearchOutcome(
            solution=solution,
            predicted=self.evaluator.pool.size,
            measured=self.estimates.measured,
            moves=self.moves,
            iterations=self.iterations,
            assignments=self.assignments,
            learnt=learnt,
        )
