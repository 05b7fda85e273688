"""A profile small enough for tests: the first example, trained for a moment."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

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


TONE_TESTS = 1
"""Test images of each of the two tones."""


def write_tones(folder: Path, seed: int = 0) -> None:
    """Write a data set of dark and light pictures: 5 of each to train on, ``folder/tones``."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", 5), ("test", TONE_TESTS)):
        for name, level in (("dark", 60), ("light", 200)):
            place = folder / "tones" / split / name
            place.mkdir(parents=True, exist_ok=True)
            for k in range(count):
                pixels = rng.normal(level, 20, (16, 16, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")


def tone_config(
    architecture: str = "squeezenet1_1",
    batch: int = 6,
    size: int = 32,
    precision: str = "half",
    **settings: Any,
) -> ProfileConfig:
    """Return a config of one service on :func:`write_tones`, trained for one step.

    Args:
        architecture: of the service.
        batch: of its training.
        size: height and width of its input.
        precision: of stored weights.
        settings: further fields of the service.
    """
    return parse_config(
        {
            "schema": "code-opt/profile/1",
            "name": architecture,
            "precision": precision,
            "servers": [{"id": "edge", "flops": 1.0e10}],
            "datasets": [{"id": "tones", "source": "folder", "path": "tones", "validation": 4}],
            "services": [
                {
                    "id": "tone",
                    "dnn": "net",
                    "server": "edge",
                    "architecture": architecture,
                    "input": [3, size, size],
                    "dataset": "tones",
                    "blocks": 2,
                    "training": {"epochs": 1, "batch": batch},
                    "demand": 2.0,
                    **settings,
                }
            ],
            "adapters": {
                "kinds": ["linear"],
                "images": 6,
                "calibration": 4,
                "held_out": 2,
                "epochs": 1,
                "batch": 4,
            },
            "search": {"method": "random"},
            "timing": {"batches": [1], "seconds": 0.001},
        }
    )


@pytest.fixture(scope="session")
def config() -> ProfileConfig:
    return parse_config(small_config())


@pytest.fixture(scope="session")
def done(config: ProfileConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """An exhaustive profile and its folder; look, do not change."""
    use_threads(1)
    folder = tmp_path_factory.mktemp("profile")
    return profile(config, place_in(folder)), folder
