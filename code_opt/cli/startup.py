"""What makes a short run of the program short: nothing loads that it does not use.

Importing takes most of the time of a small solve. When SciPy is first imported, Pyomo loads parts
of it, and SciPy parts of NumPy, that nothing here uses; and Python's collector of reference
cycles searches all objects that importing makes, which stay, again and again.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_LATER = frozenset({"numpy.f2py", "scipy.integrate", "scipy.spatial", "scipy.stats"})
"""Loaded on their first use, if there is any."""
_OBJECTS = 100_000
"""New objects after which the collector searches the youngest ones (Python's default: 700)."""


class _LaterFinder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return what the usual finder finds, with a loader that waits for the first use."""
        if name not in _LATER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def prepare_process() -> None:
    """Let this process, which runs the program, load no more than it uses."""
    if _LaterFinder not in sys.meta_path:
        sys.meta_path.insert(0, _LaterFinder)
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
