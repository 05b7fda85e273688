"""The committed JSON Schema, and the format page, belong to the model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from code_opt import certificate, result
from code_opt.instance import schema
from code_opt.instance.model import Instance
from code_opt.instance.tables import COLUMNS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format.md"


def test_the_committed_schema_is_in_step() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.schema_text(), (
        "run: python -m code_opt.instance.schema --write"
    )


def test_the_schema_says_what_the_format_says() -> None:
    document = json.loads(schema.schema_text())
    assert document["required"] == ["schema", "servers", "dnns", "tasks"]
    assert document["additionalProperties"] is False
    assert document["properties"]["servers"]["minItems"] == 1
    server = document["$defs"]["Server"]
    assert server["additionalProperties"] is False
    number, null = server["properties"]["flops"]["anyOf"]
    assert (number["exclusiveMinimum"], null) == (0.0, {"type": "null"})


def test_the_command_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schema.main([]) == 0
    assert capsys.readouterr().out == schema.schema_text()
    monkeypatch.setattr(schema, "FILE", tmp_path / "schema.json")
    assert schema.main(["--write"]) == 0
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == schema.schema_text()


def documented() -> dict[str, list[str]]:
    """Return the keys in the tables of the format page, by their heading."""
    keys: dict[str, list[str]] = {}
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.strip("# `")
        elif match := re.match(r"\| `(\w+)` \|", line):
            keys.setdefault(heading, []).append(match[1])
    return keys


def test_the_format_page_names_every_key_in_order() -> None:
    definitions: dict[str, Any] = Instance.model_json_schema(by_alias=True)
    records = {"Instance": definitions, **definitions["$defs"]}
    results = result.Result.model_json_schema(by_alias=True)
    records |= {"Result": results, **results["$defs"]}
    certificates = certificate.Certificate.model_json_schema(by_alias=True)
    records |= {"Certificate": certificates, **certificates["$defs"]}
    keys = documented()
    for name, record in records.items():
        assert keys.pop(name) == list(record["properties"]), name
    assert keys == {}


def test_the_format_page_names_every_column() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for table, columns in COLUMNS.items():
        named = ", ".join(f"`{c}`" for c in columns)
        more = " (and `seconds_8`, ...)" if columns[-1] == "seconds" else ""
        assert f"| `{table}.csv` | {named}{more} |" in text, table
