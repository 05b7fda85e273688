"""What pages and docstrings cite is there: links, names, files, commands. Examples run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import highspy
import numpy as np
import pandas as pd
import pytest

from code_opt import executors, registry
from code_opt.cli.app import main
from code_opt.cli.exits import ExitStatus
from code_opt.instance import load_instance, save_instance
from tests.cli import reference
from tests.documents import (
    FOLDERS,
    PACKAGES,
    PAGES,
    ROOT,
    SOURCES,
    anchors,
    blocks,
    code,
    commands,
    file_of,
    is_defined,
    is_known_in,
    links,
    prose,
    read,
    tokens,
)

NEEDS_NETWORKS = ("deploy", "evaluate", "profile", "time")
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\[|\.\.\.")


def documented_commands(page: str) -> list[str]:
    """Return the commands of `code-opt` in a page's blocks, without the program's name."""
    programs = re.compile(r"(?:\.venv/bin/)?code-opt |python solve\.py (?=\S)")
    return [
        programs.sub(lambda m: "solve " if "solve" in m[0] else "", line, count=1)
        for line in commands(page)
        if programs.match(line)
    ]


def is_solving(command: str) -> bool:
    """Whether a command can be run as it stands, and needs no network to train or execute."""
    return not PLACEHOLDER.search(command) and command.split()[0] not in NEEDS_NETWORKS


EXAMPLES = [
    pytest.param(page, number, id=f"{page}-{number}")
    for page in PAGES
    for number in range(len(blocks(page, "python")))
]
ROLE = re.compile(r":(?:mod|func|class|meth|attr|data|exc):`~?([\w.]+)`")
DOTTED = re.compile(rf"(?<![\w./-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*[\w/]")
PAGE_OF_NOWHERE = re.compile(
    r"\b(?:design|issue|ticket|plan)\b,? (?:section |§ ?|#)\d", re.IGNORECASE
)
"""The project has no page of that name, so nobody can look the section up."""


def is_broken(page: str, target: str) -> bool:
    """Whether a link of a page leads to no file of the project, or to no heading of a page."""
    if re.match(r"[a-z]+:", target):
        return False
    name, _, anchor = target.partition("#")
    path = Path(os.path.normpath(ROOT / Path(page).parent / name)) if name else ROOT / page
    if not path.is_relative_to(ROOT) or not path.exists():
        return True
    return bool(anchor) and anchor not in anchors(path.relative_to(ROOT).as_posix())


def missing_files(text: str, folder: str = "") -> list[str]:
    """Return paths in a text that lead nowhere, from the root or from a folder."""
    return [
        path
        for path in FILE.findall(text)
        if not (ROOT / path).exists() and not (ROOT / folder / path).exists()
    ]


def missing_names(text: str) -> list[str]:
    """Return dotted names of the project in a text that it does not define."""
    files = re.compile(r"\.(?:py|md|json|csv|svg|png|yaml)$")
    names = [n for n in DOTTED.findall(text) if not files.search(n)]
    return [n for n in names if n != registry.ENTRY_POINTS and not is_defined(n)]


def wrong_commands(text: str) -> list[str]:
    """Return what is wrong with a command of `code-opt` that a page shows."""
    match = re.fullmatch(r"(?:\.venv/bin/)?(?:code-opt|python solve\.py) (.*)", text)
    if match is None:
        return []
    words = shlex.split(match[1])
    name = "solve" if "solve.py" in text else words[0]
    if name == "COMMAND" or name in reference.program_options():
        return []
    if name not in (commands := reference.commands()):
        return [f"{text}: no command {name}"]
    options = {
        option
        for parameter in commands[name].params
        for option in [*parameter.opts, *parameter.secondary_opts]
    }
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    return [f"{text}: no option {option}" for option in sorted(given - options - {"--help", "-h"})]


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page: str) -> None:
    assert [target for target in links(page) if is_broken(page, target)] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_cites_is_there(page: str) -> None:
    cited = "\n".join(code(page))
    assert missing_files(cited, str(Path(page).parent)) == []
    assert missing_names(cited) == []
    assert [wrong for text in code(page) for wrong in wrong_commands(text)] == []
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", cited, re.MULTILINE)) <= targets
    assert PAGE_OF_NOWHERE.findall(read(page)) == []


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_docstring_cites_is_there(source: str) -> None:
    text = prose(source)
    assert missing_files(text, str(Path(source).parent)) == []
    assert missing_names(text) == []
    assert [
        name
        for name in ROLE.findall(text)
        if not (is_defined(name) or is_known_in(source, name) or is_foreign(source, name))
    ] == []
    assert PAGE_OF_NOWHERE.findall(text) == []


def is_foreign(source: str, name: str) -> bool:
    """Whether a name is one of pydantic's models, PyTorch or the standard library."""
    if name == "model_validate":
        return "pydantic" in read(source)
    return name.split(".")[0] in {"torch", *sys.stdlib_module_names}


