"""Deployed programs: chained by the manifest alone, they answer like the assembled network."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np

from code_opt import evaluate_paths, load_instance, solve
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.evaluation import deploying
from code_opt.evaluation.deploying import MANIFEST, DeploymentError, deploy
from code_opt.evaluation.subject import Subject, bundle_of
from code_opt.evaluation.tuning import PathFits
from code_opt.result import save_result
from tests.evaluation.executed import DATA


def subject_of(name: str) -> Subject:
    """Return a data set without floors, so that any paths will do."""
    path = DATA / name / "instance.json"
    instance = load_instance(path).with_({"tasks[*].floor": 0.0})
    return Subject(instance, bundle_of(instance, path), Path("none"))


def answers(folder: Path, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Run what the manifest names, with nothing but PyTorch, on the inputs of tasks."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    programs = [(one, server) for server, all_ in manifest["servers"].items() for one in all_]
    arrived: dict[str, torch.Tensor] = {}
    found = {}
    for one, server in sorted(programs, key=lambda pair: pair[0]["order"]):
        (file,) = [name for name in one["files"] if name.endswith(".pt2")]
        content = (folder / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["files"][file]
        assert one["server"] == server
        run = torch.export.load(folder / file).module()
        x = arrived.get(one["name"], inputs[one["tasks"][0]])
        assert list(x.shape[1:]) == one["input_shape"]
        for output, value in zip(one["outputs"], run(x), strict=True):
            assert list(value.shape[1:]) == output["shape"]
            arrived |= dict.fromkeys(output["to"], value)
            found |= dict.fromkeys(output["answers"], value)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "one-camera",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("digits", "alexnet-mobilenet", "three-services")
        ),
    ],
)
def test_programs_answer_like_the_assembled_network(name: str, tmp_path: Path) -> None:
    subject = subject_of(name)
    result = solve(subject.instance)
    programs = deploy(subject, result, tmp_path, onnx=False)
    assert {one.server for one in programs} <= {server.id for server in subject.instance.servers}
    network = PathFits(subject, "cpu", fine_tune=False).network(result)
    running = [row.task for row in result.tasks if row.rate > 0.0]
    inputs = {}
    for task in running:
        shape = next(
            dnn.input for dnn in subject.bundle.manifest.dnns
            if dnn.id == subject.bundle.tasks[task].dnn
        )  # fmt: skip
        inputs[task] = torch.rand((5, *shape), generator=torch.Generator().manual_seed(1))
    found = answers(tmp_path, inputs)
    assert sorted(found) == sorted(running)
    for task in running:
        with torch.no_grad():
            right = network.path(task)(inputs[task])
        assert torch.allclose(found[task], right, rtol=1e-3, atol=1e-3)


def crossing(subject: Subject) -> dict[str, tuple[str, ...]]:
    """Return measured paths that lead over both servers of the digits."""
    host = {block.id: dnn.server for dnn in subject.instance.dnns for block in dnn.blocks}
    return {
        task.id: next(
            path.blocks for path in task.measured_paths
            if len({host[block] for block in path.blocks}) > 1
        )
        for task in subject.instance.tasks
    }  # fmt: skip


def test_outputs_go_from_server_to_server_and_onnx_answers_alike(tmp_path: Path) -> None:
    subject = subject_of("digits")
    result = evaluate_paths(subject.instance, crossing(subject))
    programs = deploy(subject, result, tmp_path)  # runs the ONNX programs, too
    has_onnx = find_spec("onnxruntime") is not None
    assert all((one.without_onnx is None) == has_onnx for one in programs)
    assert all((tmp_path / name).exists() for one in programs for name in one.files)
    assert any(name.endswith(".onnx") for one in programs for name in one.files) == has_onnx
    sent = [to for one in programs for output in one.outputs for to in output.to]
    assert sent
    assert {*sent} < {one.name for one in programs}
    network = PathFits(subject, "cpu", fine_tune=False).network(result)
    x = torch.rand((2, 3, 16, 16))
    for task, value in answers(tmp_path, dict.fromkeys(("digit", "parity"), x)).items():
        with torch.no_grad():
            assert torch.allclose(value, network.path(task)(x), rtol=1e-3, atol=1e-3)


def test_a_program_that_answers_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = deploying._exported

    def wrong(program, module):
        files, run = exported(program, module)
        return files, lambda x: [output + np.float32(0.1) for output in run(x)]

    monkeypatch.setattr(deploying, "_exported", wrong)
    subject = subject_of("digits")
    with pytest.raises(DeploymentError, match="answer differently from the assembled network"):
        deploy(subject, solve(subject.instance, method="local"), tmp_path, onnx=False)
    assert list(tmp_path.iterdir()) == []


def test_onnx_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "find_spec", lambda name: None)
    subject = subject_of("digits")
    result = solve(subject.instance, method="local")
    with pytest.raises(InputError, match="ONNX needs onnx"):
        deploy(subject, result, tmp_path, onnx=True)
    (one, *_) = deploy(subject, result, tmp_path)
    assert one.without_onnx is not None
    assert one.without_onnx.startswith("not installed: ")


def test_the_command_writes_and_refuses(tmp_path: Path, capsys) -> None:
    path = DATA / "digits" / "instance.json"
    result = tmp_path / "local.json"
    save_result(solve(load_instance(path), method="local"), result)
    command = ["deploy", str(path), str(result), "--no-onnx", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "deployment.json, one folder for each server" in capsys.readouterr().out
    assert main(command) == 2
    assert "is there already; choose another folder" in " ".join(capsys.readouterr().err.split())
