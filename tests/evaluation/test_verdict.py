"""Confidence, chance, verdicts and rankings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from code_opt.evaluation.accuracy import Share
from code_opt.evaluation.flow import Flow, ServerFlow
from code_opt.evaluation.verdict import Evaluated, TaskAccuracy, chance, judge, ranking


def flow(measured: float, predicted: float = 100.0, steady: bool = True) -> Flow:
    return Flow("rates", "constant", 1.0, 4.0, predicted, predicted, measured, steady, (), ())


def accuracies(result, right: int, images: int = 1000) -> tuple[TaskAccuracy, ...]:
    return tuple(
        TaskAccuracy(
            row.task, row.path, "measured", "trained together", row.accuracy,
            Share(right, images), 1000, 1.0,
        )
        for row in result.tasks
    )  # fmt: skip


def test_wilson_by_a_published_example():
    # Newcombe 1998, table I: 81 of 263, 95 %: 0.2553 to 0.3662.
    low, high = Share(81, 263).interval()
    assert (low, high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


@pytest.mark.parametrize("right", [0, 50])
def test_wilson_stays_inside_and_is_no_point_at_the_ends(right):
    low, high = Share(right, 50).interval()
    assert 0.0 <= low < high <= 1.0


def test_wilson_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for right in rng.binomial(200, 0.93, 4000):
        low, high = Share(int(right), 200).interval()
        hits += low <= 0.93 <= high
    assert 0.93 < hits / 4000 < 0.97


def task_accuracy(share: Share, *, weight: float = 1.0, **more) -> TaskAccuracy:
    return TaskAccuracy("t", (), "measured", "native", 0.9, share, share.images, weight, **more)


def test_chance_shrinks_with_images_and_tasks():
    one = task_accuracy(Share(90, 100))
    # Test and validation images are samples of the same size here: twice the variance.
    assert chance([one]) == pytest.approx(1.96 * (2 * one.measured.variance) ** 0.5, rel=1e-3)
    assert chance([one, one]) == pytest.approx(chance([one]) / 2**0.5)
    assert chance([task_accuracy(Share(9000, 10000))]) < chance([one]) / 9
    assert chance([]) == 0.0
    assert chance([task_accuracy(Share(1, 2), weight=0.0)]) == 0.0


def test_tasks_on_the_same_images_err_together():
    rng = np.random.default_rng(0)
    hard = rng.random(4000) < 0.1
    answers = ~hard
    share = Share(int(answers.sum()), len(answers))
    alone = task_accuracy(share)
    same = [task_accuracy(share, pictures="cifar", answers=answers)] * 2
    other = [
        task_accuracy(share, pictures=name, answers=answers) for name in ("cifar", "mnist")
    ]  # fmt: skip
    # Twice the same errors: the average is as uncertain as either; independent ones are not.
    assert chance(same) == pytest.approx(chance([alone]), rel=1e-2)
    assert chance(other) == pytest.approx(chance([alone]) / 2**0.5, rel=1e-2)


def test_what_holds_is_confirmed(results):
    result = results["exact"]
    right = round(1000 * result.accuracy)
    verdict = judge(result, (), accuracies(result, right), flow(99.0))
    assert verdict.confirmed
    assert verdict.text == "confirmed"


def test_a_machine_that_lags_leaves_no_verdict_on_throughput(results):
    result = results["exact"]
    right = accuracies(result, round(1000 * result.accuracy))

    def late(lag: float, measured: float = 100.0) -> Flow:
        server = ServerFlow("s", 1.0, 1.0, 1.0, 1, lag, 1.0)
        return replace(flow(measured), servers=(server,))

    # 1 % of 4 s.
    assert judge(result, (), right, late(0.04)).text == "confirmed"
    for measured in (100.0, 60.0):
        verdict = judge(result, (), right, late(0.05, measured))
        assert (verdict.throughput, verdict.accuracy) == (None, True)
        assert verdict.is_void
        assert not verdict.confirmed
        assert verdict.text.startswith(
            "not confirmed: throughput void: this machine was 0.05 s late, more than 1 % of the 4 s"
        )
    both = judge(result, (), accuracies(result, 0), late(0.05))
    assert both.accuracy is False
    assert "accuracy off" in both.text
    assert "throughput void" in both.text
    found = evaluated(results, exact=result.throughput, local=results["local"].throughput)
    void = replace(found[0], verdict=replace(found[0].verdict, is_void=True))
    assert ranking(None, [void]) == ("", None)


@pytest.mark.parametrize(
    ("measured", "steady", "points", "text"),
    [
        (96.9, True, 0, "throughput off by -3.1 %"),
        (103.2, True, 0, "throughput off by +3.2 %"),
        (99.0, False, 0, "queues grow"),
        (100.0, True, -40, "accuracy off by -4.0"),
        (90.0, True, -40, "throughput off by -10.0 %, accuracy off by"),
    ],
)
def test_what_does_not_hold_is_not_confirmed(results, measured, steady, points, text):
    result = results["exact"]
    right = round(1000 * result.accuracy) + points
    verdict = judge(result, (), accuracies(result, right), flow(measured, steady=steady))
    assert not verdict.confirmed
    assert text in verdict.text


def test_what_was_not_measured_is_said(results):
    result = results["exact"]
    assert judge(result, (), (), flow(100.0)).text == "confirmed (accuracy not measured)"
    right = round(1000 * result.accuracy)
    found = judge(result, (), accuracies(result, right), None)
    assert found.text == "confirmed (throughput not measured)"
    nothing = judge(result, (), (), None)
    assert not nothing.confirmed
    assert nothing.text == "nothing measured"


def evaluated(results, **measured: float) -> list[Evaluated]:
    found = []
    for name, throughput in measured.items():
        result = results[name.replace("_", "-")]
        tasks = accuracies(result, round(1000 * result.accuracy))
        one = flow(throughput, result.throughput)
        found.append(
            Evaluated(name, result, (), tasks, (one,), None, judge(result, (), tasks, one))
        )
    return found


def test_the_order_of_results(digits, results):
    promised = {"exact": results["exact"].throughput, "local": results["local"].throughput}
    text, holds = ranking(digits, evaluated(results, **promised))
    assert holds
    assert "is the predicted one" in text
    text, holds = ranking(digits, evaluated(results, exact=50.0, local=130.0))
    assert holds is False
    assert "exact was promised more than local" in text


def test_equal_promises_have_no_order(digits, results):
    text, holds = ranking(digits, evaluated(results, exact=400.0, lns=500.0))
    assert holds is None
    assert "promise the same" in text
    assert ranking(digits, evaluated(results, exact=400.0)) == ("", None)


def test_refused_results_are_not_confirmed(results):
    verdict = judge(results["exact"], ("wrong: path",), (), None)
    assert not verdict.confirmed
    assert "does not pass the check: wrong: path" in verdict.text


def test_flows_know_their_error():
    # At the rates what counts is what was fed: Poisson arrivals miss the rate by chance.
    fed = replace(flow(97.0), offered=100.0, predicted=120.0)
    assert fed.error == pytest.approx(-0.03)
    assert replace(fed, offered=97.0).error == 0.0
    assert replace(fed, feed="saturated").error == pytest.approx(97.0 / 120.0 - 1.0)


def test_nothing_is_confirmed_of_an_instance_that_changed_since(results):
    result = results["exact"]
    right = round(1000 * result.accuracy)
    verdict = judge(result, (), accuracies(result, right), flow(99.0), ("tasks",))
    assert not verdict.confirmed
    assert verdict.throughput
    assert verdict.accuracy
    assert verdict.text == "not confirmed: the instance changed since: tasks"
