"""Local search over assignments: services move while a move pays, alone or in pairs.

A move is judged by prices first. The rate program of an assignment has a dual for every
server and link, and for any price vector the throughput of any assignment is at most the
sum of prices plus, over tasks, the worth of their paths, ``f (1 - price use) + (R - f)
max(0, 1 - price use)`` (Lagrangian duality). So every rate program that was solved leaves
a bound on all moves behind, and only moves that every remembered price finds promising
are solved for. Floors and memories fit exactly when the loads that cannot be avoided do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.methods.assignment import (
    ChosenPath,
    Judge,
    Solution,
    measured_paths,
    path_in_pool,
    path_of,
)
from code_opt.methods.settings import Clock
from code_opt.methods.units import Unit
from code_opt.paths import PathPool, TaskPaths
from code_opt.paths.graph import FloatArray, IntArray
from code_opt.paths.labels import BoolArray
from code_opt.reward import log_value

VIOLATION_WEIGHT = 1e3
"""Merit lost per unit of relative violation: far more than any reward differs by."""
TIE_WEIGHT = 1e-5
"""Weight of the other total where only one is the objective: equal ones are told apart."""
LEAST_GAIN = 1e-7
"""Gain of merit below which a move does not count as one."""
FIT_TOLERANCE = 1e-9
_PRICES_KEPT, _PRICES_FOR_PAIRS = 48, 16
_TRIES, _PAIR_TRIES = 60, 40
"""Rate programs solved for single moves and for pairs before a state counts as settled."""
_LEAST_PAIRED, _PAIRS_SOUGHT, _COMPANIONS = 12, 200, 2
"""Companions are sought for so many moves, or more with few services, when it costs little."""


@dataclass(frozen=True)
class SearchOutcome:
    """What the search found and what it cost."""

    solution: Solution | None
    predicted: int
    """Paths whose accuracy was predicted."""
    measured: int
    """Paths whose measurement was asked for (each once)."""
    moves: int
    stages: int
    assignments: int
    """Assignments whose value was worked out."""


@dataclass(frozen=True)
class State:
    """An assignment (one option of each unit) and its value."""

    choice: IntArray
    accuracy: float
    throughput: float
    load: FloatArray
    """Load that cannot be avoided, as a share of each capacity."""
    violation: float
    value: float

    @property
    def merit(self) -> float:
        """The value, less a heavy price for every requirement that is missed."""
        return self.value - VIOLATION_WEIGHT * self.violation


def objective_value(judge: Judge, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
    """Return the objective's logarithm (ties: more of the other total), elementwise."""
    a, th = np.maximum(accuracy, 1e-9), np.maximum(throughput, 1e-9)
    objective = judge.settings.objective
    if objective == "throughput":
        return np.asarray(np.log(th) + TIE_WEIGHT * np.log(a))
    if objective == "accuracy":
        return np.asarray(np.log(a) + TIE_WEIGHT * np.log(th))
    reward = judge.pool.instance.reward
    return np.asarray(log_value(reward.accuracy, a) + log_value(reward.throughput, th))


