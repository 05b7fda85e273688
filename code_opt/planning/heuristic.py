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

An input group is one task here, whose columns are joint paths (:mod:`code_opt.core.joint_tasks`):
what one of its tasks gains by a path depends on the paths of the others, and moves of one task at a
time miss what only pays together. Where there are many, they are priced by the relaxation until
none is new, and those around the best plan are tried as well.

It proves nothing. The same seed gives the same plan, unless the time limit of a program (a
safety far above what it takes) comes before its limit on nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from code_opt.core.joint_tasks import JointTask, build_joint_tasks
from code_opt.core.parameters import JointPathParameters
from code_opt.errors import InputError, SolverError
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.planning.case import PRESENCE, Case
from code_opt.planning.programs import Decision, known_plan, plan_data, solve_on_few
from code_opt.planning.promises import PlannedPromises
from code_opt.planning.tolerances import NOISE, ROW
from code_opt.solvers import LinearProgram
from code_opt.stopping import is_stop_requested
from formulations import FractionalPlan, FractionalPlanData, Situation

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
_JOINT_PATHS = JointPathParameters(few=1_000)
"""Combinations of paths up to which all joint paths of an input group are made."""
_PRICINGS = 12
"""Most times that the joint paths of input groups are priced."""
_PRICED, _SPREAD = 300, 0.2
"""Prices near given ones that ask for joint paths at a time, how far they are (log-normal)."""
_ROUNDS = 4
"""Most searches where not all joint paths of an input group are tried at once."""


@dataclass(frozen=True)
class _Found:
    """An assignment with the units that are sold for it."""

    paths: IntArray
    units: FloatArray
    cost: float
    missing: float
    """How far it is from meeting every requirement."""

    @property
    def rank(self) -> tuple[bool, float]:
        """The least is the best."""
        return self.missing > 0.0, self.cost


def search_plan(case: Case, demands: FloatArray) -> Decision | None:
    """Return a cheap plan that serves every one of some demands in full; None if none is found.

    Nor is one looked for where a stop is requested.

    Args:
        case: paths, prices and the floor on the accuracy.
        demands: rates [inferences/s], one row per situation, shape (K, T).
    """
    if not case.has_all_paths or is_stop_requested():
        return None
    if case.promises is not None:
        return _search_promises(case, case.promises, demands)
    found = _search_groups(case, demands) if case.prefixes.groups else _search(case, demands)
    if found.missing > 0.0:
        return None
    return Decision(found.paths[None, :], found.units[None, :], cost=found.cost)


def _search_promises(case: Case, promises: PlannedPromises, demands: FloatArray) -> Decision | None:
    """Return the cheaper of two plans found without limits of percentiles, once these are kept.

    One is of all paths, the other of those that have no later jobs, where there are any: these
    let short waits be promised, and no loop of dependencies comes from them.
    """
    data = plan_data(case, [Situation(0, 0, demand.tolist()) for demand in demands])
    first = promises.has_first_jobs_alone
    others = np.bincount(case.table.task[first], minlength=len(case.first) - 1) == 0
    best: Decision | None = None
    for allowed in (np.ones(len(first), dtype=bool), first | others[case.table.task]):
        rows = np.flatnonzero(allowed)
        found = search_plan(case.restricted(allowed), demands)
        if found is None:
            continue
        paths = rows[found.paths]
        # Units of a part of the paths need not be enough for promises.
        kept = known_plan(case, data, Decision(paths, found.units))
        if kept is not None and (best is None or kept.cost < best.cost):
            best = kept
    return best


def _search(case: Case, demands: FloatArray) -> _Found:
    """Return the best assignment found, feasible or not."""
    work = _Search(case, demands)
    relaxed = work.relaxations()
    settled = [work.settle(_largest(case, one.shares)) for one in relaxed]
    settled.append(work.settle(work.most_accurate()))
    best = min(settled, key=work.value)
    if (np.diff(case.first) > 1).any() and work.value(best) > 0.0:
        best = _polished(work, best, relaxed, settled)
    units = work.units(best)
    return _Found(best, units, case.offers.cost(units), work.missing(best))


