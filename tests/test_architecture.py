"""Imports go in one direction: the code obeys the table below, and the documents show it as it is.

docs/architecture.md has the same table and a picture of it; README.md has a coarser picture.
``python -m tests.test_architecture`` draws the arrows of both anew, between the nodes they have.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping, Set
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.documents import tree

ROOT = Path(__file__).resolve().parents[1]

# part: (parts of the project that it may import, libraries that it may import)
PARTS: dict[str, tuple[set[str], set[str]]] = {
    "formulations": (set(), {"numpy", "pyomo", "scipy"}),
    "errors": (set(), set()),
    "files": ({"errors"}, set()),
    "docstrings": (set(), set()),
    "stopping": (set(), set()),
    "executors": ({"errors", "stopping"}, {"distributed"}),
    "instance": (
        {"errors", "files", "text"},
        {"numpy", "pandas", "pydantic", "pydantic_core", "yaml"},
    ),
    "result": ({"errors", "files", "text"}, {"pandas", "pydantic"}),
    "queueing": (set(), {"numpy"}),
    "measurements": ({"errors", "files", "instance"}, set()),
    "answers": ({"errors", "files", "instance"}, {"numpy", "pydantic"}),
    "optimism": (
        {"answers", "checker", "errors", "instance", "result", "reward", "solving"},
        {"numpy"},
    ),
    "promise_checker": (set(), set()),
    "checker": ({"errors", "instance", "promise_checker", "result"}, set()),
    "certificate": (
        {"checker", "errors", "files", "instance", "result"},
        {"numpy", "pydantic"},
    ),
    "plan_checker": ({"checker", "instance", "promise_checker", "result"}, set()),
    "paths": ({"errors", "instance", "queueing"}, {"numpy"}),
    "registry": ({"errors"}, set()),
    "reward": ({"instance"}, {"numpy"}),
    "solvers": (
        {"errors", "files", "formulations", "stopping"},
        {"highspy", "numpy", "pyomo", "pyscipopt", "scipy"},
    ),
    "core": (
        {
            "errors",
            "formulations",
            "instance",
            "paths",
            "queueing",
            "registry",
            "result",
            "reward",
            "solvers",
            "stopping",
        },
        {"numpy", "pyomo", "scipy"},
    ),
    "heuristics": (
        {"core", "formulations", "instance", "paths", "queueing", "result", "solvers"},
        {"numpy"},
    ),
    "exact": (
        {
            "core",
            "errors",
            "formulations",
            "heuristics",
            "instance",
            "paths",
            "queueing",
            "result",
            "reward",
            "solvers",
        },
        {"numpy", "pyomo"},
    ),
    "solving": (
        {
            "certificate",
            "checker",
            "core",
            "errors",
            "exact",
            "heuristics",
            "instance",
            "paths",
            "registry",
            "result",
        },
        set(),
    ),
    "observations": (
        {"core", "errors", "instance", "measurements", "paths", "result"},
        set(),
    ),
    "scheduling": ({"errors", "instance", "result", "solving", "stopping"}, set()),
    "transition": (
        {"core", "errors", "instance", "paths", "result", "solving", "stopping"},
        {"pydantic"},
    ),
    "generate": ({"errors", "files", "instance"}, {"numpy"}),
    "desk": ({"errors", "files", "instance"}, {"openpyxl", "xlsxwriter"}),
    "planning": (
        {
            "checker",
            "errors",
            "files",
            "formulations",
            "instance",
            "core",
            "exact",
            "heuristics",
            "solving",
            "paths",
            "plan_checker",
            "queueing",
            "registry",
            "result",
            "reward",
            "solvers",
            "stopping",
            "text",
        },
        {"numpy", "pandas", "pyarrow", "pydantic", "pyomo", "xlsxwriter"},
    ),
    "text": (set(), set()),
    "wording": ({"instance", "registry", "result", "text"}, set()),
    "report": (
        {
            "checker",
            "code_opt",
            "desk",
            "errors",
            "files",
            "instance",
            "planning",
            "registry",
            "result",
            "text",
            "wording",
        },
        {"jinja2", "markupsafe", "matplotlib"},
    ),
    "networks": (
        {"errors", "files", "instance"},
        {"numpy", "PIL", "pydantic", "pyarrow", "safetensors", "sklearn", "torch", "torchvision"},
    ),
    "evaluation": (
        {
            "answers",
            "checker",
            "errors",
            "files",
            "instance",
            "networks",
            "result",
            "reward",
        },
        {"numpy", "pandas", "safetensors"},
    ),
    "profiling": (
        {
            "answers",
            "code_opt",
            "errors",
            "files",
            "instance",
            "core",
            "heuristics",
            "paths",
            "solving",
            "networks",
            "result",
            "reward",
            "store",
        },
        {"numpy", "pandas", "pydantic"},
    ),
    "store": ({"errors", "files"}, set()),
    "batch": (
        {
            "code_opt",
            "errors",
            "executors",
            "files",
            "instance",
            "result",
            "stopping",
            "store",
        },
        {"pandas"},
    ),
    "cli": (
        {
            "answers",
            "batch",
            "certificate",
            "code_opt",
            "checker",
            "desk",
            "errors",
            "evaluation",
            "executors",
            "files",
            "generate",
            "instance",
            "measurements",
            "core",
            "exact",
            "optimism",
            "observations",
            "paths",
            "planning",
            "profiling",
            "registry",
            "report",
            "result",
            "scheduling",
            "solvers",
            "stopping",
            "text",
            "transition",
            "wording",
        },
        {"rich", "typer"},
    ),
    "code_opt": (
        {
            "certificate",
            "checker",
            "desk",
            "docstrings",
            "errors",
            "instance",
            "core",
            "solving",
            "observations",
            "plan_checker",
            "planning",
            "registry",
            "result",
            "scheduling",
            "transition",
        },
        set(),
    ),
}
ENTRIES = {"code_opt/__main__.py", "solve.py"}
"""Files that only start the command line."""


def part_of(module: str) -> str:
    """Return the part that a dotted module name of the project belongs to."""
    names = module.split(".")
    return names[1] if names[0] == "code_opt" and len(names) > 1 else names[0]


def sources() -> list[Path]:
    files = [*(ROOT / "code_opt").rglob("*.py"), *(ROOT / "formulations").rglob("*.py")]
    return sorted(f for f in files if f.relative_to(ROOT).as_posix() not in ENTRIES)


def name_of(path: Path) -> tuple[str, bool]:
    """Return the dotted name of a source file, and whether it is that of a package."""
    relative = path.relative_to(ROOT).with_suffix("")
    is_package = relative.name == "__init__"
    return ".".join(relative.parent.parts if is_package else relative.parts), is_package


def imported(source: ast.AST, module: str, is_package: bool) -> set[str]:
    """Return the modules that a file imports anywhere, functions and type checking included."""
    found: set[str] = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level + is_package or None]
                base = ".".join([*parents, base] if base else parents)
            # `from code_opt import checker` imports a module, not a name of the package.
            submodules = {f"{base}.{alias.name}" for alias in node.names}
            submodules = {name for name in submodules if exists(name)}
            found |= submodules
            if len(submodules) < len(node.names):
                found.add(base)
    return found


@cache
def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def faults(module: str, modules: set[str]) -> list[str]:
    """Return the imports of a module that the table does not allow."""
    part = part_of(module)
    if part not in PARTS:
        return [f"{module}: belongs to no part of the table"]
    parts, libraries = PARTS[part]
    wrong = []
    for name in sorted(modules):
        top = name.split(".")[0]
        if top in {"code_opt", "formulations"}:
            allowed = part_of(name) in parts | {part}
        else:
            allowed = top in libraries or top in sys.stdlib_module_names
        if not allowed:
            wrong.append(f"{module} imports {name}")
    return wrong


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_obey_the_table(path: Path) -> None:
    module, is_package = name_of(path)
    assert faults(module, imported(tree(path), module, is_package)) == []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("formulations.path", "from code_opt.instance import Instance"),
        ("formulations.path", "import highspy"),
        ("code_opt.checker", "def f():\n    from code_opt.paths import build_pool"),
        ("code_opt.checker", "from .solvers import highs"),
        ("code_opt.checker", "from code_opt import reward"),
        ("code_opt.exact.method", "import highspy"),
        ("code_opt.instance.model", "from ..result import Result"),
        ("code_opt.cli.app", "import torch.nn"),
        ("code_opt.stray", "import os"),
    ],
)
def test_a_wrong_import_is_found(module: str, code: str) -> None:
    assert len(faults(module, imported(ast.parse(code), module, False)) or []) == 1


def cycle(graph: Mapping[str, Set[str]]) -> list[str]:
    """Return the nodes along one cycle of a graph, or nothing where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_table_has_no_cycle() -> None:
    assert cycle({part: parts for part, (parts, _) in PARTS.items()}) == []


