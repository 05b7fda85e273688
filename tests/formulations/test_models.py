"""The formulations themselves: their text, their relaxations, their strength.

The golden files in ``golden/`` show every constraint on a case small enough to read. To
rewrite them after a wanted change: ``python -m tests.formulations.test_models``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

from code_opt.core.objective import ObjectiveFunction
from code_opt.core.settings import Settings
from code_opt.exact import build_model
from code_opt.generate import generate
from code_opt.instance import load_instance, parse_instance
from code_opt.paths import build_pool
from code_opt.solvers import open_session, write_model
from code_opt.solving import solve
from formulations import (
    ElasticData,
    FractionalPlan,
    FractionalPlanData,
    Goal,
    PathData,
    Rows,
    build_elastic_model,
    build_neighbourhood_program,
    build_rate_program,
)
from formulations.arrays import ArrayProgram
from formulations.master import MasterColumns, MasterData, MasterProgram
from formulations.neighbourhood import NeighbourhoodData
from formulations.rates import RateData
from tests.instances import dnn

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"


def rich_instance():
    """Two tasks, a link, a memory, a latency limit, a floor, a demand and a measured path."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "golden",
            "servers": [{"id": "s", "flops": 100.0, "memory": 1000.0}, {"id": "r", "flops": 50.0}],
            "links": [{"source": "s", "target": "r", "bandwidth": 200.0, "latency": 0.01}],
            "dnns": [
                dnn("d", "s", [4.0, 6.0], [8.0]),
                dnn("e", "r", [2.0]),
            ],
            "tasks": [
                {
                    "id": "t",
                    "dnn": "d",
                    "accuracy": 0.9,
                    "floor": 2.0,
                    "demand": 20.0,
                    "weight": 3.0,
                    "max_latency": 0.5,
                    "min_accuracy": 0.1,
                    "connections": [
                        {
                            "source": "d0",
                            "target": "output",
                            "drop": 0.2,
                            "flops": 1.0,
                            "params": 100.0,
                        },
                        {"source": "d0", "target": "e0", "drop": 0.1, "flops": 0.5, "params": 50.0},
                        {"source": "e0", "target": "output", "drop": 0.05},
                    ],
                    "measured_paths": [{"blocks": ["d0"], "accuracy": 0.75}],
                },
                {"id": "u", "dnn": "e", "accuracy": 0.8},
            ],
            "reward": {
                "accuracy": {"kind": "power", "exponent": 2.0},
                "throughput": {"kind": "exponential", "rate": 0.01},
            },
        }
    )


def grouped_instance():
    """Two tasks on one input, which can share block d0 and the adapter from there to e0."""
    low = {"source": "d0", "target": "e0", "flops": 0.5, "params": 50.0, "share": "low"}
    entry = {"source": "input", "target": "d0", "drop": 0.0, "share": "identity"}
    task = {"floor": 2.0, "input_group": "camera"}
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "golden-grouped",
            "servers": [{"id": "s", "flops": 100.0, "memory": 1000.0}],
            "dnns": [
                dnn("d", "s", [4.0, 6.0]),
                dnn("e", "s", [2.0]),
            ],
            "tasks": [
                {
                    "id": "t",
                    "dnn": "d",
                    "accuracy": 0.9,
                    "demand": 20.0,
                    "connections": [
                        low | {"drop": 0.1},
                        {"source": "e0", "target": "output", "drop": 0.05, "flops": 1.0},
                    ],
                    **task,
                },
                {
                    "id": "u",
                    "dnn": "e",
                    "accuracy": 0.8,
                    "connections": [low | {"drop": -0.05}, entry],
                    **task,
                },
            ],
        }
    )


