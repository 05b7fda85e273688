"""The program on files, with the real methods, as a user runs it.

Two tests start the program as a process of its own; the others call what it calls, since every
start loads Pyomo and the solver anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from code_opt import load_result
from code_opt.cli.app import main
from tests.cli.examples import make_instance

ROOT = Path(__file__).resolve().parents[2]


Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def start(*command: str | Path, **environment: str) -> Done:
    """Run Python with these arguments, as a process of its own."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs the program on arguments, within this process."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str | Path) -> Done:
        status = main(list(map(str, arguments)))
        return Done(arguments, status, *capfd.readouterr())

    return call


def write(path: Path, **changes: Any) -> Path:
    data = make_instance().to_dict() | {"links": []} | changes
    data["tasks"][1]["id"] = "scenes[red]"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    return write(tmp_path / "instance.json")


def test_solve_py_prints_the_tables_and_writes_results_that_check_confirms(
    instance: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out"
    done = start(ROOT / "solve.py", instance, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert "exact is proven" in done.stdout
    assert "\x1b" not in done.stdout
    methods = ["code", "edge-early", "exact", "greedy", "host", "lns", "local", "random"]
    assert sorted(p.name for p in out.iterdir()) == [f"two-services.{m}.json" for m in methods]
    for path in out.iterdir():
        checked = run("check", path, instance)
        assert checked.returncode == 0, checked.stdout
        assert "confirmed" in checked.stdout


def test_json_alone_goes_to_stdout_even_with_a_solver_log(instance: Path, run: Run) -> None:
    done = run("solve", instance, "-m", "exact", "--formulation", "flow", "--json", "--solver-log")
    assert done.returncode == 0
    (result,) = json.loads(done.stdout)
    assert (result["method"], result["formulation"]) == ("exact", "flow")
    assert "HiGHS" in done.stderr


def test_check_names_what_was_tampered_with(instance: Path, tmp_path: Path, run: Run) -> None:
    run("solve", instance, "-m", "exact", "--out", tmp_path)
    path = tmp_path / "two-services.exact.json"
    result = load_result(path)
    wrong = result.tasks[0].model_copy(update={"rate": result.tasks[0].rate * 2})
    tampered = result.model_copy(update={"tasks": (wrong, *result.tasks[1:])})
    path.write_text(tampered.to_json())
    done = run("check", path, instance)
    assert done.returncode == 1
    assert "edge-" in done.stdout
    assert "not confirmed" in done.stdout


def test_infeasible_names_the_requirement(instance: Path, run: Run) -> None:
    done = run("solve", instance, "--min-accuracy", "0.99")
    assert done.returncode == 3
    assert done.stderr.startswith("code-opt: infeasible: ")
    assert "accuracy" in done.stderr


def test_validate_counts_and_complains(instance: Path, tmp_path: Path, run: Run) -> None:
    done = run("validate", instance)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 servers, 0 links, 2 DNNs, 10 blocks, 2 tasks, 2 connections" in done.stdout
    assert "    objects: 2\n" in done.stdout
    assert "\x1b" not in done.stdout

    servers = [{"id": "edge-a", "flops": -1.0}, {"id": "edge-a", "flops": 1.0, "colour": 1}]
    broken = write(tmp_path / "broken.json", servers=servers)
    done = run("validate", broken)
    assert (done.returncode, done.stdout) == (2, "")
    assert "servers[0].flops" in done.stderr
    assert "servers[1].colour" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("suffix", ["mps", "lp"])
@pytest.mark.parametrize("formulation", ["path", "flow"])
def test_export_writes_a_model_that_reads_back(
    instance: Path, tmp_path: Path, run: Run, suffix: str, formulation: str
) -> None:
    import highspy

    model = tmp_path / f"model.{suffix}"
    done = run("export", instance, "--to", model, "--formulation", formulation)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Written: {model} ({formulation} formulation)\n"
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)  # as in the package: HiGHS keeps its first threads
    assert highs.readModel(str(model)) == highspy.HighsStatus.kOk
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal


def test_a_solution_of_an_exported_model_becomes_a_checked_result(
    instance: Path, tmp_path: Path, run: Run
) -> None:
    import highspy

    model, solution, out = (tmp_path / name for name in ("model.mps", "model.sol", "out/r.json"))
    assert run("export", instance, "--to", model).returncode == 0
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)  # as in the package: HiGHS keeps its first threads
    highs.readModel(str(model))
    highs.run()
    highs.writeSolution(str(solution), 0)
    done = run("import-solution", instance, solution, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert "checked, at the best rates for its paths" in done.stdout
    assert "The solver's own reward: " in done.stdout
    assert run("check", out, instance).returncode == 0
    data = json.loads(out.read_text())
    assert (data["method"], data["status"]) == ("imported", "feasible")

    # Asked for more throughput than these paths have, the result says so.
    done = run("import-solution", instance, solution, "--min-throughput", "1e6", "--out", out)
    assert (done.returncode, done.stdout) == (4, "")
    assert "its paths cannot be taken: throughput " in done.stderr
    done = run("import-solution", instance, instance)
    assert done.returncode == 2
    assert "instance.json" in done.stderr or str(instance) in done.stderr


def test_a_model_of_known_accuracies_comes_back_as_such(
    instance: Path, tmp_path: Path, run: Run
) -> None:
    import highspy

    model, solution, out = (tmp_path / name for name in ("model.mps", "model.sol", "r.json"))
    assert run("export", instance, "--to", model, "--measured-only").returncode == 0
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)  # as in the package: HiGHS keeps its first threads
    highs.readModel(str(model))
    highs.run()
    highs.writeSolution(str(solution), 0)
    done = run("import-solution", instance, solution, "--measured-only", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(out.read_text())
    assert data["measured_only"] is True
    assert {row["accuracy_source"] for row in data["tasks"]} <= {"given", "measured"}
    assert run("check", out, instance).returncode == 0


def test_export_makes_a_missing_folder(instance: Path, tmp_path: Path, run: Run) -> None:
    model = tmp_path / "none" / "below" / "model.lp"
    assert run("export", instance, "--to", model).returncode == 0
    assert model.stat().st_size > 0
    done = run("export", instance, "--to", model / "x.lp")
    assert done.returncode == 2
    assert "--to: " in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--solver", "nosuchsolver"], ["--solver-option", "no_such_option=1"]]
)
def test_what_the_solver_does_not_know_is_refused(
    instance: Path, run: Run, arguments: list[str]
) -> None:
    done = run("solve", instance, "-m", "exact", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[1].split("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000, b'{"schema": NaN}']
)
def test_rubbish_ends_with_one_clear_message(tmp_path: Path, run: Run, content: bytes) -> None:
    path = tmp_path / "rubbish.json"
    path.write_bytes(content)
    done = run("solve", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"code-opt: {path}")
    assert "Traceback" not in done.stderr


def test_colour_only_on_request(instance: Path) -> None:
    done = start("-m", "code_opt", "solve", instance, "-m", "local", FORCE_COLOR="1")
    assert "\x1b[" in done.stdout
