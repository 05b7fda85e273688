"""Brute force: the best assignment of a small instance, by trying every one of them.

It shares nothing with the package but the types of instances. All paths of every task are
listed by depth-first search and all combinations of them are considered. For fixed paths the
reward grows with throughput, so the rates that matter solve a linear program: the largest
throughput. That program is solved for the combinations whose upper bound still exceeds
the best value found, in the order of these bounds. Two bounds on the throughput of a
combination are used, both proven and both computed for all combinations at once:

- with one capacity constraint kept and the others dropped, a fractional knapsack;
- with the dual prices of a program solved before, weak duality: for prices pi >= 0 the
  throughput is at most pi C + sum_t max over r_t of (1 - pi W_t) r_t.

Tasks of an input group make one *unit*: its choices are all combinations of their paths, what
they have in common counted once, and its rate counts once per task.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from code_opt.instance.model import Alternative, Block, Connection, Instance, Task

SLACK = 1e-9
"""Relative slack of every limit, for rounding; far below the tolerance of results."""
ROUNDING = 1e-12
"""Rounding of a predicted accuracy, relative to the sum of the sizes of its terms."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class ReferencePath:
    """One path of a task and what it costs per inference."""

    blocks: tuple[str, ...]
    work: Array
    """[FLOP], or device seconds where a server has no FLOP/s; one per server of the instance"""
    traffic: Array
    """[bytes], one per link of the instance"""
    memory: Array
    """[bytes], one per server of the instance"""
    latency: float
    accuracy: float
    """NaN where the path is not measured and predicted below 0."""
    measured: bool
    steps: tuple[tuple[tuple[str | None, ...], Array, Array, Array], ...]
    """Name of each step, its work, traffic and memory. A name is that of an input's way to a
    server, or tail, head and adapter (None: the task's own)."""
    source: str = "predicted"
    """Where the accuracy comes from."""


@dataclass(frozen=True)
class Reference:
    """The best assignment and its value."""

    value: float
    log_value: float
    paths: dict[str, ReferencePath]
    rates: dict[str, float]
    throughput: float
    accuracy: float
    programs: int
    """Linear programs solved."""


