"""docs/profiling.md names every field, kind, table and option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from code_opt.networks.adapters import KINDS
from code_opt.profiling import config
from code_opt.profiling.prediction import PREDICTORS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "profiling.md").read_text(encoding="utf-8")
CODE = set(re.findall(r"`([^`]+)`", TEXT))
WORDS = {part for code in CODE for part in re.split(r"[.\s:,\[\]/]+", code)}
MODELS = [
    config.ProfileConfig,
    config.DatasetConfig,
    config.ServiceConfig,
    config.TrainingConfig,
    config.ConnectionsConfig,
    config.AdaptersConfig,
    config.SearchConfig,
    config.TimingConfig,
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_field_is_documented(model):
    names = {field.alias or name for name, field in model.model_fields.items()}
    assert names - WORDS == set()


@pytest.mark.parametrize("name", [*KINDS, *PREDICTORS, "code", "exact", "exhaustive", "random"])
def test_every_choice_is_documented(name):
    assert name in WORDS


def test_every_table_is_documented():
    written = {p.stem for p in (ROOT / "data" / "digits" / "tables").glob("*.csv")}
    assert {name for name in written if f"tables/{name}.csv" not in CODE} == set()


@pytest.mark.parametrize(
    ("model", "field", "shown"),
    [
        (config.AdaptersConfig, "images", "4000"),
        (config.AdaptersConfig, "temperature", "2"),
        (config.SearchConfig, "optimism", "0.3"),
        (config.SearchConfig, "first_optimism", "0.85"),
        (config.SearchConfig, "most_paths", "2000"),
        (config.TrainingConfig, "weight_decay", "0.02"),
    ],
)
def test_defaults_are_those_of_the_code(model, field, shown):
    fields = TEXT.partition("## CONFIG")[2].splitlines()
    (line,) = [row for row in fields if row.startswith("|") and f"{field}`" in row][:1]
    assert shown in line
    assert float(shown) == float(model.model_fields[field].default)