def _search_groups(case: Case, demands: FloatArray) -> _Found:
    """Search with every input group as one task, whose columns are joint paths."""
    tasks: Sequence[JointTask] = build_joint_tasks(case.pool, _JOINT_PATHS)
    is_complete = all(task.is_complete for task in tasks)
    of_groups = demands[:, [task.group.tasks[0] for task in tasks]]
    if not is_complete:
        most_accurate = _largest(case, case.accuracy) - case.first[:-1]
        tasks = _with_neighbours(tasks, most_accurate)
        tasks = _priced(case, tasks, of_groups)
    best: _Found | None = None
    for _ in range(_ROUNDS):
        if best is not None:
            tasks = _with_neighbours(tasks, best.paths - case.first[:-1])
        joint = case.joint(tasks)
        found = _search(joint, of_groups)
        found = replace(found, paths=joint.table.paths_of(found.paths) + case.first[:-1])
        if best is not None and found.rank >= best.rank:
            break
        best = found
        if is_complete:
            break
    assert best is not None
    return best


def _priced(case: Case, tasks: Sequence[JointTask], demands: FloatArray) -> Sequence[JointTask]:
    """Return joint tasks with the best joint paths at the prices of the relaxation, and near them.

    Args:
        case: without joint paths.
        tasks: with the joint paths known so far.
        demands: rates of the groups [inferences/s], shape (K, G).
    """
    for _ in range(_PRICINGS):
        joint = case.joint(tasks)
        relaxed = _Search(joint, demands).relaxations(turns=1)
        if not relaxed:
            break
        rng = np.random.default_rng(len(joint.table))
        prices = demands.T @ relaxed[0].price
        found = [
            task if task.is_complete else _cheapest_joint(task, price, relaxed[0].accuracy, rng)
            for task, price in zip(tasks, prices, strict=True)
        ]
        if all(new is old for new, old in zip(found, tasks, strict=True)):
            break
        tasks = found
    return tasks


def _cheapest_joint(
    task: JointTask, price: FloatArray, accuracy: float, rng: np.random.Generator
) -> JointTask:
    """Return a joint task that lists the best joint paths at prices; itself if that is no news."""
    own = price[task.resources]
    near = own * np.exp(_SPREAD * rng.standard_normal((_PRICED, len(own))))
    worth = accuracy * np.exp(_SPREAD * rng.standard_normal(_PRICED))
    near[0], worth[0] = own, accuracy
    found = task.cheapest(near, worth)
    is_known = (task.paths == found[0]).all(axis=1).any()
    return task if is_known else _listing(task, found)


def _with_neighbours(tasks: Sequence[JointTask], paths: IntArray) -> list[JointTask]:
    """Return joint tasks that list those in which at most one task leaves its given path.

    Args:
        tasks: the ones with few joint paths have them all.
        paths: number of the path of each task among its own, shape (T,).
    """
    found = []
    for task in tasks:
        if not task.is_complete:
            centre = paths[list(task.group.tasks)]
            near = [centre[None, :]]
            for place, own in enumerate(task.tasks):
                moved = np.tile(centre, (len(own), 1))
                moved[:, place] = np.arange(len(own))
                near.append(moved)
            task = _listing(task, np.concatenate(near))
        found.append(task)
    return found


def _listing(task: JointTask, paths: IntArray) -> JointTask:
    """Return a joint task with more joint paths, shape (n, m), each once."""
    return task.having(np.unique(np.concatenate((task.paths, paths)), axis=0))


def promising_paths(case: Case, demands: FloatArray, per_task: int) -> BoolArray:
    """Return the paths with the least reduced costs in the relaxations, shape (P,).

    Args:
        case: paths and prices; every task has a path.
        demands: rates [inferences/s], one row per situation, shape (K, T).
        per_task: paths per task, on average, from each relaxation.
    """
    work = _Search(case, demands)
    allowed = _cheapest(case, work.relaxations(), per_task)
    allowed[work.most_accurate()] = True
    return allowed


def _cheapest(case: Case, relaxed: Sequence[_Relaxed], per_task: int) -> BoolArray:
    allowed = np.zeros(len(case.table), dtype=bool)
    for one in relaxed:
        order = np.argsort(one.reduced - one.shares, kind="stable")
        allowed[order[: per_task * (len(case.first) - 1)]] = True
    return allowed