class _Tables:
    def __init__(self, instance: Instance) -> None:
        self.servers = {server.id: i for i, server in enumerate(instance.servers)}
        self.links = {(link.source, link.target): i for i, link in enumerate(instance.links)}
        self.instance = instance
        # What a server sells per second, in the unit of the work there; nothing where all is idle.
        sold = [
            (s.devices if s.flops is None else s.flops)
            * (1.0 if s.max_utilization is None else s.max_utilization)
            for s in instance.servers
        ]
        self.speed = np.array([one or 1.0 for one in sold])
        self.delay = np.array([link.latency for link in instance.links])
        self.bandwidth = np.array(
            [np.inf if link.bandwidth is None else link.bandwidth for link in instance.links]
        )
        self.block = {b.id: b for dnn in instance.dnns for b in dnn.blocks}
        self.home = {b.id: self.servers[d.server] for d in instance.dnns for b in d.blocks}
        self.dnn = {dnn.id: dnn for dnn in instance.dnns}

    def arcs(self, task: Task) -> dict[str, dict[str, Connection | None]]:
        """Heads of every node of the task's graph; None marks a native arc."""
        arcs: dict[str, dict[str, Connection | None]] = {"input": {}, "output": {}}
        for dnn in self.instance.dnns:
            ids = [block.id for block in dnn.blocks]
            for block, follower in zip(ids, [*ids[1:], None], strict=True):
                arcs[block] = {} if follower is None else {follower: None}
            if dnn.id == task.dnn:
                arcs["input"][ids[0]] = None
                arcs[ids[-1]]["output"] = None
        for connection in task.connections:
            arcs[connection.source][connection.target] = connection
        return arcs

    def describe(
        self, task: Task, blocks: tuple[str, ...], alternative: Alternative | None = None
    ) -> ReferencePath | None:
        """Add up one path; None where a transfer has no link."""
        arcs = self.arcs(task)
        if alternative is not None:  # nothing but the blocks of its DNN
            arcs = {tail: {head: None} for tail, head in pairwise(("input", *blocks, "output"))}
        hops = np.zeros(len(self.links))
        drops, sizes, changed, waited = 0.0, task.accuracy, False, 0.0
        nodes = ["input", *blocks, "output"]
        steps = []
        sent = self.sent(task, arcs["input"][blocks[0]], self.home[blocks[0]])
        if sent is not None:
            start, stop, size = sent
            ends = (self.instance.servers[start].id, self.instance.servers[stop].id)
            if start != stop and self.links:
                if ends not in self.links:
                    return None
                traffic = np.zeros(len(self.links))
                traffic[self.links[ends]] += size
                hops[self.links[ends]] += 1
                name = ("sent", *ends, str(size))
                steps.append(
                    (name, np.zeros(len(self.servers)), traffic, np.zeros_like(self.speed))
                )
        for tail, head in zip(nodes[:-1], nodes[1:], strict=True):
            connection = arcs[tail][head]
            work = np.zeros(len(self.servers))
            memory = np.zeros(len(self.servers))
            traffic = np.zeros(len(self.links))
            adapter = "identity" if connection is None else connection.share
            steps.append(((tail, head, adapter), work, traffic, memory))
            running = [] if head == "output" else [(self.home[head], self.block[head])]
            if connection is not None:
                near = self.home[head if tail == "input" else tail]
                running.append((self.servers.get(connection.server or "", near), connection))
            for place, what in running:
                amount, time = self.run(place, what)
                if amount > 0.0 and self.instance.servers[place].devices == 0.0:
                    return None
                work[place] += amount
                waited += time
            if connection is None:
                continue
            changed = True
            drops += connection.drop
            sizes += abs(connection.drop)
            at_tail, at_head = self.home.get(tail), self.home.get(head)
            source = tail if tail != "input" else head
            middle = self.servers.get(connection.server or "", self.home[source])
            memory[middle] += 4.0 * connection.params
            if connection.bytes is not None:
                size = connection.bytes
            elif tail == "input":
                size = task.input_bytes
            else:
                size = self.block[tail].output_bytes if tail in self.block else 0.0
            for start, stop in ((at_tail, middle), (middle, at_head)):
                if start is None or stop is None or start == stop or not self.links:
                    continue
                ends = (self.instance.servers[start].id, self.instance.servers[stop].id)
                if ends not in self.links:
                    return None
                traffic[self.links[ends]] += size
                hops[self.links[ends]] += 1
        measured = {path.blocks: path.accuracy for path in task.measured_paths}
        is_measured = blocks in measured and alternative is None
        if alternative is not None:
            accuracy = alternative.accuracy
        elif is_measured:
            accuracy = measured[blocks]
        else:
            accuracy = min(1.0, task.accuracy - drops)
            accuracy = max(accuracy, 0.0) if accuracy >= -ROUNDING * sizes else math.nan
        source = "predicted" if changed else "given"
        source = "measured" if is_measured else source
        work, traffic, memory = (np.sum([step[k] for step in steps], axis=0) for k in (1, 2, 3))
        latency = waited + (traffic / self.bandwidth).sum() + hops @ self.delay
        return ReferencePath(
            blocks,
            work,
            traffic,
            memory,
            float(latency),
            accuracy,
            is_measured,
            tuple(steps),
            source,
        )

    def run(self, place: int, what: Block | Connection) -> tuple[float, float]:
        """Return the work of a block or adapter on a server, and the time that it takes [s]."""
        server = self.instance.servers[place]
        n, batch = server.devices, round(server.batch)
        if what.seconds is not None:
            time = what.seconds[str(batch)]
            amount = time / batch * (1.0 if server.flops is None else server.flops / n)
        elif server.flops is None:
            return 0.0, 0.0
        else:
            amount, time = what.flops, what.flops / (server.flops / n)
        return amount, time / n if 0.0 < n < 1.0 else time

    def sent(
        self, task: Task, entry: Connection | None, home: int
    ) -> tuple[int, int, float] | None:
        """Return between which servers an input is sent, and its bytes; None: it is not."""
        if task.origin is None and not task.input_bytes:
            return None
        start = self.servers[task.origin or self.dnn[task.dnn].server]
        if entry is None:
            return start, home, task.input_bytes
        stop = home if entry.server is None else self.servers[entry.server]
        return start, stop, task.input_bytes if entry.bytes is None else entry.bytes

    def paths(self, task: Task) -> Iterator[tuple[str, ...]]:
        arcs = self.arcs(task)
        stack: list[tuple[str, ...]] = [("input",)]
        while stack:
            path = stack.pop()
            for head in reversed(arcs[path[-1]]):
                if head == "output":
                    yield path[1:]
                else:
                    stack.append((*path, head))

    def units(self) -> list[list[Task]]:
        """Return the tasks with one rate: those of an input group, or a single one."""
        units: list[list[Task]] = []
        for task in self.instance.tasks:
            for unit in units:
                if task.input_group is not None and unit[0].input_group == task.input_group:
                    unit.append(task)
                    break
            else:
                units.append([task])
        return units

    def demand(self, unit: list[Task]) -> float:
        return min(math.inf if task.demand is None else task.demand for task in unit)

    def floor(self, unit: list[Task]) -> float:
        """Return the floor of a unit; standalone is 0 where a native path lacks a link."""
        floors = [self.standalone(unit) if t.floor == "standalone" else t.floor for t in unit]
        return float(max(floors))

    def standalone(self, unit: list[Task]) -> float:
        rate = self.demand(unit)
        for dnn in self.instance.dnns:
            served = [task for task in unit if task.dnn == dnn.id]
            if not served:
                continue
            natives = [self.describe(t, tuple(block.id for block in dnn.blocks)) for t in served]
            if None in natives:
                return 0.0
            work, traffic, _ = together(served, natives)
            sharing = sum(any(t.dnn == dnn.id for t in other) for other in self.units())
            for server, index in self.servers.items():
                hosted = max(1, sum(other.server == server for other in self.instance.dnns))
                if work[index] > 0:
                    rate = min(rate, self.speed[index] / (hosted * sharing) / work[index])
            for index in range(len(self.links)):
                if traffic[index] > 0:
                    split = sharing * self.crossing()[index]
                    rate = min(rate, self.bandwidth[index] / split / traffic[index])
        return rate

    def crossing(self) -> list[int]:
        """Return by how many DNNs each link is divided without coordination."""
        crossed: list[set[str]] = [set() for _ in self.links]
        by_inputs: set[int] = set()
        for task in self.instance.tasks:
            path = self.describe(task, tuple(block.id for block in self.dnn[task.dnn].blocks))
            if path is None:
                continue
            for index in np.flatnonzero(path.traffic > 0).tolist():
                crossed[index].add(task.dnn)
            if task.origin is not None or task.input_bytes:
                ways = 2 if path.steps[0][0][0] == "sent" else 1
                traffic = np.sum([step[2] for step in path.steps[:ways]], axis=0)
                by_inputs.update(np.flatnonzero(traffic > 0).tolist())
        return [len(names) if i in by_inputs else 1 for i, names in enumerate(crossed)]


