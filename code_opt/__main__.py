"""`python -m code_opt` is `code-opt`."""

from __future__ import annotations

import sys

from code_opt.cli.app import main

sys.exit(main())