def _polished(
    work: _Search, best: IntArray, relaxed: Sequence[_Relaxed], settled: Sequence[IntArray]
) -> IntArray:
    """Return the best paths after programs over few paths and over few tasks."""
    case, seed = work.case, work.case.settings.seed
    situations = [Situation(0, 0, demand.tolist()) for demand in work.demands]
    try:
        data = plan_data(case, situations)
    except InputError:
        return best  # Units too small to count: the exact method says so.
    value = work.value(best)

    def solve(allowed: BoolArray, nodes: int) -> None:
        nonlocal best, value
        allowed[best] = True
        start = None
        if work.missing(best) <= 0.0:
            start = Decision(best[None, :], work.units(best)[None, :])
        found = solve_on_few(
            case, data, allowed, start, time_limit=_SECONDS, nodes=nodes, seed=seed
        )
        if found is not None and work.value(found.paths[0]) <= value:
            best = found.paths[0]
            value = work.value(best)

    tasks, paths = len(best), len(case.table)
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
        solve(np.isin(case.table.task, free), _NODES_OF_TURN)
    return best


def _largest(case: Case, values: FloatArray) -> IntArray:
    """Return the column of each task with the largest value (the first of equals)."""
    return case.table.best_of_each(values)


@dataclass(frozen=True)
class _Relaxed:
    """A relaxation with fractional units, in prices of the dearest unit."""

    shares: FloatArray
    """Of the columns, shape (P,)."""
    reduced: FloatArray
    """Reduced costs of the columns, shape (P,)."""
    price: FloatArray
    """Of the resources in each situation, shape (K, I)."""
    accuracy: float
    """Price of a unit of the average accuracy."""


