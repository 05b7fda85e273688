"""CoDE's procedure as published (method ``code``), for any number of services.

After Maleki, Shah-Mansouri and Khalaj, *Edge AI as a Service with Coordinated Deep Neural
Networks* (2024, arXiv 2401.00631), as far as it is public: search the paths of a service in
stages, predict the accuracy of all paths of a stage from the drops of their connections, rank
them by the reward that they promise, and measure only the most promising. For one pair of
services, own and host, the throughput below is the paper's Th = Th_local + Th_host, and the
reward its F = xi(A_av) zeta(Th).

Services take turns in file order until nobody improves; everybody else's path stays as it is.
In its turn a service searches stage by stage:

* stage 0 is its native path (where changes are limited, its previous path, too);
* stage k extends each of the m best paths of stage k - 1 (the beam) by one more learned
  connection (:mod:`code_opt.heuristics.detours`);
* the reward promised by a path is that of the whole edge at its best rates, with the accuracy
  predicted for the path;
* the path that promises most is measured, which may correct the predictions of the others, and
  so on; the stage ends when the best measured reward is at least the best one still promised;
* the search ends with the first stage whose measured paths are no better than those before.

The service then takes the best measured path, if it is better than the one that it has. Paths
that miss a requirement count as worth less by a high cost of what they miss, so the search
leads back to those that meet all. Of paths that promise the same that one comes first whose
inferences take least of servers and links (the sum of their shares), which leaves most to others;
then the one with fewer learned connections; then the one whose arcs come first in the graph.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from code_opt.core.evaluator import (
    LEAST_GAIN,
    ChosenPath,
    Evaluator,
    path_of,
)
from code_opt.core.fixed_paths import nothing_found, why_not
from code_opt.core.results import make_result
from code_opt.core.settings import Clock, Settings
from code_opt.heuristics.detours import Arcs, Detours
from code_opt.heuristics.estimates import InstanceMeasurements, Measurements
from code_opt.heuristics.incremental import IncrementalEvaluator
from code_opt.paths import PathPool, PathProblem, pool_of_paths
from code_opt.paths.graph import FloatArray
from code_opt.paths.labels import ADMISSION_TOLERANCE, BoolArray
from code_opt.result import Result


@dataclass(frozen=True)
class StagedOutcome:
    """Where the search ended and what it cost."""

    paths: tuple[Arcs, ...]
    """Path of every task."""
    predicted: Counter[int]
    """Paths whose accuracy was predicted, by the stage in which that was first done."""
    measured: Counter[int]
    """Paths with learned connections that were measured, in the same way."""
    turns: int
    """Searches of single services."""
    moves: int
    """Changes of a path that were kept."""
    programs: int
    """Rate programs solved."""
    is_complete: bool
    """Whether it ended because nobody improved (not by the clock, or for want of measurements)."""


class Starts:
    """The tasks of an instance with the paths of their stages 0."""

    def __init__(self, problem: PathProblem) -> None:
        """Find them in the graphs of all tasks."""
        self.topology = problem.topology
        self.detours = [Detours(problem.instance, graph) for graph in self.topology.graphs]
        self.first = [detours.first() for detours in self.detours]
        """The native path of each task, or what stands for it, None where it has no path."""
        self.roots = [
            tuple(dict.fromkeys(p for p in (first or (), detours.native) if p is not None))
            for first, detours in zip(self.first, self.detours, strict=True)
        ]
        """The paths of stage 0: beside a previous path the native one, which can be extended."""


class _TaskPaths:
    """The paths of one task met so far, by number; what each uses; what each leads to."""

    def __init__(self, detours: Detours, is_rate_resource: BoolArray) -> None:
        self._graph, self._detours = detours.graph, detours
        self._is_rate = is_rate_resource
        self.paths: list[Arcs] = []
        self._number: dict[Arcs, int] = {}
        self._extended: dict[int, list[int]] = {}
        self._use: list[FloatArray] = []
        self._seconds: list[float] = []
        self._count: list[int] = []
        self._taken: list[float] = []
        """What an inference takes of servers and links, as a sum of shares, rounded."""

    def number(self, path: Arcs) -> int:
        """Return the number of a path, a new one where it was not met before."""
        found = self._number.get(path)
        if found is None:
            found = self._number[path] = len(self.paths)
            steps = list(path)
            self.paths.append(path)
            self._use.append(self._graph.use[steps].sum(axis=0))
            self._seconds.append(float(self._graph.seconds[steps].sum()))
            self._count.append(self._detours.count(path))
            taken = float(self._use[-1] @ self._is_rate)
            self._taken.append(float(f"{taken:.9g}"))
        return found

    def extensions(self, number: int) -> list[int]:
        """Return the numbers of the paths that one more connection makes of a path."""
        found = self._extended.get(number)
        if found is None:
            made = dict.fromkeys(self._detours.extensions(self.paths[number]))
            found = self._extended[number] = [self.number(path) for path in made]
        return found

    def in_order(self, numbers: set[int]) -> list[int]:
        """Return numbers in the order that decides between equals."""
        return sorted(numbers, key=lambda i: (self._taken[i], self._count[i], self.paths[i]))

    def count(self, number: int) -> int:
        """Return the number of learned connections of a path."""
        return self._count[number]

    def uses(self, numbers: Sequence[int]) -> FloatArray:
        """Return what one inference uses on each path, shape (n, k)."""
        return np.array([self._use[i] for i in numbers])

    def taken(self, numbers: Sequence[int]) -> FloatArray:
        """Return what an inference takes of servers and links, as a sum of shares, shape (n,)."""
        return np.array([self._taken[i] for i in numbers])

    def seconds(self, numbers: Sequence[int]) -> FloatArray:
        """Return the unloaded latency of each path [s], shape (n,)."""
        return np.array([self._seconds[i] for i in numbers])


@dataclass
class _Best:
    """The best measured path of a turn."""

    number: int = 0
    merit: float = -np.inf
    taken: float = np.inf
    """What an inference on it takes of servers and links, as a sum of shares."""

    def hear(self, number: int, merit: float, taken: float) -> None:
        """Note a measured path if it is better, or as good and takes less."""
        is_as_good = merit > self.merit - LEAST_GAIN and taken < self.taken
        if merit > self.merit + LEAST_GAIN or is_as_good:
            self.number, self.merit, self.taken = number, merit, taken


class _Exhausted(Exception):  # noqa: N818 (an end, not an error)
    """The clock is over, or nothing more can be measured."""


class _Stage:
    """The n paths of one stage: what each promises by now, in the order of equals.

    Throughputs are upper bounds until they are worked out; what a path promises is then a
    bound, too, and only the paths that promise most are worked out.
    """

    def __init__(self, search: StagedSearch, task: int, numbers: list[int]) -> None:
        self._search, self._task, self.numbers = search, task, numbers
        self._paths = [search.known[task].paths[i] for i in numbers]
        self._uses = search.uses(task, numbers)
        self._group = search.group_of[task]
        present = search.present
        self._overload = present.overload(self._group, self._uses)
        self.taken = search.known[task].taken(numbers)
        """What an inference takes of servers and links, as a sum of shares, shape (n,)."""
        self._seconds = search.known[task].seconds(numbers)
        self._late = search.lateness(task, self._seconds)
        # Where floors or adapters do not fit, all tasks are valued at their floors.
        self._is_exact = self._overload > 0.0
        most = present.most(self._group, self._uses)
        self._throughput = np.where(self._is_exact, present.least, most)
        self.is_settled = np.zeros(len(numbers), dtype=bool)
        """Which of the paths are measured."""
        self._accuracy = search.measurements.expected(task, self._paths)
        self.merit = self._valued()

    def settle(self, i: int) -> None:
        """Take a path as measured, and the others as they are predicted now."""
        self.is_settled[i] = True
        self._accuracy = self._search.measurements.expected(self._task, self._paths)
        self.merit = self._valued()

    def _valued(self) -> FloatArray:
        """Return what all paths promise by the accuracies and throughputs known now."""
        missed = self._overload + self._late
        missed = missed + self._search.shortfall(self._task, self._accuracy)
        return self._search.present.merits(
            self._task, self._accuracy, self._seconds, self._throughput, missed
        )

    def work_out(self, i: int) -> bool:
        """Work out the throughput of a path; return False where it was known."""
        if self._is_exact[i]:
            return False
        self._search.check_clock()
        present = self._search.present
        found = present.throughput(self._group, self._uses[i])
        self._throughput[i] = present.least if found is None else found
        self._is_exact[i] = True
        most = present.most(self._group, self._uses, last=1)
        self._throughput = np.where(
            self._is_exact, self._throughput, np.minimum(self._throughput, most)
        )
        self.merit = self._valued()
        return True

    def throughput(self, i: int) -> float:
        """Return the throughput of the edge with a path [inferences/s], or a bound on it."""
        return float(self._throughput[i])

    def set_throughput(self, i: int, throughput: float) -> None:
        """Set the throughput of the edge with a path [inferences/s]."""
        self._throughput[i] = throughput
        self._is_exact[i] = True
        self.merit = self._valued()

    def most_promising(self, best: _Best, tolerance: float) -> int | None:
        """Return the place of the path to measure next, None if none promises enough.

        Args:
            best: the best measured path.
            tolerance: a path that takes less than it need only promise so much less.
        """
        while True:
            enough = np.where(self.taken < best.taken, best.merit - tolerance, np.inf)
            enough = np.minimum(enough, best.merit + LEAST_GAIN)
            merit = np.where(self.is_settled | (self.merit <= enough), -np.inf, self.merit)
            i = int(np.argmax(merit >= merit.max() - LEAST_GAIN))  # the first of equals
            if merit[i] == -np.inf:
                return None
            if not self.work_out(i):
                return i

    def best(self, count: int | None) -> list[int]:
        """Return the numbers of the best paths: measured ones as measured, others as predicted."""
        if count is None or count >= len(self.numbers):
            return list(self.numbers)
        while True:
            first = np.argsort(-self.merit, kind="stable")[:count].tolist()
            if not any(self.work_out(i) for i in first):
                return [self.numbers[i] for i in first]


class StagedSearch:
    """The services' turns; deterministic, unless the clock ends them."""

    def __init__(
        self,
        starts: Starts,
        settings: Settings,
        measurements: Measurements | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Put everybody on the path of its stage 0.

        Args:
            starts: of all tasks.
            settings: objective, floors of the totals, and parameters of the search.
            measurements: by default those of the instance.
            clock: ends the search early.

        Raises:
            InputError: the rate of a path would be unlimited.
        """
        first = [path or () for path in starts.first]
        pool = pool_of_paths(starts.topology, first)
        self.evaluator = Evaluator(pool, settings)
        self.measurements = measurements or InstanceMeasurements(pool.tasks)
        self.known = [
            _TaskPaths(detours, task.is_rate_resource)
            for detours, task in zip(starts.detours, pool.tasks, strict=True)
        ]
        self.group_of = self.evaluator.groups.of_task.tolist()
        self.present = IncrementalEvaluator(self.evaluator)
        self._pool: PathPool = pool
        self._clock = clock or Clock(None)
        self._now = [known.number(path) for known, path in zip(self.known, first, strict=True)]
        """Number of each task's path at present."""
        self._roots = [
            [known.number(path) for path in roots]
            for known, roots in zip(self.known, starts.roots, strict=True)
        ]
        """Numbers of the paths of each task's stage 0; the first is where it starts."""
        self._stage_of: list[dict[int, int]] = [{} for _ in first]
        """Stage in which each path of a task was first predicted."""
        self._asked: list[set[int]] = [set() for _ in first]
        self._measured: Counter[int] = Counter()
        self._turns = self._moves = 0
        self._throughput_now: float | None = None
        """Throughput of the present paths, None where it is to be worked out."""
        for t, number in enumerate(self._now):
            for root in self._roots[t]:
                self._measure(t, root, 0)
            self._settle(t, number)

    def run(self) -> StagedOutcome:
        """Let the services take turns until nobody improves."""
        count = waiting = len(self._now)
        at = 0
        is_complete = True
        try:
            while waiting:
                self.check_clock()
                if self._turn(at):
                    waiting = count
                waiting -= 1
                at = (at + 1) % count
        except _Exhausted:
            is_complete = False
        stages = [stage for of_task in self._stage_of for stage in of_task.values()]
        return StagedOutcome(
            paths=tuple(k.paths[i] for k, i in zip(self.known, self._now, strict=True)),
            predicted=Counter(stages),
            measured=self._measured,
            turns=self._turns,
            moves=self._moves,
            programs=self.present.solves,
            is_complete=is_complete,
        )

    def count_paths(self) -> int:
        """Return the number of paths of all tasks, nothing enumerated."""
        return sum(task.graph.count_paths() for task in self._pool.tasks)

    def chosen(self, paths: Sequence[Arcs]) -> list[ChosenPath]:
        """Return paths as the instance values them."""
        return [path_of(task, arcs) for task, arcs in zip(self._pool.tasks, paths, strict=True)]

    def check_clock(self) -> None:
        """End the search where its time is over."""
        if self._clock.is_over:
            raise _Exhausted

    def uses(self, task: int, numbers: Sequence[int]) -> FloatArray:
        """Return what the group of a task uses if the task takes other paths, shape (n, K)."""
        group = self._pool.groups[self.group_of[task]]
        padded = np.zeros((len(numbers), self.evaluator.groups.resource.shape[1]))
        own = padded[:, : len(group.resources)]
        if not group.is_shared:
            own[:] = self.known[task].uses(numbers)
            return padded
        paths = [self.known[t].paths[self._now[t]] for t in group.tasks]
        place = group.tasks.index(task)
        for row, number in zip(own, numbers, strict=True):
            paths[place] = self.known[task].paths[number]
            row[:] = group.use(paths)
        return padded

    def lateness(self, task: int, seconds: FloatArray) -> FloatArray:
        """Return by how much latencies [s] exceed the limit of a task, as a share of it."""
        limit = self._pool.tasks[task].task.max_latency
        if limit is None:
            return np.zeros(len(seconds))
        return np.asarray(np.maximum(seconds / limit - 1.0 - ADMISSION_TOLERANCE, 0.0))

    def shortfall(self, task: int, accuracy: FloatArray) -> FloatArray:
        """Return by how much accuracies miss 0, and the least one of a task as a share of it."""
        missed = np.maximum(-accuracy - ADMISSION_TOLERANCE, 0.0)
        least = self._pool.tasks[task].task.min_accuracy
        if least > 0.0:
            missed += np.maximum(1.0 - accuracy / least - ADMISSION_TOLERANCE, 0.0)
        return np.asarray(missed)

    def _turn(self, task: int) -> bool:
        """Search the paths of one service; tell whether it takes another one."""
        self._turns += 1
        present = self._present_merit(task)
        best = _Best()
        try:
            self._search(task, best)
        finally:  # what was found before the clock was over counts
            is_better = best.merit > present + LEAST_GAIN and best.number != self._now[task]
            if is_better:
                self._moves += 1
                self._now[task] = best.number
                self._throughput_now = None
                self._settle(task, best.number)
        return is_better

    def _search(self, task: int, best: _Best) -> None:
        """Go through the stages of a service, and note the best of its measured paths."""
        known, roots = self.known[task], self._roots[task]
        first = _Stage(self, task, roots)
        for place, root in enumerate(roots):
            first.work_out(place)
            best.hear(root, float(first.merit[place]), float(first.taken[place]))
        tolerance = self.evaluator.settings.parameters.code.tolerance
        beam, seen = list(roots), set(roots)
        for number in itertools.count(1):
            fresh = {path for base in beam for path in known.extensions(base)} - seen
            if not fresh:
                return
            seen |= fresh
            for path in fresh:
                self._stage_of[task].setdefault(path, number)
            stage = _Stage(self, task, known.in_order(fresh))
            before = best.merit
            while (i := stage.most_promising(best, tolerance)) is not None:
                self._measure(task, stage.numbers[i], number)
                stage.settle(i)
                best.hear(stage.numbers[i], float(stage.merit[i]), float(stage.taken[i]))
            if best.merit <= before + LEAST_GAIN:
                return
            beam = stage.best(self.evaluator.settings.parameters.code.beam)

    def _present_merit(self, task: int) -> float:
        """Return the merit of the present paths, one of them being that of a task."""
        stage = _Stage(self, task, [self._now[task]])
        if self._throughput_now is None:
            stage.work_out(0)
            self._throughput_now = stage.throughput(0)
        stage.set_throughput(0, self._throughput_now)
        return float(stage.merit[0])

    def _measure(self, task: int, number: int, stage: int) -> None:
        """Measure a path, each once."""
        if number in self._asked[task]:
            return
        if not self.measurements.measure(task, self.known[task].paths[number]):
            raise _Exhausted
        self._asked[task].add(number)
        if self.known[task].count(number):
            self._measured[self._stage_of[task].setdefault(number, stage)] += 1

    def _settle(self, task: int, number: int) -> None:
        """Let a task take a path: note what it uses, brings and misses."""
        path = self.known[task].paths[number]
        accuracy = self.measurements.expected(task, [path])
        seconds = self.known[task].seconds([number])
        late = self.lateness(task, seconds)
        missed = float(late[0] + self.shortfall(task, accuracy)[0])
        self.present.take(
            task, self.uses(task, [number])[0], float(accuracy[0]), float(seconds[0]), missed
        )


def solve_code(problem: PathProblem, settings: Settings) -> Result:
    """Return the result of the staged search; nothing is proven, so it has no bound.

    Raises:
        InputError: the instance cannot be used.
    """
    clock = Clock(settings.time_limit)
    instance, starts = problem.instance, Starts(problem)
    for task, path in zip(instance.tasks, starts.first, strict=True):
        if path is None:
            why = f"task {task.id!r} has no path"
            return nothing_found(instance, settings, "code", clock, why)
    search = StagedSearch(starts, settings, clock=clock)
    outcome = search.run()
    chosen = search.chosen(outcome.paths)
    missed = why_not(search.evaluator, chosen)
    solution = None if missed else search.evaluator.solution(chosen)
    message = None
    if missed:
        ending = "when nobody improved" if outcome.is_complete else "when the time was over"
        message = f"no assignment found that meets all requirements; {ending}: {missed}"
    details: dict[str, Any] = {
        "paths": search.count_paths(),
        "paths_predicted": sum(outcome.predicted.values()),
        "paths_measured": sum(outcome.measured.values()),
    }
    for stage in sorted(outcome.predicted):
        details[f"stage_{stage}_predicted"] = outcome.predicted[stage]
        details[f"stage_{stage}_measured"] = outcome.measured[stage]
    details |= {
        "beam": settings.parameters.code.beam,
        "turns": outcome.turns,
        "moves": outcome.moves,
        "rate_programs": outcome.programs,
    }
    return make_result(
        search.evaluator,
        "code",
        "unknown" if solution is None else "feasible",
        clock.seconds,
        solution,
        message=message,
        details=details,
    )
