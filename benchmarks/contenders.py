"""Who is compared: our formulations and heuristics, and the peers, each watched on its way."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.peers import PEERS
from code_opt.checker import check
from code_opt.core.evaluator import Evaluator, path_in_pool
from code_opt.core.results import make_result
from code_opt.core.settings import Progress, Settings
from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.result import Result
from code_opt.solving import solve

GAPS = (1e-2, 1e-3, 1e-4)
GAP = GAPS[-1]
"""Gap that is asked for; the larger ones are noted on the way."""
ROOM = 1 + 1e-6


@dataclass
class Trace:
    """When a solve first had each gap: CPU and wall seconds since its start."""

    cpu_start: float = field(default_factory=time.process_time)
    wall_start: float = field(default_factory=time.perf_counter)
    reached: dict[float, tuple[float, float]] = field(default_factory=dict)

    @property
    def now(self) -> tuple[float, float]:
        """CPU and wall seconds since the start."""
        return time.process_time() - self.cpu_start, time.perf_counter() - self.wall_start

    def see(self, gap: float | None) -> None:
        """Note a proven gap."""
        if gap is not None:
            for wanted in GAPS:
                if gap <= wanted * ROOM:
                    self.reached.setdefault(wanted, self.now)

    def see_logs(self, value: float, bound: float) -> None:
        """Note the gap of two logarithms of rewards."""
        if abs(value) < 1e15 and abs(bound) < 1e15:
            self.see(math.expm1(max(bound - value, 0.0)))

    def see_progress(self, progress: Progress) -> None:
        """Note the gap of one of our methods."""
        self.see(progress.gap)


Contender = Callable[[Instance, float, Trace], Result]
"""Solves within a wall-clock limit [s], watched; the result has passed the checker."""

HEURISTICS = ("lns", "code", "greedy")
"""Methods of ours that prove nothing."""


def formulations() -> list[str]:
    """Return the formulations that this version has."""
    found = []
    for name in ("path", "flow", "colgen"):
        try:
            Settings(formulation=name)
        except InputError:
            continue
        found.append(name)
    return found


def contenders() -> dict[str, Contender]:
    """Return everyone who can run here, by name, in the order of the tables."""
    found: dict[str, Contender] = {}
    for formulation in formulations():
        found[f"exact ({formulation})"] = _ours("exact", formulation)
    for name, (_, package) in PEERS.items():
        if importlib.util.find_spec(package) is not None:
            found[name] = _peer(name)
    for name in HEURISTICS:
        found[name] = _ours(name)
    return found


def missing() -> list[str]:
    """Return the peers that are not installed."""
    return [
        f"{name} (needs {package})"
        for name, (_, package) in PEERS.items()
        if importlib.util.find_spec(package) is None
    ]


def _ours(method: str, formulation: str = "path") -> Contender:
    def run(instance: Instance, limit: float, trace: Trace) -> Result:
        return solve(
            instance,
            method=method,
            formulation=formulation,
            time_limit=limit,
            gap=GAP,
            progress=trace.see_progress,
        )

    return run


def _peer(name: str) -> Contender:
    """Value a peer's paths as ours and check them."""
    peer, _ = PEERS[name]

    def run(instance: Instance, limit: float, trace: Trace) -> Result:
        answer = peer(instance, GAP, limit, trace.see_logs)
        evaluator = Evaluator(answer.pool, Settings(gap=GAP))
        solution = None
        if answer.choice is not None:
            pairs = zip(answer.pool.tasks, answer.choice, strict=True)
            solution = evaluator.solution([path_in_pool(task, path) for task, path in pairs])
        status = "unknown" if solution is None else "feasible"
        result = make_result(evaluator, "peer", status, 0.0, solution, bound=answer.bound)
        violations = check(result, instance)
        if violations:
            raise RuntimeError(f"a peer's result does not pass the check: {violations}")
        return result

    return run
