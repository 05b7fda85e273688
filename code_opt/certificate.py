"""A bound that stands without its solver: duals in a file, and what they prove.

For any multipliers that are not negative, of the capacities and of the definitions of A and Th, no
assignment is worth more than the Lagrangian relaxation (Geoffrion, Mathematical Programming Study
2, 1974, DOI 10.1007/BFb0120690). So whoever has the duals can compute the bound again. This module
does so over all paths that a task has, from the instance alone: it shares the figures of single
steps with the checker, and nothing with the path search, the formulations and the solvers.

Numbers are rounded outward: what a path uses is counted too low, its accuracy and its rate too
high, by the steps of double precision. Logarithms are computed to 50 digits, sums over tasks in
fractions. Every limit is taken with the tolerance that the checker allows, so the bound holds for
every assignment that the checker confirms.

The best path of a task is found by labels on the task's graph in topological order. A label that is
no better than another one at the same node is dropped. Where many are left, groups of them are
replaced by one that is at least as good as all of it: the work is polynomial, the bound valid.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from code_opt.checker import Figures, InstanceIndex
from code_opt.errors import InputError
from code_opt.files import read_text, write_atomically
from code_opt.instance.model import (
    IDENTITY,
    INPUT,
    OUTPUT,
    Connection,
    Exponential,
    Instance,
    Logistic,
    Power,
    Task,
)
from code_opt.result import TOLERANCE, Objective, Result, wrong_fields

__all__ = [
    "Certificate",
    "CertifiedBound",
    "LinkDual",
    "ServerDual",
    "certified_bound",
    "load_certificate",
    "save_certificate",
]

MOST_LABELS = 256
"""Labels kept at a node; more are replaced by fewer that are at least as good."""
_PAIRWISE = 512
"""So many labels are compared with one another at once."""

_LESS = 1.0 - 2.0**-40
"""Takes more than the rounding of any figure of a step, and of what it costs, off."""
_ROUNDING = 2.0**-40
"""More than the relative rounding of ten operations in double precision."""
_SAME = 1.0 - 2.0 * TOLERANCE
"""Rates of a group that count as the same differ by less than this ratio."""
_ABOVE, _BELOW = 1.0 + TOLERANCE, 1.0 - TOLERANCE
_DIGITS = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_LOG_ROUNDING = Fraction(1, 10**30)
"""More than the rounding of a logarithm in 50 digits, relative to the size of what it is of."""
_STEEP = 10**6
"""Beyond this a logistic function is taken as 1, or its logarithm as linear."""

FloatArray = npt.NDArray[np.float64]
Dual = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class _CertificateRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ServerDual(_CertificateRecord):
    """Duals of one server."""

    server: str
    time: Dual = Field(0.0, description="per device second per second")
    memory: Dual = Field(0.0, description="per byte")


class LinkDual(_CertificateRecord):
    """Dual of one link."""

    source: str
    target: str
    bandwidth: Dual = Field(0.0, description="per byte/s")


class Certificate(_CertificateRecord):
    """Duals that bound the objective of an instance.

    In the unit of the objective: of a reward its natural logarithm, of a latency seconds. None has
    to be optimal: whatever they are, the bound that they give is valid.
    """

    schema_: Literal["code-opt/certificate/1"] = Field("code-opt/certificate/1", alias="schema")
    instance: str
    objective: Objective
    accuracy: Dual = Field(description="per unit of the average accuracy A")
    throughput: Dual = Field(description="per inference/s of the total throughput Th")
    servers: tuple[ServerDual, ...] = Field((), strict=False, description="others have none")
    links: tuple[LinkDual, ...] = Field((), strict=False, description="others have none")


@dataclass(frozen=True)
class CertifiedBound:
    """What a certificate proves."""

    bound: float | None
    """Bound of the objective (a reward itself); None: nothing is proven."""
    gap: float | None
    """Gap of the result at this bound; None: nothing is proven, or no gap is defined."""
    heeded: tuple[str, ...]
    """Constraints that the bound rests on."""
    left_out: tuple[str, ...]
    """Constraints of the instance that it does without, so it is perhaps wider than needed."""
    is_contradicted: bool = False
    """Whether the value of the result lies beyond the bound, by more than the tolerance."""


def load_certificate(path: str | Path) -> Certificate:
    """Read a certificate.

    Raises:
        InputError: the file is missing, not JSON, or no certificate.
    """
    text = read_text(path)
    try:
        return Certificate.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path}: not a certificate\n{wrong_fields(error)}") from None


def save_certificate(certificate: Certificate, path: str | Path) -> None:
    """Write a certificate, whole or not at all."""
    write_atomically(path, certificate.model_dump_json(by_alias=True, indent=2) + "\n")


def certified_bound(certificate: Certificate, result: Result, instance: Instance) -> CertifiedBound:
    """Return the bound that a certificate proves for the problem of a result.

    Args:
        certificate: the duals; nothing else of it is trusted.
        result: tells objective, floors and headroom, and the value that the gap is of. It should
            have passed the checker.
        instance: the problem.

    Raises:
        InputError: the certificate is for another instance or objective, or names a server or
            link that the instance has not, twice, or one without a capacity.
    """
    return _Verification(certificate, result, instance).outcome()


# ---- rounding ------------------------------------------------------------------------------


def _down(values: FloatArray) -> FloatArray:
    return np.nextafter(values, -np.inf)


def _upward(value: Fraction) -> float:
    """Return a double that is at least a fraction."""
    try:
        near = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)


def _decimal(value: Fraction) -> Decimal:
    return _DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))


def _log_above(value: Fraction) -> Fraction:
    """Return at least the natural logarithm of a positive number."""
    log = Fraction(_DIGITS.ln(_decimal(value)))
    return log + _LOG_ROUNDING * (1 + abs(log))


def _exp_above(value: Fraction) -> float:
    """Return a double that is at least the exponential of a number."""
    if value > 710:
        return math.inf
    if value < -800:
        return math.nextafter(0.0, 1.0)
    power = Fraction(_DIGITS.exp(_decimal(value)))
    return _upward(power * (1 + _LOG_ROUNDING * (1 + abs(value))))


# ---- the two terms of the reward -----------------------------------------------------------


def _tangent(
    shape: Power | Logistic | Exponential, at: Fraction
) -> tuple[Fraction, Fraction, Fraction]:
    """Return at least the logarithm of a shape at a point, and between what its slope is there."""
    if isinstance(shape, Exponential):
        rate = Fraction(shape.rate)
        return rate * at, rate, rate
    if isinstance(shape, Power):
        exponent = Fraction(shape.exponent)
        if exponent == 0:
            return Fraction(0), Fraction(0), Fraction(0)
        log, slope = exponent * _log_above(at), exponent / at
        return log, slope, slope
    steepness = Fraction(shape.steepness)
    z = steepness * (at - Fraction(shape.midpoint))
    if z > _STEEP:
        return Fraction(0), Fraction(0), steepness * Fraction(1, 10**30)
    if z < -_STEEP:
        return z, steepness * (1 - Fraction(1, 10**30)), steepness
    rounding = _LOG_ROUNDING * (1 + abs(z))
    odds = Fraction(_DIGITS.exp(_decimal(-z))) * (1 + rounding)  # (1 - s) / s at least
    log = -Fraction(_DIGITS.ln(_decimal(1 + odds))) + 4 * rounding
    share = odds / (1 + odds)
    return min(log, Fraction(0)), steepness * share * (1 - 4 * rounding), steepness * share


def _where_slope_is(shape: Power | Logistic | Exponential, slope: float) -> float:
    """Return about where the logarithm of a shape has a slope; any number will do."""
    if slope <= 0.0:
        return math.inf
    if isinstance(shape, Power):
        return shape.exponent / slope
    if isinstance(shape, Logistic) and 0.0 < slope < shape.steepness:
        return shape.midpoint + math.log(shape.steepness / slope - 1.0) / shape.steepness
    return -math.inf


def _most_beyond(
    shape: Power | Logistic | Exponential, low: Fraction, high: Fraction, dual: float
) -> Fraction:
    """Return at least max over [low, high] of log shape(x) - dual x: that of a tangent."""
    near = _where_slope_is(shape, dual)
    at = high if near >= high else max(Fraction(near), low) if near > low else low
    if isinstance(shape, Power) and at <= 0:
        at = high / 2**40 if high > 0 else Fraction(1, 2**40)
    log, least, most = _tangent(shape, at)
    price = Fraction(dual)
    ends = (log + least * (low - at) - price * low, log + most * (high - at) - price * high)
    return max(ends)


# ---- the graph of a task -------------------------------------------------------------------

_Step = tuple[str, ...]
"""Ends and adapter of a step that tasks of an input group can share; or of a way of inputs."""
_State = tuple[int, bool]
"""Which beginning of measured paths a label is (-1: of none), and whether all is shareable."""


class _Graph:
    """Arcs of a task that lead from the input to the output, in topological order."""

    def __init__(self, index: InstanceIndex, task: Task, following: Mapping[str, str]) -> None:
        self.index, self.task = index, task
        self.connections = index.connections(task)
        native = index.native_blocks(task)
        by_source: dict[str, list[str]] = defaultdict(list)
        for source, target in self.connections:
            by_source[source].append(target)

        def heads(node: str) -> list[str]:
            found = by_source.get(node, [])
            own = native[0] if node == INPUT else following.get(node)
            if node == native[-1]:
                own = OUTPUT
            return found if own is None or own in found else [*found, own]

        self.heads: dict[str, list[str]] = {}
        is_left: dict[str, bool] = {OUTPUT: True}
        order: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(INPUT, iter(heads(INPUT)))]
        seen = {INPUT, OUTPUT}
        self.heads[INPUT] = heads(INPUT)
        while stack:
            node, rest = stack[-1]
            head = next(rest, None)
            if head is None:
                stack.pop()
                self.heads[node] = [h for h in self.heads[node] if is_left.get(h)]
                is_left[node] = bool(self.heads[node])
                if self.heads[node]:
                    order.append(node)
            elif head not in seen:
                seen.add(head)
                self.heads[head] = heads(head)
                stack.append((head, iter(self.heads[head])))
        self.nodes = order[::-1]

    def adapter(self, source: str, target: str) -> str | None:
        """Return the name by which the adapter of an arc can be shared, None if it cannot."""
        connection = self.connections.get((source, target))
        return IDENTITY if connection is None else connection.share

    def shareable_steps(self) -> set[_Step]:
        """Return the steps that another task of the group might walk as well."""
        found: set[_Step] = set()
        reached = {INPUT}
        for node in self.nodes:
            for head in self.heads[node] if node in reached else ():
                adapter = self.adapter(node, head)
                if node == INPUT:
                    sent = self.index.sent(self.task, head, self.connections.get((node, head)))
                    found |= set() if sent is None else {sent[0]}
                if adapter is not None:
                    reached.add(head)
                    found.add((node, head, adapter))
        for blocks in self.alternatives().values():
            sent = self.index.sent(self.task, blocks[0], None)
            found |= set() if sent is None else {sent[0]}
            chain = [INPUT, *blocks, OUTPUT]
            found |= {(a, b, IDENTITY) for a, b in zip(chain, chain[1:], strict=False)}
        return found

    def alternatives(self) -> dict[str, tuple[str, ...]]:
        """Return the blocks of the task's alternatives by the id of their DNN."""
        dnns = self.index.dnns
        return {a.dnn: tuple(b.id for b in dnns[a.dnn].blocks) for a in self.task.alternatives}


