"""What is written reads back as the same instance, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from code_opt.errors import InputError
from code_opt.instance import Instance, InstanceError, load_instance, parse_instance, save_instance
from code_opt.instance.tables import COLUMNS, SAVED_WHERE_USED, TEXTS
from code_opt.instance.yaml_text import read_yaml
from tests.instance.examples import ODD_IDS, instances, small

FORMATS = ("file.json", "file.yaml", "file.YML", "folder")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=instances())
def test_every_format_gives_back_the_same_instance(data: dict[str, Any], tmp_path: Path) -> None:
    instance = parse_instance(data)
    assert parse_instance(instance.to_dict()) == instance
    for name in FORMATS:
        save_instance(instance, tmp_path / name)
        assert load_instance(tmp_path / name) == instance, name
    assert Instance.from_tables(instance.tables()) == instance


@pytest.mark.parametrize("name", FORMATS)
def test_ids_that_look_like_something_else_stay_text(name: str, tmp_path: Path) -> None:
    data = small()
    data["servers"] = [{"id": odd, "flops": 1.0} for odd in ODD_IDS]
    for dnn in data["dnns"]:
        dnn["server"] = "007"
    data["tasks"] = [{"id": odd, "dnn": "alexnet", "accuracy": 0.5} for odd in ODD_IDS]
    save_instance(parse_instance(data), tmp_path / name)
    loaded = load_instance(tmp_path / name)
    assert [server.id for server in loaded.servers] == ODD_IDS
    assert [task.id for task in loaded.tasks] == ODD_IDS


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-12, 1e18, 1e18 / 3.0, 2**53 + 2.0])
def test_floats_come_back_bit_for_bit(name: str, value: float, tmp_path: Path) -> None:
    data = small()
    data["servers"][0]["flops"] = data["servers"][1]["flops"] = value
    save_instance(parse_instance(data), tmp_path / name)
    assert load_instance(tmp_path / name).servers[0].flops == value


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", ["a\r\nb\rc\n", ' , "x" ; \'', "x" * 200_000, "\ufeff", "=1"])
def test_descriptions_come_back(name: str, text: str, tmp_path: Path) -> None:
    instance = parse_instance(small() | {"description": text})
    save_instance(instance, tmp_path / name)
    assert load_instance(tmp_path / name) == instance


def test_json_holds_one_record_per_line(tmp_path: Path) -> None:
    save_instance(parse_instance(small()), tmp_path / "x.json")
    lines = (tmp_path / "x.json").read_text(encoding="utf-8").splitlines()
    assert any(line.strip().startswith('{"source": "alexnet/0", "target"') for line in lines)
    assert json.loads("\n".join(lines))["servers"][0]["id"] == "edge-a"


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2.0e9", 2e9),
        ("1e7", 1e7),
        ("1E+7", 1e7),
        (".5", 0.5),
        ("-3", -3),
        ("+1.", 1.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("-.inf", -np.inf),
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("'7'", "7"),
        ('"true"', "true"),
        ("1e", "1e"),
        ("=", "="),
    ],
)
def test_yaml_scalars_follow_version_1_2(text: str, value: Any) -> None:
    data, _ = read_yaml(f"x: {text}\n")
    assert data == {"x": value}
    assert type(data["x"]) is type(value)


def test_yaml_comments_and_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "# a comment\nschema: code-opt/instance/1\ndescription: |\n  two\n  lines\n"
        "servers:\n- id: edge-a\n  flops: 2.0e9  # from the data sheet\n"
        "dnns: [{id: a, server: edge-a, blocks: [{id: a/0, flops: 1e7}]}]\n"
        "tasks: [{id: on, dnn: a, accuracy: 1}]\n",
        encoding="utf-8",
    )
    instance = load_instance(path)
    assert instance.description == "two\nlines\n"
    assert instance.tasks[0].id == "on"
    assert instance.servers[0].flops == 2e9


# CSV


def write(folder: Path, **tables: str) -> Path:
    """Write a folder with the required tables, changed or completed by the given ones."""
    texts = {
        "servers": "id,flops\nedge-a,2e9\n",
        "dnns": "id,server\nalexnet,edge-a\n",
        "blocks": "dnn,id,flops\nalexnet,alexnet/1,1e7\nalexnet,alexnet/0,2e7\n",
        "tasks": "id,dnn,accuracy\nobjects,alexnet,0.78\n",
    } | tables
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.csv").write_bytes(text.encode())
    return folder


def test_csv_defaults(tmp_path: Path) -> None:
    instance = load_instance(write(tmp_path / "shop floor"))
    assert instance.name == "shop floor"
    assert instance.schema_ == "code-opt/instance/1"
    assert [block.id for block in instance.dnns[0].blocks] == ["alexnet/1", "alexnet/0"]
    assert instance.servers[0].cost == 1.0
    assert instance.servers[0].memory is None
    assert instance.tasks[0].connections == ()
    assert instance.reward == parse_instance(small()).reward


def test_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    plain = load_instance(write(tmp_path / "x"))
    tables = {
        "servers": "\ufeffid,flops,memory,,\r\nedge-a,2e9,,,\r\n,,,,\r\n,,,,\r\n",
        "dnns": '\ufeff"id","server"\r\n"alexnet","edge-a"\r\n\r\n',
        "tasks": "accuracy,dnn,id,weight,\r\n.78,alexnet,objects,1,\r\n",
    }
    assert load_instance(write(tmp_path / "x", **tables)) == plain


def test_csv_lines_are_counted_through_cells_of_several_lines(tmp_path: Path) -> None:
    blocks = 'dnn,id,flops\nalexnet,"a\nb",1\n\nalexnet,c,x\n'
    with pytest.raises(InstanceError) as caught:
        load_instance(write(tmp_path / "x", blocks=blocks))
    assert [p.place for p in caught.value.problems] == ["blocks.csv:2 id", "blocks.csv:5 flops"]


def test_csv_reward_and_measured_paths(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "x",
        reward="part,kind,rate\nthroughput,exponential,2\n",
        measured_paths="task,blocks,accuracy\nobjects,alexnet/1>alexnet/0,0.7\n",
    )
    instance = load_instance(folder)
    assert instance.reward.throughput.model_dump() == {"kind": "exponential", "rate": 2.0}
    assert instance.reward.accuracy.kind == "power"
    assert instance.tasks[0].measured_paths[0].blocks == ("alexnet/1", "alexnet/0")


def test_csv_alternatives_and_inputs(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "x",
        servers="id,flops\nedge-a,1e9\nedge-b,1e9\n",
        dnns="id,server\nalexnet,edge-a\nmobilenet,edge-b\n",
        blocks="dnn,id,flops\nalexnet,alexnet/0,1e6\nmobilenet,mobilenet/0,1e6\n",
        tasks="id,dnn,accuracy,input_bytes,origin\nobjects,alexnet,0.8,2e3,edge-b\n",
        alternatives="task,dnn,accuracy,samples\nobjects,mobilenet,0.7,500\n",
    )
    (task,) = load_instance(folder).tasks
    assert (task.input_bytes, task.origin) == (2000.0, "edge-b")
    assert task.alternatives[0].model_dump() == {
        "dnn": "mobilenet",
        "accuracy": 0.7,
        "samples": 500.0,
    }
    saved = tmp_path / "y"
    save_instance(load_instance(folder), saved)
    assert load_instance(saved).tasks == (task,)


def test_other_files_in_a_folder_do_not_matter(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (folder / "README.md").write_text("hello", encoding="utf-8")
    (folder / "networks").mkdir()
    load_instance(folder)


def test_a_table_must_lie_in_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (tmp_path / "other.csv").write_text("source,target\n", encoding="utf-8")
    (folder / "links.csv").symlink_to(tmp_path / "other.csv")
    with pytest.raises(InstanceError, match=r"links\.csv: a link to a file outside"):
        load_instance(folder)


# Writing


def test_a_folder_is_replaced_table_by_table(tmp_path: Path) -> None:
    data = small()
    folder = tmp_path / "x"
    save_instance(parse_instance(data), folder)
    assert sorted(p.stem for p in folder.iterdir()) == sorted(
        ["instance", "servers", "dnns", "blocks", "tasks", "connections", "reward"]
    )
    (folder / "notes.txt").write_text("keep", encoding="utf-8")
    data["tasks"][0]["connections"] = []
    save_instance(parse_instance(data), folder)
    assert not (folder / "connections.csv").exists()
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "keep"
    assert load_instance(folder) == parse_instance(data)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_a_new_folder_has_the_usual_rights(tmp_path: Path) -> None:
    save_instance(parse_instance(small()), tmp_path / "x")
    (tmp_path / "y").mkdir()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


@pytest.mark.parametrize("name", ["none/x.json", "none/x.yaml", "none/x", "x.csv", "x.txt"])
def test_what_cannot_be_written_leaves_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        save_instance(parse_instance(small()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_changes_no_table(tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "x"
    instance = parse_instance(small())
    save_instance(instance, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(path: Any, text: Any) -> None:
        raise InputError("no space left")

    monkeypatch.setattr("code_opt.instance.files.write_atomically", full)
    with pytest.raises(InputError, match="no space left"):
        save_instance(instance.replace(name="changed"), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# pandas


def test_tables_have_sensible_types() -> None:
    tables = parse_instance(small()).tables()
    rare = SAVED_WHERE_USED
    assert {name: tuple(table.columns) for name, table in tables.items()} == {
        name: tuple(column for column in columns if column not in rare.get(name, ()))
        for name, columns in COLUMNS.items()
    }
    assert tables["servers"]["memory"].dtype == np.float64
    assert tables["servers"]["memory"].isna().all()
    assert tables["links"]["bandwidth"].dtype == np.float64
    assert tables["connections"]["server"].tolist() == [None, None]
    assert tables["connections"]["source"].tolist() == ["alexnet/0", "mobilenet/2"]


def test_columns_are_texts_or_numbers_as_the_model_says() -> None:
    fields = {
        name: definition["properties"]
        for name, definition in Instance.model_json_schema()["$defs"].items()
    }
    records = {"servers": "Server", "links": "Link", "dnns": "Dnn", "blocks": "Block"}
    records |= {"tasks": "Task", "connections": "Connection", "measured_paths": "MeasuredPath"}
    records |= {"alternatives": "Alternative"}
    for table, record in records.items():
        for column in set(COLUMNS[table]) & set(fields[record]) - {"floor", "blocks"}:
            kinds = fields[record][column]
            types = {kind["type"] for kind in kinds.get("anyOf", [kinds])} - {"null"}
            if column == "seconds":  # its batch sizes are columns
                types -= {"object"}
            assert types == {"string" if column in TEXTS else "number"}, (table, column)
    for shape in ("Power", "Logistic", "Exponential"):
        assert set(fields[shape]) <= set(COLUMNS["reward"])
        assert set(fields[shape]) & TEXTS == {"kind"}


def test_tables_from_elsewhere() -> None:
    tables = {
        "servers": pd.DataFrame({"id": ["007"], "flops": [np.int64(5)], "memory": [pd.NA]}),
        "dnns": pd.DataFrame({"id": ["a"], "server": ["007"]}, dtype="string"),
        "blocks": pd.DataFrame({"dnn": ["a"], "id": ["a/0"], "flops": np.float32([2])}),
        "tasks": pd.DataFrame(
            {"id": ["NA", "b"], "dnn": ["a", "a"], "accuracy": [1, 0.5], "floor": [None, 2]},
            index=[7, 7],
        ),
    }
    instance = Instance.from_tables(tables)
    assert instance.servers[0].flops == 5.0
    assert [(t.id, t.floor) for t in instance.tasks] == [("NA", 0.0), ("b", 2.0)]


def test_problems_of_tables_name_row_and_column() -> None:
    tables = parse_instance(small()).tables()
    tables["servers"].loc[1, "flops"] = -1.0
    tables["connections"].loc[1, "task"] = "objcts"
    tables["tasks"] = tables["tasks"].drop(columns="accuracy").assign(colour="red")
    with pytest.raises(InstanceError) as caught:
        Instance.from_tables(tables)
    assert [str(problem) for problem in caught.value.problems] == [
        "tasks = 'colour': unknown column; known: "
        + ", ".join(repr(column) for column in COLUMNS["tasks"]),
        "tasks: the column 'accuracy' is missing",
        "connections row 1 task = 'objcts': no such task; did you mean 'objects'?",
        "servers row 1 flops = -1.0: must be greater than 0",
    ]


def test_tables_that_are_missing_or_unknown() -> None:
    tables = parse_instance(small()).tables()
    tables["server"] = tables.pop("servers")
    with pytest.raises(InstanceError) as caught:
        Instance.from_tables(tables)
    assert [str(problem) for problem in caught.value.problems] == [
        "servers: this table is required",
        "server: no such table; did you mean 'servers'?",
    ]


def test_numbers_are_not_read_from_text_in_tables() -> None:
    tables = parse_instance(small()).tables()
    tables["servers"]["flops"] = ["1", "2"]
    with pytest.raises(InstanceError, match="servers row 0 flops = '1': must be a number"):
        Instance.from_tables(tables)
    tables["servers"]["flops"] = [True, False]
    with pytest.raises(InstanceError, match="servers row 0 flops = true: must be a number"):
        Instance.from_tables(tables)