def test_the_modules_have_no_cycle() -> None:
    """An import counts wherever it stands: within a function or for types alone, too."""
    graph = {}
    for path in sources():
        module, is_package = name_of(path)
        graph[module] = imported(tree(path), module, is_package) - {module}
    assert len(graph) > 100
    assert cycle(graph) == []


def test_a_cycle_is_found_through_an_import_within_a_function() -> None:
    upper = imported(ast.parse("from code_opt.instance import records"), "code_opt.upper", False)
    lower = imported(
        ast.parse("def f():\n    from code_opt import upper, files"), "code_opt.lower", False
    )
    assert upper == {"code_opt.instance.records"}
    assert lower == {"code_opt", "code_opt.files"}  # there is no module `upper`
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_the_page_shows_the_same_table() -> None:
    shown = {}
    for line in read("docs/architecture.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and (name := re.fullmatch(r"`([\w/.]+?)(?:/|\.py)?`", cells[0])):
            part = name[1].removeprefix("code_opt/").replace("__init__", "code_opt")
            shown[part] = tuple(set(re.findall(r"\w+", cell)) for cell in cells[2:])
    assert shown == PARTS


def reachable(graph: Mapping[str, Set[str]], start: str) -> set[str]:
    """Return the nodes that a path leads to from a node."""
    found: set[str] = set()
    front = [start]
    while front:
        new = graph[front.pop()] - found
        found |= new
        front.extend(new)
    return found


def arrows(groups: Mapping[str, Set[str]]) -> dict[str, set[str]]:
    """Return what a picture of groups of parts shows: the transitive reduction of the table.

    A group imports another one where any of its parts does. The arrow is left out where other
    arrows lead to the same group.
    """
    home = {part: name for name, parts in groups.items() for part in parts}
    graph = {
        name: {home[other] for part in parts for other in PARTS[part][0]} - {name}
        for name, parts in groups.items()
    }
    assert cycle(graph) == []
    return {
        name: {o for o in others if not any(o in reachable(graph, via) for via in others - {o})}
        for name, others in graph.items()
    }


def drawn(page: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return the groups of parts and the arrows of the one Mermaid picture of a page.

    A line `id["part · part: what"]` is a group, a line `id --> id & id` its arrows.
    """
    (picture,) = re.findall(r"```mermaid\nflowchart TB\n(.*?)```", read(page), re.DOTALL)
    groups: dict[str, set[str]] = {}
    found: dict[str, set[str]] = {}
    for line in picture.splitlines():
        if node := re.fullmatch(r' +(\w+)\["([\w · ]+)(?:: [^"]+)?"\]', line):
            assert node[1] not in groups
            groups[node[1]] = set(node[2].split(" · "))
        elif arrow := re.fullmatch(r" +(\w+) --> (\w+(?: & \w+)*)", line):
            assert arrow[1] not in found
            found[arrow[1]] = set(arrow[2].split(" & "))
        else:
            pytest.fail(f"{page}: neither a group nor arrows: {line}")
    return groups, {name: found.pop(name, set()) for name in groups} | found


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_picture_is_that_of_the_table(page: str) -> None:
    groups, found = drawn(page)
    assert sorted(part for parts in groups.values() for part in parts) == sorted(PARTS)
    if page == "docs/architecture.md":
        assert all(len(parts) == 1 for parts in groups.values())
    assert found == arrows(groups)


def redrawn(page: str) -> str:
    """Return a page with the arrows of its picture as the table has them."""
    wanted = arrows(drawn(page)[0])
    lines = [f"    {name} --> {' & '.join(sorted(to))}\n" for name, to in wanted.items() if to]
    before, first, after = re.split(r"(?m)^( +\w+ --> .*\n)", read(page), maxsplit=1)
    return before + "".join(lines) + re.sub(r"(?m)^ +\w+ --> .*\n", "", first + after)


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_drawing_the_picture_anew_changes_nothing(page: str) -> None:
    assert redrawn(page) == read(page)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, code_opt; "
        "heavy = {'numpy', 'pandas', 'pydantic', 'pyomo', 'highspy', 'torch', 'rich', 'typer'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    import code_opt

    assert set(code_opt.__all__) == {*code_opt._HOME, "__version__"}
    for name in code_opt.__all__:
        assert getattr(code_opt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = code_opt.nothing


if __name__ == "__main__":
    for page in ("README.md", "docs/architecture.md"):
        (ROOT / page).write_text(redrawn(page), encoding="utf-8")