@dataclass(frozen=True)
class _Best:
    """What a task can bring at most."""

    accuracy: FloatArray
    """Of each label at the output, as all that follows, shape (n,)."""
    base: FloatArray
    """Objective less the duals of what is used at any rate."""
    size: FloatArray
    """Sum of the sizes of its terms."""
    cost: FloatArray
    """Duals of what one inference uses."""
    most_rate: FloatArray
    least_rate: float

    def profit(self, throughput: float, rates: FloatArray) -> FloatArray:
        """Return the most that each label can bring at rates, whatever limits it, rounded up.

        Args:
            throughput: dual of Th.
            rates: one for each label, shape (n, 1), or k for all of them, shape (1, k).

        Returns:
            Shape (n, 1), or (n, k).
        """
        base, size, cost = (x[:, None] for x in (self.base, self.size, self.cost))
        gain = base + rates * (throughput - cost)
        size = size + rates * (throughput + cost)
        # Each may also be a little slower than the others of its group.
        slower = 2.0 * TOLERANCE * rates * np.abs(throughput - cost)
        return np.asarray(gain + _ROUNDING * size + slower)

    def alone(self, throughput: float) -> float:
        """Return the most that a task brings whose rate is its own: at an end of a label's."""
        most, is_open = self.most_rate, self.most_rate >= self.least_rate
        least = np.full(len(most), self.least_rate)
        ends = (self.profit(throughput, r[:, None])[is_open] for r in (least, most))
        return max(float(gains.max(initial=-math.inf)) for gains in ends)


