"""CoDE's heuristic, for any number of services.

After Maleki, Shah-Mansouri and Khalaj, *Edge AI as a Service with Coordinated Deep Neural
Networks* (arXiv 2401.00631): in every stage predict the accuracy of all paths from the
drops of their connections, rank them by the reward that they promise under the present
loads, measure only the most promising, correct the predictions with what was measured,
and keep the best. What the paper does for two services is done here for any number:

* the services first answer *prices* of the servers, links and memories that they share,
  until no answer improves (:mod:`code_opt.methods.prices`); a dive through the answers
  gives one path to each;
* then they move in turns, the most promising move first, until no promise holds
  (:mod:`code_opt.methods.local_search`);
* since such an equilibrium can be poor, the best one is left again and again: one service
  after the other is barred from its present path and answers anew together with few or more
  of those around it, and all move in turns from there.

The prices bound the objective, too (Lagrangian duality): paths that cannot be part of
anything better than the best end are left out on the way, and the search ends when the
bound is met.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from code_opt.methods.assignment import Judge
from code_opt.methods.local_search import Searcher, SearchOutcome
from code_opt.methods.prices import PriceMaster
from code_opt.methods.settings import Clock

_CLOSE = 5e-4
"""Distance of the objective (log reward) from its bound within which the search is content."""
_LEAST_PATIENCE, _MOST_PATIENCE, _GAP_PER_TURN = 4, 10, 1e-2
"""Turns without gain that end the search: at least and at most, one more for each such part
of the distance from the bound, since little can be gained near to it."""
_TURNS_TIMES_SERVICES, _LEAST_TURNS = 3000, 2
"""Most turns: with many services a turn takes long."""
_FEWEST_FREED, _SIZES, _TASKS_PER_FREED = 3, 6, 8
"""Services freed in a turn: at least so many, in so many sizes, more with many services."""
_WORTH_RESTRICTING = 0.7
"""Share of the paths that remain below which leaving the others out pays."""


def search(
    judge: Judge, clock: Clock, *, seed: int = 0, restarts: int | None = None
) -> SearchOutcome:
    """Run CoDE's heuristic; deterministic for a seed (unless the clock ends it).

    Args:
        judge: pool, objective and floors.
        clock: ends the search early.
        seed: seed of the choice of what answers anew.
        restarts: most turns after the first equilibrium (default by the number of services).
    """
    work = Searcher(judge)
    market = PriceMaster(judge, work)
    rng = np.random.default_rng(seed)
    tasks = len(work.units)
    if restarts is None:
        restarts = max(_TURNS_TIMES_SERVICES // tasks, _LEAST_TURNS)
    market.converge(clock)
    bound, less = market.bound()
    # The first dive runs to its end whatever the clock says: without it there is no answer.
    best = work.settle(work.evaluate(market.dive(Clock(None))), clock)
    order, in_vain = rng.permutation(tasks), 0
    for turn in range(restarts):
        distance = bound - best.merit
        patience = min(_LEAST_PATIENCE + distance / _GAP_PER_TURN, _MOST_PATIENCE)
        if clock.is_over or in_vain >= patience or distance <= _CLOSE:
            break
        keep = less < distance
        if keep.mean() < _WORTH_RESTRICTING:
            keep[best.choice] = True
            renumbered = work.restrict(keep)
            market.restrict(renumbered)
            less, best = less[keep], replace(best, choice=renumbered[best.choice])
        if turn > 0 and turn % tasks == 0:
            order = rng.permutation(tasks)
        size = _FEWEST_FREED + tasks // _TASKS_PER_FREED + turn % _SIZES
        freed = market.neighbourhood(int(order[turn % tasks]), min(size, tasks), rng)
        start = market.dive(clock, best.choice, freed, barred=best.choice[freed[:1]])
        end = work.settle(work.evaluate(start), clock)
        in_vain += 1
        if work.is_better(end, best):
            best, in_vain = end, 0
    return work.outcome(best)
