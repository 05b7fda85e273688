"""The commands, with answers made up in place of ``solve``: arguments, output, exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import code_opt
from code_opt.cli.app import main
from code_opt.errors import CodeOptError, InputError
from code_opt.files import file_stem
from code_opt.instance import save_instance
from code_opt.result import Result
from tests.cli.examples import make_instance, make_result

ROOT = Path(__file__).resolve().parents[2]
METHODS = ["exact", "lns", "code", "local", "host", "edge-early", "greedy", "random"]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CODE_OPT_DEBUG", raising=False)


def test_every_method_runs_by_default_and_is_shown(answer, capsys) -> None:
    calls = answer({method: make_result(method) for method in METHODS})
    assert main(["solve", "x.json"]) == 0
    assert [call["method"] for call in calls] == METHODS
    assert all(callable(call.pop("progress")) for call in calls)
    assert calls[0].pop("method") == "exact"
    assert calls[0] == {
        "formulation": "auto",
        "objective": "reward",
        "min_accuracy": None,
        "min_throughput": None,
        "latency_percentile": None,
        "max_utilization": None,
        "solver": "highs",
        "time_limit": None,
        "gap": 1e-4,
        "seed": 0,
        "threads": 1,
        "solver_options": {},
        "solver_log": False,
    }
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f"\n{method} " in out for method in METHODS)
    assert "mobilenet-v3-small/0…4" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_options_reach_the_solver(answer) -> None:
    calls = answer({method: make_result(method) for method in METHODS})
    arguments = (
        "solve x.json -m local --method exact --method local --formulation flow "
        "--objective accuracy --min-accuracy 0.5 --min-throughput 10 --solver scip "
        "--solver-option presolve=off --solver-option mip_lp_age_limit=5 "
        "--solver-option tol=1e-7 --solver-option heavy=true --time-limit 2.5 --gap 0 "
        "--seed 7 --threads 2 --solver-log"
    )
    assert main(arguments.split()) == 0
    assert [call["method"] for call in calls] == ["exact", "local"]
    call = calls[0]
    assert (call["formulation"], call["objective"], call["solver"]) == ("flow", "accuracy", "scip")
    assert (call["min_accuracy"], call["min_throughput"]) == (0.5, 10.0)
    assert (call["time_limit"], call["gap"], call["seed"], call["threads"]) == (2.5, 0.0, 7, 2)
    assert call["solver_log"] is True
    options = {"presolve": "off", "mip_lp_age_limit": "5", "tol": "1e-7", "heavy": "true"}
    assert call["solver_options"] == options
    zeros = ["--min-accuracy", "-0.0", "--min-throughput", "-0.0"]
    assert main(["solve", "x.json", "-m", "local", *zeros]) == 0
    assert (str(calls[-1]["min_accuracy"]), str(calls[-1]["min_throughput"])) == ("0.0", "0.0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("solve", "Missing argument 'INSTANCE...'"),
        ("solve x.json --gap -1", "--gap"),
        ("solve x.json --gap nan", "'--gap'"),
        ("solve x.json --gap inf", "'--gap'"),
        ("solve x.json --gap much", "'--gap'"),
        ("solve x.json --min-accuracy 1.1", "--min-accuracy"),
        ("solve x.json --min-accuracy nan", "'--min-accuracy'"),
        ("solve x.json --min-throughput -3", "--min-throughput"),
        ("solve x.json --min-throughput inf", "inf is not a finite number"),
        ("solve x.json --time-limit 0", "0.0 is not a number above 0"),
        ("solve x.json --time-limit nan", "nan is not a number above 0"),
        ("solve x.json --seed -1", "--seed"),
        ("solve x.json --seed 1.5", "'--seed'"),
        ("solve x.json --threads 0", "--threads"),
        ("solve x.json --method simplex", "'simplex' is not one of"),
        ("solve x.json --formulation simplex", "'simplex' is not one of"),
        ("export x.json --to m.lp --formulation colgen", "'colgen' is not one of"),
        ("solve x.json --objective cost", "'--objective': 'cost' is not one of"),
        ("solve x.json --solver-option threads", "expected NAME=VALUE"),
        ("solve x.json --solver-option =1", "expected NAME=VALUE"),
        ("solve x.json --solver-option a=1 --solver-option a=2", "given twice"),
        ("solve x.json --colour", "No such option"),
        ("solve x.json y.json", "x.json: no such file or folder"),
        ("dissolve x.json", "No such command 'dissolve'"),
        ("check x.json", "Missing argument 'INSTANCE'"),
        ("export x.json", "Missing option '--to'"),
        ("export x.json --to model.txt", "must end in .mps or .lp"),
    ],
)
def test_bad_arguments_end_with_one_message(answer, capsys, arguments: str, message: str) -> None:
    calls = answer({})
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert (out, calls) == ("", [])
    assert message in err
    assert err.startswith("code-opt: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("given", ["instance.json", "instance.yaml", "tables", "profiled"])
def test_check_names_the_right_order(tmp_path: Path, capsys, given: str) -> None:
    path = tmp_path / given
    if given == "profiled":
        path.mkdir()
    save_instance(make_instance(), path / "instance.json" if given == "profiled" else path)
    code_opt.save_result(make_result("local"), tmp_path / "result.json")
    assert main(["check", str(path), str(tmp_path / "result.json")]) == 2
    order = "the order is: code-opt check RESULT INSTANCE"
    assert capsys.readouterr() == ("", f"code-opt: {path}: an instance, not a result; {order}\n")


def test_a_result_of_another_instance_is_told_as_that_alone(tmp_path: Path, capsys) -> None:
    other = ROOT / "data" / "infeasible.json"
    code_opt.save_result(make_result("local"), tmp_path / "result.json")
    assert main(["check", str(tmp_path / "result.json"), str(other)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("instance-name: ")
    assert lines[1].endswith("not confirmed, 1 violation")


def test_json_is_all_that_is_printed(answer, capsys) -> None:
    results = {"exact": make_result("exact"), "host": make_result("host", "unknown", message="ü")}
    answer(results)
    assert main(["solve", "x.json", "-m", "host", "-m", "exact", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [Result.model_validate_json(json.dumps(r)) for r in json.loads(out)] == list(
        results.values()
    )
    assert err == ""


def test_results_are_written_one_file_per_method(answer, tmp_path: Path, capsys) -> None:
    answer({method: make_result(method) for method in METHODS}, make_instance("../../a b\x1b/.."))
    out = tmp_path / "new" / "folder"
    assert main(["solve", "x.json", "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(f"a-b.{m}.json" for m in METHODS)
    assert code_opt.load_result(out / "a-b.exact.json") == make_result("exact")
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("two-services", "two-services"),
        ("../../x", "x"),
        ("..", "instance"),
        ("", "instance"),
        ("/etc/passwd", "etc-passwd"),
        ("C:\\x\x00y\n", "C-x-y"),
        (".hidden", "hidden"),
        ("東京 3", "東京-3"),
    ],
)
def test_names_from_files_make_harmless_file_names(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_long_names_make_short_file_names() -> None:
    assert len(file_stem("東" * 200).encode()) <= 120


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_out_must_be_a_folder(answer, tmp_path: Path, capsys, place: str) -> None:
    calls = answer({"local": make_result("local")})
    (tmp_path / "file").write_text("")
    assert main(["solve", "x.json", "-m", "local", "--out", str(tmp_path / place)]) == 2
    assert "--out" in capsys.readouterr().err
    assert calls == []


def test_infeasible_names_the_requirement(answer, capsys) -> None:
    message = "min_accuracy 0.9 cannot be met; at most 0.78"
    answer(
        {
            "exact": make_result("exact", "infeasible", message=message),
            "lns": make_result("lns", "unknown", message="nothing found"),
        }
    )
    assert main(["solve", "x.json", "-m", "exact", "-m", "lns"]) == 3
    out, err = capsys.readouterr()
    assert err == f"code-opt: infeasible: {message}\n"
    assert "exact proves that no assignment meets all requirements." in out


def test_nothing_found_is_not_called_infeasible(answer, capsys) -> None:
    answer({"lns": make_result("lns", "unknown", message="lns: time limit")})
    assert main(["solve", "x.json", "-m", "lns", "--json"]) == 4
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1
    assert err == "code-opt: stopped with no assignment found\n  lns: time limit\n"


def test_one_assignment_is_enough(answer, capsys) -> None:
    answer(
        {
            "exact": make_result("exact", "unknown", message="time limit"),
            "lns": make_result("lns"),
        }
    )
    assert main(["solve", "x.json", "-m", "exact", "-m", "lns"]) == 0
    out = capsys.readouterr().out
    assert "exact: time limit" in out
    assert "Paths of lns" in out


@pytest.mark.parametrize(
    ("error", "status", "start"),
    [
        (InputError("a\x1b[31mb\nc"), 2, "code-opt: a\\x1b[31mb\nc\n"),
        (CodeOptError("the checker refused"), 70, "code-opt: failed: the checker refused\n"),
        (ZeroDivisionError("x"), 70, "code-opt: internal error: ZeroDivisionError: x\n"),
        (KeyboardInterrupt(), 130, "code-opt: interrupted\n"),
    ],
)
def test_errors_end_without_a_traceback(
    answer, tmp_path: Path, capsys, error: BaseException, status: int, start: str
) -> None:
    answer({"exact": make_result("exact"), "lns": error})
    out = tmp_path / "out"
    arguments = ["solve", "x.json", "-m", "exact", "-m", "lns", "--out", str(out)]
    assert main(arguments) == status
    shown, err = capsys.readouterr()
    assert shown == ""
    assert err.startswith(start)
    assert "Traceback" not in err
    assert list(out.iterdir()) == []


def test_debugging_shows_the_traceback(answer, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CODE_OPT_DEBUG", "1")
    answer({"local": ZeroDivisionError("x")})
    assert main(["solve", "x.json", "-m", "local"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_help_and_version(capsys) -> None:
    assert main([]) == 0
    assert "validate" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"code-opt {code_opt.__version__}\n"
    for command in ("solve", "validate", "check", "export"):
        assert main([command, "--help"]) == 0
        assert "Exit status" in capsys.readouterr().out


def test_names_in_the_table_cannot_act_on_the_terminal(answer, capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    answer({"local": make_result("local")}, make_instance("[blink]x[/blink]\x1b[2J"))
    assert main(["solve", "x.json", "-m", "local"]) == 0
    out = capsys.readouterr().out
    assert "[blink]x[/blink]\\x1b[2J" in out
    assert "\x1b[2J" not in out
    assert "\x1b[31m" not in out


def run(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_solve_py_is_the_solve_command_from_anywhere(tmp_path: Path) -> None:
    done = run(sys.executable, str(ROOT / "solve.py"), "missing.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "code-opt: missing.json: no such file\n"
    module = run(sys.executable, "-m", "code_opt", "solve", "missing.json", cwd=ROOT)
    assert (module.returncode, module.stderr) == (done.returncode, done.stderr)


def test_a_reader_that_leaves_is_no_error() -> None:
    script = (
        "import select, sys; from tests.cli.examples import *; import code_opt;"
        "gone = select.poll(); gone.register(1, 0);"
        "code_opt.load_instance = lambda _: make_instance('x' * 200);"
        "code_opt.solve = lambda *a, **k: (gone.poll(), make_result())[1];"
        "from code_opt.cli.app import main; sys.exit(main(['solve', 'x', '-m', 'exact']))"
    )
    command = f'"{sys.executable}" -c "{script}" | true; exit ${{PIPESTATUS[0]}}'
    done = run("bash", "-c", command, cwd=ROOT)
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_small_solve_loads_no_more_than_it_uses() -> None:
    """What makes the program start fast, told by what is loaded and not by a clock."""
    script = (
        "import gc, sys; from code_opt.cli.app import main;"
        "assert main(['solve', 'data/two-services.json', '-m', 'exact']) == 0;"
        "others = {'pandas', 'yaml', 'pyomo.environ', 'pyomo.dae', 'scipy.optimize', 'jinja2'};"
        "others |= {'scipy.stats.distributions', 'scipy.spatial.distance', 'numpy.f2py.f2py2e'};"
        "others |= {'code_opt.cli.plan', 'code_opt.cli.evaluate', 'code_opt.planning', 'torch'};"
        "print(sorted(others & set(sys.modules)), gc.get_threshold()[0] > 10_000);"
        "import scipy.stats, numpy.f2py as f2py;"
        "print(scipy.stats.norm.cdf(0.0), bool(f2py.run_main))"
    )
    done = run(sys.executable, "-c", script, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-2:] == ["[] True", "0.5 True"]


def test_the_methods_are_those_that_solve_knows() -> None:
    from code_opt import registry, solving
    from code_opt.cli.methods import methods_to_run

    assert list(solving.METHODS) == METHODS == methods_to_run([])
    assert set(solving._RUN) == {method.name for method in registry.BUILT_IN}
    assert methods_to_run(["local", "exact", "local"]) == ["exact", "local"]


def edited(tmp_path: Path) -> tuple[Path, Path]:
    """Solve an instance, then let a task ask for more; return the result and the instance."""
    source = ROOT / "data" / "metro-links.json"
    instance = code_opt.load_instance(source)
    result = tmp_path / "result.json"
    code_opt.save_result(code_opt.solve(instance), result)
    data = instance.to_dict()
    data["servers"][0]["flops"] *= 2.0
    data["tasks"][0]["weight"] = 2.0
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert main(["check", str(result), str(source)]) == 0
    return result, path


def test_a_changed_instance_is_told_with_what_holds_and_what_does_not(
    tmp_path: Path, capsys
) -> None:
    result, changed = edited(tmp_path)
    capsys.readouterr()
    assert main(["check", str(result), str(changed)]) == 1
    out = capsys.readouterr().out
    assert "the instance changed since the result was found: servers, tasks" in out
    assert "not confirmed, " in out
    assert "still holds: what is not listed here" in out
    assert "not confirmed: that it is optimal, the bound" in out


@pytest.mark.parametrize("method", ["exact", "local"])
def test_where_every_figure_still_holds_that_is_said(tmp_path: Path, capsys, method: str) -> None:
    source = ROOT / "data" / "two-services.json"
    instance = code_opt.load_instance(source)
    code_opt.save_result(code_opt.solve(instance, method), tmp_path / "result.json")
    data = instance.to_dict()
    data["tasks"][0]["connections"][0]["drop"] = -0.05  # no result uses it; the optimum would
    (tmp_path / "edited.json").write_text(json.dumps(data), encoding="utf-8")
    assert main(["check", str(tmp_path / "result.json"), str(tmp_path / "edited.json")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("instance-changed: instance_digest: ")
    assert lines[1].endswith("not confirmed, 1 violation")
    assert lines[2].startswith("  still holds: every figure and requirement")
    lost = "that it is optimal" if method == "exact" else "how good it is beside others"
    assert lines[3].startswith(f"  not confirmed: {lost}")


def test_of_an_old_result_it_cannot_be_told(tmp_path: Path, capsys) -> None:
    source = ROOT / "data" / "two-services.json"
    result = code_opt.solve(code_opt.load_instance(source), "local")
    data = result.to_dict()
    del data["instance_digest"]
    (tmp_path / "old.json").write_text(json.dumps(data), encoding="utf-8")
    assert main(["check", str(tmp_path / "old.json"), str(source)]) == 0
    out = capsys.readouterr().out
    assert "confirmed (local, feasible" in out
    assert "whether the instance changed since cannot be told" in out