def _common_profit(found: list[_Best], throughput: float, most: float) -> float:
    """Return the most that tasks of one rate bring together, up to a rate.

    Between two rates at which labels end, the sum of what the others bring is convex in the rate,
    so these ends are enough.
    """
    least = max(best.least_rate for best in found)
    ends = np.concatenate([np.array([least]), *(best.most_rate / _SAME for best in found)])
    rates = np.unique(ends[(ends >= least) & (ends <= most / _SAME)])
    total, size = np.zeros(len(rates)), np.zeros(len(rates))
    for best in found:
        gains = best.profit(throughput, rates[None, :])
        gains = np.where(best.most_rate[:, None] >= rates * _SAME, gains, -np.inf)
        highest = gains.max(axis=0, initial=-np.inf)
        total, size = total + highest, size + np.abs(highest)
    return float((total + _ROUNDING * size)[np.isfinite(total)].max(initial=-math.inf))


class _Verification:
    """One certificate against one instance."""

    def __init__(self, certificate: Certificate, result: Result, instance: Instance) -> None:
        self.certificate, self.result, self.instance = certificate, result, instance
        for word, mine, other in (
            ("instance", certificate.instance, instance.name),
            ("objective", certificate.objective, result.objective),
        ):
            if mine != other:
                raise InputError(f"certificate: it is for the {word} {mine!r}, not {other!r}")
        self.index = InstanceIndex(instance)
        asked = result.max_utilization
        self.capacity = {name: self.index.sold(name, asked) for name in self.index.servers}
        self.bandwidth = {
            ends: link.bandwidth
            for ends, link in self.index.links.items()
            if link.bandwidth is not None
        }
        self.time_dual: dict[str, float] = {}
        self.memory_dual: dict[str, float] = {}
        self.link_dual: dict[tuple[str, str], float] = {}
        self._read_duals()
        self.is_time = result.objective == "latency"
        total = sum((Fraction(task.weight) for task in instance.tasks), Fraction(0))
        self.weight = {t.id: _upward(Fraction(t.weight) / total) for t in instance.tasks}
        self.following = dict(self.index.trunk_arcs)
        self._trunk: dict[tuple[str, str], Figures] = {}

    def _read_duals(self) -> None:
        servers, links = self.index.servers, self.index.links
        for number, row in enumerate(self.certificate.servers):
            place = f"certificate: servers[{number}]: server {row.server!r}"
            if row.server not in servers:
                raise InputError(f"{place}: the instance has no such server")
            if row.server in self.time_dual:
                raise InputError(f"{place}: is there twice")
            if row.memory > 0.0 and servers[row.server].memory is None:
                raise InputError(f"{place}: a dual of its memory, which is unlimited")
            self.time_dual[row.server], self.memory_dual[row.server] = row.time, row.memory
        for number, link in enumerate(self.certificate.links):
            ends = (link.source, link.target)
            place = f"certificate: links[{number}]: link {link.source!r} -> {link.target!r}"
            if ends not in links:
                raise InputError(f"{place}: the instance has no such link")
            if ends in self.link_dual:
                raise InputError(f"{place}: is there twice")
            if link.bandwidth > 0.0 and links[ends].bandwidth is None:
                raise InputError(f"{place}: a dual of its bandwidth, which is unlimited")
            self.link_dual[ends] = link.bandwidth

    def outcome(self) -> CertifiedBound:
        """Return the bound, the gap, and what they rest on."""
        bound = self._bound()
        value, gap = self.result.value, None
        if bound is not None and value is not None:
            if self.is_time:
                gap = max(0.0, 1.0 - bound / value) if value > 0.0 else 0.0
            elif bound <= value or value > 0.0:
                gap = max(0.0, bound / value - 1.0) if value > 0.0 else 0.0
        tasks = self.instance.tasks
        limited = any(s.memory is not None for s in self.instance.servers)
        percentile = any(self.index.percentile(t, self.result.latency_percentile) for t in tasks)
        heeded = {
            "times of servers": True,
            "bandwidths of links": bool(self.bandwidth),
            "memories of servers": limited,
            "limits of tasks": True,
            "floors of totals": bool(self.result.min_accuracy or self.result.min_throughput),
        }
        left_out = {
            "limits of times under load": percentile,
            "the limit of changes": self.result.max_changes is not None,
            "that an input group pays for what is shared only where it is shared": any(
                t.input_group is not None for t in tasks
            ),
        }
        return CertifiedBound(
            bound,
            gap,
            tuple(name for name, is_so in heeded.items() if is_so),
            tuple(name for name, is_so in left_out.items() if is_so),
            is_contradicted=bound is not None
            and value is not None
            and self._is_beyond(value, bound),
        )

    def _is_beyond(self, value: float, bound: float) -> bool:
        return value < bound * _BELOW if self.is_time else value > bound * _ABOVE

    def _bound(self) -> float | None:
        """Return the bound, None where it is infinite."""
        alpha, tau = self.certificate.accuracy, self.certificate.throughput
        total = most_accuracy = most_throughput = Fraction(0)
        for name, dual in self.time_dual.items():
            total += Fraction(dual) * Fraction(self.capacity[name])
        for name, dual in self.memory_dual.items():
            total += Fraction(dual) * Fraction(self.index.servers[name].memory or 0.0)
        for ends, dual in self.link_dual.items():
            total += Fraction(dual) * Fraction(self.bandwidth.get(ends, 0.0))
        total *= Fraction(_ABOVE)
        groups: dict[tuple[str, str], list[Task]] = defaultdict(list)
        for task in self.instance.tasks:
            groups[self.index.group(task)].append(task)
        for members in groups.values():
            graphs = [_Graph(self.index, task, self.following) for task in members]
            sharers: Counter[_Step] = Counter()
            for graph in graphs if len(members) > 1 else ():
                sharers.update(graph.shareable_steps())
            found = [self._best(graph, members, sharers) for graph in graphs]
            most = min(float(best.most_rate.max(initial=0.0)) for best in found)
            if not math.isfinite(most):
                return None
            profit = found[0].alone(tau) if len(found) == 1 else _common_profit(found, tau, most)
            if profit == -math.inf:
                raise InputError(
                    f"task {members[0].id!r} (or its input group) has no path that keeps its limits"
                )
            total += Fraction(profit)
            for task, best in zip(members, found, strict=True):
                weight = Fraction(self.weight[task.id])
                most_accuracy += weight * Fraction(float(best.accuracy.max()))
                most_throughput += Fraction(most)
        return self._with_totals(total, most_accuracy, most_throughput, alpha, tau)

    def _with_totals(
        self, total: Fraction, accuracy: Fraction, throughput: Fraction, alpha: float, tau: float
    ) -> float | None:
        """Add what A and Th bring beyond their duals; return the bound of the objective."""
        result = self.result
        low_a = Fraction(result.min_accuracy or 0.0) * Fraction(_BELOW)
        low_th = Fraction(result.min_throughput or 0.0) * Fraction(_BELOW)
        high_a, high_th = max(accuracy, low_a), max(throughput, low_th)
        if result.objective == "reward":
            reward = self.instance.reward
            total += _most_beyond(reward.accuracy, low_a, high_a, alpha)
            total += _most_beyond(reward.throughput, low_th, high_th, tau)
            bound = _exp_above(total)
            return bound if math.isfinite(bound) else None
        more_a = Fraction(result.objective == "accuracy") - Fraction(alpha)
        more_th = Fraction(result.objective == "throughput") - Fraction(tau)
        total += max(more_a * low_a, more_a * high_a) + max(more_th * low_th, more_th * high_th)
        bound = _upward(total)
        if not math.isfinite(bound):
            return None
        return max(0.0, -bound) if self.is_time else bound

    # -- one task --

    def figures(
        self, graph: _Graph, source: str, target: str, connection: Connection | None
    ) -> Figures:
        """Return the figures of a step; those of native arcs are the same for all tasks."""
        if connection is not None:
            return self.index.step(graph.task, target, connection)
        if (source, target) not in self._trunk:
            self._trunk[source, target] = self.index.step(graph.task, target, None)
        return self._trunk[source, target]

    def _best(self, graph: _Graph, members: list[Task], sharers: Counter[_Step]) -> _Best:
        """Return what the paths of a task can bring."""
        labels = _Labelling(self, graph, members, sharers)
        rows = labels.rows()
        task, weight = graph.task, self.weight[graph.task.id]
        accuracy = np.clip(-rows[:, 0], 0.0, 1.0)
        rows, accuracy = (x[accuracy >= task.min_accuracy * _BELOW] for x in (rows, accuracy))
        with np.errstate(divide="ignore"):
            most = 1.0 / rows[:, 4:].max(axis=1, initial=0.0)
        most = np.minimum(most, labels.most_rate) * (_ABOVE * (1.0 + _ROUNDING))
        gain = self.certificate.accuracy * weight * accuracy
        lost = rows[:, 1] + (weight * rows[:, 3] if self.is_time else 0.0)
        # A weight rounded up may count too much of a time.
        lost = lost * (1.0 - _ROUNDING)
        return _Best(
            accuracy, gain - lost, gain + lost, rows[:, 2], most, labels.least_rate * _BELOW
        )