def together(tasks: list[Task], paths: list[ReferencePath]) -> list[Array]:
    """Return work, traffic and memory of paths on the same input, shared steps once."""
    found: dict[tuple[object, ...], tuple[Array, Array, Array]] = {}
    for task, path in zip(tasks, paths, strict=True):
        walked: tuple[object, ...] = ()
        for name, *costs in path.steps:
            own = task.id if name[-1] is None else None
            walked = (*walked, (*name, own))
            found[walked] = tuple(costs)
    return [np.sum([costs[k] for costs in found.values()], axis=0) for k in range(3)]


def count_paths(instance: Instance) -> int:
    """Return the number of combinations of paths, inadmissible ones included."""
    tables = _Tables(instance)
    return math.prod(
        sum(1 for _ in tables.paths(task)) + len(task.alternatives) for task in instance.tasks
    )


def reference_pool(instance: Instance, limits: bool = True) -> dict[str, list[ReferencePath]]:
    """Return all admissible paths of every task: links exist, accuracy is at least 0.

    With ``limits`` also the task's own limits hold: latency, least accuracy, and memory
    for this path's adapters alone.
    """
    tables = _Tables(instance)
    memory = np.array([np.inf if s.memory is None else s.memory for s in instance.servers])
    pool: dict[str, list[ReferencePath]] = {}
    for task in instance.tasks:
        latency = math.inf if task.max_latency is None else task.max_latency
        pool[task.id] = []
        ways: list[tuple[tuple[str, ...], Alternative | None]] = [
            (blocks, None) for blocks in tables.paths(task)
        ]
        ways += [(tuple(b.id for b in tables.dnn[a.dnn].blocks), a) for a in task.alternatives]
        for blocks, alternative in ways:
            path = tables.describe(task, blocks, alternative)
            if path is None or math.isnan(path.accuracy):
                continue
            if limits and (
                path.latency > latency * (1 + SLACK)
                or path.accuracy < task.min_accuracy * (1 - SLACK)
                or (path.memory > memory * (1 + SLACK)).any()
            ):
                continue
            pool[task.id].append(path)
    return pool


