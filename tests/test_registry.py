"""Methods by name: the documented table, methods of users, installed ones, given paths."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from code_opt import (
    InputError,
    check,
    evaluate_paths,
    load_instance,
    register_method,
    registry,
    solve,
)
from code_opt.wording import reading

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "how-to" / "add-a-method.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def restored():
    """Forget what a test registers."""
    with registry.registered_for_now():
        yield


@pytest.fixture(scope="module")
def digits():
    return load_instance(ROOT / "data" / "digits" / "instance.json")


def native(instance, settings=None):
    """Native paths."""
    trunk = {dnn.id: [block.id for block in dnn.blocks] for dnn in instance.dnns}
    return {task.id: trunk[task.dnn] for task in instance.tasks}


# --- The registry -------------------------------------------------------------------------


def test_the_documented_table_is_the_registry():
    lines = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
    rows = [
        f"| `{m.name}` | {m.role} | {m.summary} | {', '.join(f'`{s}`' for s in m.settings)} |"
        for m in registry.BUILT_IN
    ]
    start = lines.index(rows[0])
    assert list(takewhile(lambda line: line.startswith("|"), lines[start:])) == rows


def test_settings_named_are_arguments_of_solve():
    import inspect

    arguments = set(inspect.signature(solve).parameters)
    assert {s for m in registry.BUILT_IN for s in m.settings} <= arguments
    assert [m.name for m in registry.BUILT_IN if m.proves] == ["exact"]


def test_the_page_on_adding_a_method_is_true(monkeypatch):
    """Its code prints what these methods reach (other pages' tests run it, too)."""
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(compile(block, "docs/how-to/add-a-method.md", "exec"), {})
    assert printed.getvalue() == "all-native feasible 133.111\n271.923\n"


def test_a_registered_method_has_a_row_like_ours(digits):
    register_method("mine", title="My own", role="baseline")(native)
    assert registry.method_names()[-1] == "mine"
    assert registry.get_method("mine").summary == "Native paths."
    assert registry.title_of("mine") == "My own"
    assert registry.place_of("mine") == len(registry.BUILT_IN)
    result, local = solve(digits, "mine"), solve(digits, "local")
    assert check(result, digits) == []
    assert (result.method, result.status, result.bound) == ("mine", "feasible", None)
    assert result.reward == pytest.approx(local.reward)
    lines = reading([solve(digits), result])
    assert any(line.startswith("mine is ") for line in lines)
    register_method("mine")(native)  # the same function again replaces it
    with pytest.raises(InputError, match="'mine': another function"):
        register_method("mine")(check)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exact", "'exact': this name is the package's own"),
        ("all", "'all': this name"),
        ("../up", "'../up': use at most 40 lower-case letters"),
        ("", "'': use at most"),
        ("a" * 41, "use at most 40"),
    ],
)
def test_names_that_cannot_be(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        register_method(name)
    assert registry.method_names() == tuple(m.name for m in registry.BUILT_IN)


def test_a_role_that_would_claim_a_proof_is_refused():
    with pytest.raises(InputError, match="role 'exact': use heuristic or baseline"):
        register_method("mine", role="exact")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "method 'mine': returned a list; a mapping"),
        ({}, "method 'mine': paths: task 'digit': has no path"),
        ({"cat": ["x"]}, "method 'mine': paths: task 'cat': the instance has no such task"),
    ],
)
def test_a_method_that_returns_something_else(digits, paths, message):
    register_method("mine")(lambda instance, settings: paths)
    with pytest.raises(InputError, match=re.escape(message)):
        solve(digits, "mine")


def test_a_method_that_finds_nothing(digits):
    register_method("mine")(lambda instance, settings: None)
    result = solve(digits, "mine")
    assert (result.status, result.message) == ("unknown", "no assignment found")
    assert check(result, digits) == []


def test_an_unknown_name_is_told_with_all_names(digits):
    register_method("mine")(native)
    with pytest.raises(InputError, match=r"use one of exact, lns, code,.*, mine"):
        solve(digits, "simplex")


# --- Installed methods: a distribution on the path, in a process of its own ---------------

MODULE = '''
from code_opt import register_method

@register_method("stays", title="All stay", summary="native paths")
def stays(instance, settings):
    trunk = {d.id: [b.id for b in d.blocks] for d in instance.dnns}
    return {t.id: trunk[t.dnn] for t in instance.tasks}

def plain(instance, settings):
    """Undecorated."""
    return stays(instance, settings)

number = 3
'''


