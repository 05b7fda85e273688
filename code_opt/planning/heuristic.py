"""The planning heuristic: prices, then moves one task at a time, then part of it anew.

1. *Prices.* The relaxation in which units can be bought in fractions is a linear program
   over all paths; each task takes the path with the largest share of it. The most accurate
   paths are another start.
2. *Moves.* Each task in turn goes to the path with the least value given all others, until
   none moves. The value is the cost of whole units plus half of the cost of
   fractions (a move that brings a server nearer to one unit less is progress), and what is
   missing of accuracy, memory and unsold units at a price that nothing outweighs.
3. *Anew.* A few tasks, every other time such that load the same servers, are taken out and put
   back one after the other at their best paths in random order (the first one elsewhere than
   before), and everybody moves again; kept if not worse.

An input group is one task here, whose paths are joint options (:mod:`code_opt.planning.joint`).

It proves nothing. The same seed gives the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from code_opt.paths.graph import FloatArray, IntArray
from code_opt.planning.case import Case
from code_opt.planning.joint import joint_case, with_cheapest
from code_opt.solvers import LinearProgram, LpOutcome

_FRACTION = 0.5
"""Weight of fractional units beside whole ones."""
_MISSING, _MISSING_IN_RELAXATION = 1e7, 1e4
"""Price of lacking a whole capacity or accuracy; that of the dearest unit is 1."""
_TURNS, _TOGETHER, _PATIENCE = 500, 8, 150
"""Most turns anew, most tasks in one of them, turns without gain after which it ends."""
_NEAR = 0.5
"""How often the tasks of a turn share servers; else they share accuracy alone."""
_CUT_TOLERANCE = 1e-9
_PRICINGS = 12
"""Most times that the options of input groups are priced."""
_ROUNDS = 4
"""Most searches where not all options of an input group are tried at once."""


@dataclass(frozen=True)
class Found:
    """A plan that the heuristic found."""

    paths: IntArray
    units: FloatArray
    cost: float
    is_feasible: bool


def search_plan(
    case: Case, demands: FloatArray, min_accuracy: float | None, seed: int = 0
) -> Found | None:
    """Return a cheap plan that serves every one of some demands in full.

    Args:
        case: paths and prices.
        demands: rates [inferences/s], one row per situation, shape (K, T).
        min_accuracy: floor on the average accuracy.
        seed: of the turns.

    Returns:
        The best plan found, feasible or not; None where a task has no path.
    """
    if (np.diff(case.first) == 0).any():
        return None
    if case.shared.groups:
        return _search_groups(case, demands, min_accuracy, seed)
    work = _Search(case, demands, min_accuracy)
    best = min(
        (work.settle(start) for start in (work.rounded(), work.most_accurate())), key=work.value
    )
    value = work.value(best)
    rng = np.random.default_rng(seed)
    quiet = 0
    has_choice = bool((np.diff(case.first) > 1).any())
    for _ in range(_TURNS):
        if quiet >= _PATIENCE or value <= _CUT_TOLERANCE or not has_choice:
            break
        trial = work.anew(best, rng)
        reached = work.value(trial)
        quiet = 0 if reached < value - 1e-9 * max(value, 1.0) else quiet + 1
        if reached <= value:
            best, value = trial, reached
    units = work.units(best)
    return Found(best, units, float(units @ case.price), work.missing(best) <= _CUT_TOLERANCE)


def _search_groups(
    case: Case, demands: FloatArray, min_accuracy: float | None, seed: int
) -> Found | None:
    """Search with every input group as one task, whose paths are joint options."""
    demands = np.atleast_2d(demands)
    best: Found | None = None
    joint = joint_case(case)
    for _ in range(_PRICINGS):
        first = [group[0] for group in joint.groups]
        prices = _Search(joint.case, demands[:, first], min_accuracy).prices()
        if joint.is_complete or prices is None:
            break
        more = with_cheapest(case, joint, demands[:, first].T @ prices[0], prices[1])
        if more is None:
            break
        joint = more
    for _ in range(_ROUNDS):
        if best is not None:
            joint = joint_case(case, best.paths, joint)
        first = [group[0] for group in joint.groups]
        found = search_plan(joint.case, demands[:, first], min_accuracy, seed)
        if found is None:
            return best
        found = replace(found, paths=joint.paths_of(found.paths))
        gained = best is None or (not found.is_feasible, found.cost) < (
            not best.is_feasible,
            best.cost,
        )
        if gained:
            best = found
        if joint.is_complete or not gained:
            break
    return best


class _Search:
    """Assignments of one case, valued under several demands at once."""

    def __init__(self, case: Case, demands: FloatArray, min_accuracy: float | None) -> None:
        self.case = case
        self.demands = np.atleast_2d(demands)
        self.min_accuracy = min_accuracy
        largest = float(case.price[case.unit > 0.0].max(initial=0.0))
        self._scale = largest if largest > 0.0 else 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            self._per_share = np.where(case.unit > 0.0, case.price / case.unit, 0.0)
        self._most_share = 1.0 + np.where(case.unit > 0.0, case.unit * case.sold, 0.0)
        self._gain = case.weights[case.task_of] * case.accuracy

    def rounded(self) -> IntArray:
        """Return the paths with the largest shares in the relaxation with fractional units."""
        case, outcome = self.case, self._relaxed()
        share = np.zeros(len(case.task_of)) if outcome is None else outcome.x
        return np.array(
            [
                first + int(np.argmax(share[first:after]))
                for first, after in zip(case.first[:-1], case.first[1:], strict=True)
            ],
            dtype=np.int64,
        )

    def prices(self) -> tuple[FloatArray, float] | None:
        """Return what the relaxation pays for capacity and for accuracy, or None.

        Capacities in each situation, shape (K, I); a unit of the average accuracy.
        """
        outcome = self._relaxed()
        if outcome is None:
            return None
        dual = np.maximum(outcome.row_dual[len(self.case.first) - 1 :], 0.0)
        return dual[:-1].reshape(len(self.demands), -1), float(dual[-1])

    def _relaxed(self) -> LpOutcome | None:
        """Solve the relaxation; its first columns are the paths, its last row the accuracy."""
        case = self.case
        paths, resources = case.use.shape
        tasks, situations = len(case.first) - 1, len(self.demands)
        sold = np.flatnonzero(case.unit > 0.0)
        # Columns: paths, units (as shares), and what is missing of each row that may lack.
        # Rows: one path per task, capacities by situation, accuracy.
        blocks = [
            np.eye(tasks)[:, case.task_of],
            *((d[case.task_of][:, None] * case.use).T for d in self.demands),
            -self._gain[None, :],
        ]
        path_part = np.concatenate(blocks)
        rows = len(path_part)
        unit_part = np.zeros((rows, len(sold)))
        for k in range(situations):
            unit_part[tasks + k * resources + sold, np.arange(len(sold))] = -1.0
        lacking = np.zeros((rows, rows - tasks))
        lacking[tasks:] = -np.eye(rows - tasks)
        matrix = np.concatenate((path_part, unit_part, lacking), axis=1)
        cost = np.concatenate(
            (
                np.zeros(paths),
                -self._per_share[sold] / self._scale,
                np.full(rows - tasks, -_MISSING_IN_RELAXATION),
            )
        )
        upper = np.concatenate(
            (np.ones(paths), self._most_share[sold] - 1.0, np.full(rows - tasks, np.inf))
        )
        floor = 0.0 if self.min_accuracy is None else self.min_accuracy
        rhs = np.concatenate((np.ones(tasks + situations * resources), [-floor]))
        least = np.concatenate((np.ones(tasks), np.full(rows - tasks, -np.inf)))
        indptr, indices, data = _columns(matrix)
        program = LinearProgram(
            cost, np.zeros(len(cost)), upper, indptr, indices, data, rhs, row_lower=least
        )
        return program.solve()

    def most_accurate(self) -> IntArray:
        """Return the most accurate path of every task."""
        case = self.case
        return np.array(
            [
                first + int(np.argmax(case.accuracy[first:after]))
                for first, after in zip(case.first[:-1], case.first[1:], strict=True)
            ],
            dtype=np.int64,
        )

    def settle(self, paths: IntArray) -> IntArray:
        """Move one task at a time to its best path until none moves."""
        paths = paths.copy()
        loads, memory, accuracy = self._totals(paths)
        moved = True
        while moved:
            moved = False
            for t in range(len(paths)):
                before = int(paths[t])
                self._take(t, before, -1.0, loads, memory)
                accuracy -= self._gain[before]
                best = self._best_path(t, loads, memory, accuracy, before)
                self._take(t, best, 1.0, loads, memory)
                accuracy += self._gain[best]
                if best != before:
                    paths[t], moved = best, True
            # Sums drift with every move: start afresh.
            loads, memory, accuracy = self._totals(paths)
        return paths

    def anew(self, paths: IntArray, rng: np.random.Generator) -> IntArray:
        """Take some tasks that load the same servers out and put them back in random order."""
        paths = paths.copy()
        tasks = len(paths)
        centre = int(rng.integers(tasks))
        together = self.case.use[paths] @ self.case.use[paths[centre]]
        near = np.flatnonzero(together > 0.0)
        near = near[near != centre]
        others = np.setdiff1d(np.arange(tasks), near)
        pool = near if len(near) and rng.random() < _NEAR else others[others != centre]
        count = min(int(rng.integers(1, _TOGETHER)), len(pool))
        out = np.concatenate(([centre], rng.permutation(pool)[:count])).astype(int)
        loads, memory, accuracy = self._totals(paths)
        for t in out.tolist():
            self._take(t, int(paths[t]), -1.0, loads, memory)
            accuracy -= self._gain[paths[t]]
        barred = int(paths[centre])
        for t in rng.permutation(out).tolist():
            best = self._best_path(
                t, loads, memory, accuracy, None, barred if t == centre else None
            )
            paths[t] = best
            self._take(t, best, 1.0, loads, memory)
            accuracy += self._gain[best]
        return self.settle(paths)

    def value(self, paths: IntArray) -> float:
        """Return the value of an assignment (least is best)."""
        loads, memory, accuracy = self._totals(paths)
        return float(self._values(loads[:, None], memory[None], np.array([accuracy]))[0])

    def missing(self, paths: IntArray) -> float:
        """Return how far an assignment is from meeting every requirement."""
        loads, memory, accuracy = self._totals(paths)
        return float(self._missing(loads[:, None], memory[None], np.array([accuracy]))[0])

    def units(self, paths: IntArray) -> FloatArray:
        """Return the least units that carry an assignment, at most those that are sold."""
        loads, _, _ = self._totals(paths)
        return np.minimum(self.case.units_for(loads.max(axis=0)), self.case.sold)

    def _totals(self, paths: IntArray) -> tuple[FloatArray, FloatArray, float]:
        loads = self.demands @ self.case.use[paths]
        memory = self.case.memory[paths].sum(axis=0)
        return loads, memory, float(self._gain[paths].sum())

    def _take(
        self, task: int, path: int, sign: float, loads: FloatArray, memory: FloatArray
    ) -> None:
        loads += sign * self.demands[:, task, None] * self.case.use[path]
        memory += sign * self.case.memory[path]

    def _best_path(
        self,
        task: int,
        loads: FloatArray,
        memory: FloatArray,
        accuracy: float,
        present: int | None,
        barred: int | None = None,
    ) -> int:
        """Return a task's path of least value; ties go to the present one, then to accuracy."""
        case = self.case
        rows = slice(int(case.first[task]), int(case.first[task + 1]))
        grown = loads[:, None] + self.demands[:, task, None, None] * case.use[None, rows]
        values = self._values(grown, memory + case.memory[rows], accuracy + self._gain[rows])
        values = values - 1e-7 * self._scale * case.accuracy[rows]
        if present is not None:
            values[present - rows.start] -= 1e-9 * self._scale
        if barred is not None and len(values) > 1:
            values[barred - rows.start] = np.inf
        return rows.start + int(np.argmin(values))

    def _values(self, loads: FloatArray, memory: FloatArray, accuracy: FloatArray) -> FloatArray:
        """Return the values of n candidates: loads (K, n, I), memory (n, M), accuracy (n,)."""
        case = self.case
        largest = loads.max(axis=0)
        units = np.minimum(np.where(case.unit > 0.0, case.units_for(largest), 0.0), case.sold)
        fractions = np.maximum(largest - 1.0, 0.0) @ self._per_share
        missing = self._missing(loads, memory, accuracy)
        # A step at 0, so that no small lack is ever worth a unit.
        lack = missing + (missing > _CUT_TOLERANCE)
        return np.asarray(
            units @ case.price + _FRACTION * fractions + _MISSING * self._scale * lack
        )

    def _missing(self, loads: FloatArray, memory: FloatArray, accuracy: FloatArray) -> FloatArray:
        excess = np.maximum(loads.max(axis=0) - self._most_share * (1.0 + 5e-7), 0.0).sum(axis=1)
        excess += np.maximum(memory - 1.0 - 5e-7, 0.0).sum(axis=1)
        if self.min_accuracy is not None:
            excess += np.maximum(self.min_accuracy - accuracy, 0.0)
        return np.asarray(excess)


def _columns(matrix: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Return a dense matrix in compressed columns."""
    columns, rows = np.nonzero(matrix.T)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(columns, minlength=matrix.shape[1]))))
    return indptr.astype(np.int64), rows.astype(np.int64), matrix.T[columns, rows]
