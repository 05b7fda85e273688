"""What the documents hold, and the names that the sources define, for tests to compare.

Names are looked up in the text of the sources: nothing is imported, so that PyTorch and other
extras need not be installed.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("code_opt", "formulations", "benchmarks", "tests")
FOLDERS = (*PACKAGES, "docs", "data")

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/**/*.md", "data/**/*.md", "*/MODEL.md")
    for page in ROOT.glob(pattern)
)
SOURCES = sorted(
    source.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for source in (ROOT / folder).rglob("*.py")
)


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


# Pages


@cache
def tokens(page: str) -> tuple[Token, ...]:
    """Return all tokens of a page, those within paragraphs included."""
    return tuple(
        inner
        for token in MarkdownIt("commonmark").enable("table").parse(read(page))
        for inner in (token, *(token.children or ()))
    )


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in a language."""
    return [t.content for t in tokens(page) if t.type == "fence" and t.info == language]


def code(page: str) -> list[str]:
    """Return what stands in backticks on a page, and every line of its blocks of commands."""
    inline = [t.content for t in tokens(page) if t.type == "code_inline"]
    return inline + commands(page)


def commands(page: str) -> list[str]:
    """Return every line of a page's blocks of commands, without its comment."""
    return [
        line.partition(" #")[0].strip()
        for t in tokens(page)
        if t.type == "code_block" or (t.type == "fence" and t.info == "console")
        for line in t.content.replace("\\\n", " ").splitlines()
    ]


def links(page: str) -> list[str]:
    """Return the targets of the links and images of a page."""
    found = [t.attrs.get("href", t.attrs.get("src")) for t in tokens(page)]
    return [str(target) for target in found if target]


@cache
def anchors(page: str) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    content = [t for t in tokens(page) if t.type in ("heading_open", "inline")]
    for before, heading in zip(content, content[1:], strict=False):
        if before.type != "heading_open":
            continue
        text = "".join(t.content for t in heading.children or () if t.type != "html_inline")
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return frozenset(found)


# Sources


@cache
def tree(file: Path) -> ast.Module:
    """Return a source file parsed."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def prose(source: str) -> str:
    """Return the docstrings and comments of a source file, and strings that stand by themselves."""
    text = read(source)
    found = [
        node.value.value
        for node in ast.walk(tree(ROOT / source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    comments = tokenize.generate_tokens(io.StringIO(text).readline)
    found += [token.string for token in comments if token.type == tokenize.COMMENT]
    return "\n".join(found)


@cache
def file_of(module: str) -> Path | None:
    """Return the file of a module or package of the project."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return path if path.is_dir() and path != ROOT else None


@cache
def members(module: str) -> dict[str, frozenset[str]]:
    """Return the names that a module defines or imports; of a class, with those of its members."""
    file = file_of(module)
    if file is None or file.is_dir():
        return {}
    found: dict[str, frozenset[str]] = {}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ClassDef):
            found[node.name] = frozenset(_names(node))
        else:
            for name in _own(node):
                found.setdefault(name, frozenset())
    return found


def _own(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement itself binds."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        yield node.id if isinstance(node, ast.Name) else node.attr


def _names(owner: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(owner):
        if node is not owner:
            yield from _own(node)


@cache
def is_defined(name: str) -> bool:
    """Whether a dotted name of the project is a module, or a name or a member within one."""
    parts = name.split(".")
    size = next((n for n in range(len(parts), 0, -1) if file_of(".".join(parts[:n]))), 0)
    return size > 0 and (size == len(parts) or _in_module(parts[:size], parts[size:]))


def _in_module(module: list[str], rest: list[str]) -> bool:
    found = members(".".join(module))
    if rest[0] not in found:
        return False
    if len(rest) == 1:
        return True
    if rest[1] in found[rest[0]]:
        return True
    return _imported_from(".".join(module), rest)


def _imported_from(module: str, rest: list[str]) -> bool:
    """Whether a class that a module imports has a member there where it is defined."""
    file = file_of(module)
    for node in ast.walk(tree(file)) if file else ():
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = {alias.name for alias in node.names}
            if rest[0] in names and (node.module or "").split(".")[0] in PACKAGES:
                return is_defined(".".join([node.module or "", *rest]))
    return False


def is_known_in(source: str, name: str) -> bool:
    """Whether a name is known where a source file uses it without saying from where.

    That is a name that the module defines or imports, a member of one of its classes
    (with or without the name of the class), or a built-in one.
    """
    path = Path(source).with_suffix("")
    module = ".".join(path.parent.parts if path.name == "__init__" else path.parts)
    parts = name.split(".")
    if _in_module(module.split("."), parts):
        return True
    if len(parts) == 1:
        return hasattr(builtins, name) or any(name in own for own in members(module).values())
    return False
