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
* since such an equilibrium can be poor, it is left again and again: the services around one
  server, few or more of them, answer anew, one of them barred from its present path, and
  all move in turns from there; the walk goes on from ends that are little worse, and the
  best end is kept.

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

_WALK = 0.02
"""Loss of merit (log reward) up to which the walk goes on from a new equilibrium."""
_CLOSE = 5e-4
"""Distance of the objective (log reward) from its bound within which the search is content."""
_PATIENCE, _SERVICES_PER_TURN = (6, 12), 4
"""Turns without gain that end the search: so many, by the number of services."""
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
    tasks = len(judge.pool.tasks)
    patience = min(max(tasks // _SERVICES_PER_TURN, _PATIENCE[0]), _PATIENCE[1])
    if restarts is None:
        restarts = max(_TURNS_TIMES_SERVICES // tasks, _LEAST_TURNS)
    market.converge(clock)
    bound, less = market.bound()
    best = work.settle(work.evaluate(market.dive()), clock)
    present, in_vain = best, 0
    for turn in range(restarts):
        if clock.is_over or in_vain >= patience or bound - best.merit <= _CLOSE:
            break
        keep = bound - less > best.merit
        if keep.mean() < _WORTH_RESTRICTING:
            keep[best.choice] = keep[present.choice] = True
            renumbered = work.restrict(keep)
            market.restrict(renumbered)
            less = less[keep]
            best = replace(best, choice=renumbered[best.choice])
            present = replace(present, choice=renumbered[present.choice])
        size = _FEWEST_FREED + tasks // _TASKS_PER_FREED + turn % _SIZES
        freed = market.neighbourhood(rng, size)
        start = market.dive(present.choice, freed, barred=present.choice[freed[:1]])
        end = work.settle(work.evaluate(start), clock)
        in_vain += 1
        if work.is_better(end, best):
            best, in_vain = end, 0
        # Walk on from an equilibrium that is little worse, else return to the best one.
        present = end if end.merit > best.merit - _WALK else best
    return work.outcome(best)
