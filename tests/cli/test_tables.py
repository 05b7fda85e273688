from __future__ import annotations

import io

import pytest
from rich.console import Console

from code_opt.cli.tables import (
    Glyphs,
    PathText,
    link_table,
    methods_table,
    server_table,
    task_table,
)
from code_opt.instance import Instance
from code_opt.result import Result
from tests.cli.examples import HOSTILE, make_instance, make_result

UTF = Glyphs("⇒", "→", "…", "█", "░")
RESULTS = [
    make_result("exact", "optimal", reward=1.234567e11, bound=1.3e11, gap=0.1234567, seconds=3600),
    make_result("lns", reward=1.2e11, throughput=330.0),
    make_result("local", reward=6.0e10, throughput=236.5714, accuracy=0.7842),
    make_result("edge-early", "infeasible"),
]


def render(table, width: int, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width)
    console.print(table(console))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_methods_fits_and_compares_with_local(width: int) -> None:
    text = render(lambda console: methods_table(RESULTS, console), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    row = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert row["exact"] == [
        *("exact", "optimal", "1.23457e+11", "12.4", "331.200", "+40.0"),
        *("0.7512", "-3.30", "3600"),
    ]
    assert row["local"][5:8:2] == ["0.0", "0.00"]
    assert row["edge-early"] == ["edge-early", "infeasible", *("–" * 6), "0.02"]


def test_without_local_there_is_nothing_to_compare_with() -> None:
    text = render(lambda console: methods_table(RESULTS[:2], console), 80)
    assert "vs" not in text


def test_task_table_shows_whole_paths_and_literal_names_in_80_columns() -> None:
    text = render(lambda console: task_table(RESULTS[0], make_instance(), console), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "\u202e" not in text
    lines = text.splitlines()
    width = next(line.index("path") for line in lines if "path" in line)
    assert "scenes[red]\\x1b[31m\\u202e" in "".join(line[:width].strip() for line in lines)
    for part in ("alexnet/0…1 ⇒", "mobilenet-v3-small/2…3", "output", "(native)", "12.30 ms"):
        assert part in text


def test_load_tables_show_utilization() -> None:
    servers = render(lambda console: server_table(RESULTS[0], make_instance(), console), 80)
    assert "1.900 G" in servers
    assert "██████████ 100.0 %" in servers
    links = render(lambda console: link_table(RESULTS[0], console), 80)
    assert "edge-a → edge-b" in links
    assert "unlimited" in links


def test_a_server_is_full_where_it_sells_no_more() -> None:
    """Full servers stand out: yellow, where headroom is kept as well as at 100 %."""
    data = make_result("exact").model_dump(by_alias=True, mode="json")
    data["servers"][0] |= {"utilization": 0.8}
    result = Result.model_validate(data | {"max_utilization": 0.8}, strict=False)
    asked, headroom = make_instance(), make_instance().with_max_utilization(0.9)
    console = Console(file=io.StringIO(), width=80)

    def colour(result: Result, instance: Instance) -> str:
        (*_, bars) = server_table(result, instance, console).columns
        return str(next(iter(bars.cells)).style)

    assert colour(result, asked) == "yellow"
    assert colour(result, headroom) == "cyan"  # its own 90 % count, not the 80 % asked for
    assert colour(result.model_copy(update={"max_utilization": None}), asked) == "cyan"
    text = render(lambda console: server_table(result, asked, console), 80)
    assert "████████░░  80.0 %" in text


def test_an_ascii_terminal_gets_ascii() -> None:
    render(lambda console: server_table(RESULTS[0], make_instance(), console), 80, "ascii")
    render(lambda console: link_table(RESULTS[0], console), 80, "ascii")
    render(lambda console: methods_table(RESULTS, console), 80, "ascii")
    text = render(lambda console: task_table(RESULTS[0], make_instance(), console), 80, "ascii")
    assert "alexnet/0..1 =>" in text


@pytest.mark.parametrize(
    ("task", "path", "shown"),
    [
        ("objects", [f"alexnet/{k}" for k in range(5)], "alexnet/0…4 (native)"),
        ("objects", ["alexnet/0"], "alexnet/0 ⇒ output"),
        ("objects", ["alexnet/0", "alexnet/2"], "alexnet/0 ⇒ alexnet/2 ⇒ output"),
        ("objects", ["alexnet/3", "alexnet/4"], "input ⇒ alexnet/3…4"),
        (
            "objects",
            ["alexnet/0", "mobilenet-v3-small/3", "mobilenet-v3-small/4", "alexnet/4"],
            "alexnet/0 ⇒ mobilenet-v3-small/3…4 ⇒ alexnet/4",
        ),
        (
            HOSTILE,
            [f"alexnet/{k}" for k in range(5)],
            "input ⇒ alexnet/0…4 ⇒ output",
        ),
    ],
)
def test_paths_mark_their_connections(task: str, path: list[str], shown: str) -> None:
    assert PathText(make_instance(), UTF)(task, path).plain == shown


def test_runs_of_blocks_without_numbers_name_both_ends() -> None:
    data = make_instance().to_dict()
    data["dnns"][0]["blocks"] = [{"id": i, "flops": 1.0} for i in ("stem", "body", "head")]
    instance = type(make_instance()).model_validate(data, strict=False)
    shown = PathText(instance, UTF)("objects", ["stem", "body", "head"]).plain
    assert shown == "stem … head (native)"