def models():
    """Each formulation of the instances above, objectives without tangents."""
    goal = {"objective": "throughput", "min_accuracy": 0.5}
    elastic = ElasticData(
        paths=PathData(
            task_names=["t"],
            weight=[1.0],
            floor=[2.0],
            task_of=[0, 0],
            accuracy=[0.9, 0.7],
            most_rate=[10.0, 2.0],
            seconds=[0.2, 0.1],
            rate_rows=Rows(["server s"], [[(0, 0.1), (1, 0.5)]]),
            memory_rows=Rows(["memory s"], [[(1, 0.3)]]),
            goal=Goal("reward", min_accuracy=0.8, min_throughput=4.0),
        ),
        path_violation=[0.0, 0.25],
        elastic=frozenset(["capacity", "floor", "memory", "path", "total"]),
    )
    grouped = ElasticData(
        paths=PathData(
            task_names=["t", "u"],
            weight=[0.5, 0.5],
            floor=[2.0, 2.0],
            task_of=[0, 0, 1],
            accuracy=[0.9, 0.7, 0.8],
            most_rate=[10.0, 2.0, 8.0],
            seconds=[0.2, 0.1, 0.1],
            rate_rows=Rows(["server s"], [[(0, 0.1), (1, 0.5)]], [[(0, 0.06)]]),
            memory_rows=Rows(["memory s"], [[(1, 0.3)]], [[(0, 0.4)]]),
            goal=Goal("reward", min_throughput=4.0),
            groups=[(0, 1)],
            prefixes=[[[0, 1], [2]]],
        ),
        path_violation=[0.0, 0.25, 0.0],
        elastic=frozenset(["capacity", "floor", "memory", "path", "total"]),
    )
    served = rich_instance().with_({"tasks[*].demand": 5.0})
    least = {"objective": "latency", "min_accuracy": 0.5}
    return {
        "path-latency": build_model(served, Settings(**least)),
        "flow-latency": build_model(served, Settings(formulation="flow", **least)),
        "path": build_model(rich_instance(), Settings(**goal)),
        "flow": build_model(rich_instance(), Settings(formulation="flow", **goal)),
        "elastic": build_elastic_model(elastic),
        "path-grouped": build_model(grouped_instance(), Settings(**goal)),
        "flow-grouped": build_model(grouped_instance(), Settings(formulation="flow", **goal)),
        "elastic-grouped": build_elastic_model(grouped),
    }


def programs():
    """Each program that is stated in arrays, small, as text."""
    rates = ArrayProgram(is_named=True)
    build_rate_program(
        RateData(
            size=np.array([1.0, 2.0]),
            floor=np.array([0.0, 1.0]),
            demand=np.array([np.inf, 5.0]),
            unit=np.array([10.0, 4.0]),
            group=np.array([0, 1, 1]),
            resource=np.array([0, 0, 1]),
            use=np.array([0.05, 0.25, 0.125]),
            resources=2,
        ),
        rates,
    )
    near = ArrayProgram(is_named=True)
    build_neighbourhood_program(
        NeighbourhoodData(
            owner=np.array([0, 0, 1]),
            accuracy=np.array([0.45, 0.4, 0.3]),
            time=np.array([0.2, 0.1, 0.3]),
            floor=np.array([1.0, 1.0, 2.0]),
            extra=np.array([4.0, 6.0, 0.0]),
            resource=np.array([[0, 0, 1], [1, 1, 0]]),
            need=np.array([[0.25, 0.125, 0.5], [0.0, 0.25, 0.0]]),
            rate_use=np.array([[0.25, 0.125, 0.0], [0.0, 0.0, 0.0]]),
            near_resource=np.array([[0]]),
            near_rate_use=np.array([[0.125]]),
            near_extra=np.array([2.0]),
            spare=np.array([0.75, 0.5, 1.0]),
            touched=np.array([True, True, False]),
            slopes=(2.0, 0.5),
            time_dual=0.0,
            lacking=np.array([0.5, 0.25]),
            least=np.array([0.6, 0.5]),
            throughput_unit=8.0,
            shortage_cost=1000.0,
        ),
        near,
    )
    bought = ArrayProgram(is_named=True)
    FractionalPlan(
        FractionalPlanData(
            task=np.array([0, 0, 1]),
            gain=np.array([0.45, 0.4, 0.3]),
            path=np.array([0, 1, 2, 2]),
            resource=np.array([0, 0, 0, 1]),
            use=np.array([0.25, 0.125, 0.5, 0.25]),
            demand=np.array([[4.0, 8.0], [16.0, 0.0]]),
            capacity=np.array([1.0, 1.0]),
            most=np.array([3.0, 0.0]),
            load_unit=np.array([4.0, 2.0]),
            min_accuracy=0.7,
            missing=1000.0,
        ),
        bought,
    )
    data = MasterData(
        weight=np.array([1.0]),
        floor=np.array([2.0]),
        most_rate=np.array([10.0]),
        resources=2,
        goal=Goal("reward", min_accuracy=0.8, min_throughput=4.0),
    )
    master = MasterProgram(data, is_named=True)
    new = MasterColumns(
        task=np.array([0, 0]),
        accuracy=np.array([0.9, 0.7]),
        time=np.array([0.2, 0.1]),
        extra=np.array([8.0, 0.0]),
        row=master.capacity[[0, 0, 1]],
        path=np.array([0, 1, 1]),
        at_floor=np.array([0.2, 1.0, 0.3]),
        more=np.array([0.8, 0.0, 0.0]),
    )
    _, count, starts, rows, values = master.path_columns(new)
    program = master.program
    columns = program.variables("path", count)
    program.column_names[-count:] = ["at_floor[0]", "at_floor[1]", "at_most[0]"]
    ends = np.append(starts[1:], len(rows))
    program.add(rows, np.repeat(columns, ends - starts), values)
    return {
        "rates": as_text(rates),
        "neighbourhood": as_text(near),
        "master": as_text(program),
        "fractional-plan": as_text(bought),
    }


