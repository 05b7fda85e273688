"""Measurements of other tools: extracts of their tables, by hand, into instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from code_opt import load_instance, save_instance, solve
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.instance import Instance, parse_instance
from code_opt.measurements import (
    read_accuracies,
    read_measurements,
    with_accuracies,
    with_measurements,
)

DATA = Path(__file__).parent / "measurements"


def edge(**gpu: Any) -> Instance:
    """A network of two blocks, one of one block, and a task of each."""
    return parse_instance(
        {
            "schema": "code-opt/instance/1",
            "name": "edge",
            "servers": [{"id": "s", "flops": 1e9}, {"id": "gpu", **gpu}],
            "dnns": [
                {
                    "id": "net",
                    "server": "s",
                    "blocks": [{"id": "net/0", "flops": 1e6}, {"id": "net/1", "flops": 1e6}],
                },
                {"id": "add", "server": "s", "blocks": [{"id": "add/0", "flops": 1e6}]},
            ],
            "tasks": [
                {
                    "id": "t",
                    "dnn": "net",
                    "accuracy": 0.8,
                    "connections": [{"source": "net/0", "target": "output", "drop": 0.1}],
                },
                {"id": "u", "dnn": "add", "accuracy": 0.7},
            ],
        }
    )


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_model_analyzer_tells_times_by_its_largest_throughput() -> None:
    found = {(m.target, m.batch): m.seconds for m in read_measurements(DATA / "model-analyzer.csv")}
    # Batch 1: 6,176 and 2,508 inferences/s; batch 2: 13,205 and 4,876.1.
    assert found == {
        ("add_sub", 2): pytest.approx(2 / 13205.0),
        ("add_sub", 1): pytest.approx(1 / 6176.0),
    }


def test_networks_that_were_measured_together_are_refused(tmp_path: Path) -> None:
    text = "Model,Batch,Throughput (infer/sec)\n" + '"a,b","1,1","421.0, [184.5,236.5]"\n'
    with pytest.raises(InputError, match=r"csv:2 Model = 'a,b': measured together; times of each"):
        read_measurements(table(tmp_path, text))


def test_perf_analyzer_tells_what_the_server_computes() -> None:
    (found,) = read_measurements(DATA / "perf-analyzer.csv", network="add", batch=4)
    assert (found.target, found.batch) == ("add", 4)
    assert found.seconds == pytest.approx(0.004)  # at concurrency 1: 100 + 3,900 + 0 microseconds
    with pytest.raises(InputError, match=r"csv:2: the file does not name its network: --network"):
        read_measurements(DATA / "perf-analyzer.csv")


def test_timm_makes_alternatives() -> None:
    found = with_accuracies(
        read_measurements(DATA / "timm.csv", image_size=224),
        read_accuracies(DATA / "timm-accuracies.csv", image_size=224),
    )
    instance = with_measurements(
        edge(), found, alternatives_of=["t"], server="gpu", per_inference=True
    )
    task = instance.tasks[0]
    accuracies = {a.dnn: a.accuracy for a in task.alternatives}
    assert accuracies["resnet18"] == pytest.approx(0.71504)  # a1_in1k at 224 pixels
    assert set(accuracies) == {"resnet50", "resnet18", "mobilenetv2_100"}
    assert instance.tasks[1].alternatives == ()
    times = {d.id: d.blocks[0].seconds for d in instance.dnns if d.server == "gpu"}
    rate = next(m for m in found if m.target == "resnet50")
    assert times["resnet50"] == {"1": pytest.approx(rate.seconds / rate.batch)}
    assert solve(instance).status == "optimal"


def test_a_plain_table_names_blocks_networks_and_connections(tmp_path: Path) -> None:
    blocks = "block,batch,milliseconds\nnet/0,1,4\nnet/0,8,13\n"
    found = read_measurements(table(tmp_path, blocks))
    found += read_measurements(table(tmp_path, "network;seconds\nsum;0,25\n"))
    text = "task,source,target,seconds\nt,net/0,output,0.001\n"
    found += read_measurements(table(tmp_path, text))
    instance = with_measurements(edge(), found, names={"sum": "add"})
    net, add = instance.dnns
    assert net.blocks[0].seconds == pytest.approx({"1": 0.004, "8": 0.013})
    assert net.blocks[1].seconds is None
    assert add.blocks[0].seconds == {"1": 0.25}
    assert instance.tasks[0].connections[0].seconds == {"1": 0.001}
    again = with_measurements(instance, read_measurements(table(tmp_path, blocks)))
    assert again == instance


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"no measurements: expected the columns of Triton's Model Analyzer"),
        ("", r"no measurements"),
        ("block,seconds\n", r"holds no measurement that is asked for"),
        ("block,seconds,bach\nnet/0,1,1\n", r"csv:1: unknown column 'bach'; did you mean 'batch'"),
        ("block,seconds\nnet/0,fast\n", r"csv:2 seconds = 'fast': must be a number above 0"),
        ("block,seconds\nnet/0,0\n", r"csv:2 seconds = '0': must be a number above 0"),
        ("block,seconds\n,1\n", r"csv:2 block: is required"),
        ("block,seconds\nnet/0,1,2\n", r"csv:2: 3 cells, but there are 2 columns"),
        ("block,batch,seconds\nnet/0,1.5,2\n", r"csv:2 batch = '1.5': must be a whole number"),
        ("block,seconds,accuracy\nx,2,71\n", r"accuracy = '71': must be .* above 0 and at most 1"),
        (
            "block,seconds\nnet/0,1\nnet/0,2\n",
            r"csv:3: .*csv:2 has a time of net/0 at batch 1 already$",
        ),
        (
            "model,infer_samples_per_sec,infer_img_size\na,9,224\na,5,288\n",
            r"csv:3: .* already; --image-size tells which is meant",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_told(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_measurements(table(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("network,seconds\nnet,1\n", {}, r"csv:2: network 'net' has 2 blocks: a time of all of"),
        ("network,seconds\nnat/0,1\n", {}, r"'nat/0': no such network.*did you mean 'net/0'\?;"),
        ("network,seconds\nzoo,1\n", {"tasks": ["v"]}, r"--alternatives-of 'v': no such task"),
        ("network,seconds\nzoo,1\n", {"tasks": ["t"]}, r"'zoo': an alternative runs on .*--server"),
        (
            "network,seconds\nzoo,1\n",
            {"tasks": ["t"], "server": "gpx"},
            r"--server 'gpx': no such server; did you mean 'gpu'",
        ),
        (
            "network,seconds\nzoo,1\n",
            {"tasks": ["t"], "server": "gpu"},
            r"'zoo': an alternative has a measured accuracy: --accuracies",
        ),
        ("block,batch,seconds\nnet/0,8,1\n", {}, r"has no time of batch 1, which server 's' runs"),
    ],
)
def test_what_does_not_fit_an_instance_is_told(
    text: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    found = read_measurements(table(tmp_path, text))
    with pytest.raises(InputError, match=message):
        with_measurements(
            edge(), found, alternatives_of=options.get("tasks", ()), server=options.get("server")
        )


def test_the_command_writes_a_measured_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_instance(edge(batch=1024.0), tmp_path / "edge.json")
    arguments = [
        *("import-measurements", str(tmp_path / "edge.json"), str(DATA / "timm.csv")),
        *("--alternatives-of", "t", "--alternatives-of", "u", "--server", "gpu"),
        *("--accuracies", str(DATA / "timm-accuracies.csv"), "--image-size", "224"),
    ]
    out = tmp_path / "out.json"
    assert (
        main([*arguments, "--per-inference", "--set", "servers[gpu].batch=1", "--out", str(out)])
        == 0
    )
    assert capsys.readouterr().out == f"Written: {out} (3 times, 3 networks added)\n"
    instance = load_instance(out)
    assert [len(task.alternatives) for task in instance.tasks] == [3, 3]
    assert main([*arguments, "--rename", "x", "--out", str(out)]) == 2
    assert "--rename: 'x': expected NAME=ID" in capsys.readouterr().err
    wrong = table(tmp_path, "network,seconds\nnet,1\nzoo,1\n")
    assert (
        main(["import-measurements", str(tmp_path / "edge.json"), str(wrong), "--out", str(out)])
        == 2
    )
    told = capsys.readouterr().err
    assert "network 'net' has 2 blocks" in told
    assert "'zoo': no such network" in told
