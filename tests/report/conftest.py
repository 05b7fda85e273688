"""What the tests of the report share: real instances, solved once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra `report`")
pytest.importorskip("matplotlib", reason="needs the extra `report`")

from code_opt import load_instance, save_instance, save_result, solve
from code_opt.cli.app import main
from code_opt.generate import generate
from code_opt.instance import Instance
from tests.report.examples import hostile_instance

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = """scenario,probability,task,factor
quiet,0.7,objects,0.6
quiet,0.7,groups,0.6
rush,0.3,objects,1.8
rush,0.3,groups,1.4
"""
METHODS = ("exact", "lns", "local", "edge-early")


def solve_into(instance: Instance, folder: Path, methods: tuple[str, ...] = METHODS) -> Path:
    """Write an instance and results into a folder, as ``solve --out`` does; return the folder."""
    folder.mkdir()
    save_instance(instance, folder / "instance.json")
    for method in methods:
        result = solve(instance, method=method, gap=1e-3)
        save_result(result, folder / f"{method}.json")
    return folder


@pytest.fixture(scope="session")
def metro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four services on a ring of links."""
    instance = load_instance(ROOT / "data" / "metro-links.json")
    return solve_into(instance, tmp_path_factory.mktemp("report") / "metro")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names that would act if the page did not escape them."""
    return solve_into(hostile_instance(), tmp_path_factory.mktemp("report") / "hostile")


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty services: too many for one picture."""
    instance = generate(40, blocks=4, hosts=1, seed=1, links=True)
    folder = tmp_path_factory.mktemp("report") / "many"
    return solve_into(instance, folder, ("lns", "local"))


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an instance, two results and a plan of every kind."""
    folder = tmp_path_factory.mktemp("planned")
    data = json.loads((ROOT / "data" / "alexnet-mobilenet" / "balanced.json").read_text())
    data["bundle"] = None
    for server in data["servers"]:
        server["unit_flops"] = 5e8
    path = folder / "instance.json"
    path.write_text(json.dumps(data))
    (folder / "scenarios.csv").write_text(SCENARIOS)
    out = ["--out", str(folder)]
    runs = [
        ["--least-cost", "--growth", "1,2", "--max-loss", "0,2"],
        ["--growth-path", "--growth", "1,2", "--max-loss", "2"],
        ["--scenarios", str(folder / "scenarios.csv"), "--failures", "--max-loss", "5"],
        [
            "--together",
            "--growth",
            "1,2",
            "--scenarios",
            str(folder / "scenarios.csv"),
            "--failures",
            *("--max-loss", "2"),
        ],
        ["--front", "--marginal", "--vary", "servers[edge-a].flops=2e9:6e9:3"],
    ]
    for run in runs:
        assert main(["plan", str(path), *run, *out]) == 0
    assert main(["solve", str(path), "-m", "exact", "-m", "local", *out]) == 0
    return folder
