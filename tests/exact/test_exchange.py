"""Exported models: names that files can hold, and the way to another solver and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import highspy
import pyomo.environ as pyo
import pytest

from code_opt.core.settings import Settings
from code_opt.errors import InputError
from code_opt.exact.exchange import LONGEST_NAME, clean_name, export_model, import_paths
from code_opt.generate import generate
from code_opt.instance import load_instance, parse_instance
from code_opt.instance.model import Instance
from code_opt.solving import evaluate_paths, solve

DATA = Path(__file__).resolve().parents[2] / "data"
VALID = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")


def highs(model: Path, solution: Path) -> None:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    assert solver.readModel(str(model)) == highspy.HighsStatus.kOk
    solver.run()
    solver.writeSolution(str(solution), 0)


def scip(model: Path, solution: Path) -> None:
    pyscipopt = pytest.importorskip("pyscipopt")
    solver = pyscipopt.Model()
    solver.hideOutput()
    solver.readProblem(str(model))
    solver.optimize()
    solver.writeBestSol(str(solution))


def instances() -> dict[str, Instance]:
    return {
        "two-services": load_instance(DATA / "two-services.json"),
        "digits": load_instance(DATA / "digits" / "instance.json"),
        "shared-input": load_instance(DATA / "shared-input.json"),
        "hostile": hostile(),
    }


def hostile(length: int = 160) -> Instance:
    """Names that no file can hold as they are, that differ in one sign, or at their end only."""
    start = "Gesichter [µ] \u202e + 3*x <= 1e5 " + "x" * length
    data = load_instance(DATA / "two-services.json").to_dict()
    renamed: dict[str, str] = {}
    for dnn in data["dnns"]:
        for block in dnn["blocks"]:
            renamed[block["id"]] = f"{start}{len(renamed)}"
            block["id"] = renamed[block["id"]]
    for number, task in enumerate(data["tasks"]):
        task["id"] = "e1+" if number else "e1-"
        for connection in task["connections"]:
            for end in ("source", "target"):
                connection[end] = renamed.get(connection[end], connection[end])
        for path in task.get("measured_paths", []):
            path["blocks"] = [renamed[block] for block in path["blocks"]]
    return parse_instance(data)


@pytest.mark.parametrize("solver", [highs, scip])
@pytest.mark.parametrize("suffix", ["lp", "mps"])
@pytest.mark.parametrize("formulation", ["path", "flow"])
@pytest.mark.parametrize("name", list(instances()))
def test_a_model_solved_elsewhere_comes_back_as_the_same_assignment(
    tmp_path: Path, name: str, formulation: Any, suffix: str, solver: Any
) -> None:
    instance = instances()[name]
    settings = Settings(formulation=formulation)
    export_model(instance, tmp_path / f"model.{suffix}", settings)
    solver(tmp_path / f"model.{suffix}", tmp_path / "model.sol")
    found = import_paths(instance, tmp_path / "model.sol", settings)
    expected = solve(instance, gap=1e-6)
    assert {task.task: list(task.path) for task in expected.tasks} == found.paths
    result = evaluate_paths(instance, found.paths)
    assert result.reward == pytest.approx(expected.reward, rel=1e-6)
    assert found.value is not None
    assert found.value >= expected.reward * (1 - 1e-6)


@pytest.mark.parametrize("objective", ["throughput", "accuracy"])
def test_the_value_of_a_linear_objective_is_in_its_own_unit(tmp_path: Path, objective: Any) -> None:
    instance = instances()["digits"]
    settings = Settings(objective=objective, min_accuracy=0.98)
    export_model(instance, tmp_path / "model.mps", settings)
    highs(tmp_path / "model.mps", tmp_path / "model.sol")
    found = import_paths(instance, tmp_path / "model.sol", settings)
    expected = solve(instance, objective=objective, min_accuracy=0.98, gap=1e-7)
    assert found.value == pytest.approx(expected.value, rel=1e-6)


def test_a_larger_instance_comes_back_within_its_tangents(tmp_path: Path) -> None:
    instance = generate(6, seed=1)
    settings = Settings(formulation="path")
    export_model(instance, tmp_path / "model.mps", settings)
    highs(tmp_path / "model.mps", tmp_path / "model.sol")
    found = import_paths(instance, tmp_path / "model.sol", settings)
    best = solve(instance, gap=1e-6)
    result = evaluate_paths(instance, found.paths)
    found_reward, best_reward = result.reward or 0.0, best.reward or 0.0
    assert 0.99 * best_reward <= found_reward <= best_reward * (1 + 1e-6)
    assert best_reward <= (found.value or 0.0) * (1 + 1e-6)


@pytest.mark.parametrize("suffix", ["lp", "mps"])
@pytest.mark.parametrize("formulation", ["path", "flow"])
def test_names_are_valid_short_and_unique(tmp_path: Path, formulation: Any, suffix: str) -> None:
    file = tmp_path / f"model.{suffix}"
    export_model(hostile(), file, Settings(formulation=formulation))
    read = highspy.Highs()
    read.setOptionValue("output_flag", False)
    read.readModel(str(file))
    lp = read.getLp()
    for names in (lp.col_names_, lp.row_names_):
        assert len(set(names)) == len(names)
        assert [n for n in names if not VALID.fullmatch(n) or len(n) > 255] == []
    assert any(len(name) == LONGEST_NAME for name in lp.col_names_)


def test_a_name_says_task_and_blocks(tmp_path: Path) -> None:
    export_model(instances()["digits"], tmp_path / "model.lp", Settings(formulation="path"))
    text = (tmp_path / "model.lp").read_text()
    assert "choose.3.parity.alexnet_0\n" in text
    assert "one_path_per_task.1.parity_" in text
    assert text.startswith("\\ CoDE-Opt, formulation path: symbols in formulations/MODEL.md.\n")
    assert "\\ Maximised is the logarithm of the reward" in text
    assert "\\ throughput: Th / 450.0 [inferences/s]\n" in text


def test_component_and_index_alone_tell_variables_apart() -> None:
    assert clean_name(["choose", "1", "a b"]) == "choose.1.a_b"
    assert clean_name(["choose", "1", "a+b"]) == "choose.1.a_b"
    assert len(clean_name(["choose", "1", "x" * 300])) == LONGEST_NAME


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x 1\n", "x: not a variable of formulation 'path' of this instance; expected are names"),
        ("throughput 1\n", "throughput: not a variable of formulation 'path'"),
        ("choose.3.parity.alexnet_0 1\n", "the values choose no path of task 'digit'"),
        (
            "choose.0.digit.alexnet_0 1\nchoose.2.digit.mobilenet_0 1\n",
            "the values choose no path of task 'digit'",
        ),
    ],
)
def test_a_solution_of_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.sol").write_text(text)
    with pytest.raises(InputError) as caught:
        import_paths(instances()["digits"], tmp_path / "model.sol", Settings(formulation="path"))
    assert str(caught.value).startswith(f"{tmp_path / 'model.sol'}: {message}")


def test_percentiles_are_refused_where_waits_count(tmp_path: Path) -> None:
    """A file without waits would be solved to paths that break the limits."""
    digits = instances()["digits"]
    asked = digits.with_({"tasks[digit].latency_percentile": 0.95})
    limited = asked.with_({"tasks[digit].max_latency": 0.5})
    export_model(asked, tmp_path / "model.lp", Settings())  # promised, not limited
    for instance, settings, where in (
        (limited, Settings(), "with a limit"),
        (digits.with_({"tasks[digit].max_latency": 0.5}), Settings(latency_percentile=0.9), "with"),
        (asked, Settings(objective="latency"), "as the objective"),
    ):
        with pytest.raises(InputError, match=f"task 'digit' has a percentile of latency {where}"):
            export_model(instance, tmp_path / "refused.lp", settings)
    assert not (tmp_path / "refused.lp").exists()


def test_a_flow_that_reaches_no_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.sol").write_text("choose.0.digit.input.mobilenet_0 1\n")
    with pytest.raises(InputError, match="choose no path of task 'digit'"):
        import_paths(instances()["digits"], tmp_path / "model.sol", Settings(formulation="flow"))


def test_every_variable_of_a_model_has_words_or_is_a_total() -> None:
    """A component without words would be named by its index alone."""
    from code_opt.exact.method import build_view

    alone = {"path": {"prefix_rate", "prefix_in_use"}, "flow": set()}
    totals = {"average_accuracy", "throughput", "log_accuracy", "log_throughput"}
    for formulation, without in alone.items():
        view = build_view(instances()["shared-input"], Settings(formulation=formulation))
        names = {v.local_name for v in view.model.component_objects(pyo.Var)}
        assert names - set(view.words()) == without | totals