@pytest.mark.parametrize("source", [s for s in SOURCES if s.endswith("__init__.py")])
def test_a_package_names_its_own_modules(source: str) -> None:
    """A single word in backticks at the top of a package is one of its modules."""
    package = Path(source).parent
    top = read(source).split('"""')[1] if '"""' in read(source) else ""
    for word in re.findall(r"`+([a-z_]+)`+", top):
        assert word == package.name or file_of(f"{'.'.join(package.parts)}.{word}"), word


@pytest.mark.parametrize(
    ("cited", "find"),
    [
        ("see docs/nowhere.md.", missing_files),
        ("`tests/test_nothing.py`", missing_files),
        ("code_opt/core/nothing/", missing_files),
        ("code_opt.nothing", missing_names),
        ("code_opt.core.nothing", missing_names),
        ("code_opt.instance.Instance.nothing", missing_names),
        ("python -m benchmarks.nothing", missing_names),
        ("code-opt nothing", wrong_commands),
        ("code-opt solve X --nothing 3", wrong_commands),
        ("(design, section 2)", PAGE_OF_NOWHERE.findall),
    ],
)
def test_a_wrong_citation_is_found(cited, find) -> None:
    assert len(find(cited)) == 1


@pytest.mark.parametrize(
    ("cited", "find"),
    [
        ("see docs/format.md, or `docs/how-to/`.", missing_files),
        ("code_opt.solve", missing_names),
        ("code_opt.instance.Instance.replace", missing_names),
        ("code_opt.cli.exits.ExitStatus", missing_names),
        (".venv/bin/code-opt solve X -m code --gap 1e-3", wrong_commands),
        ("(Chinneck, 2008, section 6.3)", PAGE_OF_NOWHERE.findall),
    ],
)
def test_a_right_citation_passes(cited, find) -> None:
    assert find(cited) == []


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        ("https://semver.org/", False),
        ("format.md", False),
        ("../data/digits/", False),
        ("#csv-tables", False),
        ("planning.md#input-groups", False),
        ("nowhere.md", True),
        ("#nowhere", True),
        ("planning.md#nowhere", True),
        ("../../elsewhere", True),
    ],
)
def test_a_broken_link_is_found(target: str, broken: bool) -> None:
    assert is_broken("docs/format.md", target) is broken


