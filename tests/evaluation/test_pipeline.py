"""Whole evaluations of the first example: what holds is confirmed, what does not is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from code_opt import load_instance, solve
from code_opt.answers import load_answers
from code_opt.errors import InputError
from code_opt.evaluation import (
    Options,
    device,
    evaluate,
    load_subject,
    pipeline,
    save_evaluation,
)
from code_opt.evaluation.simulation import SimulatedEdge
from code_opt.evaluation.subject import Subject, bundle_of
from code_opt.instance import save_instance
from code_opt.networks.bundle import Bundle

DIGITS = Path(__file__).resolve().parents[2] / "data" / "digits"
QUICK = Options(seconds=0.1, feeds=())


class OnSimulatedClock:
    """In the place of the edge's processes: the same flows on every machine."""

    def __init__(self, instance, workers):
        self.edge = SimulatedEdge(instance)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def slow_motion(self, first, streams, most=1.0):
        return most

    def run(self, first, streams, feed, **options):
        return self.edge.run(streams, feed, **options)


@pytest.fixture(scope="module")
def measured(subject, results):
    """Exact and local, everything measured; the edge on a simulated clock."""
    chosen = {name: results[name] for name in ("exact", "local")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Edge", OnSimulatedClock)
        return evaluate(subject, chosen, Options(seconds=2.0))


def test_measured_is_predicted(measured, results):
    assert measured.confirmed
    assert measured.ranking_holds
    for one in measured.results:
        assert one.verdict.text == "confirmed"
        rates, saturated, overloaded = one.flows
        assert one.flow is rates
        assert abs(rates.error) <= 0.005
        assert abs(saturated.error) <= 0.01
        assert not overloaded.steady
        assert [t.task for t in one.tasks] == ["digit", "parity"]
        for task in one.tasks:
            low, high = task.measured.interval()
            assert low <= task.measured.value <= high
            assert task.measured.images == 360
            assert abs(task.measured.value - task.predicted) <= 0.02
    exact, local = measured.results
    assert {t.adapters for t in local.tasks} == {"native"}
    assert {t.adapters for t in exact.tasks} == {"trained together"}


def test_tables_and_files(measured, tmp_path):
    tables = measured.tables()
    assert set(tables) == {"results", "tasks", "edge_tasks", "edge_servers", "device"}
    assert list(tables["results"]["result"]) == ["exact", "local"]
    assert len(tables["tasks"]) == 4
    save_evaluation(measured, tmp_path, Options())
    about = json.loads((tmp_path / "evaluation.json").read_text())
    assert about["confirmed"] is True
    assert about["instance"] == "digits"
    assert [row["result"] for row in about["results"]] == ["exact", "local"]
    assert {p.name for p in tmp_path.iterdir()} == {
        "evaluation.json",
        *(f"{name}.csv" for name in tables),
    }


def test_a_wrong_accuracy_is_not_confirmed(digits):
    # The instance lies (so that the result passes the check), the networks do not.
    data = digits.to_dict()["tasks"]
    for path in data[0]["measured_paths"]:
        path["accuracy"] = min(1.0, 0.3 + 0.2 * path["accuracy"])
    data[0]["accuracy"] = 0.4
    lying = digits.replace(tasks=data)
    subject = Subject(lying, bundle_of(digits, DIGITS / "instance.json"), DIGITS)
    found = evaluate(subject, {"local": solve(lying, method="local")}, QUICK)
    assert not found.confirmed
    assert "accuracy off by +2" in found.results[0].verdict.text


@pytest.mark.parametrize("what", ["accuracy", "capacity", "path"])
def test_wrong_results_are_not_even_run(subject, results, digits, what):
    result = results["exact"]
    row = result.tasks[0]
    if what == "accuracy":
        tasks = (row.model_copy(update={"accuracy": 0.999}), *result.tasks[1:])
        wrong, says = result.model_copy(update={"tasks": tasks}), "accuracy"
    elif what == "capacity":
        data = digits.to_dict()["servers"]
        for server in data:
            server["flops"] *= 1.5
        wrong, says = solve(digits.replace(servers=data)), "does not pass the check"
    else:
        tasks = (row.model_copy(update={"path": ("alexnet/0", "alexnet/3")}), *result.tasks[1:])
        wrong, says = result.model_copy(update={"tasks": tasks}), "does not pass the check"
    found = evaluate(subject, {"wrong": wrong}, QUICK)
    assert not found.confirmed
    (one,) = found.results
    assert one.device is None
    assert one.tasks == ()
    assert says in one.verdict.text


def test_results_of_others_are_refused(subject, results):
    other = results["exact"].model_copy(update={"instance": "elsewhere"})
    with pytest.raises(InputError, match="a result of instance 'elsewhere', not of 'digits'"):
        evaluate(subject, {"x": other}, QUICK)
    nothing = results["exact"].model_copy(update={"status": "unknown", "tasks": ()})
    with pytest.raises(InputError, match="holds no assignment"):
        evaluate(subject, {"x": nothing}, QUICK)
    with pytest.raises(InputError, match="unknown dtype 'int4'"):
        evaluate(subject, {"x": results["exact"]}, Options(dtype="int4"))


def test_reduced_numbers_are_measured_too(subject, results):
    found = evaluate(
        subject, {"exact": results["exact"]}, Options(seconds=0.1, feeds=(), dtype="bfloat16")
    )
    (one,) = found.results
    assert one.device.dtype == "bfloat16"
    for task in one.tasks:
        assert task.reduced.images == task.measured.images
        assert abs(task.reduced.value - task.measured.value) <= 0.02
    assert found.tables()["results"]["accuracy_reduced"].notna().all()


def test_a_full_device_halves_the_batch(subject, results, monkeypatch):
    original = device._measure

    def small(network, natives, inputs, routes, flops, on, dtype, batch, seconds):
        if batch > 8:
            raise torch.OutOfMemoryError("no room")
        return original(network, natives, inputs, routes, flops, on, dtype, batch, seconds)

    monkeypatch.setattr(device, "_measure", small)
    found = evaluate(subject, {"exact": results["exact"]}, QUICK)
    assert (found.results[0].device.batch, found.results[0].device.halved) == (8, 2)


def test_images_go_to_the_device_batch_by_batch_and_fewer_where_it_is_full(subject):
    images = subject.images("digit", "test")
    network = torch.nn.Sequential(*subject.bundle.trunk("alexnet").blocks)
    batches = []

    class Full(torch.nn.Module):
        def forward(self, x):
            batches.append(len(x))
            if len(x) > 100:
                raise torch.OutOfMemoryError("no room")
            return network(x)

    expected = subject.answers(network, "digit", images, "cpu")
    assert expected.mean() > 0.9
    assert (subject.answers(Full(), "digit", images, "cpu") == expected).all()
    assert batches == [250, 125, *[62] * 5, 360 - 5 * 62]


def test_solve_evaluate_solve_converges(tmp_path):
    """Predictions are replaced by measurements until the best paths are measured ones."""
    for name in ("instance.json", "bundle"):
        source = DIGITS / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    start = load_instance(tmp_path / "instance.json")
    data = start.to_dict()["tasks"]
    for task in data:
        task["measured_paths"] = []
    save_instance(start.replace(tasks=data), tmp_path / "instance.json")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    for task in manifest["tasks"]:
        task["paths"] = []
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))

    home, sources, options = tmp_path, [], Options(seconds=0.1, feeds=(), fine_tune=True)
    for turn in range(8):
        subject = load_subject(home / "instance.json")
        result = solve(subject.instance)
        sources.append([row.accuracy_source for row in result.tasks])
        if set(sources[-1]) == {"measured"}:
            break
        home = tmp_path / f"turn-{turn}"
        found = evaluate(subject, {"exact": result}, options, write_back=home)
        assert found.written_back is not None
        assert load_instance(home / "instance.json") == found.written_back
        # Refused unless every accuracy, the new ones as well, is the share of its right answers.
        load_answers(found.written_back, home / "instance.json")
    assert set(sources[0]) == {"predicted"}
    assert set(sources[-1]) == {"measured"}, sources
    # What is promised now holds.
    assert evaluate(subject, {"exact": result}, options).confirmed
    entries = Bundle(home / "bundle").tasks
    for row in result.tasks:
        assert any(p.blocks == row.path for p in entries[row.task].paths)