def paths_to_keep(
    instance: Instance, previous: dict[str, tuple[str, ...]], measured_only: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return the previous paths that keep the limits of their tasks; memory is nobody's own."""
    servers = tuple(s.model_copy(update={"memory": None}) for s in instance.servers)
    pool = reference_pool(instance.model_copy(update={"servers": servers}))
    return {
        task: blocks
        for task, blocks in previous.items()
        if any(
            path.blocks == blocks and not (measured_only and path.source == "predicted")
            for path in pool.get(task, ())
        )
    }


def log_shape(shape: object, x: Array) -> Array:
    """Return the logarithm of xi or zeta."""
    kind = getattr(shape, "kind")  # noqa: B009 - the kinds share no type
    if kind == "power":
        exponent = shape.exponent  # type: ignore[attr-defined]
        with np.errstate(divide="ignore"):
            return exponent * np.log(x) if exponent > 0 else np.zeros_like(x)
    if kind == "logistic":
        return -np.logaddexp(0.0, -shape.steepness * (x - shape.midpoint))  # type: ignore[attr-defined]
    return shape.rate * x  # type: ignore[attr-defined]


def solve_reference(
    instance: Instance,
    objective: str = "reward",
    min_accuracy: float | None = None,
    min_throughput: float | None = None,
    measured_only: bool = False,
    most: int = 20_000,
    previous: dict[str, tuple[str, ...]] | None = None,
    max_changes: int | None = None,
) -> Reference | None:
    """Return the best assignment, or None where there is none.

    Args:
        instance: a small one.
        objective: ``reward``, ``throughput`` or ``accuracy``; or ``latency``, which is the least
            weighted mean of unloaded times with every task (or group) at its (least) demand.
        min_accuracy: floor of the average accuracy.
        min_throughput: floor of the total throughput [inferences/s].
        measured_only: leave out paths whose accuracy is predicted.
        most: combinations that are tried at most.
        previous: block ids of the path that each task had before.
        max_changes: most tasks that leave a previous path that is still one of theirs.

    Raises:
        ValueError: too many combinations, or an unlimited rate.
    """
    pool = reference_pool(instance)
    if measured_only:
        pool = {t: [p for p in paths if p.source != "predicted"] for t, paths in pool.items()}
    combinations = math.prod(map(len, pool.values()))
    if combinations > most:
        raise ValueError(f"{combinations} combinations, more than {most}")
    if combinations == 0:
        return None
    tables = _Tables(instance)
    units = tables.units()
    options = [list(itertools.product(*(pool[task.id] for task in unit))) for unit in units]
    size = np.array([len(unit) for unit in units])
    # Rates are those of all tasks of a unit together, so that throughput is their sum.
    demand = size * np.array([tables.demand(unit) for unit in units])
    floor = size * np.array([tables.floor(unit) for unit in units])
    if objective == "latency":
        floor = demand
    memory = np.array([np.inf if s.memory is None else s.memory for s in instance.servers])

    # Per option: use of every capacity, as its share per inference (I rows), and the rate cap.
    limited = np.isfinite(tables.bandwidth)
    use, adapters, caps, weighted, times = [], [], [], [], []
    total = sum(task.weight for task in instance.tasks)
    for u, unit in enumerate(units):
        costs = [together(unit, list(paths)) for paths in options[u]]
        use.append(
            np.array(
                [
                    [*(work / tables.speed), *(traffic[limited] / tables.bandwidth[limited])]
                    for work, traffic, _ in costs
                ]
            )
            / size[u]
        )
        adapters.append(np.array([held for _, _, held in costs]))
        weights = np.array([task.weight for task in unit]) / total
        weighted.append(np.array([weights @ [p.accuracy for p in ps] for ps in options[u]]))
        times.append(np.array([weights @ [p.latency for p in ps] for ps in options[u]]))
        with np.errstate(divide="ignore"):
            caps.append(np.minimum(demand[u], (1.0 / use[u]).min(axis=1)))
        if not np.isfinite(caps[u]).all():
            raise ValueError(f"nothing limits the rate of task {unit[0].id!r}")

    # All combinations at once: choice[n, u] is the option of unit u in combination n.
    choice = np.indices([len(o) for o in options]).reshape(len(units), -1).T
    every = range(len(units))
    average = sum(weighted[u][choice[:, u]] for u in every)
    held = sum(adapters[u][choice[:, u]] for u in every)
    W = np.stack([use[u][choice[:, u]] for u in every], axis=1)  # (N, U, I)
    R = np.stack([caps[u][choice[:, u]] for u in every], axis=1)  # (N, U)
    # All use is nonnegative: the rates are feasible somewhere if and only if at the floors.
    keep = (
        (held <= memory * (1 + SLACK)).all(axis=1)
        & (floor <= R * (1 + SLACK)).all(axis=1)
        & (np.einsum("nti,t->ni", W, floor) <= 1 + SLACK).all(axis=1)
    )
    if max_changes is not None:
        stay = paths_to_keep(instance, previous or {}, measured_only)
        changes = [
            np.array(
                [
                    sum(
                        t.id in stay and p.blocks != stay[t.id]
                        for t, p in zip(unit, ps, strict=True)
                    )
                    for ps in options[u]
                ]
            )
            for u, unit in enumerate(units)
        ]
        keep &= sum(changes[u][choice[:, u]] for u in every) <= max_changes
    if min_accuracy is not None:
        keep &= average >= min_accuracy * (1 - SLACK)
    choice, average, W, R = choice[keep], average[keep], W[keep], R[keep]
    if objective == "latency" and len(choice):
        time = np.asarray(sum(times[u][choice[:, u]] for u in every))
        n = int(np.argmin(time))
        found = [p for u in every for p in options[u][choice[n, u]]]
        tasks = [task for unit in units for task in unit]
        return Reference(
            value=float(time[n]),
            log_value=math.log(time[n]) if time[n] > 0.0 else -math.inf,
            paths={task.id: path for task, path in zip(tasks, found, strict=True)},
            rates={t.id: float(d / len(u)) for u, d in zip(units, demand, strict=True) for t in u},
            throughput=float(demand.sum()),
            accuracy=float(average[n]),
            programs=0,
        )
    R = np.maximum(R, floor)

    most_rate = _knapsack_bound(W, R, floor)
    shape = instance.reward
    log_xi = log_shape(shape.accuracy, average)

    def potential(throughput: Array) -> Array:
        """Return the value (for the reward: its logarithm) at a throughput, per combination."""
        if objective == "reward":
            return log_xi + log_shape(shape.throughput, throughput)
        value = throughput if objective == "throughput" else average
        with np.errstate(divide="ignore"):
            return np.log(value)

    open_ = np.ones(len(choice), dtype=bool)
    best: tuple[float, int, Array] | None = None
    programs = 0
    while True:
        if min_throughput is not None:
            open_ &= most_rate >= min_throughput * (1 - SLACK)
        bound = potential(most_rate)
        if best is not None:
            open_ &= bound > best[0] + 1e-10
        if not open_.any():
            break
        n = int(np.flatnonzero(open_)[np.argmax(bound[open_])])
        open_[n] = False
        rates, prices = _most_throughput(W[n], R[n], floor)
        programs += 1
        if min_throughput is None or rates.sum() >= min_throughput * (1 - SLACK):
            value = float(potential(np.full(len(choice), rates.sum()))[n])
            if best is None or value > best[0]:
                best = (value, n, rates)
        reduced = 1.0 - np.einsum("nti,i->nt", W, prices)
        dual = prices.sum() + np.where(reduced > 0, reduced * R, reduced * floor).sum(axis=1)
        most_rate = np.minimum(most_rate, dual)
    if best is None:
        return None
    log_value, n, rates = best
    chosen = [
        (task, path, float(rate))
        for u, rate in enumerate(rates / size)
        for task, path in zip(units[u], options[u][choice[n, u]], strict=True)
    ]
    return Reference(
        value=math.exp(log_value) if log_value < 709.0 else math.inf,
        log_value=log_value,
        paths={task.id: path for task, path, _ in chosen},
        rates={task.id: rate for task, _, rate in chosen},
        throughput=float(rates.sum()),
        accuracy=float(average[n]),
        programs=programs,
    )


def _knapsack_bound(W: Array, R: Array, floor: Array) -> Array:
    """Bound the throughput of every combination by each capacity alone; (N,) from (N, T, I)."""
    bound = R.sum(axis=1)
    for i in range(W.shape[2]):
        left = np.maximum(0.0, 1.0 - W[:, :, i] @ floor)
        order = np.argsort(W[:, :, i], axis=1)  # least use first
        use = np.take_along_axis(W[:, :, i], order, axis=1)
        room = np.take_along_axis(R - floor, order, axis=1)
        total = np.full(len(W), floor.sum())
        for t in range(W.shape[1]):
            with np.errstate(divide="ignore", invalid="ignore"):
                fits = np.where(use[:, t] > 0, left / use[:, t], np.inf)
            taken = np.minimum(room[:, t], fits)
            total += taken
            left = np.maximum(0.0, left - taken * use[:, t])
        bound = np.minimum(bound, total)
    return bound


def _most_throughput(W: Array, R: Array, floor: Array) -> tuple[Array, Array]:
    """Return the rates of largest sum for fixed paths, and the prices of the capacities.

    In units of each rate's cap, so that the solver sees numbers near 1; (T, I), (T,), (T,).
    """
    scale = np.where(R > 0, R, 1.0)
    unit = scale.sum()
    answer = linprog(
        -scale / unit,
        A_ub=(W * scale[:, None]).T,
        b_ub=np.maximum(1.0, floor @ W),  # the floors themselves fit, whatever the rounding
        bounds=np.stack([floor / scale, R / scale], axis=1),
        method="highs",
    )
    if answer.status != 0:
        raise RuntimeError(f"linear program: {answer.message}")
    rates = np.clip(answer.x * scale, floor, R)
    return rates, np.maximum(0.0, -answer.ineqlin.marginals) * unit
