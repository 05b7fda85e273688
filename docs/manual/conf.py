"""How the manual is built: ``make docs``.

The pages are the project's Markdown files, where they stand; this folder adds their order
(``index.rst``) and the reference from docstrings. Nothing is fetched, neither to build nor to read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from pydantic import BaseModel
from pygments.lexers.special import TextLexer
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

import code_opt

ROOT = Path(__file__).resolve().parents[2]

project = "CoDE-Opt"
author = "CoDE-Opt contributors"
copyright = "CoDE-Opt contributors, MIT licence"  # noqa: A001 (the name that Sphinx reads)
version = release = code_opt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/manual/index"
include_patterns = [
    "docs/**",
    "data/**README.md",
    "benchmarks/README.md",
    "benchmarks/results/**.md",
    "formulations/MODEL.md",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = ["docs/manual/_static"]
language = "en"
suppress_warnings = ["myst.header"]  # a page may begin with a heading of a lower level

myst_heading_anchors = 4  # as on a forge

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"CoDE-Opt {release}"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["manual.css"]


class NotebookParser(MystParser):
    """Notebooks as pages: their Markdown, their code, and the outputs that are stored in them."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse a notebook's JSON."""
        super().parse(notebook_as_markdown(inputstring), document)


def notebook_as_markdown(text: str) -> str:
    """Return a notebook as one page of Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        shown = "".join(
            "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))
            for output in cell["outputs"]
        )
        if shown:
            parts.append(f"```text\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


class LinksToSources(SphinxTransform):
    """Links to folders and files of the repository that are no page of the manual.

    On a forge they lead somewhere; in the manual their text remains.
    """

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Replace such links by what they say."""
        folder = (ROOT / self.env.docname).parent
        for link in list(self.document.findall(_is_link)):
            target = str(link.get("reftarget") or link.get("refuri") or "")
            path = (folder / target.partition("#")[0]).resolve()
            is_ours = target and ":" not in target and not target.startswith("#")
            if is_ours and path.exists() and path.suffix not in (".md", ".ipynb"):
                link.replace_self(link.children)


def _is_link(node: nodes.Node) -> bool:
    return isinstance(node, (pending_xref, nodes.reference)) or (
        node.__class__.__name__ == "download_reference"
    )


def describe_fields(_: Sphinx, what: str, __: str, obj: Any, ___: Any, lines: list[str]) -> None:
    """Add the fields of a record, with their descriptions, to its docstring."""
    if what != "class" or not (isinstance(obj, type) and issubclass(obj, BaseModel)):
        return
    rows = [
        f":ivar {field.alias or name}: {field.description}"
        for name, field in obj.model_fields.items()
        if field.description
    ]
    if rows:
        lines += ["", *rows, ""]


def pages_of(kind: str) -> list[str]:
    """Return the pages of a kind (tutorial, how-to, ...) as the README lists them, from here."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {kind}: .*$", readme, re.MULTILINE)
    # A link to a section of a page leads to a page that is listed elsewhere.
    return [f"../../{page}" for page in re.findall(r"\]\(([\w/.-]+)\.md\)", row)]


def list_pages(_: Sphinx, page: str, source: list[str]) -> None:
    """Put the README's lists of pages into the front page: ``@how-to@`` becomes one."""
    if page == root_doc:
        source[0] = re.sub(
            r"^( +)@([\w-]+)@$",
            lambda found: "\n".join(f"{found[1]}{page}" for page in pages_of(found[2])),
            source[0],
            flags=re.MULTILINE,
        )


def setup(app: Sphinx) -> None:
    """Add what is above to Sphinx."""
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    app.add_transform(LinksToSources)
    app.add_lexer("mermaid", TextLexer)
    app.add_lexer("console", TextLexer)
    app.connect("source-read", list_pages)
    app.connect("autodoc-process-docstring", describe_fields)
