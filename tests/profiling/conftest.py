"""A profile small enough for tests: the first example, trained for a moment."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from code_opt.instance.yaml_text import read_yaml
from code_opt.networks.threads import use_threads
from code_opt.profiling.config import ProfileConfig, parse_config
from code_opt.profiling.pipeline import Profile, profile
from code_opt.profiling.preparation import Place

CONFIG = Path(__file__).resolve().parents[2] / "data" / "digits" / "config.yaml"


def small_config(**changes: Any) -> dict[str, Any]:
    """Return the first example with little training, as plain data."""
    data, problems = read_yaml(CONFIG.read_text(encoding="utf-8"))
    assert problems == []
    data = copy.deepcopy(data)
    for service in data["services"]:
        service["blocks"] = 3
        service["training"] |= {"epochs": 2, "batch": 64}
    data["adapters"] = {
        "kinds": ["pointwise", "linear"],
        "images": 300,
        "calibration": 100,
        "held_out": 60,
        "epochs": 1,
    }
    data["timing"] = {"batches": [4], "seconds": 0.001}
    return data | changes


def place_in(folder: Path) -> Place:
    return Place(CONFIG, folder, folder / "no-data", "cpu")


@pytest.fixture(scope="session")
def config() -> ProfileConfig:
    return parse_config(small_config())


@pytest.fixture(scope="session")
def done(config: ProfileConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """An exhaustive profile and its folder; look, do not change."""
    use_threads(1)
    folder = tmp_path_factory.mktemp("profile")
    return profile(config, place_in(folder)), folder