class _Labelling:
    """Labels of one task.

    A label's columns are all the better the less they are: minus the accuracy, duals of memory,
    duals per inference, seconds, then the use of each server and link as a share of what it can do
    in a second.
    """

    def __init__(
        self,
        verification: _Verification,
        graph: _Graph,
        members: list[Task],
        sharers: Counter[_Step],
    ) -> None:
        self.verification, self.graph, self.sharers = verification, graph, sharers
        index, task = verification.index, graph.task
        asked, percentile = (
            verification.result.max_utilization,
            verification.result.latency_percentile,
        )
        demands = [t.demand for t in members if t.demand is not None]
        self.most_rate = min(demands, default=math.inf)
        floors = [
            index.standalone(t, asked, percentile) if t.floor == "standalone" else t.floor
            for t in members
        ]
        self.least_rate = max(floors)
        if verification.is_time:
            self.least_rate = max(self.least_rate, self.most_rate)
        self.most_use = _ABOVE**3 / self.least_rate if self.least_rate > 0.0 else math.inf
        limit = task.max_latency
        self.counts_time = limit is not None or verification.is_time
        self.most_seconds = math.inf if limit is None else limit * _ABOVE
        self.measured: dict[int, float] = {}
        self.beginning: dict[tuple[int, str], int] = {}
        for path in task.measured_paths:
            self._remember(path.blocks, path.accuracy)
        self.only_known = verification.result.measured_only
        native = index.native_blocks(task)
        if self.only_known and index.accuracy(task, native, TOLERANCE).source == "given":
            self._remember(native, task.accuracy)
        self.number: dict[tuple[str, ...], int] = {}
        """Number of the column of each server and link."""
        self.steps: dict[tuple[str, str], _Cost] = {}
        for node in graph.nodes:
            for head in graph.heads[node]:
                connection = graph.connections.get((node, head))
                self.steps[node, head] = self._cost(node, head, connection)
        self.chains = {
            dnn: [
                self._cost(a, b, None)
                for a, b in zip((INPUT, *blocks), (*blocks, OUTPUT), strict=True)
            ]
            for dnn, blocks in graph.alternatives().items()
        }
        self.width = 4 + len(self.number)

    def _remember(self, blocks: tuple[str, ...], accuracy: float) -> None:
        at = 0
        for block in blocks:
            at = self.beginning.setdefault((at, block), len(self.beginning) + 1)
        self.measured[at] = accuracy

    def _cost(self, source: str, target: str, connection: Connection | None) -> _Cost:
        """Return the figures of a step, those of the input's way before it included."""
        verification, graph = self.verification, self.graph
        figures = verification.figures(graph, source, target, connection)
        adapter = IDENTITY if connection is None else connection.share
        cost = _Cost(0.0 if connection is None else connection.drop, adapter is not None)
        name: _Step | None = None if adapter is None else (source, target, adapter)
        self._add(cost, figures, 1, max(self.sharers[name], 1) if name else 1)
        sent = verification.index.sent(graph.task, target, connection) if source == INPUT else None
        if sent is not None:
            among = max(self.sharers[sent[0]], 1)
            self._add(cost, sent[1], among, among)
        return cost

    def _add(self, cost: _Cost, figures: Figures, alone: int, shared: int) -> None:
        """Add figures to a step.

        Args:
            cost: of the step.
            figures: to be added.
            alone: among how many tasks the duals are divided where all before is the task's own.
            shared: the same where others can have walked all before.
        """
        verification = self.verification
        memory = per_inference = 0.0
        cost.is_impossible |= bool(figures.missing or figures.deviceless)
        for server, time in figures.busy.items():
            capacity = verification.capacity[server]
            if time > 0.0 and capacity > 0.0:
                cost.use[self._column(("server", server))] += _LESS * (time / capacity)
                per_inference += verification.time_dual.get(server, 0.0) * time
            elif time > 0.0:
                cost.is_impossible = True
        for server, size in figures.memory.items():
            most = verification.index.servers[server].memory
            cost.is_impossible |= most is not None and size > most * _ABOVE
            memory += verification.memory_dual.get(server, 0.0) * size
        for ends, size in figures.traffic.items():
            width = verification.bandwidth.get(ends)
            if width is not None and size > 0.0:
                cost.use[self._column(("link", *ends))] += _LESS * (size / width)
                per_inference += verification.link_dual.get(ends, 0.0) * size
        if self.counts_time:
            cost.seconds += _LESS * figures.latency
        for place, amount in enumerate((memory, per_inference)):
            cost.alone[place] += _LESS * amount / alone
            cost.shared[place] += _LESS * amount / shared

    def _column(self, resource: tuple[str, ...]) -> int:
        """Return the number of the column of a server or link."""
        return self.number.setdefault(resource, len(self.number))

    def rows(self) -> FloatArray:
        """Return the labels at the output, shape (n, columns)."""
        graph, start = self.graph, np.zeros((1, self.width))
        start[0, 0] = -graph.task.accuracy
        labels: dict[str, dict[_State, list[FloatArray]]] = defaultdict(lambda: defaultdict(list))
        labels[INPUT][0, True].append(start)
        for node in graph.nodes:
            for (at, is_shared), parts in labels.pop(node, {}).items():
                rows = _nondominated(np.concatenate(parts))
                for head in graph.heads[node]:
                    step = self.steps[node, head]
                    if step.is_impossible:
                        continue
                    place = at if head == OUTPUT else self.beginning.get((at, head), -1)
                    if place < 0 and self.only_known:
                        continue
                    goes_on = is_shared and step.is_shareable
                    found = self._kept(_down(rows + step.row(self.width, goes_on)))
                    if len(found):
                        labels[head][place, goes_on].append(found)
        ends = []
        for (at, _), parts in labels[OUTPUT].items():
            rows = np.concatenate(parts)
            if at in self.measured:
                rows[:, 0] = -self.measured[at]
            elif self.only_known:
                continue
            ends.append(rows)
        for alternative in graph.task.alternatives:
            rows, steps = start.copy(), self.chains[alternative.dnn]
            if any(step.is_impossible for step in steps):
                continue
            for step in steps:
                rows = _down(rows + step.row(self.width, True))
            rows[:, 0] = -alternative.accuracy
            ends.append(self._kept(rows))
        return np.concatenate([np.empty((0, self.width)), *ends])

    def _kept(self, rows: FloatArray) -> FloatArray:
        """Return the labels that keep the task's own limits."""
        fits = (rows[:, 4:] <= self.most_use).all(axis=1) & (rows[:, 3] <= self.most_seconds)
        return rows if fits.all() else rows[fits]


