"""The methods by name: what each is, in which order tables show them, and how to add one.

The package's own methods stand here; others are registered by :func:`register_method` in the
running process, or installed by a distribution that names them in the entry point group
``code_opt.methods``. Command line, tables, sentences and reports take names and order from here.
Nothing is loaded until a method is asked for by its name, and no file names what is loaded:
only what is installed or registered can run.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from code_opt.errors import InputError

__all__ = [
    "BUILT_IN",
    "Method",
    "get_method",
    "method_names",
    "register_method",
]

ENTRY_POINTS = "code_opt.methods"
"""Entry point group in which a distribution names its methods."""
RESERVED = ("all", "plan")
"""Names that mean something else on the command line."""

Role = Literal["exact", "heuristic", "baseline"]
Paths = Mapping[str, Sequence[str]]
"""Block ids of one path for every task id."""
Choose = Callable[..., "Paths | None"]
"""A method of a user: ``choose(instance, settings)`` returns one path for every task, or None."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Method:
    """What is known of a method without running it."""

    name: str
    title: str
    """In headings and legends of a report."""
    summary: str
    """How it chooses paths, in one line."""
    role: Role = "heuristic"
    """``exact`` proves bounds, a ``heuristic`` is for use, a ``baseline`` for comparison."""
    settings: tuple[str, ...] = ()
    """Arguments of :func:`code_opt.solve` that it heeds, besides the objective and the floors."""
    choose: Choose | None = None
    """Chooses the paths; None for the package's own methods."""

    @property
    def proves(self) -> bool:
        """Whether its results can have a bound and a gap."""
        return self.role == "exact"


BUILT_IN = (
    Method(
        "exact",
        "Exact",
        "all nondominated paths, a mixed-integer program",
        "exact",
        (
            "formulation",
            "solver",
            "time_limit",
            "gap",
            "seed",
            "threads",
            "solver_options",
            "solver_log",
            "second_opinion",
            "progress",
            "parameters",
        ),
    ),
    Method(
        "lns",
        "Neighbourhood search",
        "a Lagrangian dive, then large neighbourhood search: near the optimum at any size",
        settings=("time_limit", "seed", "parameters"),
    ),
    Method(
        "code",
        "CoDE",
        "CoDE's procedure as published: services in turn, stage by stage, few paths measured",
        settings=("time_limit", "parameters"),
    ),
    Method(
        "local",
        "No coordination",
        "every task on its native path, or an alternative on its own server: no coordination",
        "baseline",
        ("time_limit", "seed", "parameters"),
    ),
    Method(
        "host",
        "Host",
        "every task within the trunk of one other DNN, where it has such a path; native paths come "
        "back only if that alone is infeasible",
        "baseline",
        ("time_limit", "seed", "parameters"),
    ),
    Method(
        "edge-early",
        "Early exits",
        "native path or an exit from the own DNN",
        "baseline",
        ("time_limit", "seed", "parameters"),
    ),
    Method(
        "greedy",
        "Greedy",
        "hill climbing, one task at a time, from the most accurate paths",
        "baseline",
        ("time_limit",),
    ),
    Method(
        "random",
        "Random",
        "as many random assignments as `lns` evaluated, 100 at least; the best of them",
        "baseline",
        ("time_limit", "seed", "parameters"),
    ),
)
"""The package's own methods, in the order in which tables show them."""

_OWN = {method.name: method for method in BUILT_IN}
_registered: dict[str, Method] = {}
"""Methods registered in this process, in order."""


def register_method(
    name: str, *, title: str | None = None, summary: str | None = None, role: Role = "heuristic"
) -> Callable[[Choose], Choose]:
    """Return a decorator that registers a function as a method for this process.

    The function is called with the instance and the :class:`code_opt.Settings`, and returns the
    block ids of one path for every task id, or None where it finds no assignment. The package
    works out the best rates, makes the result and has it checked. Registering the same function
    again replaces it.

    Args:
        name: lower-case letters, digits and single hyphens; part of the names of result files.
        title: in headings of a report (default: the name).
        summary: how it chooses paths, in one line (default: the function's docstring).
        role: ``heuristic`` or ``baseline``.

    Raises:
        InputError: the name is taken, or no name; or the role is another one.
    """
    if role not in ("heuristic", "baseline"):
        raise InputError(f"method {name!r}: role {role!r}: use heuristic or baseline")
    _check_name(name, "")

    def register(choose: Choose) -> Choose:
        known = _registered.get(name)
        if known is not None and _origin(known.choose) != _origin(choose):
            raise InputError(f"method {name!r}: another function is registered under this name")
        told = summary or (choose.__doc__ or "").strip().partition("\n")[0]
        _registered[name] = Method(name, title or name, told, role, choose=choose)
        return choose

    return register


