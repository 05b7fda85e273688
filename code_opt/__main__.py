"""`python -m code_opt` is `code-opt`."""

from __future__ import annotations

from code_opt.cli.app import run

run()
