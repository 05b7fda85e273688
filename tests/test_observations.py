"""Observations of the running edge: what they change, and what they say of predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_opt import InputError, load_instance, load_observations, observe, solve
from code_opt.cli.app import main
from code_opt.cli.exits import ExitStatus

DATA = Path(__file__).resolve().parents[1] / "data"
TABLE = """task,blocks,accuracy,samples,demand,block,source,target,batch,seconds
vehicles,resnet/0 > mobilenet/1 > mobilenet/2,0.76,2000,48,,,,,
vehicles,resnet/0>resnet/1>resnet/2>resnet/3,0.87,,,,,,,
scenes,mobilenet/0 > mobilenet/1 > mobilenet/2 > mobilenet/3,0.79,500,,,,,,
scenes,,,,0.5,,,,,
,,,,,resnet/0,,,,0.004
,,,,,resnet/0,,,8,0.02
vehicles,,,,,,resnet/0,resnet/2,,0.001
"""


@pytest.fixture(scope="module")
def edge():
    return load_instance(DATA / "measured-overturn.json").with_({"tasks[scenes].floor": 5.0})


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "observed.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_what_was_observed_becomes_the_instance(edge, table):
    observed, found = observe(edge, load_observations(table(TABLE)))
    vehicles, scenes = observed.tasks
    measured = {m.blocks: m for m in vehicles.measured_paths}
    before = {m.blocks: m for m in edge.tasks[0].measured_paths}
    path = ("resnet/0", "mobilenet/1", "mobilenet/2")
    assert (measured[path].accuracy, measured[path].samples) == (0.76, 2000.0)
    assert {k: v for k, v in measured.items() if k != path} == {
        k: v for k, v in before.items() if k != path
    }
    # Native paths are the task's own accuracy; samples are those of the observation.
    assert (vehicles.accuracy, vehicles.samples) == (0.87, None)
    assert (scenes.accuracy, scenes.samples) == (0.79, 500.0)
    # No rate is larger than the demand, so no floor is.
    assert (vehicles.demand, scenes.demand, scenes.floor) == (48.0, 0.5, 0.5)
    assert observed.dnns[0].blocks[0].seconds == {"1": 0.004, "8": 0.02}
    adapter = next(
        c for c in vehicles.connections if (c.source, c.target) == ("resnet/0", "resnet/2")
    )
    assert adapter.seconds == {"1": 0.001}
    rows = {(row.kind, row.what, row.detail): row for row in found}
    assert len(rows) == len(found) == 8
    known = rows["accuracy", "vehicles", " > ".join(path)]
    assert (known.predicted, known.observed, known.source) == (0.752, 0.76, "measured")
    assert known.is_as_predicted
    assert known.interval == pytest.approx((0.7408, 0.7783), abs=1e-3)
    assert (
        rows["accuracy", "vehicles", "resnet/0 > resnet/1 > resnet/2 > resnet/3"].source == "given"
    )
    block = edge.dnns[0].blocks[0]
    time = rows["time", "resnet/0", "batch 8"]
    assert time.predicted == pytest.approx(8 * block.flops / edge.servers[0].flops)
    assert rows["demand", "scenes", ""].predicted == edge.tasks[1].demand


def test_a_result_tells_which_paths_ran(edge, table):
    result = solve(edge)
    rows = load_observations(table("task;accuracy;samples\nvehicles;0,5;100\nscenes;0,6;100\n"))
    observed, found = observe(edge, rows, result)
    assert [row.is_as_predicted for row in found] == [False, False]
    for row, seen in zip(result.tasks, found, strict=True):
        assert seen.detail == " > ".join(row.path)
        assert seen.predicted == pytest.approx(row.accuracy)
    again, kept = observe(observed, rows, result)
    assert again == observed
    assert [row.predicted for row in kept] == [0.5, 0.6]
    with pytest.raises(InputError, match="infeasible, so it holds no paths"):
        observe(edge, rows, solve(edge, min_throughput=1e9))


def test_an_alternative_is_observed_as_itself(edge, table):
    zoo = edge.with_({"tasks[scenes].alternatives": [{"dnn": "resnet", "accuracy": 0.7}]})
    rows = "task,blocks,accuracy\nscenes,resnet/0>resnet/1>resnet/2>resnet/3,0.72\n"
    observed, (row,) = observe(zoo, load_observations(table(rows)))
    assert observed.tasks[1].alternatives[0].accuracy == 0.72
    assert (row.predicted, row.source) == (0.7, "given")
    assert observed.tasks[1].accuracy == zoo.tasks[1].accuracy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task,x\na,1\n", ": no observations: expected columns task and accuracy"),
        ("task,demand,accurracy\nscenes,1,\n", ":1: unknown column 'accurracy'; did you mean"),
        ("task,demand,demand\nscenes,1,1\n", ":1: the column 'demand' stands there twice"),
        ("task,demand\n", ": holds no observation"),
        ("task,demand\nscenes,\n", ":2: says nothing: give an accuracy, a demand or seconds"),
        ("task,demand\n,4\n", ":2 task: is required"),
        ("task,demand\nscenes,-4\n", ":2 demand = '-4': must be a number of at least 0"),
        ("task,accuracy\nscenes,76%\n", ":2 accuracy = '76%': must be a number of at least 0 and"),
        ("task,accuracy,samples\nscenes,0.7,1.5\n", ":2 samples = '1.5': must be a whole number"),
        ("block,seconds\nresnet/0,0\n", ":2 seconds = '0': must be a number above 0"),
        ("block,seconds,batch\nresnet/0,1,1.5\n", ":2 batch = '1.5': must be a whole number"),
        ("block,task,demand,seconds\nresnet/0,,3,1\n", ":2: seconds and demand: give each a row"),
        ("block,seconds,milliseconds\nresnet/0,3,1\n", ":2: give seconds or milliseconds, not"),
        ("task,block,demand\nscenes,resnet/0,3\n", ":2 block = 'resnet/0': belongs to a time"),
        ("task,demand\nscene,4\n", ":2 task = 'scene': no such task; did you mean 'scenes'?"),
        ("block,seconds\nresnet/9,1\n", ":2 block = 'resnet/9': no such block; did you mean"),
        (
            "task,source,target,seconds\nscenes,a,b,1\n",
            ":2 task = 'scenes': has no connection from 'a' to 'b'",
        ),
        ("task,accuracy\nscenes,0.7\n", ":2 task = 'scenes': which path has this accuracy?"),
        ("task,blocks,accuracy\nscenes,a > b,0.7\n", ":2 blocks = 'a > b': is no path of task"),
        ("task,demand\nscenes,4\nscenes,5\n", ":3: "),
    ],
)
def test_what_is_wrong_is_told_with_its_place(edge, table, text, message):
    path = table(text)
    with pytest.raises(InputError) as found:
        observe(edge, load_observations(path))
    assert f"{path}{message}" in str(found.value)


def test_from_file_to_table(edge, table, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    source, out = str(DATA / "measured-overturn.json"), str(tmp_path / "new" / "observed.yaml")
    assert main(["observe", source, str(table(TABLE)), "--out", out]) == ExitStatus.DONE
    text = capfd.readouterr().out
    assert "+0.80 points" in text
    assert "0.741 to 0.778" in text
    assert "2 of 2 predicted accuracies lie in the 95 % interval" in text
    assert f"Written: {out} (8 observations)" in text
    assert load_instance(out).tasks[0].demand == 48.0
    assert main(["validate", out]) == ExitStatus.DONE
    assert main(["observe", source, source, "--out", out]) == ExitStatus.BAD_INPUT
