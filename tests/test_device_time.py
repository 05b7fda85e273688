"""Devices, batches, measured times and headroom: worked by hand, malformed, in old files."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from code_opt import check, evaluate_paths, load_result, save_result, solve
from code_opt.cli.app import main
from code_opt.cli.tables import server_table
from code_opt.errors import InputError
from code_opt.instance import (
    Instance,
    InstanceError,
    load_instance,
    parse_instance,
    save_instance,
)
from code_opt.instance.digest import digest_of
from code_opt.paths import Topology
from code_opt.paths.standalone import least_rates
from code_opt.report.assemble import assemble
from code_opt.report.material import read_material
from code_opt.report.page import render
from code_opt.solving import METHODS
from tests.strategies import random_instance

ROOT = Path(__file__).resolve().parents[1]

DATA: dict[str, Any] = {
    "schema": "code-opt/instance/1",
    "name": "timed",
    "servers": [
        {"id": "gpu", "flops": None, "devices": 2, "batch": 8, "max_utilization": 0.5},
        {"id": "cpu", "flops": 4e9, "devices": 4},
    ],
    "dnns": [
        {
            "id": "a",
            "server": "gpu",
            "blocks": [
                {"id": "a/0", "flops": 1e9, "seconds": {"1": 0.004, "8": 0.016}},
                {"id": "a/1", "flops": 1e9, "seconds": {"8": 0.024}},
            ],
        },
        {
            "id": "b",
            "server": "cpu",
            "blocks": [{"id": "b/0", "flops": 1e7}, {"id": "b/1", "flops": 2e7, "seconds": 0.03}],
        },
    ],
    "tasks": [
        {
            "id": "x",
            "dnn": "a",
            "accuracy": 0.9,
            "connections": [
                {"source": "a/0", "target": "output", "drop": 0.1, "seconds": {"8": 0.002}}
            ],
        },
        {"id": "y", "dnn": "b", "accuracy": 0.8, "floor": "standalone"},
    ],
}


def data(**server: Any) -> dict[str, Any]:
    """Return the data, the first server changed."""
    found = copy.deepcopy(DATA)
    found["servers"][0] |= server
    return found


def problems(found: dict[str, Any]) -> list[str]:
    with pytest.raises(InstanceError) as caught:
        parse_instance(found)
    return [str(problem) for problem in caught.value.problems]


def test_native_paths_by_hand() -> None:
    """x: 0.04 s a batch of 8, so 5 ms of a device each, of which 2 * 0.5 are sold per second."""
    instance = parse_instance(data())
    result = evaluate_paths(instance, {"x": ["a/0", "a/1"], "y": ["b/0", "b/1"]})
    x, y = result.tasks
    assert x.rate == pytest.approx(2 * 0.5 / 0.005)
    assert x.latency == pytest.approx(0.016 + 0.024)
    # b/0 at 1e9 FLOP/s of one device, b/1 as measured.
    assert y.latency == pytest.approx(0.01 + 0.03)
    assert y.rate == pytest.approx(4 / 0.04)
    gpu, cpu = result.servers
    assert (gpu.load, gpu.capacity, gpu.devices) == (None, None, 2.0)
    assert (gpu.busy_devices, gpu.utilization) == pytest.approx((1.0, 0.5))
    assert (cpu.busy_devices, cpu.utilization) == pytest.approx((4.0, 1.0))
    # Busy devices times the speed of one.
    assert (cpu.load, cpu.capacity) == pytest.approx((4e9, 4e9))
    assert least_rates(Topology(instance)) == pytest.approx([0.0, 100.0])
    assert check(result, instance) == []


def test_less_than_one_device_is_slower() -> None:
    whole = solve(parse_instance(data(batch=8, max_utilization=None, devices=1)))
    half = solve(parse_instance(data(batch=8, max_utilization=None, devices=0.5)))
    for one, other in zip(whole.tasks[:1], half.tasks[:1], strict=True):
        assert other.path == one.path
        assert other.latency == pytest.approx(2 * one.latency)
        assert other.rate == pytest.approx(one.rate / 2)


@pytest.mark.parametrize("formulation", ["path", "flow", "colgen"])
def test_headroom_of_a_solve_is_kept_in_the_result(formulation: str, tmp_path: Path) -> None:
    instance = parse_instance(data(max_utilization=None))
    instance = instance.replace(
        tasks=[task.model_dump() | {"floor": 0.0} for task in instance.tasks]
    )
    free = solve(instance, formulation=formulation)  # type: ignore[arg-type]
    result = solve(instance, formulation=formulation, max_utilization=0.25)  # type: ignore[arg-type]
    assert result.throughput == pytest.approx(free.throughput / 4)
    assert [row.utilization for row in result.servers] == pytest.approx([0.25, 0.25])
    assert result.instance_digest == digest_of(instance)
    save_result(result, tmp_path / "result.json")
    again = load_result(tmp_path / "result.json")
    assert again.max_utilization == 0.25
    assert check(again, instance) == []
    less = again.model_copy(update={"max_utilization": 0.2})
    assert {violation.rule for violation in check(less, instance)} == {"server-overload"}


def test_what_a_server_says_itself_goes_before_the_option() -> None:
    instance = parse_instance(data(max_utilization=0.75))
    result = solve(instance, max_utilization=0.25)
    assert [row.utilization for row in result.servers] == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_no_share_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"max_utilization .*: must be between 1e-12 and 1"):
        solve(parse_instance(data()), max_utilization=share)


def test_a_server_without_devices_runs_nothing() -> None:
    instance = parse_instance(data(devices=0))
    result = solve(instance)
    assert result.status == "infeasible"
    assert result.message == (
        "task 'x' has no path at all: a listed link, or a device for its work, is missing on each"
    )
    way = [{"source": "input", "target": "b/0", "drop": 0.2}]
    way += [{"source": "b/1", "target": "output", "drop": 0.0}]
    tasks = [DATA["tasks"][0] | {"connections": way, "floor": "standalone"}, *DATA["tasks"][1:]]
    other = instance.replace(tasks=tasks)
    found = solve(other)
    assert found.tasks[0].path == ("b/0", "b/1")
    assert (found.servers[0].utilization, found.servers[0].busy_devices) == (0.0, 0.0)
    assert check(found, other) == []


def test_adapters_of_a_group_take_the_same_time() -> None:
    found = data()
    found["tasks"] = [
        DATA["tasks"][0] | {"id": name, "input_group": "camera", "connections": [c]}
        for name, c in (
            ("x", DATA["tasks"][0]["connections"][0] | {"share": "head"}),
            ("z", DATA["tasks"][0]["connections"][0] | {"share": "head", "seconds": {"8": 0.003}}),
        )
    ]
    assert problems(found) == [
        "tasks[1].connections[0].seconds = an object: tasks[0].connections[0] has the same ends "
        "and the share 'head': the same adapter must have the same seconds"
    ]
    found["tasks"][1]["connections"][0]["seconds"] = {"8": 2e-3}
    parse_instance(found)


def changed(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    found = data()
    record: Any = found
    for key in place[:-1]:
        record = record[key]
    record[place[-1]] = value
    return found


BLOCK = ("dnns", 0, "blocks", 0, "seconds")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            BLOCK,
            {"1": 0.004, "4": 0.01},
            "dnns[0].blocks[0].seconds: has no time of batch 8, which server 'gpu' runs; there "
            "are those of batch 1, 4",
        ),
        (
            BLOCK,
            0.004,
            "dnns[0].blocks[0].seconds: has no time of batch 8, which server 'gpu' runs; there "
            "are those of batch 1",
        ),
        (
            BLOCK,
            None,
            "servers[0].flops: is required: dnns[0].blocks[0] has FLOPs and no seconds",
        ),
        (
            BLOCK,
            {},
            "dnns[0].blocks[0].seconds = an object: must hold the time of at least one batch size",
        ),
        (
            BLOCK,
            {"8": -1.0},
            "dnns[0].blocks[0].seconds = an object: -1.0, the time of batch 8, must be a finite "
            "number of at least 0",
        ),
        (
            BLOCK,
            {"08": 1.0},
            "dnns[0].blocks[0].seconds = an object: '08' is no batch size: it must be a whole "
            "number of at least 1",
        ),
        (
            BLOCK,
            {"8": "1 ms"},
            "dnns[0].blocks[0].seconds = an object: '1 ms', the time of batch 8, must be a number",
        ),
        (
            BLOCK,
            "fast",
            "dnns[0].blocks[0].seconds = 'fast': must be a number, or an object such as "
            '{"1": 0.004, "8": 0.013}',
        ),
        (
            BLOCK,
            {"8": 1e-15},
            "dnns[0].blocks[0].seconds = 1e-15: is beyond the supported range, 1e-12 to 1e+18 s "
            "(ms or \N{MICRO SIGN}s typed for s?)",
        ),
        (("servers", 0, "batch"), 0, "servers[0].batch = 0: must be at least 1"),
        (("servers", 0, "batch"), 1.5, "servers[0].batch = 1.5: must be a whole number"),
        (("servers", 0, "devices"), -1, "servers[0].devices = -1: must be at least 0"),
        (
            ("servers", 1, "devices"),
            0,
            "servers[1].devices = 0: must be greater than 0 where flops are given: they are those "
            "of all devices",
        ),
        (
            ("servers", 0, "max_utilization"),
            0.0,
            "servers[0].max_utilization = 0.0: must be greater than 0",
        ),
        (
            ("servers", 0, "max_utilization"),
            1.1,
            "servers[0].max_utilization = 1.1: must be at most 1",
        ),
        (
            ("servers", 0, "unit_flops"),
            1e9,
            "servers[0].unit_flops = 1000000000.0: must be null where flops are: a unit is a "
            "number of devices (unit_devices)",
        ),
    ],
)
def test_the_message_is_exact(place: tuple[Any, ...], value: Any, message: str) -> None:
    assert problems(changed(place, value)) == [message]


def test_two_units_are_one_too_many() -> None:
    found = data()
    found["servers"][1] |= {"unit_flops": 1e9, "unit_devices": 1.0}
    assert problems(found) == [
        "servers[1].unit_devices = 1.0: must be null where unit_flops are given: a unit is one of "
        "both"
    ]


def test_an_identity_takes_no_time() -> None:
    found = data()
    found["tasks"][0]["connections"][0] |= {"share": "identity"}
    assert problems(found) == [
        "tasks[0].connections[0].seconds = an object: must be null: the share 'identity' says "
        "that there is no adapter"
    ]


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a"])
def test_nothing_is_lost_on_the_way(name: str, tmp_path: Path) -> None:
    instance = parse_instance(data())
    save_instance(instance, tmp_path / name)
    assert load_instance(tmp_path / name) == instance
    assert Instance.from_tables(instance.tables()) == instance
    assert instance.dnns[1].blocks[1].seconds == {"1": 0.03}


def test_tables_have_a_column_for_each_batch_size(tmp_path: Path) -> None:
    save_instance(parse_instance(data()), tmp_path / "a")
    text = (tmp_path / "a" / "blocks.csv").read_text(encoding="utf-8")
    assert text.splitlines()[:3] == [
        "dnn,id,flops,params,output_bytes,seconds,seconds_8",
        "a,a/0,1000000000.0,0.0,0.0,0.004,0.016",
        "a,a/1,1000000000.0,0.0,0.0,,0.024",
    ]
    (tmp_path / "a" / "blocks.csv").write_text(
        text.replace("seconds,", "seconds_1,"), encoding="utf-8"
    )
    with pytest.raises(InstanceError) as caught:
        load_instance(tmp_path / "a")
    assert str(caught.value.problems[0]) == (
        "blocks.csv:1 = 'seconds_1': the time of batch 1 stands in the column 'seconds'"
    )
    tables = parse_instance(data()).tables()
    assert pd.isna(tables["blocks"]["seconds"][1])


def test_a_time_in_a_table_is_refused_at_its_row(tmp_path: Path) -> None:
    found = data(batch=4)
    del found["dnns"][0]["blocks"][1], found["tasks"][0]["connections"]
    found["dnns"][0]["blocks"][0]["seconds"]["4"] = 0.01
    save_instance(parse_instance(found), tmp_path / "a")
    path = tmp_path / "a" / "servers.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",4.0,", ",16,"), encoding="utf-8")
    with pytest.raises(InstanceError) as caught:
        load_instance(tmp_path / "a")
    assert [str(problem) for problem in caught.value.problems] == [
        "blocks.csv:2 seconds: has no time of batch 16, which server 'gpu' runs; there are those "
        "of batch 1, 4, 8"
    ]


def test_defaults_are_not_written_and_change_no_digest(tmp_path: Path) -> None:
    old = load_instance(ROOT / "data" / "two-services.json")
    spelt = old.to_dict()
    for server in spelt["servers"]:
        assert server["devices"] == 1.0
    assert parse_instance(spelt) == old
    assert digest_of(parse_instance(spelt)) == digest_of(old)
    save_instance(old, tmp_path / "a.json")
    assert "devices" not in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_results_of_older_versions_are_confirmed() -> None:
    instance = load_instance(ROOT / "data" / "two-services.json")
    result = solve(instance)
    old = result.to_dict()
    del old["max_utilization"]
    for row in old["servers"]:
        del row["devices"], row["busy_devices"]
    read = type(result).model_validate(old)
    assert read.servers[0].devices is None
    assert check(read, instance) == []


@pytest.mark.parametrize("seed", range(12))
def test_every_method_respects_devices_and_headroom(seed: int) -> None:
    """Each result is checked before it is returned; none is better than the proven one."""
    instance = random_instance(700 + seed, devices=True, groups=seed % 3 == 0, max_combinations=400)
    proven = solve(instance, max_utilization=0.9)
    for method in METHODS[1:]:
        found = solve(instance, method, max_utilization=0.9)
        assert found.max_utilization == 0.9
        if found.has_solution:
            assert proven.status == "optimal"
            assert found.reward <= proven.bound * (1 + 1e-6)


def terminal(table: Callable[[Console], Any], width: int = 80) -> list[list[str]]:
    """Return the words of each line of a table."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table(console))
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_table_of_servers_tells_devices_where_they_matter() -> None:
    instance = parse_instance(data())
    result = evaluate_paths(instance, {"x": ["a/0", "a/1"], "y": ["b/0", "b/1"]})
    lines = terminal(lambda console: server_table(result, instance, console))
    assert ["busy", "of", "load", "capacity"] in lines
    assert ["server", *["[devices]"] * 2, *["[FLOP/s]"] * 2, "utilization"] in lines
    rows = {line[0]: line for line in lines if line}
    assert rows["gpu"][1:3] == ["1.000", "2.000"]
    assert rows["gpu"][-2:] == ["50.0", "%"]
    assert rows["cpu"][1:7] == ["4.000", "4.000", "4.000", "G", "4.000", "G"]
    one = result.model_copy(update={"servers": result.servers[:1]})
    assert ["busy", "of"] in terminal(lambda console: server_table(one, instance, console))


