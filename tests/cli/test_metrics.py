"""Metrics of a solve: parsed as Prometheus does, and equal to the result."""

from __future__ import annotations

import json
import re

import pytest

from code_opt.cli.app import main
from code_opt.cli.exits import ExitStatus
from code_opt.cli.metrics import metrics_text
from tests.cli.examples import make_result

DIGITS = "data/digits"
_SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\S+)')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')

_ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text):
    """Return values by name and labels; what breaks the format fails.

    The samples of a name follow its HELP and TYPE lines, and none stands there twice.
    """
    values, current, names = {}, None, []
    assert text.endswith("\n")
    lines = text.removesuffix("\n").split("\n")
    for k, line in enumerate(lines):
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert lines[k + 1] == f"# TYPE {current} gauge"
            assert re.fullmatch(r"code_opt_[a-z_]+", current)
            names.append(current)
        elif not line.startswith("# TYPE "):
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            assert found[1] == current
            labels = {
                name: re.sub(r"\\.", lambda m: _ESCAPED[m[0]], value)
                for name, value in _LABEL.findall(found[2])
            }
            key = (found[1], *sorted(labels.items()))
            assert key not in values
            values[key] = float(found[3])
    assert len(names) == len(set(names))
    return values


def test_metrics_say_what_the_result_says(tmp_path, capfd):
    file = tmp_path / "new" / "code-opt.prom"
    solve = ["solve", DIGITS, "-m", "exact", "-m", "local", "--json", "--metrics", str(file)]
    assert main(solve) == ExitStatus.DONE
    results = json.loads(capfd.readouterr().out)
    values = parse(file.read_text())
    for result in results:
        own = [("instance", "digits"), ("method", result["method"])]
        for name, key in (
            ("objective_value", "reward"),
            ("reward", "reward"),
            ("objective_bound", "bound"),
            ("objective_gap_ratio", "gap"),
            ("throughput_inferences_per_second", "throughput"),
            ("accuracy_ratio", "accuracy"),
            ("latency_seconds", "latency"),
            ("solve_duration_seconds", "seconds"),
        ):
            assert values.pop((f"code_opt_{name}", *own), None) == result[key]
        for server in result["servers"]:
            key = ("code_opt_server_utilization_ratio", *own, ("server", server["server"]))
            assert values.pop(key) == server["utilization"]
        for status in ("optimal", "feasible", "infeasible", "unknown"):
            key = ("code_opt_solve_status", *own, ("status", status))
            assert values.pop(key) == (result["status"] == status)
    assert values == {}


def test_changes_are_told_with_a_previous_result(tmp_path, capfd):
    assert main(["solve", DIGITS, "-m", "local", "--out", str(tmp_path)]) == ExitStatus.DONE
    file, previous = tmp_path / "x.prom", tmp_path / "digits.local.json"
    solve = ["solve", DIGITS, "-m", "exact", "--json", "--previous", str(previous)]
    capfd.readouterr()
    assert main([*solve, "--metrics", str(file)]) == ExitStatus.DONE
    (result,) = json.loads(capfd.readouterr().out)
    own = (("instance", "digits"), ("method", "exact"))
    values = parse(file.read_text())
    load = sum(one["bytes"] for one in result["adapters"] if one["action"] == "load")
    assert load > 0
    assert values["code_opt_adapter_load_bytes", *own] == load
    assert values["code_opt_path_changes", *own] == result["changes"]


def test_labels_are_escaped_and_what_is_missing_has_no_sample():
    name = 'a "b"\\n\\\nc{d}=,é'
    values = parse(metrics_text([make_result(status="infeasible", instance=name)]))
    own = (("instance", name), ("method", "exact"))
    assert values["code_opt_solve_status", *own, ("status", "infeasible")] == 1.0
    assert {key[0] for key in values} == {
        "code_opt_solve_status",
        "code_opt_solve_duration_seconds",
    }


def test_an_infeasible_solve_is_told_and_bad_input_leaves_the_file(tmp_path, capfd):
    file = tmp_path / "x.prom"
    solve = ["solve", DIGITS, "-m", "exact", "--metrics", str(file)]
    assert main([*solve, "--min-throughput", "1e6"]) == ExitStatus.INFEASIBLE
    before = file.read_text()
    key = ("instance", "digits"), ("method", "exact"), ("status", "infeasible")
    assert parse(before)["code_opt_solve_status", *key] == 1.0
    assert main([*solve, "--set", "tasks[digit].demand=-1"]) == ExitStatus.BAD_INPUT
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--executor", "serial"), "--metrics: for one instance only"),
        (("--previous", "{previous}", "--changes-front"), "--metrics: of one solve"),
    ],
)
def test_metrics_are_of_one_solve(tmp_path, capfd, more, message):
    assert main(["solve", DIGITS, "-m", "local", "--out", str(tmp_path)]) == ExitStatus.DONE
    more = [text.format(previous=tmp_path / "digits.local.json") for text in more]
    solve = ["solve", DIGITS, "--metrics", str(tmp_path / "x.prom"), *more]
    assert main(solve) == ExitStatus.BAD_INPUT
    assert message in capfd.readouterr().err
    assert not (tmp_path / "x.prom").exists()
