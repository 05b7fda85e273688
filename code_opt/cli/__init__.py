"""The command line: arguments in, tables or JSON out, honest exit statuses."""

from __future__ import annotations

from code_opt.cli.startup import prepare_process

prepare_process()  # before anything else is imported
