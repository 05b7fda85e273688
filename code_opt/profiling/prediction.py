"""Predicting the accuracy of paths from what was measured.

Every predictor starts from the closed forms, which cost next to nothing, and is corrected
with trained paths as they come in:

* ``additive``: A = A_native - sum of drops (the model of the instance file). A drop is a
  multiple of what the closed form lost, the same multiple for all connections of one sort
  (skip, exit, entry, cross), plus a deviation of the connection's own, kept small by ridge
  regression;
* ``multiplicative``: the same for log A: each connection retains a share of the accuracy;
* ``similarity``: a ridge regression over features that need no accuracy at all: one minus
  linear CKA (Kornblith et al., ICML 2019) and one minus R squared of the closed forms,
  summed over the connections, their number and sorts, and the share of work left out.

Which one predicts paths that it has not seen best is found by cross-validation; the
instance's drops are those of the best one (projected onto sums of drops if it is another
one than ``additive``), so that its predicted accuracies are as honest as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from code_opt.instance.model import INPUT, OUTPUT
from code_opt.profiling.connections import Ends, Path, block_of
from code_opt.profiling.measuring import TaskProfile

FloatArray = npt.NDArray[np.float64]
PREDICTORS = ("additive", "multiplicative", "similarity")
FOLDS = 5
LEAST_TO_COMPARE = 10
"""Measured paths of a task below which predictors are not compared: ``additive`` is used."""
_RIDGE = 0.05
"""Weight of a connection's own deviation, in squared accuracy, against one measured path."""
_SORT_RIDGE = 0.02
_LEAST_ACCURACY = 1e-3
_MOST_PROJECTED = 5000
SORTS = ("skip", "exit", "entry", "cross", "foreign exit")


def sort_of(ends: Ends, native: str) -> str:
    """Return what sort of connection this is."""
    source, target = ends
    if source == INPUT:
        return "entry"
    if target == OUTPUT:
        return "exit" if block_of(source)[0] == native else "foreign exit"
    return "skip" if block_of(source)[0] == block_of(target)[0] else "cross"


class Design:
    """What predictors know of one task's paths.

    Args:
        profile: the task.
        flops: work of a path's blocks [FLOP].
    """

    def __init__(self, profile: TaskProfile, flops: Callable[[Sequence[str]], int]) -> None:
        self.profile = profile
        self.flops = flops
        self.connections = list(profile.connections)
        self.column = {ends: i for i, ends in enumerate(self.connections)}
        self.native_flops = max(1, flops(profile.native_path))
        self.sort = np.array(
            [SORTS.index(sort_of(ends, profile.native)) for ends in self.connections], dtype=int
        )

    def incidence(self, paths: Sequence[Path]) -> FloatArray:
        """Return which connections each path uses, shape (paths, connections)."""
        matrix = np.zeros((len(paths), len(self.connections)))
        for row, path in enumerate(paths):
            for ends in self.profile.graph.used(path):
                matrix[row, self.column[ends]] = 1.0
        return matrix

    def prior(self, log: bool) -> FloatArray:
        """Return what each connection's closed form lost, shape (connections,).

        Where the path that it was tried on needed others too, the loss that is left after
        theirs; those came first.
        """
        native = max(self.profile.accuracy, _LEAST_ACCURACY)
        loss: dict[Ends, float] = {}
        order = sorted(
            self.connections,
            key=lambda e: len(self.profile.graph.used(self.profile.connections[e].path)),
        )
        for ends in order:
            connection = self.profile.connections[ends]
            reached = max(connection.accuracy, _LEAST_ACCURACY)
            whole = float(np.log(native / reached)) if log else native - reached
            others = sum(
                loss.get(e, 0.0) for e in self.profile.graph.used(connection.path) if e != ends
            )
            loss[ends] = whole - others
        return np.array([loss[ends] for ends in self.connections])

    def features(self, paths: Sequence[Path]) -> FloatArray:
        """Return features of paths that need no measured accuracy, shape (paths, features)."""
        uses = self.incidence(paths)
        found = [self.profile.connections[ends] for ends in self.connections]
        unlike = np.array([1.0 - c.similarity for c in found])
        unexplained = np.array([1.0 - c.explained for c in found])
        sorts = np.zeros((len(self.connections), len(SORTS)))
        sorts[np.arange(len(self.connections)), self.sort] = 1.0
        left_out = np.array([1.0 - self.flops(p) / self.native_flops for p in paths])
        return np.column_stack((uses @ unlike, uses @ unexplained, uses @ sorts, left_out))


