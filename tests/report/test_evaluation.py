"""Evaluations on the page: what the evaluator writes is read, shown, and refused when broken."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

html5lib = pytest.importorskip("html5lib")
pytest.importorskip("torch", reason="the evaluator needs the extra `networks`")

from code_opt import load_instance, load_result
from code_opt.errors import InputError
from code_opt.evaluation.accuracy import Share
from code_opt.evaluation.flow import Flow, ServerFlow, TaskFlow
from code_opt.evaluation.pipeline import Evaluation, Options, save_evaluation
from code_opt.evaluation.verdict import Evaluated, TaskAccuracy, Verdict, judge
from code_opt.report.assemble import assemble
from code_opt.report.blocks import figures
from code_opt.report.material import read_material
from code_opt.report.page import render


def evaluated(folder: Path, method: str, off: float = 0.0) -> Evaluated:
    """Return a result with measurements that differ from it by a share."""
    result = load_result(folder / f"{method}.json")
    promised = result.throughput or 0.0
    flow = Flow(
        feed="rates",
        arrivals="constant",
        factor=0.5,
        seconds=4.0,
        predicted=promised,
        offered=promised,
        measured=promised * (1 + off),
        steady=True,
        tasks=tuple(
            TaskFlow(
                r.task, r.rate, r.rate, r.rate * (1 + off), 100, 90, r.latency, 0.03, 0.04, 0.05
            )
            for r in result.tasks
        ),
        servers=tuple(
            ServerFlow(s.server, s.utilization, s.utilization * 0.99, 1.5, 4, 0.0, 1.0)
            for s in result.servers
        ),
    )
    tasks = tuple(
        TaskAccuracy(
            task=r.task,
            path=r.path,
            source=r.accuracy_source,
            adapters="trained together",
            predicted=r.accuracy,
            measured=Share(round(r.accuracy * 1000), 1000),
            validation_images=1000,
            weight=1.0,
        )
        for r in result.tasks
    )
    verdict = judge(result, (), tasks, flow)
    return Evaluated(method, result, (), tasks, (flow,), None, verdict)


def save(folder: Path, out: Path, *results: Evaluated) -> Path:
    instance = load_instance(folder / "instance.json")
    evaluation = Evaluation(
        instance, results, "The measured order is the predicted one.", True, None
    )
    save_evaluation(evaluation, out, Options())
    return out


@pytest.fixture
def confirmed(metro: Path, tmp_path: Path) -> Path:
    results = [evaluated(metro, "exact"), evaluated(metro, "local")]
    return save(metro, tmp_path / "evaluation", *results)


def test_what_was_measured_stands_beside_what_was_promised(metro: Path, confirmed: Path) -> None:
    material = read_material([confirmed], metro / "instance.json")
    page = assemble(material)
    assert [s.id for s in page.sections] == ["evaluation", "about"]
    assert [f.name for f in figures(page)] == ["evaluation-throughput", "evaluation-accuracy"]
    text = render(page)
    html5lib.HTMLParser(strict=True).parse(text)
    assert "for all 2 results" in text
    assert "multiplied by 0.5" in text
    assert "The measured order is the predicted one." in text
    result = load_result(metro / "exact.json")
    assert text.count(f">{result.throughput:#.6g}<") >= 2
    assert "30.00 ms" in text


def test_a_result_that_is_not_confirmed_is_a_warning(metro: Path, tmp_path: Path) -> None:
    results = [evaluated(metro, "exact", off=-0.2), evaluated(metro, "local")]
    out = save(metro, tmp_path / "evaluation", *results)
    text = render(assemble(read_material([out, metro], metro / "instance.json")))
    assert "1 of 2 results are not confirmed" in text
    assert "throughput off by -20.0 %" in text
    assert 'role="alert"' in text
    assert "✗ not confirmed" in text


def test_results_that_were_refused_or_not_measured_have_dashes(metro: Path, tmp_path: Path) -> None:
    refused = replace(
        evaluated(metro, "exact"),
        tasks=(),
        flows=(),
        refused=("tasks[0].rate: wrong (rate)",),
        verdict=Verdict(False, False, "not confirmed: does not pass the check"),
    )
    out = save(metro, tmp_path / "evaluation", refused)
    page = assemble(read_material([out], metro / "instance.json"))
    assert figures(page) == []
    html5lib.HTMLParser(strict=True).parse(render(page))


def test_names_in_an_evaluation_are_text(hostile: Path, tmp_path: Path) -> None:
    one = replace(evaluated(hostile, "exact"), name="</script><img src=x onerror=alert(1)>")
    out = save(hostile, tmp_path / "evaluation", one)
    text = render(assemble(read_material([out, hostile], hostile / "instance.json")))
    tree = html5lib.HTMLParser(namespaceHTMLElements=False, strict=True).parse(text)
    assert not list(tree.iter("img"))
    assert len(list(tree.iter("script"))) == 1


def test_two_evaluations_have_a_section_each(metro: Path, confirmed: Path, tmp_path: Path) -> None:
    other = tmp_path / "later"
    shutil.copytree(confirmed, other)
    page = assemble(read_material([confirmed, other / "evaluation.json"], metro / "instance.json"))
    assert [s.id for s in page.sections] == ["evaluation-1", "evaluation-2", "about"]
    assert "(later)" in page.sections[1].heading


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("evaluation.json", "[]", "not an evaluation"),
        ("evaluation.json", {"confirmed": "yes"}, "confirmed: expected bool"),
        ("evaluation.json", {"instance": None}, "instance: expected str"),
        ("evaluation.json", {"instance": "another"}, "about the instance 'another'"),
        ("evaluation.json", {"results": [1]}, r"results\[0\]: expected an object"),
        ("evaluation.json", {"results": [{"slow_motion": "x"}]}, r"slow_motion: expected a number"),
        ("evaluation.json", {"results": [{"verdict": 1}]}, r"verdict: expected str"),
        ("tasks.csv", "result,task\nexact,objects\n", "no column accuracy_predicted"),
        ("edge_tasks.csv", "result\n\x00", "no column"),
        ("edge_servers.csv", None, "expected a number, found 'much'"),
    ],
)
def test_a_broken_evaluation_is_refused(
    metro: Path, confirmed: Path, file: str, change: object, message: str
) -> None:
    path = confirmed / file
    if isinstance(change, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    elif isinstance(change, str):
        path.write_text(change)
    else:
        lines = path.read_text().splitlines()
        cells = lines[1].split(",")
        cells[lines[0].split(",").index("measured")] = "much"
        path.write_text("\n".join([lines[0], ",".join(cells)]) + "\n")
    with pytest.raises(InputError, match=message):
        read_material([confirmed], metro / "instance.json")