class _Search:
    """Assignments of one case, valued under several demands at once."""

    def __init__(self, case: Case, demands: FloatArray) -> None:
        self.case, self.demands = case, demands
        self._paid = np.maximum(demands, PRESENCE)
        offers = case.offers
        largest = float(offers.price[offers.unit > 0.0].max(initial=0.0))
        self._scale = largest if largest > 0.0 else 1.0
        self._gain = case.table.accuracy
        self._per_inference = np.where(case.is_rate, case.use, 0.0)
        self._once = np.where(case.is_rate, 0.0, case.use)

    def relaxations(self, turns: int = _RELAXATIONS) -> list[_Relaxed]:
        """Return the relaxations with fractional units, one of each turn of slope scaling.

        Fewer, or none, where the solver fails: they only guide the search.
        """
        case, rate = self.case, self.case.rate_resources
        stated = self._fractional_plan()
        sold = rate[np.flatnonzero((case.offers.unit * case.offers.sold)[rate] > 0.0)]
        unit, fair = case.offers.unit[sold], case.offers.price_per_capacity[sold] / self._scale
        program, found = None, []
        price, own = fair, np.zeros(len(case.table))
        for turn in range(1, turns + 1):
            try:
                if program is None:
                    program = LinearProgram(stated.arrays._replace(cost=stated.cost(own, price)))
                outcome = program.solve()
            except SolverError:
                break
            if outcome is None:
                break
            dual = np.zeros((len(self.demands), len(case.resources)))
            dual[:, rate] = np.maximum(outcome.row_dual[stated.capacity], 0.0).reshape(
                len(dual), -1
            )
            found.append(
                _Relaxed(
                    shares=outcome.x[stated.share],
                    reduced=-outcome.column_dual[stated.share],
                    price=dual / self._load_unit,
                    accuracy=float(max(outcome.row_dual[stated.accuracy[0]], 0.0)),
                )
            )
            bought = outcome.x[stated.bought]
            whole = np.ceil(bought / unit - ROW) * unit
            factor = np.where(
                bought > 1e-9,
                whole / np.maximum(bought, 1e-9),
                price / np.where(fair > 0.0, fair, 1.0),
            )
            price = fair * np.clip(factor, 1.0, _STEEPEST)
            if turn == _RELAXATIONS // 2:
                # What a path costs alone: whole units for what it needs beyond the capacity.
                price, own = fair, self._values_alone()
            program.set_cost(stated.cost(own, price))
        return found

    @cached_property
    def _load_unit(self) -> FloatArray:
        """What rows of capacities are divided by, so that their numbers are at most 1; (I,)."""
        load = self.case.largest_load(self.demands.max(axis=0))
        unit = np.maximum(load, self.case.offers.present)
        return np.where(unit > 0.0, unit, 1.0)

    def _fractional_plan(self) -> FractionalPlan:
        case, rate = self.case, self.case.rate_resources
        use = case.table.use[:, rate].tocoo()
        return FractionalPlan(
            FractionalPlanData(
                task=case.table.task,
                gain=self._gain,
                path=use.row,
                resource=use.col,
                use=use.data,
                demand=self.demands,
                capacity=case.offers.present[rate],
                most=case.offers.largest[rate] - case.offers.present[rate],
                load_unit=self._load_unit[rate],
                min_accuracy=case.min_accuracy or 0.0,
                missing=_MISSING_IN_RELAXATION,
            )
        )

    def _values_alone(self) -> FloatArray:
        """Return the price of the units that each path needs without any other, shape (P,)."""
        demand = self._paid.max(axis=0)[self.case.table.task]
        return self._price_of(demand[:, None] * self._per_inference) / self._scale

    def _price_of(self, loads: FloatArray) -> FloatArray:
        """Return the price of the units that carry loads, as far as they are sold, shape (...)."""
        offers = self.case.offers
        return np.asarray(np.minimum(offers.units_for(loads), offers.sold) @ offers.price)

    def most_accurate(self) -> IntArray:
        """Return the most accurate path of every task."""
        return _largest(self.case, self.case.accuracy)

    def settle(self, paths: IntArray) -> IntArray:
        """Move one task at a time to its best path until none moves."""
        paths = paths.copy()
        loads, accuracy = self._totals(paths)
        moved = True
        while moved:
            moved = False
            for t in range(len(paths)):
                before = int(paths[t])
                loads -= self._load_of(t, before)
                accuracy -= self._gain[before]
                best = self._best_path(t, loads, accuracy, before)
                loads += self._load_of(t, best)
                accuracy += self._gain[best]
                if best != before:
                    paths[t], moved = best, True
            # Sums drift with every move: start afresh.
            loads, accuracy = self._totals(paths)
        return paths

    def value(self, paths: IntArray) -> float:
        """Return the value of an assignment (least is best)."""
        loads, accuracy = self._totals(paths)
        return float(self._values(loads[:, None], np.array([accuracy]))[0])

    def missing(self, paths: IntArray) -> float:
        """Return how far an assignment is from meeting every requirement."""
        loads, accuracy = self._totals(paths)
        return float(self._missing(loads[:, None], np.array([accuracy]))[0])

    def units(self, paths: IntArray) -> FloatArray:
        """Return the least units that carry an assignment, at most those that are sold."""
        loads = self._totals(paths)[0].max(axis=0)
        return np.minimum(self.case.offers.units_for(loads), self.case.offers.sold)

    def _totals(self, paths: IntArray) -> tuple[FloatArray, float]:
        loads = self._paid @ self._per_inference[paths] + self._once[paths].sum(axis=0)
        return loads, float(self._gain[paths].sum())

    def _load_of(self, task: int, rows: int | slice) -> FloatArray:
        """Return the loads of a path, shape (K, I), or of n paths, shape (K, n, I)."""
        paid = self._per_inference[rows]
        demand = self._paid[:, task].reshape(-1, *[1] * paid.ndim)
        return np.asarray(demand * paid + self._once[rows])

    def _best_path(self, task: int, loads: FloatArray, accuracy: float, present: int) -> int:
        """Return a task's path of least value; ties go to the present one, then to accuracy."""
        rows = slice(int(self.case.first[task]), int(self.case.first[task + 1]))
        grown = loads[:, None] + self._load_of(task, rows)
        values = self._values(grown, accuracy + self._gain[rows])
        values = values - 1e-7 * self._scale * self.case.accuracy[rows]
        values[present - rows.start] -= 1e-9 * self._scale
        return rows.start + int(np.argmin(values))

    def _values(self, loads: FloatArray, accuracy: FloatArray) -> FloatArray:
        """Return the values of n candidates: loads (K, n, I), accuracy (n,)."""
        offers = self.case.offers
        largest = loads.max(axis=0)
        fractions = np.maximum(largest - offers.present, 0.0) @ offers.price_per_capacity
        missing = self._missing(loads, accuracy)
        # A step at 0, so that no small lack is ever worth a unit.
        lack = missing + (missing > 0.0)
        return self._price_of(largest) + _FRACTION * fractions + _MISSING * self._scale * lack

    def _missing(self, loads: FloatArray, accuracy: FloatArray) -> FloatArray:
        most = self.case.offers.largest * (1.0 + NOISE)
        excess = np.maximum(loads.max(axis=0) - most, 0.0).sum(axis=1)
        if self.case.min_accuracy is not None:
            excess += np.maximum(self.case.min_accuracy - NOISE - accuracy, 0.0)
        return np.asarray(excess)
