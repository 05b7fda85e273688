"""Which paths to measure: a measured accuracy costs a training.

``lns`` and ``exact`` solve again and again: the present predictions make an instance, the method
finds its best assignment, and the paths of that assignment which have not been measured yet are
trained. When all of them have been measured, no prediction left promises more than what is
measured, and the search ends. With ``exact`` the solver proves that: the end is optimal under
the measurements and the predictions of what was not measured.

``code`` is CoDE's procedure (:mod:`code_opt.heuristics.staged_search`), in which to measure a path
is to train it: service by service and stage by stage, the path that promises most comes first,
and what it turns out to be corrects the predictions of the others at once.

Predictions start from closed forms, and training repairs much of what those lose, more or
less of it by the sort of connection. A search that took them at their word would end too
early, so it hopes: of every predicted loss it leaves out a share (``search.optimism``), and
a larger one (``search.first_optimism``) as long as no training of the task has used that
sort of connection. This is optimism in the face of uncertainty (Lai and Robbins 1985; Auer,
Cesa-Bianchi and Fischer 2002); what is measured is never touched by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.heuristics.detours import Detours
from code_opt.heuristics.staged_search import StagedOutcome, StagedSearch, Starts
from code_opt.instance import Instance
from code_opt.paths import PathProblem
from code_opt.profiling.assembling import make_instance
from code_opt.profiling.connections import Ends, Path
from code_opt.profiling.measuring import Job, Measuring, TaskProfile
from code_opt.profiling.prediction import (
    Design,
    FloatArray,
    Predictor,
    choose,
    drops,
    fitted,
    sort_of,
)
from code_opt.result import Result
from code_opt.solving import solve

RANDOM_BATCH = 1
_GAP = 1e-6
"""Gap of the solver inside of the search: measured paths must not lose against rounding."""


@dataclass(frozen=True)
class SearchResult:
    """How a search went."""

    method: str
    seed: int
    trainings: int
    """Paths that it had measured (those that were known already are counted too)."""
    rounds: int
    reward: float | None
    """Best reward over assignments of measured paths (native ones included)."""
    bound: float | None
    """``exact``: no assignment has a higher reward under the measurements and hopes."""
    optimism: float | None
    """Share of the predicted losses hoped to be repaired, by methods that predict."""
    complete: bool
    """False where the budget ended it."""


class Search:
    """Chooses paths to measure, and knows only what it has asked for.

    Args:
        measuring: measures paths; what it holds already is looked at when asked for only.
        seed: of ``random`` and ``lns``.
        measure: called with the paths to measure; the default measures here.
    """

    def __init__(
        self,
        measuring: Measuring,
        *,
        seed: int = 0,
        measure: Callable[[Sequence[Job]], None] | None = None,
    ) -> None:
        self.measuring = measuring
        self.seed = seed
        self._measure = measure or measuring.measure
        self.asked: dict[str, dict[Path, float]] = {task: {} for task in measuring.tasks}
        self._best: tuple[float, Result] | None = None

    @property
    def trainings(self) -> int:
        """Paths asked for so far."""
        return sum(len(paths) for paths in self.asked.values())

    def run(self, method: str, budget: int | None) -> SearchResult:
        """Search until nothing promises more, or ``budget`` paths are measured.

        Raises:
            InputError: ``exhaustive`` with more paths than the config allows.
        """
        settings = self.measuring.preparation.config.search
        bound: float | None = None
        rounds, complete = 0, True
        if method in ("exhaustive", "random"):
            jobs = self._all()
            if method == "random":
                order = np.random.default_rng(self.seed).permutation(len(jobs))
                jobs = [jobs[i] for i in order]
            complete = budget is None or len(jobs) <= budget
            self.ask(jobs[:budget])
            rounds = 1
        elif method == "code":
            outcome = self._staged(budget)
            rounds, complete = outcome.turns, outcome.is_complete
        else:
            while True:
                rounds += 1
                result = solve(self.instance(), method=method, gap=_GAP, seed=self.seed)
                bound = result.bound
                wanted = self._unmeasured(result)
                if not wanted:
                    break
                left = None if budget is None else budget - self.trainings
                if left is not None and left <= 0:
                    complete = False
                    break
                self.ask(wanted if left is None else wanted[:left])
        return SearchResult(
            method=method,
            seed=self.seed,
            trainings=self.trainings,
            rounds=rounds,
            reward=self.best_reward(),
            bound=bound if method == "exact" else None,
            optimism=settings.optimism if method in ("code", "exact", "lns") else None,
            complete=complete,
        )

    def _staged(self, budget: int | None) -> StagedOutcome:
        """Run CoDE's procedure; it trains one path at a time."""
        starts = Starts(PathProblem(self.instance()))
        trained = _Trained(self, starts.detours, budget)
        return StagedSearch(starts, Settings(), trained).run()

    def ask(self, jobs: Sequence[Job]) -> None:
        """Have paths measured."""
        self._measure(jobs)
        for job in jobs:
            record = self.measuring.tasks[job.task].measured[job.path]
            self.asked[job.task][job.path] = record.accuracy

    def instance(self) -> Instance:
        """Return the instance as it is known, and hoped for, by now."""
        return make_instance(
            self.measuring, {task: self.hopes(task) for task in self.asked}, self.asked
        )

    def hopes(self, task: str) -> dict[Ends, float]:
        """Return a task's drops, less the share of them that training may still repair."""
        settings = self.measuring.preparation.config.search
        profile = self.measuring.tasks[task]
        seen = {
            sort_of(ends, profile.native)
            for path in self.asked[task]
            for ends in profile.graph.used(path)
        }
        hoped = {}
        for ends, drop in drops(self.predictor(task)).items():
            known = sort_of(ends, profile.native) in seen
            spared = settings.optimism if known else settings.first_optimism
            hoped[ends] = drop * (1.0 - spared) if drop > 0.0 else drop
        return hoped

    def predictor(self, task: str) -> Predictor:
        """Return the best predictor for a task by what was asked for."""
        design = self.design(task)
        return fitted(choose(design, self.measuring.worth, self.seed), design)

    def design(self, task: str) -> Design:
        """Return what predictors may know of a task."""
        profile = self.measuring.tasks[task]
        known = {path: profile.measured[path] for path in self.asked[task]}
        limited = TaskProfile(
            profile.task,
            profile.native,
            profile.native_path,
            profile.accuracy,
            profile.right,
            profile.graph,
            profile.connections,
            known,
        )
        return Design(limited, self.measuring.path_flops)

    def best_reward(self) -> float | None:
        """Return the best reward over measured and native paths alone, by the exact method."""
        result = solve(self.measured_instance(), method="exact", gap=_GAP)
        return result.reward

    def measured_instance(self) -> Instance:
        """Return the instance in which only measured and native paths can be taken.

        A drop above the native accuracy makes every path inadmissible that is not measured.
        """
        nothing: dict[str, dict[Ends, float]] = {
            task: dict.fromkeys(profile.connections, 2.0)
            for task, profile in self.measuring.tasks.items()
        }
        return make_instance(self.measuring, nothing, self.asked)

    def _all(self) -> list[Job]:
        most = self.measuring.preparation.config.search.most_paths
        count = sum(p.graph.count for p in self.measuring.tasks.values())
        if count > most:
            raise InputError(
                f"there are {count} paths, more than search.most_paths = {most}: "
                "search with code or exact, or offer fewer connections"
            )
        return [
            Job(task, path)
            for task, profile in self.measuring.tasks.items()
            for path in profile.graph.paths()
            if profile.graph.used(path)
        ]

    def _unmeasured(self, result: Result) -> list[Job]:
        """Return the paths of an assignment that were not measured, in the tasks' order."""
        jobs = []
        for row in result.tasks:
            path = tuple(row.path)
            profile = self.measuring.tasks[row.task]
            if profile.graph.used(path) and path not in self.asked[row.task]:
                jobs.append(Job(row.task, path))
        return jobs


