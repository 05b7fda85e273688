"""`code-opt evaluate --simulate` as a user runs it: no networks, no clock, no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import code_opt
from code_opt.cli.app import main
from code_opt.instance import save_instance
from code_opt.result import save_result
from tests.evaluation.examples import edge


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """An instance with a limit of the 95th percentile, and its result."""
    instance = edge(
        {"s": 1000.0},
        {"a": ("s", [10.0])},
        tasks=[{"id": "a", "demand": 50.0, "max_latency": 0.1, "latency_percentile": 0.95}],
    )
    save_instance(instance, tmp_path / "instance.json")
    save_result(code_opt.solve(instance), tmp_path / "exact.json")
    return [str(tmp_path / "instance.json"), str(tmp_path / "exact.json")]


def test_a_result_is_confirmed_on_a_simulated_clock(files, tmp_path, capsys):
    assert main(["evaluate", *files, "--simulate", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "exact: confirmed (accuracy not measured), on a simulated clock" in shown
    change = ["--set", "tasks[a].max_latency=0.01"]  # less than a path takes
    assert main(["evaluate", *files, "--simulate", *change]) == 1
    rows = (tmp_path / "out" / "edge_tasks.csv").read_text().splitlines()
    assert [line.count("kept") for line in rows[1:]] == [1, 0, 0]


def test_a_limit_that_is_broken_is_told(files, capsys):
    path = Path(files[1])
    data = json.loads(path.read_text(encoding="utf-8"))
    instance = code_opt.load_instance(files[0]).with_({"tasks[*].max_latency": 0.02})
    save_instance(instance, files[0])
    # A promise as good as the limit: what nobody keeps.
    data["tasks"][0]["latency_promised"] = 0.02
    data.pop("instance_digest", None)
    path.write_text(json.dumps(data), encoding="utf-8")
    assert main(["evaluate", *files, "--simulate", "--feed", "rates"]) == 1
    assert "exact: not confirmed:" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--no-edge", "--fine-tune", "--pace=device"])
def test_what_needs_networks_is_refused(files, option, capsys):
    assert main(["evaluate", *files, "--simulate", option]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"--simulate: runs no networks: leave out {option.replace('=', ' ')}" in told


def test_no_torch_is_loaded(files):
    script = (
        "import sys; from code_opt.cli.app import main;"
        f"main(['evaluate', *{files!r}, '--simulate', '--seconds', '1']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
