from __future__ import annotations

import pytest

from code_opt.cli.exits import ExitStatus, status_of
from code_opt.instance import Instance
from code_opt.wording import PathWords, chosen, reading
from tests.cli.examples import make_instance, make_result


def exact(**changes: object):
    return make_result("exact", "optimal", bound=120.006, gap=5e-5, seconds=2.0, **changes)


def test_the_proof_and_the_distances_are_told() -> None:
    results = [
        exact(),
        make_result("code", reward=119.4, seconds=0.1),
        make_result("local", reward=60.0),
        make_result("greedy", reward=114.0),
        make_result("host", "unknown"),
    ]
    assert reading(results) == [
        "exact is proven: no other assignment's reward is more than 0.005 % higher.",
        "code is 0.5 % below exact, 20 times as fast.",
        "The best baseline, greedy, is 5 % below exact.",
        "Every assignment shown passed the independent check of all requirements.",
    ]


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (
            make_result("exact", "optimal", bound=120.0, gap=0.0),
            "exact is proven optimal: no assignment has a higher reward.",
        ),
        (
            make_result("exact", "feasible", bound=132.0, gap=0.1),
            "exact was stopped before its proof was complete: "
            "no other assignment's reward is more than 10 % higher.",
        ),
        (
            make_result("exact", "feasible"),
            "exact stopped before anything was proven; its assignment may not be the best.",
        ),
        (
            make_result("exact", "infeasible"),
            "exact proves that no assignment meets all requirements.",
        ),
        (
            make_result("exact", "unknown"),
            "exact stopped with nothing found; that proves nothing.",
        ),
        (
            make_result("code", "infeasible"),
            "It is proven that no assignment meets all requirements.",
        ),
        (make_result("code"), "Nothing here is proven: the exact method was not run."),
        (
            make_result("code", bound=126.0, gap=0.05),
            "code has a bound: no other assignment's reward is more than 5 % higher.",
        ),
    ],
)
def test_the_first_sentence_says_what_is_proven(result, sentence: str) -> None:
    assert reading([result])[0] == sentence


def test_equal_values_are_called_the_same() -> None:
    lines = reading([exact(), make_result("code", reward=120.0 * (1 + 5e-7), seconds=1.5)])
    assert lines[1] == "code reaches the same reward as exact."


def test_a_better_heuristic_than_a_stopped_exact_is_said_to_be_above() -> None:
    lines = reading([make_result("exact", bound=150.0, gap=0.25), make_result("code", reward=126)])
    assert lines[1] == "code is 5 % above exact."


def test_the_effort_of_code_is_told_against_the_number_of_paths() -> None:
    details = {"paths": 10**20, "paths_predicted": 1234, "paths_measured": 5, "moves": 9}
    lines = reading([make_result("code", details=details)])
    assert lines[1] == (
        "code predicted 1,234 of about 1e20 paths and would have had 5 of them measured."
    )


def test_the_objective_that_was_asked_is_compared() -> None:
    results = [
        exact(objective="throughput", throughput=400.0),
        make_result("code", objective="throughput", throughput=300.0, reward=999.0),
    ]
    assert reading(results)[1].startswith("code is 25 % below exact")


def test_the_detailed_result_is_exact_or_else_the_best() -> None:
    low, high = make_result("local", reward=1.0), make_result("greedy", reward=2.0)
    assert chosen([low, high]) is high
    assert chosen([high, make_result("exact", reward=1.5)]).method == "exact"
    assert chosen([make_result("exact", "unknown"), low]) is low
    assert chosen([make_result("exact", "infeasible")]) is None


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["optimal", "unknown"], ExitStatus.DONE),
        (["unknown", "feasible"], ExitStatus.DONE),
        (["infeasible", "unknown"], ExitStatus.INFEASIBLE),
        (["unknown", "infeasible"], ExitStatus.INFEASIBLE),
        (["unknown", "unknown"], ExitStatus.NOTHING_FOUND),
    ],
)
def test_exit_status(statuses: list[str], status: ExitStatus) -> None:
    assert status_of([make_result("exact", s) for s in statuses]) is status


def test_a_path_says_which_of_its_steps_are_learned() -> None:
    instance = make_instance()
    data = instance.to_dict()
    data["links"] = []
    data["tasks"][0]["connections"] = [
        {"source": "input", "target": "mobilenet-v3-small/0", "drop": 0.0, "share": "identity"},
        {"source": "mobilenet-v3-small/1", "target": "alexnet/2", "drop": 0.01},
    ]
    words = PathWords(Instance.model_validate(data, strict=False))
    path = [f"mobilenet-v3-small/{k}" for k in range(2)] + [f"alexnet/{k}" for k in range(2, 5)]
    assert [(run.text, run.learned) for run in words("objects", path)] == [
        ("input", False),
        ("mobilenet-v3-small/0…1", False),
        ("alexnet/2…4", True),
    ]
    native = [f"alexnet/{k}" for k in range(5)]
    assert [run.text for run in words("objects", native)] == ["alexnet/0…4"]
    assert words("objects", []) == []