def as_text(program):
    """Return a program in arrays as an LP file."""
    arrays = program.arrays()
    column = np.repeat(np.arange(len(arrays.cost)), np.diff(arrays.indptr))

    def terms(coefficients):
        return "".join(f"{c:+.12g} {program.column_names[i]}\n" for i, c in coefficients if c)

    lines = ["max\ngoal:\n" + terms(enumerate(arrays.cost)), "s.t.\n"]
    for row, name in enumerate(program.row_names):
        mine = arrays.indices == row
        low, high = arrays.row_lower[row], arrays.row_upper[row]
        limit = f"= {high:.12g}" if low == high else f"in [{low:.12g}, {high:.12g}]"
        lines.append(
            f"{name}:\n" + terms(zip(column[mine], arrays.data[mine], strict=True)) + limit
        )
        lines.append("")
    bounds = zip(arrays.lower, program.column_names, arrays.upper, strict=True)
    lines += ["bounds", *(f"{low:.12g} <= {name} <= {high:.12g}" for low, name, high in bounds)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.lp")))
def test_every_constraint_is_as_written_down(name, tmp_path):
    arrays = programs()
    if name in arrays:
        found = arrays[name]
    else:
        write_model(models()[name], tmp_path / "model.lp")
        found = (tmp_path / "model.lp").read_text()
    assert found == (GOLDEN / f"{name}.lp").read_text()


def relaxation(instance, formulation):
    """Return the bound of the linear relaxation of maximal throughput."""
    settings = Settings(objective="throughput", formulation=formulation, min_accuracy=0.75)
    model = build_model(instance, settings)
    for variable in model.component_data_objects(pyo.Var):
        if variable.is_binary():
            variable.domain = pyo.UnitInterval
    unit = ObjectiveFunction.of(build_pool(instance), settings).unit
    return open_session(model).solve().value * unit


def test_every_formulation_has_its_file():
    assert {*models(), *programs()} == {path.stem for path in GOLDEN.glob("*.lp")}


# Recorded with these formulations: a smaller bound is an improvement to be recorded, a
# larger one a formulation that got weaker.
RELAXATIONS = {
    "grouped": {"path": 849.953577794572, "flow": 885.4282660719595},
    "one-provider": {"path": 130.0, "flow": 130.0},
    "metro-links": {"path": 262.2644354823608, "flow": 263.82663350569703},
    "generated": {"path": 2256.9190517410398, "flow": 2311.211966549644},
}


@pytest.mark.parametrize("name", RELAXATIONS)
def test_relaxations_bound_the_optimum_and_path_is_no_weaker_than_flow(name):
    if name == "generated":
        instance = generate(6, seed=1)
    elif name == "grouped":
        instance = generate(6, seed=3, groups=(2, 3), limited_demand=0.2)
    else:
        instance = load_instance(ROOT / "data" / f"{name}.json")
    optimum = solve(instance, objective="throughput", min_accuracy=0.75, gap=1e-6).throughput
    bounds = {f: relaxation(instance, f) for f in ("path", "flow")}
    assert optimum <= bounds["path"] * (1 + 1e-6)
    assert bounds["path"] <= bounds["flow"] * (1 + 1e-6)
    assert bounds == pytest.approx(RELAXATIONS[name], rel=1e-6)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for key, built in models().items():
        write_model(built, GOLDEN / f"{key}.lp")
    for key, text in programs().items():
        (GOLDEN / f"{key}.lp").write_text(text)
