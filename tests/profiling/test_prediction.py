"""Predictors against worlds whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

pytest.importorskip("torch")

from code_opt.networks.adapters import AdapterSpec
from code_opt.networks.stitching import Trunk
from code_opt.profiling.config import ConnectionsConfig
from code_opt.profiling.connections import PathGraph, candidates
from code_opt.profiling.measuring import Connection, PathRecord, TaskProfile
from code_opt.profiling.prediction import (
    LEAST_TO_COMPARE,
    PREDICTORS,
    Design,
    Predictor,
    _spearman,
    choose,
    compare,
    drops,
    fitted,
    sort_of,
)

NATIVE = 0.9
TRUNKS = {
    name: Trunk(
        name,
        (None,) * 4,  # type: ignore[arg-type]
        ((3, 8, 8), (4, 8, 8), (5, 8, 8), (6, 8, 8), (classes,)),
    )
    for name, classes in (("a", 4), ("b", 6))
}


def worth(accuracy: float, flops: float) -> float:
    return float(4.0 * np.log(max(accuracy, 1e-6)) - np.log(max(flops, 1.0)))


def flops(path) -> int:
    return 1000 * len(path)


def world(
    truth: Callable[[dict, PathGraph, tuple], float],
    measured: int | None = None,
    closed: Callable[[float], float] = lambda loss: loss,
    seed: int = 0,
) -> tuple[TaskProfile, dict]:
    """Return a task whose paths have the accuracies that ``truth`` says.

    Args:
        truth: of (loss of every connection, graph, path).
        measured: number of paths that are measured; None: all.
        closed: what closed forms lose where training loses so much.
        seed: of the losses.
    """
    rng = np.random.default_rng(seed)
    found = candidates(
        "t", "a", 4, TRUNKS, ConnectionsConfig.model_validate({}), ("pointwise", "linear")
    )
    found = [c for c in found if c.ends != ("a/2", "b/3")]  # leads nowhere
    graph = PathGraph("a", TRUNKS, [c.ends for c in found])
    loss = {c.ends: float(rng.uniform(0.01, 0.09)) for c in found}
    connections = {}
    for c in found:
        path = graph.shortest_through(c.ends)
        assert path is not None
        used = {e: closed(loss[e]) for e in graph.used(path)}
        connections[c.ends] = Connection(
            "t", *c.ends, AdapterSpec(c.kinds[0], c.source_shape, c.target_shape),
            flops=10, params=5, explained=1.0 - loss[c.ends], similarity=1.0 - 2.0 * loss[c.ends],
            accuracy=truth(used, graph, path), path=path, file="", number=0, seconds=0.0,
        )  # fmt: skip
    native, right = tuple(f"a/{k}" for k in range(4)), np.ones(1, dtype=bool)
    profile = TaskProfile("t", "a", native, NATIVE, right, graph, connections)
    paths = [p for p in graph.paths() if graph.used(p)]
    rng.shuffle(paths)
    for path in map(tuple, paths[:measured]):
        value = truth(loss, graph, path)
        profile.measured[path] = PathRecord(
            "t", path, value, value, value, "tuned", 0.0, 0.0, "", (), right
        )
    return profile, loss


def additive(loss, graph, path) -> float:
    return NATIVE - sum(loss[e] for e in graph.used(path))


def multiplicative(loss, graph, path) -> float:
    return float(NATIVE * np.prod([1.0 - 3.0 * loss[e] for e in graph.used(path)]))


def test_sorts_of_connections():
    assert sort_of(("input", "b/0"), "a") == "entry"
    assert sort_of(("a/0", "a/2"), "a") == "skip"
    assert sort_of(("a/0", "output"), "a") == "exit"
    assert sort_of(("b/0", "output"), "a") == "foreign exit"
    assert sort_of(("a/0", "b/1"), "a") == sort_of(("b/0", "a/1"), "a") == "cross"


def test_with_nothing_measured_the_closed_forms_are_the_prediction():
    profile, _ = world(additive, measured=0)
    predictor = fitted("additive", Design(profile, flops))
    for connection in profile.connections.values():
        assert predictor.predict([connection.path])[0] == pytest.approx(connection.accuracy)


def test_additive_truth_is_learnt_though_closed_forms_are_wrong():
    profile, loss = world(additive, closed=lambda x: 4.0 * x)
    predictor = fitted("additive", Design(profile, flops))
    paths = list(profile.measured)
    truth = [profile.measured[p].accuracy for p in paths]
    assert np.abs(predictor.predict(paths) - truth).mean() < 0.01
    got = drops(predictor)
    wrong = np.mean([abs(4.0 * loss[e] - loss[e]) for e in loss])
    assert np.mean([abs(got[e] - loss[e]) for e in loss]) < 0.3 * wrong


def test_a_few_trainings_correct_all_connections_of_their_sort():
    # Training repairs three quarters of what the closed form loses, everywhere.
    profile, loss = world(additive, measured=8, closed=lambda x: 4.0 * x)
    got = drops(fitted("additive", Design(profile, flops)))
    used = {e for p in profile.measured for e in profile.graph.used(p)}
    unseen = [e for e in loss if e not in used]
    assert unseen
    seen_sorts = {sort_of(e, "a") for e in used}
    for ends in unseen:
        if sort_of(ends, "a") in seen_sorts:
            assert abs(got[ends] - loss[ends]) < abs(4.0 * loss[ends] - loss[ends])


@pytest.mark.parametrize(
    ("truth", "name"), [(additive, "additive"), (multiplicative, "multiplicative")]
)
def test_the_predictor_that_fits_the_truth_is_chosen(truth, name):
    profile, _ = world(truth)
    design = Design(profile, flops)
    assert choose(design, worth, 0) == name
    quality = {q.predictor: q for q in compare(design, worth, 0)}
    assert set(quality) == set(PREDICTORS)
    assert quality[name].mean_error < 0.02
    assert quality[name].spearman > 0.95
    assert quality[name].paths == len(profile.measured)


def test_few_paths_are_not_compared():
    profile, _ = world(multiplicative, measured=LEAST_TO_COMPARE - 1)
    assert choose(Design(profile, flops), worth, 0) == "additive"


def test_comparing_uses_paths_that_were_not_learnt_from():
    profile, _ = world(additive)
    rng = np.random.default_rng(1)
    for path, record in list(profile.measured.items()):  # nothing to learn: pure noise
        value = float(rng.uniform(0.0, 0.9))
        profile.measured[path] = PathRecord(
            "t", path, value, value, value, "tuned", 0.0, 0.0, record.file, (), profile.right
        )
    for quality in compare(Design(profile, flops), worth, 0):
        assert abs(quality.spearman) < 0.5
        assert quality.mean_error > 0.15


def test_other_predictors_are_projected_onto_drops():
    profile, _ = world(multiplicative)
    design = Design(profile, flops)
    predictor = fitted("multiplicative", design)
    values = drops(predictor)
    assert set(values) == set(profile.connections)
    paths = [p for p in profile.graph.paths() if profile.graph.used(p)]
    summed = np.array([NATIVE - sum(values[e] for e in profile.graph.used(p)) for p in paths])
    uses = design.incidence(paths)
    best, *_ = np.linalg.lstsq(uses, NATIVE - predictor.predict(paths), rcond=None)
    least = np.abs(NATIVE - uses @ best - predictor.predict(paths)).mean()
    assert np.abs(summed - predictor.predict(paths)).mean() == pytest.approx(least, rel=1e-3)


def test_predictions_are_accuracies():
    profile, _ = world(lambda loss, graph, path: 0.02, closed=lambda x: 30.0 * x)
    design = Design(profile, flops)
    paths = list(profile.measured)
    for name in PREDICTORS:
        value = Predictor(name, design, paths[:3], np.full(3, 0.02)).predict(paths)
        assert (value >= 0.0).all()
        assert (value <= 1.0).all()


def test_predicting_is_deterministic():
    profile, _ = world(multiplicative)
    one, two = (compare(Design(profile, flops), worth, 5) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_spearmans(ties):
    rng = np.random.default_rng(0)
    for _ in range(20):
        a = rng.integers(0, 5, 30).astype(float) if ties else rng.random(30)
        b = a + rng.normal(0, 2.0, 30)
        assert _spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert _spearman(np.ones(4), rng.random(4)) == 0.0