def floors_missed(judge: Judge, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
    """Return by how much floors on the totals are missed, relative."""
    settings = judge.settings
    total = np.zeros(np.broadcast_shapes(accuracy.shape, throughput.shape))
    for least, value in (
        (settings.min_accuracy, accuracy),
        (settings.min_throughput, throughput),
    ):
        if least:
            total = total + np.maximum(0.0, 1.0 - value / least - 1e-9)
    return total


class Searcher:
    """Flat arrays over P options of T units; K is the largest number of resources of a unit.

    A unit is a task, and its options are its paths; or it is an input group, whose options
    are paths of all its tasks (:mod:`code_opt.methods.units`). At first these are all options;
    :meth:`restrict` leaves those out that a bound has excluded. Rows of the (K, P) arrays are
    the resources of the option's unit, so two options of one unit share them; padding uses 0
    of resource 0.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.pool = pool = judge.pool
        self.units: tuple[Unit, ...] = judge.units
        sizes = np.array([len(u) for u in self.units])
        self._unit_first: IntArray = np.cumsum(sizes) - sizes
        self.number: IntArray = np.arange(int(sizes.sum()))
        """Number of each option (all units one after the other), whatever is left out."""
        self.first: IntArray = np.cumsum([0, *sizes])
        self.task: IntArray = np.repeat(np.arange(len(sizes)), sizes)
        """Unit of each option, shape (P,)."""
        self.floor = np.array([u.floor for u in self.units])
        """Least throughput of each unit [inferences/s], shape (T,)."""
        self.most = np.concatenate([u.most for u in self.units])
        self.weights = np.array([pool.weights[list(u.group.tasks)].sum() for u in self.units])
        """Share of each unit in the average accuracy, shape (T,)."""
        self.weight = self.weights[self.task]
        self.beliefs = Beliefs(pool, self.units)
        self.estimate = self.beliefs.options(self.number)
        width = max(1, *(len(u.resources) for u in self.units))
        self.index = np.zeros((width, len(self.task)), dtype=np.int64)
        self.rate_use = np.zeros((width, len(self.task)))
        """Use of servers and links per inference that counts in the throughput, (K, P)."""
        self.need = np.zeros((width, len(self.task)))
        """Load that cannot be avoided: the floor's work and the adapters' memory, (K, P)."""
        for t, unit in enumerate(self.units):
            rows, k = slice(int(self.first[t]), int(self.first[t + 1])), len(unit.resources)
            self.index[:k, rows] = unit.resources[:, None]
            self.rate_use[:k, rows] = np.where(unit.is_rate_resource, unit.use / unit.size, 0.0).T
            per_option = np.where(unit.is_rate_resource, unit.group.floor, 1.0)
            self.need[:k, rows] = (unit.use * per_option).T
        self.moves = self.stages = self.assignments = 0
        self._worth = np.empty((_PRICES_KEPT, len(self.task)))
        self._price_sum = np.empty(_PRICES_KEPT)
        self._remembered = 0
        self.remember(np.zeros(len(pool.resources)))
        self._uses: dict[int, FloatArray] = {}
        self._equilibria: set[bytes] = set()

    def restrict(self, keep: BoolArray) -> IntArray:
        """Leave options out; return the new number of each one, -1 where it is left out.

        Args:
            keep: which options stay, shape (P,); at least one of each unit.
        """
        rows = np.flatnonzero(keep)
        renumbered = np.full(len(keep), -1)
        renumbered[rows] = np.arange(len(rows))
        tasks = len(self.units)
        self.number, self.task = self.number[rows], self.task[rows]
        self.first = np.concatenate(([0], np.cumsum(np.bincount(self.task, minlength=tasks))))
        self.most, self.weight = self.most[rows], self.weight[rows]
        self.estimate = self.estimate[rows]
        # ``take`` keeps rows contiguous, fancy indexing would transpose them.
        self.index = self.index.take(rows, axis=1)
        self.rate_use = self.rate_use.take(rows, axis=1)
        self.need, self._worth = self.need.take(rows, axis=1), self._worth.take(rows, axis=1)
        return renumbered

    def value(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """See :func:`objective_value`."""
        return objective_value(self.judge, accuracy, throughput)

    def violation(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """See :func:`floors_missed`."""
        return floors_missed(self.judge, accuracy, throughput)

    def evaluate(self, choice: IntArray) -> State:
        """Return the value of an assignment; its paths are asked for their measurements.

        The floors fit exactly when the load that cannot be avoided does, so the rate
        program is only solved where it has a solution.
        """
        self.ask(choice)
        self.assignments += 1
        load = self.unavoidable_load(choice)
        violation = float(np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0).sum())
        accuracy = float(self.weights @ self.estimate[choice])
        allocation = None
        if violation == 0.0:
            allocation = self.judge.allocator.allocate([self._use(p) for p in choice.tolist()])
        throughput = float(self.floor.sum()) if allocation is None else allocation.throughput
        if allocation is not None:
            self.remember(allocation.price)
        violation += float(self.violation(np.array(accuracy), np.array(throughput)))
        value = float(self.value(np.array(accuracy), np.array(throughput)))
        return State(choice, accuracy, throughput, load, violation, value)

    def _use(self, path: int) -> FloatArray:
        """Return the use of an option; always the same array: the allocator knows it by that."""
        number = int(self.number[path])
        use = self._uses.get(number)
        if use is None:
            unit = int(self.task[path])
            use = self.units[unit].use[number - int(self._unit_first[unit])]
            self._uses[number] = use
        return use

    def ask(self, paths: IntArray) -> None:
        """Measure the paths of options: from here on their accuracy is the instance's own."""
        if self.beliefs.ask(self.number[paths]):
            self.estimate = self.beliefs.options(self.number)

    def unavoidable_load(self, choice: IntArray) -> FloatArray:
        """Return the load of all resources when every task runs at its floor."""
        load = np.zeros(len(self.pool.resources))
        np.add.at(load, self.index[:, choice], self.need[:, choice])
        return load

    def excess_after(self, choice: IntArray, load: FloatArray) -> FloatArray:
        """Return by how much loads exceed capacities if one task moves, for each path.

        Args:
            choice: the present path of each task.
            load: load of each resource that cannot be avoided, shape (..., resources).
        """
        before = load[..., self.index]
        after = before + (self.need - self.need.take(choice[self.task], axis=1))
        unchanged = np.maximum(load - 1.0 - FIT_TOLERANCE, 0.0).sum(axis=-1)
        # Padding is resource 0 with no need: before equals after and cancels.
        change = np.maximum(after - 1.0 - FIT_TOLERANCE, 0.0)
        change -= np.maximum(before - 1.0 - FIT_TOLERANCE, 0.0)
        return np.asarray(np.maximum(unchanged[..., None] + change.sum(axis=-2), 0.0))

    def worth(self, price: FloatArray) -> FloatArray:
        """Return the throughput that each path is worth at the prices of the resources."""
        paid = (price[self.index] * self.rate_use).sum(axis=0)
        floor = self.floor[self.task]
        return np.asarray(floor * (1.0 - paid) + (self.most - floor) * np.maximum(1.0 - paid, 0.0))

    def remember(self, price: FloatArray) -> None:
        """Keep a price vector: it bounds the throughput of every assignment (duality)."""
        place = self._remembered % _PRICES_KEPT
        self._worth[place] = self.worth(price)
        self._price_sum[place] = price.sum()
        self._remembered += 1

    def _latest(self, count: int) -> tuple[FloatArray, FloatArray]:
        """Return the worths of all paths at the latest prices, (prices, P), and their sums."""
        if self._remembered <= count or count == _PRICES_KEPT:
            rows: slice | IntArray = slice(0, min(self._remembered, _PRICES_KEPT))
        else:
            rows = np.arange(self._remembered - count, self._remembered) % _PRICES_KEPT
        return self._worth[rows], self._price_sum[rows]

    def settle(self, state: State, clock: Clock) -> State:
        """Let the most promising service move until no promise holds (an equilibrium).

        It moves alone or together with a second one that makes room for it.
        """
        while not clock.is_over:
            name = self.number[state.choice].tobytes()
            if name in self._equilibria:
                break
            self.stages += 1
            moved = self._move_one(state) or self._move_two(state)
            if moved is None:
                self._equilibria.add(name)
                break
            state = moved
            self.moves += 1
        return state

    def _bound(self, state: State, latest: int = _PRICES_KEPT) -> FloatArray:
        """Return what Th can be at most after each move, by the latest prices remembered.

        For any price vector, Th <= sum of prices + sum over tasks of the worth of their
        paths, so each row of the result bounds the throughput after moving to path p.
        """
        worth, total = self._latest(latest)
        present = worth[:, state.choice]
        # The bound of a task's paths, less what its present path is worth, for each price.
        spare = (total + present.sum(axis=1))[:, None] - present
        return np.asarray((worth + spare[:, self.task]).min(axis=0))

    def _move_one(self, state: State) -> State | None:
        """Return the state after the best single move that pays, or None.

        Every try that fails leaves its prices behind, which take back what was promised
        too much; when the list ends, the prices prove that no single move pays.
        """
        d_accuracy = self.weight * (self.estimate - self.estimate[state.choice[self.task]])
        short = VIOLATION_WEIGHT * self.excess_after(state.choice, state.load)
        failed = list(state.choice)
        bound = self._bound(state)
        for _ in range(_TRIES):
            promise = self._merit(state.accuracy + d_accuracy, bound) - short
            promise[failed] = -np.inf
            path = int(np.argmax(promise))
            if promise[path] <= state.merit + LEAST_GAIN:
                return None
            moved = self._try(state, [path])
            if moved is not None:
                return moved
            failed.append(path)
            bound = np.minimum(bound, self._bound(state, latest=1))
        return None

    def _move_two(self, state: State) -> State | None:
        """Return the state after a pair of moves that pays together, or None."""
        d_accuracy = self.weight * (self.estimate - self.estimate[state.choice[self.task]])
        alone = self._merit(state.accuracy + d_accuracy, self._bound(state))
        alone[state.choice] = -np.inf
        paired = max(_LEAST_PAIRED, _PAIRS_SOUGHT // len(self.units))
        leaders = np.argsort(-alone, kind="stable")[:paired]
        both, short = self._promise_of_pairs(state, leaders, d_accuracy)
        rows = np.arange(len(leaders))
        found: list[tuple[IntArray, IntArray, FloatArray]] = []
        for _ in range(_COMPANIONS):
            others = both.argmax(axis=1)
            promising = both[rows, others] > state.merit + LEAST_GAIN
            found.append((leaders[promising], others[promising], short[rows, others][promising]))
            both[rows, others] = -np.inf
        one, two, short = (np.concatenate(parts) for parts in zip(*found, strict=True))
        accuracy = state.accuracy + d_accuracy[one] + d_accuracy[two]
        bound = self._bound_of_pairs(state, one, two)
        for _ in range(min(_PAIR_TRIES, len(one))):
            promise = self._merit(accuracy, bound) - short
            at = int(np.argmax(promise))
            if promise[at] <= state.merit + LEAST_GAIN:
                break
            moved = self._try(state, [int(one[at]), int(two[at])])
            if moved is not None:
                return moved
            # The prices of the failure take back what like pairs promised too much.
            bound = np.minimum(bound, self._bound_of_pairs(state, one, two, latest=1))
            short[at] = np.inf
        return None

    def _bound_of_pairs(
        self, state: State, one: IntArray, two: IntArray, latest: int = _PRICES_KEPT
    ) -> FloatArray:
        """Return what Th can be at most after each pair of moves, by the latest prices."""
        worth, total = self._latest(latest)
        present = worth[:, state.choice]
        base = total + present.sum(axis=1)
        gain = worth[:, one] - present[:, self.task[one]]
        gain += worth[:, two] - present[:, self.task[two]]
        return np.asarray((base[:, None] + gain).min(axis=0))

    def _promise_of_pairs(
        self, state: State, leaders: IntArray, d_accuracy: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return what each leader's move promises with each other one, shape (leaders, P).

        Returns:
            The merits promised, and what they lack for resources that are short.
        """
        worth, total = self._latest(_PRICES_FOR_PAIRS)
        present = worth[:, state.choice]
        base = total + present.sum(axis=1)
        gain = worth - present[:, self.task]
        bound = (base[0] + gain[0, leaders])[:, None] + gain[0]
        for k in range(1, len(worth)):
            np.minimum(bound, (base[k] + gain[k, leaders])[:, None] + gain[k], out=bound)
        both = self._merit(state.accuracy + d_accuracy[leaders][:, None] + d_accuracy, bound)
        moved = self.task[leaders]
        load = np.repeat(state.load[None, :], len(leaders), axis=0)
        shift = self.need[:, leaders] - self.need[:, state.choice[moved]]
        np.add.at(load, (np.arange(len(leaders)), self.index[:, leaders]), shift)
        short = VIOLATION_WEIGHT * self.excess_after(state.choice, load)
        both -= short
        both[self.task == moved[:, None]] = -np.inf
        return both, short

    def _merit(self, accuracy: FloatArray, throughput: FloatArray) -> FloatArray:
        """Return the merit at given totals, but for resources that are short."""
        value = self.value(accuracy, throughput)
        settings = self.judge.settings
        if settings.min_accuracy is None and settings.min_throughput is None:
            return value
        return np.asarray(value - VIOLATION_WEIGHT * self.violation(accuracy, throughput))

    def _try(self, state: State, paths: list[int]) -> State | None:
        choice = state.choice.copy()
        choice[self.task[paths]] = paths
        moved = self.evaluate(choice)
        return moved if self.is_better(moved, state) else None

    def most_accurate(self) -> IntArray:
        """Return for each task its most accurate path (the first of equals)."""
        return np.array(
            [
                int(a) + int(np.argmax(self.estimate[a:b]))
                for a, b in zip(self.first[:-1], self.first[1:], strict=True)
            ]
        )

    @staticmethod
    def is_better(state: State, other: State) -> bool:
        """Tell whether the first assignment is better by more than rounding."""
        return state.merit > other.merit + LEAST_GAIN

    def outcome(self, state: State) -> SearchOutcome:
        """Return an assignment as the outcome of a search."""
        return SearchOutcome(
            solution=self.judge.solution(self.chosen(state.choice)),
            predicted=self.pool.size,
            measured=int(self.beliefs.asked.sum()),
            moves=self.moves,
            stages=self.stages,
            assignments=self.assignments,
        )

    def chosen(self, choice: IntArray) -> list[ChosenPath]:
        """Return an assignment's paths, by task."""
        found: dict[int, ChosenPath] = {}
        for unit, number, first in zip(
            self.units, self.number[choice], self._unit_first, strict=True
        ):
            for task, path in zip(unit.group.tasks, unit.paths[number - first], strict=True):
                found[task] = path_in_pool(self.pool.tasks[task], int(path))
        return [found[task] for task in range(len(self.pool.tasks))]


class Beliefs:
    """What is known of the accuracies of the pool's paths, and of options made of them.

    Options are numbered through all units, paths through all tasks; an option of a unit with m
    tasks has m paths.
    """

    def __init__(self, pool: PathPool, units: Sequence[Unit] = ()) -> None:
        self.pool = pool
        self._truth = np.concatenate([t.paths.accuracy for t in pool.tasks])
        self._estimate = self._corrected()
        self.asked = np.zeros(len(self._truth), dtype=bool)
        """Which paths of the pool were measured."""
        first = np.cumsum([0, *(len(t) for t in pool.tasks)])
        width = max((u.size for u in units), default=0)
        options = sum(len(u) for u in units)
        self._paths = np.zeros((options, width), dtype=np.int64)
        """Paths of each option; padding repeats the first one with a share of 0."""
        self._share = np.zeros((options, width))
        """Weight of each path's task in its unit."""
        at = 0
        for unit in units:
            rows, tasks = slice(at, at + len(unit)), list(unit.group.tasks)
            weights = pool.weights[tasks]
            total = weights.sum()
            self._paths[rows] = (unit.paths + first[tasks])[:, :1]
            self._paths[rows, : unit.size] = unit.paths + first[tasks]
            self._share[rows, : unit.size] = weights / total if total > 0.0 else 1.0 / unit.size
            at += len(unit)

    def of_task(self, task: int) -> FloatArray:
        """Return the accuracies that are expected of a task's paths."""
        first = sum(len(t) for t in self.pool.tasks[:task])
        return self._estimate[first : first + len(self.pool.tasks[task])]

    def options(self, numbers: IntArray) -> FloatArray:
        """Return the mean accuracy that is expected of options."""
        return np.asarray((self._estimate[self._paths[numbers]] * self._share[numbers]).sum(axis=1))

    def ask(self, numbers: IntArray) -> bool:
        """Measure the paths of options; tell whether any of them was not known before."""
        paths = self._paths[numbers].ravel()
        if self.asked[paths].all():
            return False
        self.asked[paths] = True
        self._estimate[paths] = self._truth[paths]
        return True

    def _corrected(self) -> FloatArray:
        """Return the accuracy expected of every path before it is measured.

        Where the task has measured paths, the prediction of another one is corrected by
        their errors, each weighted by the share of connections it has in common
        (Jaccard), so that a measurement says most about paths like it.
        """
        estimates = []
        for task in self.pool.tasks:
            paths = task.paths
            estimate = np.maximum(paths.predicted, 0.0)
            known = dict(measured_paths(task))
            if known:
                used = _connections_used(task, paths.arcs)
                used_known = _connections_used(task, list(known))
                common = used @ used_known.T
                union = used.sum(axis=1)[:, None] + used_known.sum(axis=1)[None, :] - common
                alike = np.divide(common, union, out=np.zeros_like(common), where=union > 0.0)
                error = [v - path_of(task, arcs).predicted for arcs, v in known.items()]
                weight = np.maximum(alike.sum(axis=1), 1.0)
                estimate = np.clip(estimate + alike @ np.array(error) / weight, 0.0, 1.0)
                estimate = np.where(paths.measured, paths.accuracy, estimate)
            estimates.append(estimate)
        return np.concatenate(estimates)


def _connections_used(task: TaskPaths, paths: Sequence[tuple[int, ...]]) -> FloatArray:
    """Return which connections each path uses, shape (paths, arcs), 0 or 1."""
    used = np.zeros((len(paths), len(task.graph.arcs)))
    for i, arcs in enumerate(paths):
        used[i, [a for a in arcs if task.graph.arcs[a].is_connection]] = 1.0
    return used
