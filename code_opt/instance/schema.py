"""The JSON Schema of instance files, made from the model: ``python -m code_opt.instance.schema``.

It describes the structure (fields, types, ranges); the rules between the parts are in
:mod:`code_opt.instance.rules`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from code_opt.files import write_atomically
from code_opt.instance.model import SCHEMA, Instance

FILE = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Return the JSON Schema that belongs to the model."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        **Instance.model_json_schema(by_alias=True),
    }
    return json.dumps(schema, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the schema, or rewrite the committed file with ``--write``."""
    parser = argparse.ArgumentParser(prog="python -m code_opt.instance.schema")
    parser.add_argument("--write", action="store_true", help=f"rewrite {FILE.name}")
    if parser.parse_args(arguments).write:
        write_atomically(FILE, schema_text())
    else:
        sys.stdout.write(schema_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