class _Trained:
    """Accuracies as CoDE's procedure asks for them: trained, or hoped for until then."""

    def __init__(self, search: Search, detours: Sequence[Detours], budget: int | None) -> None:
        self._search, self._budget = search, budget
        self._graphs = [of_task.graph for of_task in detours]
        self._hopes: dict[str, dict[Ends, float]] = {}

    def expected(self, task: int, paths: Sequence[tuple[int, ...]]) -> FloatArray:
        """Return the accuracies of paths, given by the arcs of a task's graph."""
        name = self._graphs[task].task.id
        if name not in self._hopes:
            self._hopes[name] = self._search.hopes(name)
        profile, known = self._search.measuring.tasks[name], self._search.asked[name]
        found = []
        for arcs in paths:
            path = self._blocks(task, arcs)
            loss = sum(self._hopes[name][ends] for ends in profile.graph.used(path))
            found.append(known.get(path, min(max(profile.accuracy - loss, 0.0), 1.0)))
        return np.array(found)

    def measure(self, task: int, path: tuple[int, ...]) -> bool:
        """Train a path; return False where the budget is used up."""
        name, blocks = self._graphs[task].task.id, self._blocks(task, path)
        is_known = blocks in self._search.asked[name]
        if is_known or not self._search.measuring.tasks[name].graph.used(blocks):
            return True
        if self._budget is not None and self._search.trainings >= self._budget:
            return False
        self._search.ask([Job(name, blocks)])
        self._hopes.pop(name, None)
        return True

    def _blocks(self, task: int, arcs: tuple[int, ...]) -> Path:
        return self._graphs[task].blocks(arcs)
