"""The planning model as it is written down: every constraint on a case small enough to read.

To rewrite ``golden/`` after a wanted change: ``python -m tests.planning.test_model``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyomo.environ as pyo
import pytest

from code_opt.solvers import write_model
from formulations import (
    Failure,
    PlanData,
    Rows,
    Situation,
    build_plan_model,
    build_rerouting_model,
    needs_units,
    prefer,
)

GOLDEN = Path(__file__).parent / "golden"


def data(**changes: object) -> PlanData:
    """Two tasks with two paths each: t on server s or r, u on s alone or with an adapter."""
    parts: dict[str, object] = {
        "task_names": ["t", "u"],
        "weight": [0.75, 0.25],
        "task_of": [0, 0, 1, 1],
        "accuracy": [0.9, 0.7, 0.8, 0.6],
        "rate_rows": Rows(
            ["server s", "server r", "link s -> r"],
            [[(0, 0.1), (2, 0.05), (3, 0.02)], [(1, 0.2)], [(1, 0.01)]],
        ),
        "memory_rows": Rows(["memory s"], [[(3, 0.6)]]),
        "unit": [0.5, 0.25, 0.0],
        "price": [4.0, 2.0, 1.0],
        "yearly": [0.0, 0.0, 0.0],
        "most_units": [6, 8, 0],
        "factor": [1.0, 0.5],
        "min_accuracy": [0.75, None],
        "situations": [
            Situation(0, 0, [5.0, 10.0]),
            Situation(1, 1, [10.0, 20.0], True, [4.0, 0.0], 0.9, 0.25),
            Situation(1, 1, [8.0, 0.0], True, [0.0, 0.0], None, 0.75),
        ],
        "expected_share": 0.95,
        "failures": [Failure(0, [[5.0, 0.0]], frozenset({0, 2, 3}))],
        "cost_unit": 4.0,
    }
    return PlanData(**{**parts, **changes})  # type: ignore[arg-type]


def grouped() -> PlanData:
    """The same tasks with one rate; paths 0 and 2 begin with prefix 0, then with its child 1."""
    return data(
        rate_rows=Rows(
            ["server s", "server r", "link s -> r"],
            [[(0, 0.04), (3, 0.02)], [(1, 0.2)], [(1, 0.01)]],
            [[(0, 0.05)], [], [(1, 0.03)]],
        ),
        memory_rows=Rows(["memory s"], [[(3, 0.6)]], [[(1, 0.5)]]),
        situations=[
            Situation(0, 0, [5.0, 5.0]),
            Situation(1, 1, [10.0, 10.0], True, [4.0, 4.0], 0.9, 0.25),
        ],
        # Without s everything that shares is gone; without r task t goes to what u may walk, too.
        failures=[
            Failure(0, [[5.0, 5.0]], frozenset({0, 2, 3})),
            Failure(1, [[3.0, 3.0]], frozenset({1})),
        ],
        groups=[[0, 1]],
        prefixes=[[[0], [2]], [[0], [2]]],
    )


def models() -> dict[str, pyo.ConcreteModel]:
    preferred = build_plan_model(data())
    prefer(preferred, data(), 12.0)
    scaled = replace(data(), load_unit=[4.0, 2.0, 1.0], rounding=0.125)
    cut = build_plan_model(scaled)
    choose = cut.choose
    needs_units(cut, scaled, [[choose[0, 0], choose[0, 1]], [choose[0, 2]]], (0, 0), 4.0)
    needs_units(cut, scaled, [[choose[1, 0]], [choose[1, 3]]], (1, 1), 9.0)
    # A part of s is gone in the first period, all of r in the second; nothing of r is there yet.
    parts = data(
        situations=[Situation(0, 0, [5.0, 10.0]), Situation(1, 1, [10.0, 0.0])],
        expected_share=None,
        failures=[
            Failure(0, [[5.0, 0.0], [2.0, 1.0]], frozenset({0, 2, 3}), lost=0.5),
            Failure(1, [[3.0, 3.0]], frozenset({1}), period=1, choice=1),
        ],
        present=[1.0, 0.0, 1.0],
    )
    alone = data(situations=[Situation(0, 0, [10.0, 20.0], True)], min_accuracy=[None], failures=[])
    one = {"situations": [Situation(0, 0, [10.0, 10.0], True)], "min_accuracy": [None]}
    return {
        "plan-groups": build_plan_model(grouped()),
        "rerouting-groups": build_rerouting_model(replace(grouped(), **one, failures=[]), {1}),
        "plan": build_plan_model(data()),
        "yearly": build_plan_model(data(yearly=[1.0, 0.5, 0.0])),
        "combined": build_plan_model(parts),
        "preferred": preferred,
        "scaled": cut,
        "rerouting": build_rerouting_model(alone, {0, 2, 3}),
    }


@pytest.mark.parametrize(
    "name",
    ["combined", "plan", "plan-groups", "preferred", "rerouting", "rerouting-groups", "scaled"],
)
def test_every_constraint_is_as_written_down(name: str, tmp_path: Path) -> None:
    write_model(models()[name], tmp_path / "model.lp")
    assert (tmp_path / "model.lp").read_text() == (GOLDEN / f"{name}.lp").read_text()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for key, built in models().items():
        write_model(built, GOLDEN / f"{key}.lp")
