"""Networks by name: those of ``torchvision.models``, and factories of modules that a user names.

A name with a colon, ``package.module:factory``, imports that module and calls the factory. That
runs code, so a CONFIG may say it (it is the user's own file), and a bundle only where the user
names the module.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.networks.compat import torch, torchvision

nn = torch.nn
RESERVED = (
    "weights",
    "weights_backbone",
    "progress",
    "num_classes",
    "pretrained",
    "checkpoint_path",
)
"""Options that no file may set: weights come from a named file, classes from the data set."""
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z]\w*")


def module_of(architecture: str) -> str | None:
    """Return the module of ``package.module:factory``, or None for a network of torchvision."""
    return architecture.partition(":")[0] if ":" in architecture else None


def check_name(architecture: str) -> None:
    """Check how an architecture is written; nothing is imported.

    Raises:
        InputError: it is written otherwise.
    """
    if ":" in architecture and not _NAME.fullmatch(architecture):
        raise InputError(
            f"architecture {architecture!r}: give a network of torchvision.models or "
            "package.module:factory"
        )


def code_of(architecture: str) -> str | None:
    """Return a SHA-256 of the file that a factory's module is, None where there is none.

    Raises:
        InputError: the module is not there.
    """
    module = module_of(architecture)
    if module is None:
        return None
    file = inspect.getsourcefile(_imported(module, architecture))
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def call_factory(architecture: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Return the network of a name, with its options.

    Args:
        architecture: network of ``torchvision.models``, or ``package.module:factory``. A factory
            is called with the options, and with ``num_classes`` where it takes that.
        classes: number of outputs.
        options: further arguments.

    Raises:
        InputError: no such network, module or factory, or it gives no ``torch.nn.Module``.
    """
    check_name(architecture)
    if module_of(architecture) is None:
        models = torchvision.models
        if architecture not in models.list_models(module=models):
            close = difflib.get_close_matches(architecture, models.list_models(module=models))
            hint = f"; close: {', '.join(close)}" if close else ""
            raise InputError(
                f"torchvision.models has no classification network {architecture!r}{hint}"
            )
        network = models.get_model(architecture, weights=None, num_classes=classes, **dict(options))
    else:
        factory = _factory(architecture)
        known = inspect.signature(factory).parameters.values()
        takes_classes = any(p.name == "num_classes" or p.kind == p.VAR_KEYWORD for p in known)
        network = factory(**options, **({"num_classes": classes} if takes_classes else {}))
    if not isinstance(network, nn.Module):
        raise InputError(
            f"architecture {architecture!r} gives a {type(network).__name__}, not a torch.nn.Module"
        )
    return network


def _imported(module: str, architecture: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"architecture {architecture!r}: {error}; install the package, or put its folder into "
            "PYTHONPATH"
        ) from None


def _factory(architecture: str) -> Any:
    module, _, name = architecture.partition(":")
    found = getattr(_imported(module, architecture), name, None)
    # What a module has imported from elsewhere is not what the user has named.
    home = str(getattr(found, "__module__", "")).partition(".")[0]
    if not callable(found) or home != module.partition(".")[0]:
        raise InputError(
            f"architecture {architecture!r}: {module} has no factory {name!r} of its own"
        )
    return found
