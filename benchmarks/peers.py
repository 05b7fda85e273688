"""The competitors: other ways to solve the same path model to the same gap.

Each takes an instance, makes its own pool of paths by our label-setting (a shared part,
timed for everyone), solves, and returns paths and a bound of the logarithm of the reward.
On the way it tells a watcher the value and the bound of that logarithm as they get better.
None starts from the solution of lns. All run on one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from code_opt.core.objective import ObjectiveFunction
from code_opt.core.settings import Settings
from code_opt.exact.method import tangent_points
from code_opt.exact.models import path_data
from code_opt.instance import Instance, Shape
from code_opt.paths import PathPool, build_pool
from code_opt.paths.graph import FloatArray
from code_opt.reward import log_slope, log_value
from formulations import PathData

PRECISION = 0.7
"""Share of the gap given to the solver; the rest is left to the tangents."""


Watch = Callable[[float, float], None]
"""Called with the value of the best assignment and the bound, both of log F."""


def unwatched(value: float, bound: float) -> None:
    """Watch nothing."""


@dataclass(frozen=True)
class Answer:
    """Path numbers by task (within the task), or None, and the bound of log F."""

    pool: PathPool
    choice: list[int] | None
    bound: float


@dataclass(frozen=True)
class _Model:
    """The path model in arrays: variables are log xi, log zeta, A, Th, x (P), u (P)."""

    pool: PathPool
    data: PathData
    weight: FloatArray
    floor: FloatArray
    extra: FloatArray
    accuracy_tangents: list[tuple[float, float]]
    """(intercept, slope) of each tangent of log xi."""
    throughput_tangents: list[tuple[float, float]]
    """The same of log zeta, Th in ``data.goal.throughput_unit``."""


def _model(instance: Instance, gap: float) -> _Model:
    pool = build_pool(instance)
    goal = ObjectiveFunction.of(pool, Settings()).goal
    unit, data = goal.throughput_unit, path_data(pool, goal)
    task_of = np.array(data.task_of)
    floor = np.array(data.floor)[task_of]
    most = np.array(data.most_rate)
    accuracy = np.array(data.accuracy)
    ends = np.flatnonzero(np.r_[True, np.diff(task_of) > 0])
    weights = pool.weights
    low_a = float(weights @ np.minimum.reduceat(accuracy, ends))
    high_a = float(weights @ np.maximum.reduceat(accuracy, ends))
    reward = instance.reward
    return _Model(
        pool,
        data,
        weights[task_of] * accuracy,
        floor,
        most - floor,
        _tangents(reward.accuracy, low_a, high_a, 1.0, gap),
        _tangents(reward.throughput, float(np.sum(data.floor)), unit, unit, gap),
    )


def _tangents(
    shape: Shape, low: float, high: float, unit: float, gap: float
) -> list[tuple[float, float]]:
    """Return tangents that are within a tenth of the gap all over [low, high]."""
    # Where nothing is asked for a total can be 0, at which a power has no tangent. Tangents hold
    # everywhere, so those from a hundredth of the most on bound what lies below, too.
    low = max(low, high / 100.0)
    points: set[float] = set()
    step = (high - low) / 16 or 1.0
    for k in range(17):  # dense everywhere: these solvers do not know where to look
        guess = min(low + k * step, high)
        points |= set(tangent_points(shape, low, high, guess, gap / 10))
    kept: list[float] = []
    for point in sorted(points):
        if not kept or _excess(shape, kept[-1], point) > gap / 20:
            kept.append(point)
    return [
        (float(log_value(shape, at)) - log_slope(shape, at) * at, log_slope(shape, at) * unit)
        for at in kept
    ]


def _excess(shape: Shape, a: float, b: float) -> float:
    """Return by how much the tangents at a and b exceed the curve where they meet."""
    slope_a, slope_b = log_slope(shape, a), log_slope(shape, b)
    value_a, value_b = float(log_value(shape, a)), float(log_value(shape, b))
    if slope_a == slope_b:
        return 0.0
    x = (value_b - value_a + slope_a * a - slope_b * b) / (slope_a - slope_b)
    return value_a + slope_a * (x - a) - float(log_value(shape, x))


def _choice(model: _Model, chosen: FloatArray) -> list[int]:
    sizes = [len(task) for task in model.pool.tasks]
    first = np.concatenate(([0], np.cumsum(sizes)))
    return [int(np.argmax(chosen[a:b])) for a, b in zip(first[:-1], first[1:], strict=True)]


def plain_highs(instance: Instance, gap: float, limit: float, watch: Watch = unwatched) -> Answer:
    """HiGHS, straight from arrays: the floor under what modelling in Pyomo can cost."""
    model = _model(instance, gap)
    paths, tasks = len(model.floor), len(model.pool.tasks)
    x, u, columns = 4, 4 + paths, 4 + 2 * paths
    rows: list[tuple[float, float, list[int], list[float]]] = []
    inf = np.inf
    task_of = np.array(model.data.task_of)
    for task in range(tasks):
        mine = (np.flatnonzero(task_of == task) + x).tolist()
        rows.append((1.0, 1.0, mine, [1.0] * len(mine)))
    rows += [(-inf, 0.0, [u + p, x + p], [1.0, -1.0]) for p in range(paths)]
    for entries in model.data.rate_rows.entries:
        index, value = [], []
        for p, amount in entries:
            index += [x + p, u + p]
            value += [amount * model.floor[p], amount * model.extra[p]]
        rows.append((-inf, 1.0, index, value))
    for entries in model.data.memory_rows.entries:
        rows.append((-inf, 1.0, [x + p for p, _ in entries], [a for _, a in entries]))
    everything = list(range(paths))
    rows.append((0.0, 0.0, [2, *(x + p for p in everything)], [-1.0, *model.weight.tolist()]))
    unit = model.data.goal.throughput_unit
    base = -sum(model.data.floor) / unit
    rows.append((base, base, [3, *(u + p for p in everything)], [-1.0, *(model.extra / unit)]))
    for term, tangents in ((0, model.accuracy_tangents), (1, model.throughput_tangents)):
        rows += [(-inf, value, [term, term + 2], [1.0, -slope]) for value, slope in tangents]

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns, len(rows)
    lp.col_cost_ = np.r_[-1.0, -1.0, np.zeros(columns - 2)]
    lp.col_lower_ = np.r_[-inf, -inf, np.zeros(columns - 2)]
    lp.col_upper_ = np.r_[inf, inf, np.ones(columns - 2)]
    lp.row_lower_ = np.array([row[0] for row in rows])
    lp.row_upper_ = np.array([row[1] for row in rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(row[2]) for row in rows)])
    lp.a_matrix_.index_ = np.concatenate([row[2] for row in rows])
    lp.a_matrix_.value_ = np.concatenate([row[3] for row in rows])
    integer, real = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
    lp.integrality_ = [real] * x + [integer] * paths + [real] * paths
    highspy.Highs.resetGlobalScheduler(True)
    highs = highspy.Highs()
    for name, setting in (
        ("output_flag", False),
        ("threads", 1),
        ("time_limit", limit),
        ("mip_rel_gap", 0.0),
        ("mip_abs_gap", PRECISION * gap),
    ):
        highs.setOptionValue(name, setting)

    def told(event: Any) -> None:
        watch(-event.data_out.mip_primal_bound, -event.data_out.mip_dual_bound)

    highs.passModel(lp)
    highs.cbMipLogging.subscribe(told)
    highs.cbMipImprovingSolution.subscribe(told)
    highs.cbMipInterrupt.subscribe(told)
    highs.run()
    info = highs.getInfo()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Answer(model.pool, None, -info.mip_dual_bound)
    values = np.array(highs.getSolution().col_value)
    return Answer(model.pool, _choice(model, values[x:u]), -info.mip_dual_bound)


def cp_sat(instance: Instance, gap: float, limit: float, watch: Watch = unwatched) -> Answer:
    """OR-Tools CP-SAT on the scaled path model, one worker.

    Shares of extra rates are whole steps of 1e-5, capacities are scaled by 1e12, totals and
    logarithms by 1e9; coefficients of loads are rounded up, those of totals to the nearest
    (each off by less than 1e-7 of its range), so its bound holds up to about 1e-5.
    """
    from ortools.sat.python import cp_model

    model = _model(instance, gap)
    steps, load_scale, scale, fine = 100_000, 10**12, 10**9, 10**6
    cp = cp_model.CpModel()
    paths = range(len(model.floor))
    x = [cp.new_bool_var(f"x{p}") for p in paths]
    u = [cp.new_int_var(0, steps, f"u{p}") for p in paths]
    task_of = np.array(model.data.task_of)
    for task in range(len(model.pool.tasks)):
        cp.add_exactly_one(x[p] for p in np.flatnonzero(task_of == task).tolist())
    for p in paths:
        cp.add(u[p] == 0).only_enforce_if(x[p].negated())
    for entries in model.data.rate_rows.entries:
        # A standalone floor fills its server exactly: rounding up needs a little room.
        room = load_scale + 2 * len(entries)
        cp.add(
            sum(
                int(np.ceil(a * model.floor[p] * load_scale)) * x[p]
                + int(np.ceil(a * model.extra[p] * load_scale / steps)) * u[p]
                for p, a in entries
            )
            <= room
        )
    for entries in model.data.memory_rows.entries:
        cp.add(sum(int(np.ceil(a * scale)) * x[p] for p, a in entries) <= scale)
    accuracy = cp.new_int_var(0, scale, "accuracy")
    cp.add(accuracy == sum(round(float(model.weight[p]) * scale) * x[p] for p in paths))
    unit = model.data.goal.throughput_unit
    throughput = cp.new_int_var(0, scale, "throughput")
    base = round(sum(model.data.floor) / unit * scale)
    rates = sum(round(float(model.extra[p]) / unit * scale * 1000 / steps) * u[p] for p in paths)
    cp.add(1000 * (throughput - base) <= rates)
    terms = []
    for name, total, tangents in (
        ("log_accuracy", accuracy, model.accuracy_tangents),
        ("log_throughput", throughput, model.throughput_tangents),
    ):
        term = cp.new_int_var(-40 * scale, 40 * scale, name)
        for value, slope in tangents:
            cp.add(fine * term <= round(fine * value * scale) + round(fine * slope) * total)
        terms.append(term)
    cp.maximize(sum(terms))
    solver = cp_model.CpSolver()
    state = [-np.inf, np.inf]

    class Told(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            state[:] = [self.objective_value / scale, self.best_objective_bound / scale]
            watch(*state)

    def bounded(bound: float) -> None:
        state[1] = bound / scale
        watch(*state)

    solver.best_bound_callback = bounded
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = limit
    solver.parameters.absolute_gap_limit = PRECISION * gap * scale
    status = solver.solve(cp, Told())
    bound = solver.best_objective_bound / scale
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Answer(model.pool, None, bound)
    chosen = np.array([float(solver.value(v)) for v in x])
    return Answer(model.pool, _choice(model, chosen), bound)


def scip(instance: Instance, gap: float, limit: float, watch: Watch = unwatched) -> Answer:
    """SCIP on the nonlinear reward itself (power rewards), no tangents of ours."""
    from pyscipopt import SCIP_EVENTTYPE, Eventhdlr, Model, log, quicksum

    model = _model(instance, gap)
    solver = Model()
    solver.hideOutput()
    paths = range(len(model.floor))
    x = [solver.addVar(vtype="B") for _ in paths]
    u = [solver.addVar(lb=0.0, ub=1.0) for _ in paths]
    task_of = np.array(model.data.task_of)
    for task in range(len(model.pool.tasks)):
        solver.addCons(quicksum(x[p] for p in np.flatnonzero(task_of == task).tolist()) == 1)
    for p in paths:
        solver.addCons(u[p] <= x[p])
    for entries in model.data.rate_rows.entries:
        load = quicksum(a * (model.floor[p] * x[p] + model.extra[p] * u[p]) for p, a in entries)
        solver.addCons(load <= 1.0)
    for entries in model.data.memory_rows.entries:
        solver.addCons(quicksum(a * x[p] for p, a in entries) <= 1.0)
    unit = model.data.goal.throughput_unit
    accuracy = solver.addVar(lb=1e-6, ub=1.0)
    throughput = solver.addVar(lb=1e-6, ub=1.0)
    solver.addCons(accuracy == quicksum(float(model.weight[p]) * x[p] for p in paths))
    base = sum(model.data.floor) / unit
    rates = quicksum(float(model.extra[p]) / unit * u[p] for p in paths)
    solver.addCons(throughput == base + rates)
    reward = instance.reward
    value = solver.addVar(lb=None, ub=None)
    solver.addCons(
        value
        <= getattr(reward.accuracy, "exponent") * log(accuracy)  # noqa: B009
        + getattr(reward.throughput, "exponent") * log(throughput)  # noqa: B009
    )
    solver.setObjective(value, "maximize")
    solver.setParam("limits/time", limit)
    solver.setParam("limits/absgap", PRECISION * gap)
    solver.setParam("limits/gap", 0.0)
    offset = getattr(reward.throughput, "exponent") * np.log(unit)  # noqa: B009

    class Told(Eventhdlr):
        def eventinit(self) -> None:
            self.model.catchEvent(SCIP_EVENTTYPE.GAPUPDATED, self)

        def eventexit(self) -> None:
            self.model.dropEvent(SCIP_EVENTTYPE.GAPUPDATED, self)

        def eventexec(self, event: Any) -> None:  # noqa: ARG002
            watch(self.model.getPrimalbound() + offset, self.model.getDualbound() + offset)

    solver.includeEventhdlr(Told(), "told", "tells the watcher")
    solver.optimize()
    bound = solver.getDualbound() + offset
    if solver.getNSols() == 0:
        return Answer(model.pool, None, bound)
    best = solver.getBestSol()
    chosen = np.array([best[v] for v in x])
    return Answer(model.pool, _choice(model, chosen), bound)


PEERS: dict[str, tuple[Callable[[Instance, float, float, Watch], Answer], str]] = {
    "plain highspy": (plain_highs, "highspy"),
    "CP-SAT": (cp_sat, "ortools"),
    "SCIP (nonlinear)": (scip, "pyscipopt"),
}
"""Name -> (solver, the package that it needs)."""
