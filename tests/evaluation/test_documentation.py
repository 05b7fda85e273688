"""The table of docs/evaluation.md names every table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_every_table_is_documented(subject, results):
    from code_opt.evaluation import Options, evaluate

    found = evaluate(subject, {"local": results["local"]}, Options(seconds=0.1, feeds=()))
    rows = re.findall(r"^\| `(\w+)` \|", TEXT.partition("## What the tables hold")[2], re.MULTILINE)
    assert set(rows) == set(found.tables())
