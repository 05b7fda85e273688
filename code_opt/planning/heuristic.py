"""The planning heuristic: prices, moves of one task, then small programs over the best paths.

1. *Prices.* The relaxation in which units can be bought in fractions is a linear program
   over all paths. It sees a server that needs a tenth of a unit as a tenth of the price, so
   its prices are scaled by what whole units would have cost, and it is solved again (slope
   scaling for fixed charges: Kim and Pardalos, Operations Research Letters 24, 1999); in half of
   the turns a path also pays for the units that it needs all alone.
2. *Moves.* From the paths with the largest shares in each relaxation, and from the most
   accurate ones, each task in turn goes to the path with the least value given all others,
   until none moves. The value is the cost of whole units plus half of the cost of
   fractions (a move that brings a server nearer to one unit less is progress), and what is
   missing of accuracy, memory and unsold units at a price that nothing outweighs.
3. *Few paths.* The planning model over the paths with the least reduced costs in the
   relaxations and all that the moves ended at, started from the best plan, with a limit on nodes.
4. *Few tasks.* The same over all paths of a few tasks, half of which load one server
   that needs units, and the present paths of all others; kept if not worse.

An input group is one task here, whose paths are joint options (:mod:`code_opt.planning.joint`).

It proves nothing. The same seed gives the same plan, unless the time limit of a program (a
safety far above what it takes) comes before its limit on nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from code_opt.errors import InputError, SolverError
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.planning.case import Case
from code_opt.planning.joint import joint_case, with_cheapest
from code_opt.planning.programs import Start, plan_data, solve_on_few
from code_opt.planning.tolerances import NOISE, ROW
from code_opt.solvers import LinearProgram
from formulations import Situation
from formulations.arrays import LinearArrays

_FRACTION = 0.5
"""Weight of fractional units beside whole ones."""
_MISSING, _MISSING_IN_RELAXATION = 1e7, 1e4
"""Price of lacking a whole capacity or accuracy; that of the dearest unit is 1."""
_RELAXATIONS, _STEEPEST = 8, 1e4
"""Turns of slope scaling, and the largest factor on a price."""
_PER_TASK = (3, 6)
"""Paths per task, on average, that the programs over few paths take from each relaxation."""
_ALL_PATHS = 400
"""Pools of so many paths are few."""
_TURNS, _NEAR, _FAR = 6, 4, 4
"""Turns with few tasks, tasks of one server in each, other tasks in each."""
_NODES, _NODES_OF_TURN, _SECONDS = 200, 20, 10.0
"""Limits of each program."""
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
    relaxed = work.relaxations()
    settled = [work.settle(_largest(case, one.shares)) for one in relaxed]
    settled.append(work.settle(work.most_accurate()))
    best = min(settled, key=work.value)
    has_choice = bool((np.diff(case.first) > 1).any())
    if has_choice and work.value(best) > 0.0:
        best = _polished(work, best, relaxed, settled, seed)
    units = work.units(best)
    return Found(best, units, float(units @ case.price), work.missing(best) <= 0.0)


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


def promising_paths(
    case: Case, demands: FloatArray, min_accuracy: float | None, per_task: int
) -> BoolArray:
    """Return the paths with the least reduced costs in the relaxations, shape (P,).

    Args:
        case: paths and prices; every task has a path.
        demands: rates [inferences/s], one row per situation, shape (K, T).
        min_accuracy: floor on the average accuracy.
        per_task: paths per task, on average, from each relaxation.
    """
    work = _Search(case, demands, min_accuracy)
    allowed = _cheapest(case, work.relaxations(), per_task)
    allowed[work.most_accurate()] = True
    return allowed


def _cheapest(case: Case, relaxed: list[_Relaxed], per_task: int) -> BoolArray:
    allowed = np.zeros(len(case.task_of), dtype=bool)
    for one in relaxed:
        order = np.argsort(one.reduced - one.shares, kind="stable")
        allowed[order[: per_task * (len(case.first) - 1)]] = True
    return allowed


def _polished(
    work: _Search,
    best: IntArray,
    relaxed: list[_Relaxed],
    settled: list[IntArray],
    seed: int,
) -> IntArray:
    """Return the best paths after programs over few paths and over few tasks."""
    case = work.case
    situations = [Situation(0, 0, demand.tolist()) for demand in work.demands]
    try:
        data = plan_data(case, situations, [work.min_accuracy])
    except InputError:
        return best  # Units too small to count: the exact method says so.
    value = work.value(best)

    def solve(allowed: BoolArray, nodes: int) -> None:
        nonlocal best, value
        allowed[best] = True
        start = None
        if work.missing(best) <= 0.0:
            start = Start(best[None, :], work.units(best)[None, :], {})
        found = solve_on_few(
            case, data, allowed, start, time_limit=_SECONDS, nodes=nodes, seed=seed
        )
        if found is not None and work.value(found[1].paths[0]) <= value:
            best = found[1].paths[0]
            value = work.value(best)

    tasks, paths = len(best), len(case.task_of)
    for count in _PER_TASK:
        allowed = _cheapest(case, relaxed, count)
        for own in settled:
            allowed[own] = True
        if paths <= _ALL_PATHS:
            allowed[:] = True
        solve(allowed, _NODES)
        if paths <= _ALL_PATHS:
            return best
    rng = np.random.default_rng(seed)
    for _ in range(_TURNS):
        bought = np.flatnonzero(work.units(best) > 0.0)
        if not len(bought):
            break
        near = np.flatnonzero(case.use[best, rng.choice(bought)] > 0.0)
        free = np.concatenate((rng.permutation(near)[:_NEAR], rng.permutation(tasks)[:_FAR]))
        solve(np.isin(case.task_of, free), _NODES_OF_TURN)
    return best


def _largest(case: Case, shares: FloatArray) -> IntArray:
    """Return the path of each task with the largest share."""
    return np.array(
        [
            first + int(np.argmax(shares[first:after]))
            for first, after in zip(case.first[:-1], case.first[1:], strict=True)
        ],
        dtype=np.int64,
    )


class _Relaxed(NamedTuple):
    """A relaxation with fractional units, in prices of the dearest unit."""

    shares: FloatArray
    """Of the paths, shape (P,)."""
    reduced: FloatArray
    """Reduced costs of the paths, shape (P,)."""
    dual: FloatArray
    """Of the rows: tasks, capacities by situation, accuracy."""


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
        # What rows of capacities are divided by, so that their numbers are at most 1.
        self._load_unit = np.maximum(case.largest_load(self.demands.max(axis=0)), 1.0)

    def prices(self) -> tuple[FloatArray, float] | None:
        """Return what the first relaxation pays for capacity and for accuracy, or None.

        Capacities in each situation, shape (K, I); a unit of the average accuracy.
        """
        found = self.relaxations(turns=1)
        if not found:
            return None
        dual = np.maximum(found[0].dual[len(self.case.first) - 1 :], 0.0)
        return dual[:-1].reshape(len(self.demands), -1) / self._load_unit, float(dual[-1])

    def relaxations(self, turns: int = _RELAXATIONS) -> list[_Relaxed]:
        """Return the relaxations with fractional units, one of each turn of slope scaling.

        Fewer, or none, where the solver fails: they only guide the search.
        """
        case = self.case
        paths, resources = case.use.shape
        tasks, situations = len(case.first) - 1, len(self.demands)
        sold = np.flatnonzero(case.unit > 0.0)
        # Columns: paths, units (as shares), and what is missing of each row that may lack.
        # Rows: one path per task, capacities by situation, accuracy.
        blocks = [
            np.eye(tasks)[:, case.task_of],
            *((d[case.task_of][:, None] * case.use / self._load_unit).T for d in self.demands),
            -self._gain[None, :],
        ]
        path_part = np.concatenate(blocks)
        rows = len(path_part)
        unit_part = np.zeros((rows, len(sold)))
        for k in range(situations):
            unit_part[tasks + k * resources + sold, np.arange(len(sold))] = (
                -1.0 / self._load_unit[sold]
            )
        capacity = np.tile(1.0 / self._load_unit, situations)
        lacking = np.zeros((rows, rows - tasks))
        lacking[tasks:] = -np.diag(np.append(capacity, 1.0))
        matrix = np.concatenate((path_part, unit_part, lacking), axis=1)
        fair = self._per_share[sold] / self._scale
        # What a path costs alone: whole units for what it needs beyond the present capacity.
        alone = self._values_alone()

        def cost(price: FloatArray, path: FloatArray) -> FloatArray:
            lack = np.full(rows - tasks, -_MISSING_IN_RELAXATION)
            return np.concatenate((-path, -price, lack))

        upper = np.concatenate(
            (np.ones(paths), self._most_share[sold] - 1.0, np.full(rows - tasks, np.inf))
        )
        floor = 0.0 if self.min_accuracy is None else self.min_accuracy
        rhs = np.concatenate((np.ones(tasks), capacity, [-floor]))
        least = np.concatenate((np.ones(tasks), np.full(rows - tasks, -np.inf)))
        indptr, indices, data = _columns(matrix)
        free = np.zeros(paths)
        found: list[_Relaxed] = []
        price, own = fair, free
        for turn in range(1, turns + 1):
            try:
                if turn == 1:
                    zero = np.zeros(matrix.shape[1])
                    program = LinearProgram(
                        LinearArrays(
                            cost(fair, free), zero, upper, indptr, indices, data, rhs, least
                        )
                    )
                outcome = program.solve()
            except SolverError:
                break
            if outcome is None:
                break
            reduced = -outcome.column_dual[:paths]
            found.append(_Relaxed(outcome.x[:paths], reduced, outcome.row_dual))
            bought = outcome.x[paths : paths + len(sold)]
            whole = np.ceil(bought / case.unit[sold] - ROW) * case.unit[sold]
            factor = np.where(
                bought > 1e-9,
                whole / np.maximum(bought, 1e-9),
                price / np.where(fair > 0.0, fair, 1.0),
            )
            price = fair * np.clip(factor, 1.0, _STEEPEST)
            if turn == _RELAXATIONS // 2:
                price, own = fair, alone
            program.set_cost(cost(price, own))
        return found

    def _values_alone(self) -> FloatArray:
        """Return the price of the units that each path needs without any other, shape (P,)."""
        case = self.case
        needed = self.demands.max(axis=0)[case.task_of][:, None] * case.use
        units = np.where(case.unit > 0.0, case.units_for(needed), 0.0)
        return np.asarray(np.minimum(units, case.sold) @ case.price / self._scale)

    def most_accurate(self) -> IntArray:
        """Return the most accurate path of every task."""
        return _largest(self.case, self.case.accuracy)

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
        present: int,
    ) -> int:
        """Return a task's path of least value; ties go to the present one, then to accuracy."""
        case = self.case
        rows = slice(int(case.first[task]), int(case.first[task + 1]))
        grown = loads[:, None] + self.demands[:, task, None, None] * case.use[None, rows]
        values = self._values(grown, memory + case.memory[rows], accuracy + self._gain[rows])
        values = values - 1e-7 * self._scale * case.accuracy[rows]
        values[present - rows.start] -= 1e-9 * self._scale
        return rows.start + int(np.argmin(values))

    def _values(self, loads: FloatArray, memory: FloatArray, accuracy: FloatArray) -> FloatArray:
        """Return the values of n candidates: loads (K, n, I), memory (n, M), accuracy (n,)."""
        case = self.case
        largest = loads.max(axis=0)
        units = np.minimum(np.where(case.unit > 0.0, case.units_for(largest), 0.0), case.sold)
        fractions = np.maximum(largest - 1.0, 0.0) @ self._per_share
        missing = self._missing(loads, memory, accuracy)
        # A step at 0, so that no small lack is ever worth a unit.
        lack = missing + (missing > 0.0)
        return np.asarray(
            units @ case.price + _FRACTION * fractions + _MISSING * self._scale * lack
        )

    def _missing(self, loads: FloatArray, memory: FloatArray, accuracy: FloatArray) -> FloatArray:
        excess = np.maximum(loads.max(axis=0) - self._most_share * (1.0 + NOISE), 0.0).sum(axis=1)
        excess += np.maximum(memory - 1.0 - NOISE, 0.0).sum(axis=1)
        if self.min_accuracy is not None:
            excess += np.maximum(self.min_accuracy - NOISE - accuracy, 0.0)
        return np.asarray(excess)


def _columns(matrix: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Return a dense matrix in compressed columns."""
    columns, rows = np.nonzero(matrix.T)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(columns, minlength=matrix.shape[1]))))
    return indptr.astype(np.int64), rows.astype(np.int64), matrix.T[columns, rows]
