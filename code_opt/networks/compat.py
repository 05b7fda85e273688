"""``torch`` and ``torchvision`` for this layer, also where torchvision's operators cannot load.

A torchvision wheel brings compiled operators (boxes, regions of interest; no classification
network needs them). Built for CUDA, they cannot be loaded beside a CPU build of torch, and
torchvision swallows that. Its import then fails all the same, with "operator
torchvision::nms does not exist": it registers shape functions for two of the operators, which
torch refuses for operators that nobody defined. So the two are declared here first, without an
implementation, and only where the compiled ones cannot be loaded. Calling one still raises.

The package imports this module first of all, so ``import code_opt.networks`` is enough to make
``import torchvision`` work afterwards. Inside of the package, import the names from here:
``from code_opt.networks.compat import torch, torchvision``.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
from typing import Any

from code_opt.errors import InputError

try:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
except ImportError as error:
    raise InputError(
        f"this needs PyTorch and torchvision ({error}); install them with: "
        "pip install 'code-opt[networks]'"
    ) from None

__all__ = ["FlopCounterMode", "torch", "torchvision"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
"""Operators for which torchvision registers a shape function while it is imported."""


def _compiled_operators_load() -> bool:
    """Load torchvision's compiled operators as its own import does; tell whether that worked."""
    operators: Any = torch.ops  # untyped
    package = importlib.util.find_spec("torchvision")
    for folder in (package.submodule_search_locations or ()) if package else ():
        finder = importlib.machinery.FileFinder(
            folder,
            (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        )
        library = finder.find_spec("_C")
        if library is not None and library.origin is not None:
            try:
                operators.load_library(library.origin)
            except (ImportError, OSError):
                return False
            return True
    return False


def _declare_missing_operators() -> Any:
    """Declare the operators of :data:`_SCHEMAS` where the compiled ones cannot be loaded.

    Returns:
        The ``torch.library.Library`` that holds the declarations, or None where none is needed.
    """
    if _compiled_operators_load():
        return None
    declare: Any = torch.library.Library  # untyped
    library = declare("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


# Kept: the declarations live as long as this object.
_LIBRARY = _declare_missing_operators()


class _Torchvision:
    """torchvision, loaded when something of it is first used.

    It loads torch's compiler with it, which takes longer than torch itself: a server of the edge
    that computes without a network of torchvision does not wait for that.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            module = importlib.import_module("torchvision")
        except ImportError as error:
            raise InputError(_NO_TORCHVISION.format(error)) from None
        return getattr(module, name)


_NO_TORCHVISION = "this needs torchvision ({}); install it with: pip install 'code-opt[networks]'"
if importlib.util.find_spec("torchvision") is None:
    raise InputError(_NO_TORCHVISION.format("No module named 'torchvision'"))
torchvision: Any = _Torchvision()
