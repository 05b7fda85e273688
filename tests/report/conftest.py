"""What the tests of the report share: real instances, solved once."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra `report`")
pytest.importorskip("matplotlib", reason="needs the extra `report`")

from code_opt import load_instance, save_instance, save_result, solve
from code_opt.generate import generate
from code_opt.instance import Instance
from tests.report.examples import hostile_instance

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("exact", "code", "local", "edge-early")


def solve_into(instance: Instance, folder: Path, methods: tuple[str, ...] = METHODS) -> Path:
    """Write an instance and results into a folder, as ``solve --out`` does; return the folder."""
    folder.mkdir()
    save_instance(instance, folder / "instance.json")
    for method in methods:
        result = solve(instance, method=method, gap=1e-3, time_limit=20)
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
    return solve_into(instance, folder, ("code", "local"))
