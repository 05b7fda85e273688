"""Imports go in one direction: the table below is the one in the README, and the code obeys it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# part: (parts of the project that it may import, libraries that it may import)
PARTS: dict[str, tuple[set[str], set[str]]] = {
    "formulations": (set(), {"numpy", "pyomo"}),
    "errors": (set(), set()),
    "files": ({"errors"}, set()),
    "executors": ({"errors"}, {"distributed"}),
    "instance": ({"errors", "files"}, {"numpy", "pandas", "pydantic", "pydantic_core", "yaml"}),
    "result": ({"errors", "files"}, {"pandas", "pydantic"}),
    "checker": ({"errors", "instance", "result"}, set()),
    "paths": ({"errors", "instance"}, {"numpy"}),
    "registry": ({"errors"}, set()),
    "reward": ({"instance"}, {"numpy"}),
    "solvers": ({"errors", "files"}, {"highspy", "numpy", "pyomo", "scipy"}),
    "methods": (
        {
            "checker",
            "errors",
            "formulations",
            "instance",
            "paths",
            "registry",
            "result",
            "reward",
            "solvers",
        },
        {"numpy", "pyomo"},
    ),
    "generate": ({"errors", "files", "instance"}, {"numpy"}),
    "planning": (
        {
            "checker",
            "errors",
            "files",
            "formulations",
            "instance",
            "methods",
            "paths",
            "registry",
            "result",
            "reward",
            "solvers",
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
        {"checker", "errors", "files", "instance", "networks", "result", "reward"},
        {"numpy", "pandas", "safetensors"},
    ),
    "profiling": (
        {
            "code_opt",
            "errors",
            "files",
            "instance",
            "methods",
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
            "store",
        },
        {"pandas"},
    ),
    "cli": (
        {
            "batch",
            "code_opt",
            "checker",
            "errors",
            "evaluation",
            "executors",
            "files",
            "generate",
            "instance",
            "methods",
            "paths",
            "planning",
            "profiling",
            "registry",
            "report",
            "result",
            "solvers",
            "text",
            "wording",
        },
        {"rich", "typer"},
    ),
    "code_opt": (
        {"checker", "errors", "instance", "methods", "planning", "registry", "result"},
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


def imported(tree: ast.AST, module: str, is_package: bool) -> set[str]:
    """Return the modules that a file imports anywhere, functions and type checking included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level + is_package or None]
                base = ".".join([*parents, base] if base else parents)
            if base == "code_opt":  # `from code_opt import checker` imports a module
                submodules = {a.name for a in node.names if exists(f"code_opt.{a.name}")}
                found.update(f"code_opt.{name}" for name in submodules)
                if len(submodules) < len(node.names):
                    found.add(base)
            else:
                found.add(base)
    return found


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
    relative = path.relative_to(ROOT).with_suffix("")
    is_package = relative.name == "__init__"
    module = ".".join(relative.parent.parts if is_package else relative.parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert faults(module, imported(tree, module, is_package)) == []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("formulations.path", "from code_opt.instance import Instance"),
        ("formulations.path", "import highspy"),
        ("code_opt.checker", "def f():\n    from code_opt.paths import build_pool"),
        ("code_opt.checker", "from .solvers import highs"),
        ("code_opt.checker", "from code_opt import reward"),
        ("code_opt.methods.exact", "import highspy"),
        ("code_opt.instance.model", "from ..result import Result"),
        ("code_opt.cli.app", "import torch.nn"),
        ("code_opt.stray", "import os"),
    ],
)
def test_a_wrong_import_is_found(module: str, code: str) -> None:
    assert len(faults(module, imported(ast.parse(code), module, False)) or []) == 1


def test_the_table_has_no_cycle() -> None:
    below = {part: set(parts) for part, (parts, _) in PARTS.items()}
    while below:
        free = {part for part, parts in below.items() if not parts & below.keys()}
        assert free, f"a cycle among {sorted(below)}"
        below = {part: parts for part, parts in below.items() if part not in free}


def test_the_readme_shows_the_same_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and (name := re.fullmatch(r"`([\w/.]+?)(?:/|\.py)?`", cells[0])):
            part = name[1].removeprefix("code_opt/").replace("__init__", "code_opt")
            shown[part] = tuple(set(re.findall(r"\w+", cell)) for cell in cells[2:])
    assert shown == PARTS


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