@pytest.mark.parametrize(("page", "number"), EXAMPLES)
def test_the_examples_run(
    page: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of Python runs by itself beside `data/`, and shows or asserts something."""
    source = blocks(page, "python")[number]
    if "torch" in source or "code_opt.evaluation" in source:
        pytest.importorskip("torch")
    assert len(source.strip().splitlines()) <= 15
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with registry.registered_for_now(), contextlib.redirect_stdout(printed):
        exec(compile(source, f"{page}, block {number}", "exec"), {})
    assert printed.getvalue().strip() or "assert " in source


RUNS_ELSEWHERE = ("docs/planning.md", "docs/profiling.md", "benchmarks/README.md")
"""tests/planning and tests/profiling run what these pages say; benchmarks take hours."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if page not in RUNS_ELSEWHERE and any(map(is_solving, documented_commands(page)))
    ],
)
def test_the_commands_of_a_page_run_in_their_order(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that train or execute networks, which tests/evaluation and others run."""
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    processes = executors.Processes
    # Starting one worker takes longer than what any of them has to do.
    monkeypatch.setattr(executors, "Processes", lambda _: processes(1))
    ran = 0
    for text in filter(is_solving, documented_commands(page)):
        words = [
            found
            for word in shlex.split(text)
            for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        if "model.sol" in words:
            solve_elsewhere(Path("model.mps"), Path("model.sol"))
        assert main(words) == 0, text
        ran += 1
    assert ran > 0


def make_world(folder: Path) -> None:
    """Put there what the examples name: the shipped data, and instances of a reader's own."""
    (folder / "data").symlink_to(ROOT / "data")
    own = load_instance(ROOT / "data" / "two-services.json").replace(name="edge")
    (folder / "instances").mkdir()
    for name in (
        "edge.yaml",
        "edge.json",
        "edge-today.yaml",
        "a.json",
        "b.yaml",
        "instances/c.json",
        "instances/d.json",
        "tables",
    ):
        save_instance(own, folder / name)
    save_instance(own.with_({"servers[*].flops": 9e10}), folder / "edge-today.json")
    tables = {
        "blocks.csv": "block,milliseconds\nlarge/0,20\n",
        "timm.csv": "model,infer_samples_per_sec,infer_batch_size\nresnet18,500,1\n",
        "results.csv": "model,top1\nresnet18,80.1\n",
        "observations.csv": "task,accuracy,samples,demand\nfaces,0.83,1000,40\n",
        "demands.csv": "task,night,day\nfaces,3,30\n",
    }
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("out/digits", "next"):  # what `profile` and `evaluate --write-back` leave
        (folder / name).mkdir(parents=True)
        shutil.copy(ROOT / "data" / "digits" / "instance.json", folder / name)


def solve_elsewhere(model: Path, solution: Path) -> None:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.readModel(str(model))
    solver.run()
    solver.writeSolution(str(solution), 0)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_data_are_well_formed(page: str) -> None:
    for text in blocks(page, "json"):
        assert json.loads(text)
    for text in blocks(page, "toml"):
        assert tomllib.loads(text)
    known = {"", "python", "json", "toml", "text", "console", "mermaid", "sh"}
    assert {t.info for t in tokens(page) if t.type == "fence"} <= known


def test_the_command_line_page_is_in_step() -> None:
    """If not: python -m tests.cli.reference."""
    page = read("docs/command-line.md")
    assert reference.in_step(page) == page


def test_every_exit_status_is_documented() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", read("docs/command-line.md"), re.MULTILINE)
    found = [int(status) for row in rows for status in row.split(",")]
    assert found == [status.value for status in ExitStatus]


def test_no_table_of_commands_names_one_twice() -> None:
    """And every table that names commands names all of them."""
    names = list(reference.commands())
    for page in PAGES:
        rows = re.findall(r"^\| \[?`([a-z-]+)[ `][^|]*\| ", read(page), re.MULTILINE)
        commands = [row for row in rows if row in names]
        if len(set(commands)) > 2:
            assert commands == names, page


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 150


def test_every_page_is_reached_from_the_readme() -> None:
    """By links, one page after the other."""
    reached = {"README.md"}
    front = ["README.md"]
    while front:
        page = front.pop()
        for target in links(page):
            path = os.path.normpath(Path(page).parent / target.partition("#")[0])
            if path in PAGES and path not in reached:
                reached.add(path)
                front.append(path)
    assert set(PAGES) - reached == set()


HOLDING = re.compile(r"<!-- files that hold: (.+) -->\n\n((?:\|.*\n)+)")


@pytest.mark.parametrize("page", [page for page in PAGES if HOLDING.search(read(page))])
def test_a_page_names_all_files_that_hold_something(page: str) -> None:
    """The tables of the pages in docs/how-to/ list what a change touches, and nothing else."""
    for pattern, table in HOLDING.findall(read(page)):
        named = re.findall(r"^\| `([\w/.]+)` \|", table, re.MULTILINE)
        files = [
            file.relative_to(ROOT).as_posix()
            for folder in ("code_opt", "formulations")
            for ending in ("*.py", "*.json")
            for file in (ROOT / folder).rglob(ending)
        ]
        assert sorted(named) == sorted(f for f in files if re.search(pattern, read(f)))


def test_every_how_to_page_about_adding_names_its_files() -> None:
    pages = [page for page in PAGES if page.startswith("docs/how-to/add-")]
    assert len(pages) >= 4
    assert [page for page in pages if not HOLDING.search(read(page))] == []


def test_the_readme_says_what_was_measured() -> None:
    """The figures of its second table are those that the benchmarks stored."""

    def stored(name: str, **of: object) -> pd.DataFrame:
        table = pd.read_csv(ROOT / "benchmarks" / "results" / f"{name}.csv")
        return table[np.logical_and.reduce([table[key] == value for key, value in of.items()])]

    text = read("README.md")
    (claim,) = stored("claims", load="heavy", goal="highest reward", method="exact").itertuples()
    more, less = claim.throughput_percent, -claim.accuracy_points
    assert f"{more:.0f} % more throughput at {less:.1f} points" in text

    published = {"set": "sn-net", "way": "exact"}
    (best,) = stored("published", goal="highest reward", **published).itertuples()
    (lossless,) = stored("published", goal="no accuracy lost", **published).itertuples()
    more, less = best.throughput_percent, -best.accuracy_points
    assert f"{more:.1f} % more throughput at {less:.1f} points less; " in text
    assert f"{lossless.throughput_percent:.1f} % more at no loss" in text

    saving = {"edge": "pair", "growth": 1.5, "max_loss_points": 2, "method": "exact"}
    (least,) = stored("savings", **saving, coordination="full")["units"]
    (native,) = stored("savings", **saving, coordination="none")["units"]
    assert f"{native - least:.0f} of {native:.0f} units" in text

    executed = pd.read_csv(ROOT / "benchmarks" / "results" / "evaluations-results.csv")
    executed = executed[executed["data"] != "one-camera sharing"]  # a table of its own
    assert executed["confirmed"].all()
    assert len(executed) == 16
    assert executed["data"].nunique() == 4
    assert "all sixteen confirmed" in text
    assert executed["throughput_error_percent"].abs().max() <= 0.3
    assert "within 0.3 %" in text

    seconds = stored("results", family="plain", services=100, method="exact (colgen)")
    assert (seconds["status"] == "optimal").all()
    assert f"{seconds['cpu'].median():.1f} CPU seconds" in text


def test_the_readme_lists_every_page_of_docs() -> None:
    """Under one of four kinds: tutorial, how-to, reference, explanation."""
    table = read("README.md").partition("## Where to go on")[2]
    kinds = re.findall(r"^\| ([\w-]+): [^|]*\| (.*) \|$", table, re.MULTILINE)
    assert [kind for kind, _ in kinds] == ["tutorial", "how-to", "reference", "explanation"]
    listed = set(re.findall(r"\]\((docs/[^)#]*)", table))
    assert listed == {page for page in PAGES if page.startswith("docs/")}
