"""Pyomo under ``python -OO``: it edits docstrings when it loads, which are not there then."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

_NEEDS_THEM = "pyomo"


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile as under ``python -O``, whatever the compiled files left by others hold."""
        path = self.get_filename(fullname)
        code: CodeType = compile(self.get_data(path), path, "exec", dont_inherit=True, optimize=1)
        return code


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return what the usual finder finds, with the loader above for Python's own files."""
        if name.partition(".")[0] != _NEEDS_THEM:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def keep_docstrings() -> None:
    """Let Pyomo, where it is loaded later, have its docstrings even under ``python -OO``."""
    if sys.flags.optimize > 1 and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
