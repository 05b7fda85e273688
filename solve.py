"""`python solve.py INSTANCE ...` is `code-opt solve INSTANCE ...`, without installing."""

from __future__ import annotations

import sys

try:
    from code_opt.cli.app import main
    from code_opt.cli.terminal import leave
except ModuleNotFoundError as error:
    print(f"solve.py: package {error.name} is missing: run 'make demo' once", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    leave(main(["solve", *sys.argv[1:]]))
