"""Brute force under limits of percentiles: all paths of all tasks, and a grid of wait scales.

For fixed paths and fixed scales the best rates solve a linear program, so every point of the grid
gives an assignment that keeps all promises: none may be better than a proven bound. Batches are
fewer the fuller they are, so with them the program is solved again at its own rates until these
stay. Orders of work, paths and accuracies are those of the checker, which shares nothing with the
methods.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from code_opt.checker import InstanceIndex
from code_opt.instance import Instance
from code_opt.instance.model import INPUT, OUTPUT, GivenPath, Task
from code_opt.promise_checker import Place, Walk, recompute
from code_opt.reward import log_reward

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def all_paths(index: InstanceIndex, task: Task) -> Iterator[tuple[str, ...]]:
    """Yield the admissible paths of a task, as block ids."""
    heads: dict[str, set[str]] = {}
    for tail, head in index.trunk_arcs:
        heads.setdefault(tail, set()).add(head)
    for tail, head in index.connections(task):
        heads.setdefault(tail, set()).add(head)
    for one in task.alternatives:
        blocks = GivenPath(block.id for block in index.dnns[one.dnn].blocks)
        if _is_admissible(index, task, blocks):
            yield blocks
    native = index.native_blocks(task)
    heads.setdefault(INPUT, set()).add(native[0])
    heads.setdefault(native[-1], set()).add(OUTPUT)
    stack = [(INPUT,)]
    while stack:
        path = stack.pop()
        for head in sorted(heads.get(path[-1], ())):
            if head == OUTPUT:
                blocks = path[1:]
                if _is_admissible(index, task, blocks):
                    yield blocks
            else:
                stack.append((*path, head))


def _is_admissible(index: InstanceIndex, task: Task, blocks: tuple[str, ...]) -> bool:
    """Tell whether a path keeps what does not depend on others."""
    figures, accuracy = index.figures(task, blocks), index.accuracy(task, blocks, 0.0)
    is_late = task.max_latency is not None and figures.latency > task.max_latency
    is_wrong = not accuracy.admissible or accuracy.value < task.min_accuracy
    return not (figures.missing or figures.deviceless or is_late or is_wrong)


def best_on_grid(
    instance: Instance, points: int = 7, most: int = 400
) -> tuple[float, dict[str, tuple[str, ...]]] | None:
    """Return the largest log reward on the grid and its paths, None if nothing is feasible there.

    Args:
        instance: without limited memories and standalone floors.
        points: scales of a station on the grid.
        most: combinations of paths at most; a larger instance is refused.
    """
    index = InstanceIndex(instance)
    choices = [list(all_paths(index, task)) for task in instance.tasks]
    assert math.prod(map(len, choices)) <= most
    best: tuple[float, dict[str, tuple[str, ...]]] | None = None
    for paths in itertools.product(*choices):
        found = best_rates(instance, index, paths, points)
        if found is None:
            continue
        weights = np.array([task.weight for task in instance.tasks])
        accuracies = np.array(
            [index.accuracy(t, p, 0.0).value for t, p in zip(instance.tasks, paths, strict=True)]
        )
        value = log_reward(
            instance.reward, float(weights @ accuracies / weights.sum()), float(found.sum())
        )
        if best is None or value > best[0]:
            names = (task.id for task in instance.tasks)
            best = value, dict(zip(names, paths, strict=True))
    return best


def least_time(instance: Instance, most: int = 400) -> float | None:
    """Return the least average time at the demands, promised where percentiles are limited [s].

    None if nothing is feasible.

    Args:
        instance: with demands, without limited memories and standalone floors.
        most: combinations of paths at most; a larger instance is refused.
    """
    index = InstanceIndex(instance)
    choices = [list(all_paths(index, task)) for task in instance.tasks]
    assert math.prod(map(len, choices)) <= most
    total = sum(task.weight for task in instance.tasks)
    best: float | None = None
    for paths in itertools.product(*choices):
        assignment = Assignment(instance, index, paths)
        rates = assignment.demand
        matrix = assignment.rows({}, assignment.held(rates))
        if len(matrix) and (matrix @ rates > 1.0 + 1e-9).any():
            continue
        walks = [
            Walk(
                task.id,
                index.group(task),
                float(rates[g]),
                index.figures(task, path).latency,
                [(key, figures.stays) for key, figures in index.steps(task, path)],
            )
            for task, path, g in zip(instance.tasks, paths, assignment.group_of, strict=True)
        ]
        there = recompute(walks, index.services)
        mean = 0.0
        for task, walk in zip(instance.tasks, walks, strict=True):
            q, limit = task.latency_percentile, task.max_latency
            time = walk.latency if q is None else there.promised(task.id, q)
            if limit is not None and time > limit * (1.0 + 1e-9):
                time = math.inf
            mean += task.weight * time / total
        if math.isfinite(mean) and (best is None or mean < best):
            best = mean
    return best


@dataclass(frozen=True)
class Asked:
    """What the paths of an assignment ask of one place."""

    place: Place
    group: IntArray
    """Group of each call, shape (n,)."""
    seconds: FloatArray
    """Time of a device that it takes, of a whole batch [s], shape (n,)."""
    before: tuple[tuple[Place, ...], ...]
    """Places of the earlier work of each."""


class Assignment:
    """Fixed paths: what they ask of every place, and what their limits leave to the scales."""

    def __init__(
        self, instance: Instance, index: InstanceIndex, paths: Sequence[tuple[str, ...]]
    ) -> None:
        self.index = index
        walks = [
            Walk(
                task.id,
                index.group(task),
                0.0,
                index.figures(task, path).latency,
                [(key, figures.stays) for key, figures in index.steps(task, path)],
            )
            for task, path in zip(instance.tasks, paths, strict=True)
        ]
        there = recompute(walks, index.services)
        names = list(dict.fromkeys(index.group(task) for task in instance.tasks))
        self.group_of = [names.index(index.group(task)) for task in instance.tasks]
        self.size = np.bincount(self.group_of).astype(float)
        self.floor, self.demand = np.zeros(len(names)), np.full(len(names), np.inf)
        calls: dict[int, tuple[int, Any]] = {}
        self.limits: list[tuple[float, dict[Place, float]]] = []
        """Room of each limit, and what a scale takes of it at each place on the way."""
        for task, g in zip(instance.tasks, self.group_of, strict=True):
            assert task.floor != "standalone"
            self.floor[g] = max(self.floor[g], float(task.floor))
            if task.demand is not None:
                self.demand[g] = min(self.demand[g], task.demand)
            mine = there.calls[task.id]
            calls |= {id(call): (g, call) for call in mine}
            if task.max_latency is not None and task.latency_percentile is not None:
                room = task.max_latency - there.unloaded[task.id]
                takes: dict[Place, float] = {}
                for call in mine:
                    odds = there.waits[call.place].factor * len(mine)
                    odds = math.log(odds / (1.0 - task.latency_percentile))
                    takes[call.place] = takes.get(call.place, 0.0) + odds
                self.limits.append((room, takes))
        self.asked = {}
        for place in index.services:
            here = [(g, call) for g, call in calls.values() if call.place == place]
            self.asked[place] = Asked(
                place,
                np.array([g for g, _ in here], dtype=np.int64),
                np.array([call.seconds for _, call in here]),
                tuple(tuple(call.before()) for _, call in here),
            )
        self.needed: set[Place] = set()
        frontier = [place for _, takes in self.limits for place in takes]
        while frontier:
            place = frontier.pop()
            if place not in self.needed:
                self.needed.add(place)
                frontier += [b for before in self.asked[place].before for b in before]
        self.is_possible = all(
            math.isfinite(there.waits[place].factor) for place in self.needed
        ) and all(room > 0.0 or not takes for room, takes in self.limits)

    def scales(self, points: int, most: int = 400) -> Iterator[dict[Place, float]]:
        """Yield the points of the grid: shares of what the limits alone leave to each scale."""
        top = {
            place: min(
                (room / takes[place] for room, takes in self.limits if place in takes),
                default=math.inf,
            )
            for place in sorted(self.needed)
        }
        usual = min((g for g in top.values() if math.isfinite(g)), default=1.0)
        while points > 2 and points ** len(top) > most:
            points -= 1
        step = 0.75 ** (6.0 / max(1, points - 1))
        grid = [
            [(g if math.isfinite(g) else 2.0 * usual) * step**k for k in range(points)]
            for g in top.values()
        ]
        for scales in itertools.product(*grid):
            scale = dict(zip(top, scales, strict=True))
            if all(
                sum(scale[place] * odds for place, odds in takes.items()) <= room * (1.0 + 1e-12)
                for room, takes in self.limits
            ):
                yield scale

    def rows(
        self, scale: dict[Place, float], held: Callable[[Place, IntArray], FloatArray]
    ) -> FloatArray:
        """Return the rows of (1), (3) and the utilisation; their right sides are 1."""
        rows = []
        for place, asked in self.asked.items():
            if not len(asked.group):
                continue
            service = self.index.services[place]
            sold = 1.0
            if place[0] == "server":
                sold = self.index.sold(place[1], None) / self.index.servers[place[1]].devices
            groups = len(self.size)

            def total(each: FloatArray, asked: Asked = asked, groups: int = groups) -> FloatArray:
                return np.bincount(asked.group, each, minlength=groups)

            rows.append(total(asked.seconds / service.batch / service.devices / sold))
            if place not in scale:
                continue
            g = scale[place]
            each = np.expm1(np.minimum(asked.seconds / g, 600.0)) / service.devices
            each = each / held(place, asked.group)
            rows.append(total(g * each))
            pile = max(
                (
                    len(before) * max(scale[b] for b in before)
                    + sum(
                        self.index.services[b].delay
                        for b in before
                        if self.index.services[b].batch > 1
                    )
                    for before in asked.before
                    if before
                ),
                default=0.0,
            )
            is_later = np.array([bool(before) for before in asked.before])
            rows.append(2.0 * pile * total(np.where(is_later, each, 0.0)))
        return np.array([row for row in rows if row.any()])

    def held(self, rates: FloatArray) -> Callable[[Place, IntArray], FloatArray]:
        """Return how many inputs a batch holds at rates."""

        def of(place: Place, groups: IntArray) -> FloatArray:
            service = self.index.services[place]
            if service.batch == 1:
                return np.ones(len(groups))
            return np.array([r / service.batches(r) if r > 0.0 else 1.0 for r in rates[groups]])

        return of

    def best_rates(self, scale: dict[Place, float]) -> FloatArray | None:
        """Return the best rates at fixed scales, None where a requirement fails."""
        rates = np.full(len(self.size), 1e12)
        for _ in range(20):
            matrix = self.rows(scale, self.held(np.maximum(rates, 1e-12)))
            unit = 1.0 / np.maximum(matrix.max(axis=0, initial=0.0), 1e-12)
            outcome = linprog(
                -unit * self.size,
                matrix * unit,
                np.ones(len(matrix)),
                bounds=np.stack((self.floor / unit, self.demand / unit), axis=1),
            )
            if outcome.status != 0:
                return None
            before, rates = rates, outcome.x * unit
            if (np.abs(rates - before) <= 1e-9 * before).all():
                return np.asarray(rates)
        # Batches were too full by the last step: a little slower they are not.
        rates = np.maximum(rates * (1.0 - 1e-3), self.floor)
        matrix = self.rows(scale, self.held(np.maximum(rates, 1e-12)))
        return np.asarray(rates) if (matrix @ rates <= 1.0 + 1e-12).all() else None


def best_rates(
    instance: Instance, index: InstanceIndex, paths: Sequence[tuple[str, ...]], points: int
) -> FloatArray | None:
    """Return the rates of largest throughput of fixed paths over the grid, by task."""
    assignment = Assignment(instance, index, paths)
    if not assignment.is_possible:
        return None
    best: FloatArray | None = None
    for scale in assignment.scales(points):
        found = assignment.best_rates(scale)
        if found is not None and (best is None or found @ assignment.size > best @ assignment.size):
            best = found
    return None if best is None else best[assignment.group_of]