def method_names() -> tuple[str, ...]:
    """Return the names of all methods, in the order of tables; nothing is loaded.

    First the package's own, then those registered in this process, then installed ones by name.

    Raises:
        InputError: an installed method has a name that cannot be used.
    """
    installed = sorted(_installed())
    return tuple(dict.fromkeys((*_OWN, *_registered, *installed)))


def get_method(name: str) -> Method:
    """Return a method by its name; an installed one is loaded.

    Raises:
        InputError: there is no such method, or an installed one cannot be loaded.
    """
    found = known_method(name)
    if found is not None:
        return found
    point = _installed().get(name)
    if point is None:
        raise InputError(f"method {name!r}: use one of {', '.join(method_names())}")
    return _load(point)


def known_method(name: str) -> Method | None:
    """Return a method if it is the package's own or registered; never loads one."""
    return _OWN.get(name) or _registered.get(name)


def role_of(name: str) -> Role:
    """Return the role of a method; one that is not known here is taken as a heuristic."""
    method = known_method(name)
    return "heuristic" if method is None else method.role


def title_of(name: str) -> str:
    """Return what a method is called in headings; its name where it is not known here."""
    method = known_method(name)
    return name if method is None else method.title


def place_of(name: str) -> int:
    """Return the place of a method in tables; those not known here share the last one."""
    names = [*_OWN, *_registered]
    return names.index(name) if name in names else len(names)


@contextlib.contextmanager
def registered_for_now() -> Iterator[None]:
    """Forget at the end of a context what is registered within it."""
    before = dict(_registered)
    try:
        yield
    finally:
        _registered.clear()
        _registered.update(before)


def _check_name(name: str, where: str) -> None:
    """Refuse names that cannot stand in a file name or mean something else."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InputError(
            f"method {name!r}{where}: use at most {_LONGEST_NAME} lower-case letters, digits and "
            "single hyphens"
        )
    if name in _OWN or name in RESERVED:
        raise InputError(f"method {name!r}{where}: this name is the package's own; use another one")


def _origin(choose: Choose | None) -> tuple[Any, Any]:
    """Return where a function is written: the same for a cell or module run a second time."""
    return getattr(choose, "__module__", None), getattr(choose, "__qualname__", choose)


@functools.cache
def _installed() -> dict[str, EntryPoint]:
    """Return the entry points of installed methods by name.

    Raises:
        InputError: a name cannot be used, or two distributions have the same.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        _check_name(point.name, f" ({_source(point)})")
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise InputError(
                f"method {point.name!r}: installed by {_source(other)} and by {_source(point)}; "
                "uninstall one of them"
            )
    return found


def _source(point: EntryPoint) -> str:
    """Return the distribution and the object that an entry point names."""
    distribution = "a distribution" if point.dist is None else point.dist.name
    return f"{point.value} of {distribution}"


def _load(point: EntryPoint) -> Method:
    """Load an installed method: a registered function, or any with the same arguments.

    Raises:
        InputError: it cannot be loaded, is no function, or registers under another name.
    """
    place = f"method {point.name!r} ({_source(point)})"
    try:
        choose = point.load()
    except Exception as error:  # whatever a stranger's module raises
        raise InputError(
            f"{place}: cannot be loaded: {type(error).__name__}: {error}; mend or uninstall it"
        ) from error
    if not callable(choose):
        raise InputError(f"{place}: its type is {type(choose).__name__}, not a function")
    if point.name in _registered:
        return _registered[point.name]
    others = [name for name, method in _registered.items() if method.choose is choose]
    if others:
        raise InputError(f"{place}: registered as {others[0]!r}; give both the same name")
    register_method(point.name)(choose)
    return _registered[point.name]