@dataclass
class _Cost:
    """What one step adds to a label."""

    drop: float
    is_shareable: bool
    seconds: float = 0.0
    use: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    """Share of what servers and links can do in a second, by their columns."""
    alone: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Duals of memory and per inference, where all before is the task's own."""
    shared: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """The task's part of them where others of its group can have walked all before."""
    is_impossible: bool = False

    def row(self, width: int, is_shared: bool) -> FloatArray:
        """Return what the step adds to each column of a label, shape (width,)."""
        row = np.zeros(width)
        row[0] = self.drop
        row[1:3] = self.shared if is_shared else self.alone
        row[3] = self.seconds
        row[[4 + column for column in self.use]] = list(self.use.values())
        return row


def _nondominated(rows: FloatArray) -> FloatArray:
    """Return labels such that each of the given ones has one that is at least as good."""
    if len(rows) <= 1:
        return rows
    if len(rows) > _PAIRWISE:
        half = len(rows) // 2
        rows = np.concatenate((_nondominated(rows[:half]), _nondominated(rows[half:])))
    if len(rows) <= _PAIRWISE:
        rows = rows[np.lexsort(rows.T[::-1])]
        # In this order only an earlier label can be as good as a later one.
        is_as_good = np.ones((len(rows), len(rows)), dtype=bool)
        for column in rows.T:
            is_as_good &= column[:, None] <= column[None, :]
        rows = rows[~np.triu(is_as_good, 1).any(axis=0)]
    if len(rows) <= MOST_LABELS:
        return rows
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return np.stack([part.min(axis=0) for part in np.array_split(rows, MOST_LABELS)])