def distribution(folder, **points):
    """Write what pip would install: a module and its metadata."""
    (folder / "their_methods.py").write_text(MODULE, encoding="utf-8")
    info = folder / "their_methods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: their-methods\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"{name.replace('_', '-')} = {value}" for name, value in points.items()]
    text = "\n".join(["[code_opt.methods]", *lines, ""])
    (info / "entry_points.txt").write_text(text, encoding="utf-8")


def run(folder, *arguments):
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "code_opt", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_an_installed_method_runs_with_all_others(tmp_path):
    distribution(tmp_path, stays="their_methods:stays", also="their_methods:plain")
    out = tmp_path / "out"
    done = run(tmp_path, "solve", "data/digits/instance.json", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^([a-z-]+) +(?:optimal|feasible)", done.stdout, re.MULTILINE)
    assert rows == [*(m.name for m in registry.BUILT_IN), "also", "stays"]
    found = json.loads((out / "digits.stays.json").read_text(encoding="utf-8"))
    assert found["method"] == "stays"
    checked = run(tmp_path, "check", out / "digits.stays.json", "data/digits/instance.json")
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("points", "asked", "message"),
    [
        (
            {"gone": "no_such_module:f"},
            "gone",
            "'gone' (no_such_module:f of their-methods): cannot ",
        ),
        ({"gone": "their_methods:f"}, "gone", "cannot be loaded: AttributeError"),
        ({"odd": "their_methods:number"}, "odd", "its type is int, not a function"),
        ({"other": "their_methods:stays"}, "other", "registered as 'stays'; give both the same"),
        ({"exact": "their_methods:plain"}, "all", "'exact' (their_methods:plain of their-methods)"),
    ],
)
def test_a_broken_installed_method_is_told(tmp_path, points, asked, message):
    distribution(tmp_path, **points)
    done = run(tmp_path, "solve", "data/two-services.json", "--method", asked)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_the_own_methods_run_beside_broken_ones(tmp_path):
    points = {"gone": "no_such_module:f", "odd": "their_methods:number"}
    distribution(tmp_path, **points, exact="their_methods:plain", other="their_methods:stays")
    done = run(tmp_path, "solve", "data/two-services.json", "--method", "exact")
    assert done.returncode == 0, done.stderr
    assert "their" not in done.stdout + done.stderr


# --- Given paths --------------------------------------------------------------------------


def test_given_paths_are_worth_what_a_solve_says(digits):
    best = solve(digits)
    found = evaluate_paths(digits, {row.task: row.path for row in best.tasks})
    assert check(found, digits) == []
    assert (found.method, found.status, found.bound) == ("paths", "feasible", None)
    assert found.reward == pytest.approx(best.reward, rel=1e-7)
    assert found.servers == best.servers


def test_given_paths_of_input_groups_share_what_they_have_in_common():
    instance = load_instance(ROOT / "data" / "one-camera" / "instance.json")
    best = solve(instance)
    found = evaluate_paths(instance, {row.task: row.path for row in best.tasks}, method="again")
    assert found.reward == pytest.approx(best.reward, rel=1e-7)
    assert found.method == "again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cat": ["alexnet/0"]}, "paths: task 'cat': the instance has no such task"),
        ({"digit": None}, "paths: task 'digit': has no path"),
        ({"digit": ["alexnet/1"]}, "path alexnet/1: no step leads from 'input' to 'alexnet/1'"),
        ({"digit": []}, "path (no block): no step leads from 'input' to 'output'"),
        ({"digit": "alexnet/0"}, "'alexnet/0': a list of block ids"),
        ({"digit": ["alexnet/0", 1]}, "a list of block ids"),
    ],
)
def test_paths_that_are_none_are_told(digits, change, message):
    paths = {**native(digits), **change}
    paths = {task: path for task, path in paths.items() if path is not None}
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate_paths(digits, paths)


def test_a_requirement_that_given_paths_miss_is_told(digits):
    paths = native(digits)
    result = evaluate_paths(digits, paths, min_throughput=1e4)
    assert (result.status, result.has_solution) == ("unknown", False)
    assert result.message.startswith("throughput 133.111/s: below 10000/s")
    result = evaluate_paths(digits, paths, min_accuracy=0.99)
    assert result.message.startswith("average accuracy 0.976389: below 0.99")
    data = digits.to_dict()
    data["tasks"][0]["max_latency"] = 1e-3
    late = evaluate_paths(digits.replace(tasks=data["tasks"]), paths)
    assert re.match("task 'digit': latency .* above max_latency 0.001 s", late.message)
    data["tasks"][0]["max_latency"], data["tasks"][0]["floor"] = None, 299.0
    full = evaluate_paths(digits.replace(tasks=data["tasks"]), paths)
    assert full.message.startswith("the least rates of the tasks do not fit")