class Predictor:
    """A fitted predictor of one task.

    Args:
        name: one of :data:`PREDICTORS`.
        design: the task.
        paths: measured paths to learn from (may be none).
        accuracy: their accuracies.
    """

    def __init__(
        self, name: str, design: Design, paths: Sequence[Path], accuracy: FloatArray
    ) -> None:
        self.name = name
        self.design = design
        self.log = name == "multiplicative"
        native = max(design.profile.accuracy, _LEAST_ACCURACY)
        if self.log:
            loss = np.log(native / np.maximum(accuracy, _LEAST_ACCURACY))
        else:
            loss = native - accuracy
        if name == "similarity":
            features = design.features(paths)
            self.weights = _ridge(features, loss, np.full(features.shape[1], _SORT_RIDGE))
        else:
            prior = design.prior(self.log)
            # One multiple of the closed form's loss per sort, starting from 1, and own deviations.
            spread = np.zeros((len(prior), len(SORTS)))
            spread[np.arange(len(prior)), design.sort] = prior
            uses = design.incidence(paths)
            columns = np.column_stack((uses @ spread, uses))
            penalty = np.concatenate(
                (np.full(len(SORTS), _SORT_RIDGE), np.full(len(prior), _RIDGE))
            )
            fitted = _ridge(columns, loss - uses @ prior, penalty)
            self.drops = prior + spread @ fitted[: len(SORTS)] + fitted[len(SORTS) :]

    def predict(self, paths: Sequence[Path]) -> FloatArray:
        """Return the expected accuracies of paths, in [0, 1]."""
        native = max(self.design.profile.accuracy, _LEAST_ACCURACY)
        if self.name == "similarity":
            loss = self.design.features(paths) @ self.weights
        else:
            loss = self.design.incidence(paths) @ self.drops
        value = native * np.exp(-loss) if self.log else native - loss
        return np.asarray(np.clip(value, 0.0, 1.0))


@dataclass(frozen=True)
class Quality:
    """How well a predictor does on paths that it has not seen."""

    task: str
    predictor: str
    paths: int
    spearman: float
    """Rank correlation with the measured accuracies."""
    mean_error: float
    """Mean absolute error, in accuracy."""
    top5_regret: float
    """Worth of the best path less that of the best among the five predicted best (log reward)."""
    largest_overestimate: float
    """Largest measured accuracy above the predicted one."""


def compare(design: Design, worth: Callable[[float, float], float], seed: int) -> list[Quality]:
    """Cross-validate every predictor on a task's measured paths.

    Args:
        design: the task.
        worth: of (accuracy, work of the path).
        seed: of the folds.
    """
    paths = sorted(design.profile.measured)
    truth = np.array([design.profile.measured[p].accuracy for p in paths])
    flops = [
        design.flops(p)
        + sum(design.profile.connections[e].flops for e in design.profile.graph.used(p))
        for p in paths
    ]
    fold = np.random.default_rng(seed).permutation(len(paths)) % FOLDS
    found = []
    for name in PREDICTORS:
        guess = np.empty(len(paths))
        for k in range(FOLDS):
            known = np.flatnonzero(fold != k)
            asked = np.flatnonzero(fold == k)
            predictor = Predictor(name, design, [paths[i] for i in known], truth[known])
            guess[asked] = predictor.predict([paths[i] for i in asked])
        value = np.array([worth(a, f) for a, f in zip(truth, flops, strict=True)])
        hoped = np.array([worth(a, f) for a, f in zip(guess, flops, strict=True)])
        best_five = np.argsort(-hoped, kind="stable")[:5]
        found.append(
            Quality(
                task=design.profile.task,
                predictor=name,
                paths=len(paths),
                spearman=_spearman(truth, guess),
                mean_error=float(np.abs(truth - guess).mean()),
                top5_regret=float(value.max() - value[best_five].max()),
                largest_overestimate=float((truth - guess).max()),
            )
        )
    return found


def choose(design: Design, worth: Callable[[float, float], float], seed: int) -> str:
    """Return the predictor with the least mean error; of equals the first listed."""
    if len(design.profile.measured) < LEAST_TO_COMPARE:
        return "additive"
    return min(compare(design, worth, seed), key=lambda q: q.mean_error).predictor


def fitted(name: str, design: Design) -> Predictor:
    """Return a predictor that has learnt from all measured paths of a task."""
    paths = sorted(design.profile.measured)
    truth = np.array([design.profile.measured[p].accuracy for p in paths])
    return Predictor(name, design, paths, truth)


def drops(predictor: Predictor) -> dict[Ends, float]:
    """Return a drop per connection: the predictor's own, or sums of drops nearest to it.

    For other predictors than ``additive``, the drops are fitted to its predictions of the
    task's paths by least squares (of many paths the first 5,000).
    """
    design = predictor.design
    if predictor.name == "additive":
        values = predictor.drops
    else:
        paths: list[Path] = []
        for path in design.profile.graph.paths():
            if design.profile.graph.used(path):
                paths.append(path)
            if len(paths) >= _MOST_PROJECTED:
                break
        loss = design.profile.accuracy - predictor.predict(paths)
        values = _ridge(design.incidence(paths), loss, np.full(len(design.connections), 1e-6))
    return {ends: float(value) for ends, value in zip(design.connections, values, strict=True)}


def _ridge(x: FloatArray, y: FloatArray, penalty: FloatArray) -> FloatArray:
    """Return the weights that minimise ``|x w - y|^2 + penalty w^2``."""
    gram = x.T @ x + np.diag(penalty)
    return np.asarray(np.linalg.solve(gram, x.T @ y))


def _spearman(a: FloatArray, b: FloatArray) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; 0 where one is constant."""
    x, y = _ranks(a), _ranks(b)
    if min(float(np.ptp(x)), float(np.ptp(y))) == 0.0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: FloatArray) -> FloatArray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[inverse])