def test_the_page_of_a_report_tells_devices(tmp_path: Path) -> None:
    instance = parse_instance(data())
    save_instance(instance, tmp_path / "instance.json")
    save_result(solve(instance), tmp_path / "timed.exact.json")
    page = render(assemble(read_material([tmp_path], tmp_path / "instance.json")))
    table = page[page.index("Utilisation of servers by method") :]
    assert ">Devices<" in table[: table.index("</table>")]
    assert "of 2 devices" in page
    assert "None" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_validate_tells_devices_times_and_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_instance(parse_instance(data()), tmp_path / "a.json")
    assert main(["validate", str(tmp_path / "a.json")]) == 0
    out = capsys.readouterr().out
    assert "  6 devices on 2 servers\n" in out
    assert "  measured times: 3 of 4 blocks, 1 of 1 connections\n" in out
    assert "  batches: gpu 8\n" in out


def test_the_command_line_asks_for_headroom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_instance(parse_instance(data(max_utilization=None)), tmp_path / "a.json")
    instance = str(tmp_path / "a.json")
    for wanted, code in (("0.5", 0), ("0", 2), ("1.5", 2)):
        arguments = ["solve", instance, "--max-utilization", wanted, "--json", "-m", "exact"]
        assert main(arguments) == code
        if code == 0:
            (result,) = json.loads(capsys.readouterr().out)
            assert result["max_utilization"] == 0.5
            assert max(s["utilization"] for s in result["servers"]) == pytest.approx(0.5)