def test_writing_back_into_the_same_folder_is_refused(subject, results):
    with pytest.raises(InputError, match="is the instance's own folder"):
        evaluate(subject, {"exact": results["exact"]}, QUICK, write_back=DIGITS)


# Faults of bundles


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(DIGITS / "bundle", tmp_path / "bundle")
    shutil.copy(DIGITS / "instance.json", tmp_path)
    return tmp_path


def evaluated(folder: Path):
    subject = load_subject(folder / "instance.json", folder)
    return evaluate(subject, {"local": solve(subject.instance, method="local")}, QUICK)


def test_missing_bundles_are_named(copy):
    shutil.rmtree(copy / "bundle")
    with pytest.raises(InputError, match=r"manifest\.json"):
        evaluated(copy)


def test_damaged_weights_are_named(copy):
    file = copy / "bundle" / "alexnet.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"alexnet\.safetensors"):
        evaluated(copy)


def test_weights_of_another_shape_are_named(copy):
    bundle = copy / "bundle"
    shutil.copy(bundle / "mobilenet.safetensors", bundle / "alexnet.safetensors")
    with pytest.raises(InputError, match=r"alexnet\.safetensors"):
        evaluated(copy)


def test_bundles_outside_are_refused(copy, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(copy / "bundle", elsewhere / "bundle")
    (copy / "bundle").symlink_to(elsewhere / "bundle")
    with pytest.raises(InputError, match="leads out of the instance's folder"):
        load_subject(copy / "instance.json")


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("task", "holds no task 'zebra'"),
        ("dnn", "holds no network 'zebra'"),
        ("blocks", "has 4 blocks"),
    ],
)
def test_bundles_of_other_instances_are_refused(copy, part, says):
    text = (copy / "instance.json").read_text()
    if part == "task":
        text = text.replace('"id": "digit"', '"id": "zebra"')
    elif part == "dnn":
        text = text.replace("mobilenet", "zebra")
    else:
        text = text.replace("mobilenet/3", "mobilenet/7")
    (copy / "instance.json").write_text(text)
    with pytest.raises(InputError, match=says):
        evaluated(copy)
